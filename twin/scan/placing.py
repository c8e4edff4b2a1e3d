"""Slices brought onto an upright, uniform grid: displaced back in their planes, and resampled along the normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.progress import Progress, silent
from spatial.rigid import Array
from twin.scan.layout import Layout
from twin.scan.stored import AIR_HU


def placed(layout: Layout, slices: NDArray[np.int16], progress: Progress = silent) -> NDArray[np.int16]:
    """The voxels of the layout's grid from its slices (n, rows, columns) as they were acquired.

    Each slice is sheared within its plane by cubic convolution; between slices that are unevenly far apart the values
    are interpolated linearly, which invents no extreme. Around the displaced slices is air.
    """
    out = np.empty(layout.grid.shape, np.int16)
    if not layout.is_resampled:
        for k, plane in enumerate(slices):
            progress("shearing slices", k / len(slices))
            out[k] = sheared(plane, out[k].shape, layout.shift_px[k])
        return out
    upright: dict[int, NDArray[np.int16]] = {}
    for k in range(len(out)):
        progress("resampling slices", k / len(out))
        above = int(np.clip(np.searchsorted(layout.places, k), 1, len(slices) - 1))
        share = float((k - layout.places[above - 1]) / (layout.places[above] - layout.places[above - 1]))
        share = min(max(share, 0.0), 1.0)
        for n in (above - 1, above):
            if n not in upright:
                upright[n] = sheared(slices[n], out[k].shape, layout.shift_px[n])
        for n in [n for n in upright if n < above - 1]:
            del upright[n]
        low, high = upright[above - 1].astype(np.float32), upright[above].astype(np.float32)
        out[k] = np.rint(low + np.float32(share) * (high - low)).astype(np.int16)
    return out


def sheared(plane: NDArray[np.int16], shape: tuple[int, ...], displacement_px: Array) -> NDArray[np.int16]:
    """A slice placed into a larger plane at a fractional displacement (along i, along j); around it is air.

    Cubic convolution (Keys 1981, a = -1/2) along each axis: exact for quadratics, so edges stay where they are.
    """
    out = np.full(shape, float(AIR_HU), np.float32)
    whole = [int(np.floor(d)) for d in displacement_px]
    values = plane.astype(np.float32)
    for axis, fraction in ((1, displacement_px[0] - whole[0]), (0, displacement_px[1] - whole[1])):
        if fraction > 1e-6:
            values = _delayed(values, axis, fraction)
        else:
            values = np.concatenate([values, np.full_like(np.take(values, [0], axis), AIR_HU)], axis)
    rows = min(values.shape[0], shape[0] - whole[1])
    columns = min(values.shape[1], shape[1] - whole[0])
    out[whole[1] : whole[1] + rows, whole[0] : whole[0] + columns] = values[:rows, :columns]
    return np.rint(np.clip(out, -32768, 32767)).astype(np.int16)


def _delayed(values: NDArray[np.float32], axis: int, fraction: float) -> NDArray[np.float32]:
    """Values moved by a fraction of a pixel toward higher indices; one longer along the axis, air beyond the edges."""
    s = 1.0 - fraction  # sample point between its left neighbour (at 0) and its right one (at 1)
    weights: Array = np.array(
        [
            -0.5 * s + s**2 - 0.5 * s**3,
            1 - 2.5 * s**2 + 1.5 * s**3,
            0.5 * s + 2 * s**2 - 1.5 * s**3,
            -0.5 * s**2 + 0.5 * s**3,
        ]
    )
    pads = [(0, 0), (0, 0)]
    pads[axis] = (2, 2)
    padded = np.pad(values, pads, constant_values=AIR_HU)
    length = values.shape[axis] + 1
    out = np.zeros([length if a == axis else n for a, n in enumerate(values.shape)], np.float32)
    for tap, weight in enumerate(weights):
        view = padded[tap : tap + length] if axis == 0 else padded[:, tap : tap + length]
        out += np.float32(weight) * view
    return out
