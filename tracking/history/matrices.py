"""Small matrices and rotations, compiled: loops are sooner compiled than calls of BLAS, and as quick at this size."""

from __future__ import annotations

import numpy as np

from spatial.compiled import njit
from spatial.rigid import Array


@njit
def times(A: Array, B: Array) -> Array:
    """Matrix product."""
    out = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                out[i, j] += A[i, k] * B[k, j]
    return out


@njit
def transposed(A: Array) -> Array:
    """A copy with rows and columns exchanged."""
    out = np.empty((A.shape[1], A.shape[0]))
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[j, i] = A[i, j]
    return out


@njit
def part(vector: Array, first: int, rows: int, columns: int) -> Array:
    """A matrix that lies in a vector from `first` on, row by row."""
    out = np.empty((rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[i, j] = vector[first + columns * i + j]
    return out


@njit
def columns(P: Array) -> Array:
    """The first six columns."""
    out = np.empty((P.shape[0], 6))
    for i in range(P.shape[0]):
        for j in range(6):
            out[i, j] = P[i, j]
    return out


@njit
def rotation_vector(R: Array) -> Array:
    """Rotation matrix to vector (3,), for turns well below pi."""
    v = np.empty(3)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        v[i] = (R[k, j] - R[j, k]) / 2.0
    s = np.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    trace = R[0, 0] + R[1, 1] + R[2, 2]
    scale = 1.0
    if s > 1e-9:
        scale = np.arctan2(s, (trace - 1.0) / 2.0) / s
    elif trace < 0.0:  # half a turn: the axis is the longest column of (R + 1) / 2
        k = 0
        for i in range(1, 3):
            if R[i, i] > R[k, k]:
                k = i
        for i in range(3):
            v[i] = R[i, k] + (1.0 if i == k else 0.0)
        scale = np.pi / np.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    for i in range(3):
        v[i] *= scale
    return v


@njit
def rotation(w: Array) -> Array:
    """Rodrigues' formula."""
    x, y, z = w[0], w[1], w[2]
    square = x * x + y * y + z * z
    angle = np.sqrt(square)
    if angle < 1e-4:
        a, b = 1.0 - square / 6.0, 0.5 - square / 24.0
    else:
        a, b = np.sin(angle) / angle, (1.0 - np.cos(angle)) / square
    R = np.empty((3, 3))
    R[0, 0], R[0, 1], R[0, 2] = 1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
    R[1, 0], R[1, 1], R[1, 2] = b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x
    R[2, 0], R[2, 1], R[2, 2] = b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y)
    return R


@njit
def inverse(S: Array) -> Array:
    """Inverse of a small covariance, by Cholesky; a pivot that rounding took is kept above zero."""
    n = len(S)
    L, M = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = S[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            L[i, j] = s / L[j, j] if j < i else np.sqrt(max(s, 1e-12 * S[i, i] + 1e-300))
    for i in range(n):  # the inverse of L
        M[i, i] = 1.0 / L[i, i]
        for j in range(i):
            s = 0.0
            for k in range(j, i):
                s -= L[i, k] * M[k, j]
            M[i, j] = s / L[i, i]
    return times(transposed(M), M)
