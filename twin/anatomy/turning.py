"""How far each level is turned about the canal: a scoliotic vertebra looks to the side of its curve's apex.

Across the canal a vertebra is its own mirror image. At each place the angle is sought about which the bone is most
alike left and right; the angles of neighbouring places are joined by dynamic programming.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.working import Working, value_at

ANGLES_DEG = np.arange(-36.0, 36.1, 3.0)
STEP_MM = 2.0
ANTERIOR_MM = (-40.0, 44.0)
LATERAL_MM = 36.0
BONE_RANGE_HU = 250.0
SMOOTH_MM = 10.0  # half a vertebra
UPRIGHT_SHARE = 0.05  # how much likeness a turn of 30 degrees must bring to be believed


def turned(working: Working, canal: Canal, bone_hu: float) -> tuple[Canal, float]:
    """The canal with its left and anterior directions turned as the vertebrae are, and the largest turn (deg)."""
    s = np.arange(0.0, canal.along_mm[-1] + 0.1, STEP_MM)
    if len(s) < 3:
        return canal, 0.0
    angles = np.radians(ANGLES_DEG)
    lateral = np.arange(1.0, LATERAL_MM, 2.0)
    anterior = np.arange(ANTERIOR_MM[0], ANTERIOR_MM[1], 2.0)
    x, a = np.meshgrid(lateral, anterior, indexing="ij")
    near = x**2 + a**2 < ANTERIOR_MM[1] ** 2
    x, a = x[near], a[near]
    # a plane across the canal is linear in left and anterior
    origin = np.column_stack([s, 0 * s, 0 * s])
    middle, left, front = (
        working.index_from_patient(canal.points(origin + np.array([0.0, *way]))) for way in ((0, 0), (1, 0), (0, 1))
    )
    alike = np.empty((len(s), len(angles)))
    _alike(working.hu, middle, left - middle, front - middle, x, a, angles, bone_hu, alike)
    alike = ndimage.gaussian_filter1d(alike, SMOOTH_MM / STEP_MM, axis=0, mode="nearest")
    alike -= UPRIGHT_SHARE * (angles / np.radians(30.0)) ** 2
    path = _path(alike)
    turn = ndimage.gaussian_filter1d(angles[path], SMOOTH_MM / STEP_MM, mode="nearest")
    turn = np.interp(canal.along_mm, s, turn)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    left = canal.left * cos - canal.anterior * sin
    anterior_turned = canal.anterior * cos + canal.left * sin
    return replace(canal, left=left, anterior=anterior_turned), float(np.degrees(np.abs(turn).max()))


@njit_parallel
def _alike(
    hu: NDArray[np.float32], middle: Array, to_left: Array, to_front: Array, lateral: Array, anterior: Array,
    angles: Array, bone_hu: float, out: Array,
) -> None:  # fmt: skip
    """How much of the bone beside each place (lateral, anterior mm) is mirrored, at each angle: 0 to 1."""
    for s in prange(middle.shape[0]):
        side = np.empty(2)
        for n in range(len(angles)):
            cos, sin = np.cos(angles[n]), np.sin(angles[n])
            both, either = 0.0, 0.0
            for p in range(len(lateral)):
                for mirrored in range(2):
                    across = -lateral[p] if mirrored else lateral[p]
                    left, front = across * cos + anterior[p] * sin, anterior[p] * cos - across * sin
                    z = middle[s, 0] + left * to_left[s, 0] + front * to_front[s, 0]
                    y = middle[s, 1] + left * to_left[s, 1] + front * to_front[s, 1]
                    x = middle[s, 2] + left * to_left[s, 2] + front * to_front[s, 2]
                    side[mirrored] = min(max((value_at(hu, z, y, x) - bone_hu) / BONE_RANGE_HU, 0.0), 1.0)
                both += min(side[0], side[1])
                either += max(side[0], side[1])
            out[s, n] = both / max(either, 0.05 * len(lateral))


@njit
def _path(alike: Array) -> list[int]:
    """The angle's number at each place: most alike in sum, at most one step from place to place."""
    n, m = alike.shape
    total = alike[0].copy()
    came = np.zeros((n, m), dtype=np.int64)
    for s in range(1, n):
        new = np.empty(m)
        for q in range(m):
            best, where = -1e18, q
            for p in range(max(0, q - 1), min(m, q + 2)):
                value = total[p] - 0.01 * abs(p - q)
                if value > best:
                    best, where = value, p
            new[q] = best + alike[s, q]
            came[s, q] = where
        total = new
    at = int(np.argmax(total))
    out = [0 for _ in range(n)]
    for s in range(n - 1, -1, -1):
        out[s] = at
        at = came[s, at]
    return out
