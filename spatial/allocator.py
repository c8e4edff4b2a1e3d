"""Memory that was freed, given back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


def trim() -> None:
    """Give back what was freed but kept for later: after work on many arrays glibc holds a third of a CT's size."""
    trim = _trim()
    if trim is not None:
        trim(0)
