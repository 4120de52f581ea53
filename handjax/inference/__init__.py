"""What a user calls: find, repair and measure hands in pictures."""
