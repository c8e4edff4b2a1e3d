"""The patient apart from what lies beside them: table, cushions, blankets, cables.

A table is a thin shell; a body is thick. What an opening by THIN_MM leaves, in pieces of some size, is patient.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twin.anatomy.working import AIR_HU, Working

TISSUE_HU = -300.0
THIN_MM = 7.0  # half of what is too thin to be a part of a body
LEAST_SHARE = 0.02  # of the largest part: an arm, a leg


def patient(working: Working) -> Working:
    """The same with air wherever the patient is not."""
    numbered = parts(working)
    if not numbered.any():
        return working  # too small a piece to tell
    return replace(working, hu=np.where(numbered > 0, working.hu, np.float32(AIR_HU)))


def parts(working: Working) -> NDArray[np.uint8]:
    """Working voxels (z, y, x) of the patient, numbered by part, largest first (1: the trunk; arms that do not touch
    it have their own number); 0 is air and everything that is no patient.
    """
    import cc3d
    import edt

    step = max(1, round(3.0 / working.spacing_mm))
    mm = step * working.spacing_mm
    tissue = np.ascontiguousarray(working.hu[::step, ::step, ::step] > TISSUE_HU)
    inside = _filled(tissue)
    core = edt.edt(inside, anisotropy=(mm,) * 3) > THIN_MM
    pieces, count = cc3d.connected_components(core.astype(np.uint8), connectivity=6, return_N=True)
    size = np.bincount(pieces.ravel(), minlength=count + 1)
    size[0] = 0
    table = np.zeros(count + 1, dtype=np.uint8)
    for n, piece in enumerate(np.argsort(-size, kind="stable")[:20], 1):
        if size[piece] >= max(1.0, LEAST_SHARE * size.max()):
            table[piece] = n
    numbered = table[pieces]
    # back to where the surface was: each tissue voxel near a core belongs to it
    out = np.zeros(inside.shape, dtype=np.uint8)
    for n in range(int(numbered.max()), 0, -1):
        out[inside & (edt.edt(numbered != n, anisotropy=(mm,) * 3) <= THIN_MM + 2.0 * mm)] = n
    fine = np.repeat(np.repeat(np.repeat(out, step, axis=0), step, axis=1), step, axis=2)
    nz, ny, nx = working.hu.shape
    return np.pad(fine, [(0, max(0, n - m)) for n, m in zip((nz, ny, nx), fine.shape, strict=True)], mode="edge")[
        :nz, :ny, :nx
    ]


def _filled(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slice by slice without holes: lungs and bowel gas are inside."""
    import cc3d

    out = np.empty_like(tissue)
    for k, plane in enumerate(tissue):
        air = cc3d.connected_components(np.pad(~plane, 1, constant_values=True).astype(np.uint8), connectivity=4)
        out[k] = (air != air[0, 0])[1:-1, 1:-1]
    return out
