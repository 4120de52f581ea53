"""Build scripts of the assets the package carries; each runs again from one command."""
