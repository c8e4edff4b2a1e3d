"""The check sum of an OpenIGTLink body: CRC-64 of ECMA-182 (polynomial 0x42F0E1EBA9EA3693, no reflection, start 0).

Eight bytes a step through eight tables; a long body is cut into four strands that are summed side by side (a table
look-up waits for memory, four don't wait for each other) and joined by shifting: sum(a + b) = shift(sum(a)) ^ sum(b).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit

POLYNOMIAL = 0x42F0E1EBA9EA3693
WORD = (1 << 64) - 1
TOP = 1 << 63
STRANDS_FROM = 4096  # bytes: below it cutting costs more than it saves

Table = NDArray[np.uint64]


def _tables() -> Table:
    """(8, 256): what byte b, k bytes before the end of a step, adds to the sum."""
    tables = np.zeros((8, 256), np.uint64)
    for byte in range(256):
        value = byte << 56
        for _ in range(8):
            value = ((value << 1) & WORD) ^ (POLYNOMIAL if value & TOP else 0)
        tables[0, byte] = value
    for k in range(1, 8):
        before = tables[k - 1]
        tables[k] = (before << np.uint64(8)) ^ tables[0][(before >> np.uint64(56)).astype(np.intp)]
    tables.flags.writeable = False
    return tables


TABLES = _tables()


@njit
def _word(data: NDArray[np.uint8], at: int) -> np.uint64:
    value: np.uint64 = np.uint64(0)
    for k in range(8):
        value = (value << np.uint64(8)) | np.uint64(data[at + k])
    return value


@njit
def _step(value: np.uint64, t: Table) -> np.uint64:
    low = np.uint64(255)
    out: np.uint64 = (
        t[7, value >> np.uint64(56)]
        ^ t[6, (value >> np.uint64(48)) & low]
        ^ t[5, (value >> np.uint64(40)) & low]
        ^ t[4, (value >> np.uint64(32)) & low]
        ^ t[3, (value >> np.uint64(24)) & low]
        ^ t[2, (value >> np.uint64(16)) & low]
        ^ t[1, (value >> np.uint64(8)) & low]
        ^ t[0, value & low]
    )
    return out


@njit
def _sum_on(data: NDArray[np.uint8], start: int, stop: int, value: np.uint64, t: Table) -> np.uint64:
    at = start
    while at + 8 <= stop:
        value = _step(value ^ _word(data, at), t)
        at += 8
    while at < stop:
        value = (value << np.uint64(8)) ^ t[0, (value >> np.uint64(56)) ^ np.uint64(data[at])]
        at += 1
    return value


@njit
def _times(a: np.uint64, b: np.uint64) -> np.uint64:
    """The product of two polynomials modulo POLYNOMIAL."""
    out = np.uint64(0)
    for k in range(64):
        top = (out >> np.uint64(63)) != np.uint64(0)
        out = out << np.uint64(1)
        if top:
            out ^= np.uint64(POLYNOMIAL)
        if (b >> np.uint64(63 - k)) & np.uint64(1):
            out ^= a
    return out


@njit
def _shifted(value: np.uint64, n_bytes: int) -> np.uint64:
    """The sum after `n_bytes` zeros: times x to the power of 8 n, by repeated squaring."""
    power, left = np.uint64(256), n_bytes
    while left:
        if left & 1:
            value = _times(value, power)
        power = _times(power, power)
        left >>= 1
    return value


@njit
def _sum(data: NDArray[np.uint8], value: np.uint64, t: Table) -> np.uint64:
    n = len(data)
    if n < STRANDS_FROM:
        return _sum_on(data, 0, n, value, t)
    strand = n // 32 * 8
    a, b, c, d = value, np.uint64(0), np.uint64(0), np.uint64(0)
    for at in range(0, strand, 8):
        a = _step(a ^ _word(data, at), t)
        b = _step(b ^ _word(data, at + strand), t)
        c = _step(c ^ _word(data, at + 2 * strand), t)
        d = _step(d ^ _word(data, at + 3 * strand), t)
    a = _shifted(a, 3 * strand) ^ _shifted(b, 2 * strand) ^ _shifted(c, strand) ^ d
    return _sum_on(data, 4 * strand, n, a, t)


def crc64(*parts: Any) -> int:
    """The sum of one or several buffers (bytes, memoryview, contiguous array), as if they were one."""
    value = np.uint64(0)
    for part in parts:
        data = np.frombuffer(part, np.uint8)
        if len(data):
            data.flags.writeable = False  # one type for the compiler, whatever the buffer was
            value = np.uint64(_sum(data, value, TABLES))
    return int(value)
