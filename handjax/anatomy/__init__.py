"""HandAnat: what a hand's skeleton says about its anatomy."""
