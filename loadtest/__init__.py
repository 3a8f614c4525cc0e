"""Measures Spooky and its rivals under load: `python -m loadtest.bench`, or `make bench`."""
