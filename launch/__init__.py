"""One command a file; `python -m launch.NAME` and `handjax NAME` are the same."""
