"""Marrow that no threshold shows: fat-dark spongy bone behind a cortex too thin to close around it (sacral alae, the
pelvis at thick slices, what the end of the scan cuts open).

A dark voxel is marrow when rays meet bone in nearly every direction, over a width that no joint has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit_parallel, prange
from spatial.rigid import Array
from twin.anatomy.heads import ways
from twin.anatomy.working import Working

RAYS = 42
REACH_MM = 30.0
JOINT_MM = 2.0  # half of what is wider than any joint space
RIM_MM = 3.0  # how far marrow reaches out again from where it is that wide
DARKEST_HU = -130.0


def enclosed(
    coarse: Working, bone: NDArray[np.bool_], low: NDArray[np.int64], high: NDArray[np.int64], share: float
) -> NDArray[np.bool_]:
    """Working voxels in the box [low, high) (z, y, x) that bone encloses without being bone themselves.

    `share` of the rays must meet bone: a joint space is open along two directions, a groove on one side.
    """
    import edt

    out = np.zeros(bone.shape, dtype=np.bool_)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    if any(s.stop - s.start < 3 for s in box):
        return out
    dark = ~bone[box] & (coarse.hu[box] > DARKEST_HU)
    steps = round(REACH_MM / coarse.spacing_mm)
    inside = np.zeros(dark.shape, dtype=np.bool_)
    _enclosed(bone, dark, np.asarray(low, dtype=np.int64), ways(RAYS), steps, share, inside)
    core = edt.edt(inside | bone[box], black_border=False) * coarse.spacing_mm
    core = (core > JOINT_MM) & inside
    wide = inside & (edt.edt(~core, black_border=False) * coarse.spacing_mm < RIM_MM)
    out[box] = wide
    return out


@njit_parallel
def _enclosed(
    bone: NDArray[np.bool_],
    dark: NDArray[np.bool_],
    low: NDArray[np.int64],
    ways: Array,
    steps: int,
    share: float,
    out: NDArray[np.bool_],
) -> None:
    nz, ny, nx = bone.shape
    allowed = int((1.0 - share) * ways.shape[0])
    for slice_ in prange(dark.shape[0]):
        z = np.int64(slice_)  # a parallel index is unsigned
        for y in range(dark.shape[1]):
            for x in range(dark.shape[2]):
                if not dark[z, y, x]:
                    continue
                missed = 0
                for w in range(ways.shape[0]):
                    hit = False
                    for s in range(1, steps + 1):
                        k = int(np.floor(z + low[0] + s * ways[w, 2] + 0.5))
                        j = int(np.floor(y + low[1] + s * ways[w, 1] + 0.5))
                        i = int(np.floor(x + low[2] + s * ways[w, 0] + 0.5))
                        if k < 0 or k >= nz:  # the scan ends: what lies beyond is not known to be open
                            hit = True
                            break
                        if j < 0 or i < 0 or j >= ny or i >= nx:
                            break
                        if bone[k, j, i]:
                            hit = True
                            break
                    if not hit:
                        missed += 1
                        if missed > allowed:
                            break
                out[z, y, x] = missed <= allowed
