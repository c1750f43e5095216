"""Behaviour tests: one file per promise."""
