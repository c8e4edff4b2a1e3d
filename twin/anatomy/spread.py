"""How far landmarks may be off: one sigma a coordinate, and of a direction, from what the scan can show.

A fit over thousands of vertices knows nothing of what all of them have in common: the scanner's blur, the voxel, where
a face ends. So the spread is not the fit's: it was measured, a kind of landmark each, on phantoms whose surfaces are
known (`osteotwin bench twin` measures it again), as sd^2 = floor^2 + (growth * voxel^2)^2: what blur does to a curved
edge grows with the voxel's square. Real bones are less regular than phantoms; these are lower limits there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from twin.anatomy.bone import Landmark

MEASURED_MM = (0.5, 3.2)  # coarsest voxel edges that the spreads were measured at
GIVEN_SHARE = 0.15  # of the voxel, more: labels that somebody drew end on voxels, not at the bone's edge
FIT_SHARE = 0.2  # of the voxel, beside a spread that the landmark's own fit states
UNSCANNED = "the scan behind the surfaces is not known"
CONVENTIONS = {
    "body_centre": "where a body ends and its arch begins is a convention; no spread was measured",
    "canal_centre": "the middle of the foramen seen from above; no spread was measured",
}


@dataclass(frozen=True)
class Spread:
    """One sigma a coordinate: floor (mm) and growth (1/mm); of a direction: floor (deg) and growth (deg/mm2).

    `by_slice`: the coarsest edge rules (faces that lie in the slices); else the voxel's mean edge. `floor_deg` 0: the
    direction is a convention, nothing measures it.
    """

    floor_mm: float
    growth: float
    floor_deg: float = 0.0
    growth_deg: float = 0.0
    by_slice: bool = False

    def voxel_mm(self, spacing_mm: ArrayLike) -> float:
        """The edge that counts."""
        spacing = np.asarray(spacing_mm, float)
        return float(spacing.max()) if self.by_slice else float(np.exp(np.log(spacing).mean()))

    def sd_mm(self, spacing_mm: ArrayLike) -> float:
        """One sigma a coordinate."""
        return float(np.hypot(self.floor_mm, self.growth * self.voxel_mm(spacing_mm) ** 2))

    def sd_deg(self, spacing_mm: ArrayLike) -> float | None:
        """Root mean square of the angle; None where it is a convention."""
        if not self.floor_deg:
            return None
        return float(np.hypot(self.floor_deg, self.growth_deg * self.voxel_mm(spacing_mm) ** 2))


SPREADS = {
    "sacrum endplate": Spread(0.15, 0.105, 0.3, 0.11, by_slice=True),
    "sacrum pedicle": Spread(0.25, 0.13),
    "endplate": Spread(0.145, 0.065, 0.38, 0.3, by_slice=True),
    # tall and narrow (4 to 6 mm): hardly a wall tells their tilt, and thick slices show none
    **{f"vertebrae_T{n} pedicle": Spread(0.02, 0.075, 0.3, 1.0, by_slice=True) for n in range(1, 10)},
    **{f"vertebrae_T{n} pedicle": Spread(0.06, 0.035, 0.45, 0.7, by_slice=True) for n in range(10, 14)},
    "pedicle": Spread(0.08, 0.045, 0.55, 0.42, by_slice=True),
    # a joint's faces are where the segmenter parted two bones: measured on its own labels; true ones are as good up to
    # 2 mm and three times better at 3 mm
    **{f"vertebrae_T{n} facet": Spread(0.4, 0.38, 2.7, 4.0) for n in range(1, 14)},
    "facet": Spread(0.43, 0.25, 2.7, 2.6),
    "spinous_tip": Spread(0.165, 0.10, by_slice=True),
    "promontory": Spread(0.14, 0.045, by_slice=True),
    "posterior_corner": Spread(0.18, 0.10, by_slice=True),
    "asis": Spread(0.27, 0.075, by_slice=True),
    "femoral_head": Spread(0.075, 0.038),
}


def with_spread(mark: Landmark, spacing_mm: ArrayLike, *, drawn: bool = False) -> Landmark:
    """The landmark with its spread, or with None and the reason in its note.

    `spacing_mm` (3,): the scan's voxel. `drawn`: the labels were given, so the surface is theirs and not the HU's. A
    landmark of a kind that is not in the table keeps its fit's spread, the voxel's share added.
    """
    if mark.name in CONVENTIONS:
        return without_spread(mark, CONVENTIONS[mark.name])
    coarsest = float(np.max(spacing_mm))
    kind = _kind(mark)
    if kind is None:
        return mark if mark.sd_mm is None else replace(mark, sd_mm=float(np.hypot(mark.sd_mm, FIT_SHARE * coarsest)))
    if not MEASURED_MM[0] <= coarsest <= MEASURED_MM[1]:
        low, high = MEASURED_MM
        return without_spread(mark, f"no spread was measured for voxels of {coarsest:.2g} mm, only {low:g} to {high:g}")
    spread = SPREADS[kind]
    sd_mm = spread.sd_mm(spacing_mm)
    if drawn:
        sd_mm = float(np.hypot(sd_mm, GIVEN_SHARE * coarsest))
    sd_deg = None if mark.direction is None else spread.sd_deg(spacing_mm)
    note = mark.note
    if mark.direction is not None and sd_deg is None:
        note = "; ".join(words for words in (note, "the direction is a convention, not measured") if words)
    return replace(mark, sd_mm=sd_mm, sd_deg=sd_deg, note=note)


def without_spread(mark: Landmark, why: str = UNSCANNED) -> Landmark:
    """The landmark with no spread and the reason."""
    return replace(mark, sd_mm=None, sd_deg=None, note="; ".join(words for words in (mark.note, why) if words))


def _kind(mark: Landmark) -> str | None:
    own = f"{mark.bone} {mark.name}"
    return next((kind for kind in SPREADS if own.startswith(kind) or mark.name.startswith(kind)), None)
