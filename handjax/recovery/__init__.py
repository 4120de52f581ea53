"""From a picture to a posed hand: pose tokens, and the masked transformer that reads them off pictures (MMHMR)."""
