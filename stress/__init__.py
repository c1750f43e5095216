"""Shows, from outside, what the library promises: run `python -m stress`."""
