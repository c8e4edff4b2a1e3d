"""What all bodies are made of: text of fixed length, single-precision numbers; the fault of a body that is wrong."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial.faults import Fault
from spatial.rigid import Array

Bytes: TypeAlias = bytes | bytearray | memoryview
Part: TypeAlias = bytes | memoryview
FLOAT = np.dtype(">f4")
DEVICE_BYTES = 20


class BadContent(Fault):
    """A body that is not what its type promises, or a value that does not fit into one."""


def packed_text(text: str, size: int, what: str) -> bytes:
    """UTF-8 filled up with zeros. Raises BadContent where it is too long: a name cut short would be another's."""
    data = text.encode()
    if len(data) > size or "\0" in text:
        raise BadContent(f"{what} {text!r} takes {len(data)} bytes, the protocol has {size}; give it a shorter one")
    return data.ljust(size, b"\0")


def shortened(text: str, size: int = DEVICE_BYTES) -> str:
    """A title cut to what there is room for; not for names that something is found by."""
    return text.replace("\0", "").encode()[:size].decode(errors="ignore")


def read_text(data: Bytes) -> str:
    """Up to the first zero; UTF-8, or Latin-1 where it isn't."""
    raw = bytes(data).partition(b"\0")[0].rstrip()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def floats(data: Bytes, count: int, offset: int = 0) -> Array:
    """`count` big-endian single-precision numbers, not yet judged."""
    return np.frombuffer(data, FLOAT, count, offset).astype(np.float64)


def packed_floats(values: ArrayLike) -> bytes:
    """Numbers as big-endian single precision."""
    return np.asarray(values, FLOAT).tobytes()


def frozen(values: ArrayLike, shape: tuple[int, ...], what: str) -> Array:
    """A read-only float64 copy of this shape. Raises BadContent."""
    array = np.array(values, np.float64)
    if array.shape != shape:
        raise BadContent(f"{what} has shape {array.shape}; {shape} is needed")
    if not math.isfinite(array.sum()):  # one number that is not finite makes the sum so, and is found fastest this way
        raise BadContent(f"{what} holds a number that is not finite")
    array.flags.writeable = False
    return array


def require_size(body: Bytes, allowed: tuple[int, ...], what: str) -> None:
    """Raise BadContent unless the body has one of these sizes."""
    if len(body) not in allowed:
        raise BadContent(f"{what} of {len(body)} bytes; {' or '.join(map(str, allowed))} is needed")


def require_multiple(body: Bytes, size: int, what: str) -> None:
    """Raise BadContent unless the body holds a whole number of elements."""
    if len(body) % size:
        raise BadContent(f"{what} of {len(body)} bytes, which is no multiple of {size}")


def matrix_bytes(matrix: NDArray[np.float64]) -> bytes:
    """A (3, 4) matrix column after column, as TRANSFORM has it."""
    return packed_floats(matrix.T)


def read_matrix(data: Bytes, offset: int = 0) -> Array:
    """The (3, 4) matrix of twelve numbers, column after column, not yet judged."""
    return floats(data, 12, offset).reshape(4, 3).T
