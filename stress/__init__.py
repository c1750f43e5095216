"""Tests of the library from outside, in separate processes: run `python -m stress`."""
