"""Tests of the pure core, which needs neither child nor thread."""
