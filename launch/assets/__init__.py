"""Committed recipes of the files in handjax/assets."""
