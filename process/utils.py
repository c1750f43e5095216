"""Small helpers."""

import os

__all__ = ["is_windows"]


def is_windows() -> bool:
    """Whether this is Windows."""
    return os.name == "nt"
