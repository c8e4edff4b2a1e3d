"""A label's voxels made soft at their border, ready for an isosurface: burrs of noise and bridges a voxel thin go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit

LEVEL = np.float32(0.5 + 1e-4)  # half of it is inside; no voxel has exactly this value


def softened(
    labels: NDArray[np.uint8] | NDArray[np.uint16], number: int, sigma_kji: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Gaussian of the voxels with this number (k, j, i), sigma in voxels, with a border of zeros wide enough for
    `contour`: `border(sigma)` voxels more on each side.
    """
    pad = border(sigma_kji)
    weights = [_weights(s) for s in sigma_kji]
    nk, nj, ni = labels.shape
    out = np.zeros((nk + 2 * pad, nj + 2 * pad, ni + 2 * pad), dtype=np.float32)
    _soften(labels, number, pad, weights[0], weights[1], weights[2], out)
    return out


def border(sigma_kji: tuple[float, float, float]) -> int:
    """How many voxels a softened label is wider than its box, on each side."""
    return max(len(_weights(s)) // 2 for s in sigma_kji) + 1


def _weights(sigma: float) -> NDArray[np.float32]:
    reach = int(3.0 * sigma + 0.5)
    w = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return np.asarray(w / w.sum(), dtype=np.float32)


@njit
def _soften(
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    number: int,
    pad: int,
    wk: NDArray[np.float32],
    wj: NDArray[np.float32],
    wi: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Slice by slice: rows and columns smoothed in two planes, then spread over the slices that it reaches."""
    nk, nj, ni = labels.shape
    mj, mi = out.shape[1], out.shape[2]
    rk, rj, ri = len(wk) // 2, len(wj) // 2, len(wi) // 2
    along = np.zeros((nj, mi), dtype=np.float32)
    plane = np.zeros((mj, mi), dtype=np.float32)
    for k in range(nk):
        low, high = ni, -1
        top, bottom = nj, -1
        for j in range(nj):
            first, last = ni, -1
            for i in range(ni):
                if labels[k, j, i] == number:
                    first = min(first, i)
                    last = i
            along[j, :] = 0.0
            if last < 0:
                continue
            top, bottom = min(top, j), j
            low, high = min(low, first), max(high, last)
            for i in range(first, last + 1):
                if labels[k, j, i] == number:
                    for d in range(-ri, ri + 1):
                        along[j, i + d + pad] += wi[d + ri]
        if bottom < 0:
            continue
        a, b = low + pad - ri, high + pad + ri + 1
        for j in range(top - rj, bottom + rj + 1):
            plane[j + pad, a:b] = 0.0
            for d in range(max(-rj, top - j), min(rj, bottom - j) + 1):
                w = wj[d + rj]
                for i in range(a, b):
                    plane[j + pad, i] += w * along[j + d, i]
        for d in range(-rk, rk + 1):
            w = wk[d + rk]
            for j in range(top - rj + pad, bottom + rj + pad + 1):
                for i in range(a, b):
                    out[k + d + pad, j, i] += w * plane[j, i]
