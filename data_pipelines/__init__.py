"""Data sets in and out: TFDS builders, conditions computed offline, and the loader that feeds training."""
