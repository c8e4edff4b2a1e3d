"""The one typed door to numba: functions compiled on first use and cached on disk."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

# numba's default layer forbids calls from several threads; OpenMP may be absent elsewhere than on Linux
if sys.platform.startswith("linux"):
    os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")

import numba

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange


def njit(function: F) -> F:
    """Compile a serial kernel (nogil, cached); the Python signature stays for mypy."""
    return cast("F", numba.njit(cache=True, nogil=True)(function))


def njit_parallel(function: F) -> F:
    """Compile a kernel whose `prange` loops run on all cores."""
    return cast("F", numba.njit(cache=True, nogil=True, parallel=True)(function))
