"""The phantom patient: bones from a seed, their fields, true distances, rays and measured truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial.faults import Misuse
from twin.scan.phantom import pelvis as pelvic
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.distance import SurfaceDistance
from twin.scan.phantom.field import Bones, CellGrid
from twin.scan.phantom.implants import Metal, hip_side, implants
from twin.scan.phantom.limbs import Leg, leg_of, leg_solids
from twin.scan.phantom.rays import cast, crossings
from twin.scan.phantom.ribs import rib_solid
from twin.scan.phantom.solids import F64, Placed, Solid
from twin.scan.phantom.vertebra import (
    FACET_DEG,
    SIDES,
    Process,
    Stand,
    disc_solid,
    inferior_process,
    pedicle_frame,
    stack,
    vertebra_solid,
)

S1_MM = np.array([3.0, 28.0, -410.0])  # away from the origin and off the mid-plane, as in a scanner
CELL_MM = 3.0
LEGS = ("femur", "tibia", "leg")  # regions with knees


def _bones(anatomy: Anatomy) -> tuple[list[Solid], list[Solid], list[Stand], pelvic.Pelvis]:
    pelvis = pelvic.place(anatomy, S1_MM)
    stands = stack(anatomy, pelvis.s1)
    s = pelvis.scale
    owns: list[list[Process]] = []
    discs = []
    for n, stand in enumerate(stands):
        if n == 0:
            lower, depth, canal, width = pelvis.s1, 33.0 * s, 15.0 * s, 50.0 * s
        else:
            below = stands[n - 1]
            lower, depth, canal, width = (
                below.superior,
                below.size.depth_mm,
                below.size.canal_depth_mm,
                below.size.width_mm,
            )
        owns.append([inferior_process(stand, lower, depth, canal, side) for _, side in SIDES])
        discs.append(disc_solid(stand, lower, width, depth))
    first, last = levels_shown(anatomy)
    shown = stands[first:last]
    solids = []
    for n, stand in reversed(list(enumerate(stands))[first:last]):
        above = stands[n + 1] if n + 1 < last else None
        gap, angle = (above.size.facet_gap_mm, FACET_DEG[above.size.role]) if above else (0.0, 80.0)
        solids.append(vertebra_solid(anatomy, stand, owns[n], owns[n + 1] if above else [], gap, angle))
    if anatomy.region not in ("thoracic", "femur", "tibia"):
        solids.append(pelvic.sacrum_solid(anatomy, pelvis, owns[0], stands[0].size.facet_gap_mm))
    if anatomy.region not in ("thoracic", "tibia"):
        for name, side in SIDES:
            if name in anatomy.sides:
                solids.append(pelvic.hip_solid(anatomy, pelvis, f"hip_{name}", side))
    if anatomy.region in LEGS:
        solids.extend(leg_solids(anatomy, pelvis, anatomy.region))
    elif anatomy.region != "thoracic":
        for name, side in SIDES:
            replaced = hip_side(anatomy) == name
            solids.append(pelvic.femur_solid(anatomy, pelvis, f"femur_{name}", side, replaced=replaced))
    for i in range(2):
        for stand in reversed(shown):
            number = int(stand.size.level[1:]) if stand.size.level.startswith("T") else 0
            if number > (10 if anatomy.region == "lumbar" else 0):
                solids.append(rib_solid(anatomy, stand, number, i))
    return solids, discs[first:last], shown, pelvis


def levels_shown(anatomy: Anatomy) -> tuple[int, int]:
    """The vertebrae (counted from the sacrum) that a region's scan holds, as a half-open range."""
    names = [v.level for v in anatomy.vertebrae]
    if anatomy.region == "lumbar":
        return 0, names.index("T10") + 1
    if anatomy.region == "thoracic":
        return names.index("L1"), len(names)
    if anatomy.region == "spine":
        return 0, len(names)
    return (0, 2) if anatomy.region == "pelvis" else (0, 0)


@dataclass
class Phantom:
    """A patient whose every surface is known. Build with `make`."""

    anatomy: Anatomy
    bones: Bones
    discs: Bones
    stands: tuple[Stand, ...]
    pelvis: pelvic.Pelvis
    metal: Metal | None = None
    _distances: dict[int, SurfaceDistance] = field(default_factory=dict, repr=False)
    _grids: dict[tuple[int, ...], CellGrid] = field(default_factory=dict, repr=False)

    @classmethod
    def make(
        cls, seed: int = 1, *, anatomy: str = "lumbar", osteoporosis: bool = False, scoliosis_deg: float = 0.0,
        transitional: str | None = None, metal: str | None = None, contrast: bool = False,
        sides: tuple[str, ...] = ("left", "right"),
    ) -> Phantom:  # fmt: skip
        """The patient of a seed.

        `anatomy`: lumbar (T10 to the hips), thoracic (C7 to L1), spine (C7 to the hips), pelvis, femur, tibia, leg;
        `scoliosis_deg`: Cobb angle up to 40, the convex side comes with the seed; `transitional`: L6, T13 or L4 (the
        lowest lumbar vertebra); `metal`: screws, hip or both; `contrast`: filled vessels and kidneys; `sides`: of legs.
        """
        person = Anatomy.sample(
            seed, osteoporosis=osteoporosis, region=anatomy, scoliosis_deg=scoliosis_deg, transitional=transitional,
            metal=metal, contrast=contrast, sides=sides,
        )  # fmt: skip
        solids, discs, stands, pelvis = _bones(person)
        hardware = implants(person, stands, pelvis)
        return cls(person, Bones.pack(solids), Bones.pack(discs), tuple(stands), pelvis, hardware)

    @property
    def bone_names(self) -> tuple[str, ...]:
        """Every bone, as TotalSegmentator names them."""
        return self.bones.names

    def index(self, bone: str) -> int:
        """A bone's number in `bone_names` and in what `cast` returns."""
        if bone not in self.bones.names:
            raise Misuse(f"no bone '{bone}' in the phantom; it has {', '.join(self.bones.names)}")
        return self.bones.names.index(bone)

    def value(self, bone: str, points_mm: ArrayLike) -> F64:
        """The implicit field at (..., 3) patient points: negative inside, zero on the surface, no distance."""
        points = np.asarray(points_mm, float)
        return self.bones.value(self.index(bone), points.reshape(-1, 3)).reshape(points.shape[:-1])

    def distance_mm(self, bone: str, points_mm: ArrayLike) -> F64:
        """True signed distance (negative inside) from (..., 3) patient points to a bone's surface."""
        points = np.asarray(points_mm, float)
        return self.surface(bone).signed(points.reshape(-1, 3)).reshape(points.shape[:-1])

    def surface(self, bone: str) -> SurfaceDistance:
        """A bone's surface samples and nearest-point search (kept)."""
        n = self.index(bone)
        if n not in self._distances:
            self._distances[n] = SurfaceDistance(self.bones, n, self.cells([n]))
        return self._distances[n]

    def cast(
        self, origins_mm: ArrayLike, directions: ArrayLike, t_max_mm: float = 5000.0, bones: Sequence[str] | None = None
    ) -> tuple[F64, NDArray[np.int32], F64]:
        """First hits of rays from outside the bones: distance (inf: none), bone index (-1: none), outward normals.

        `origins_mm` (3,) or (N, 3), unit `directions` (N, 3); `bones`: only these stand in the way.
        """
        chosen = range(len(self.bones.names)) if bones is None else [self.index(b) for b in bones]
        return cast(
            self.bones, self.cells(chosen), np.asarray(origins_mm, float), np.asarray(directions, float), t_max_mm
        )  # fmt: skip

    def cells(self, chosen: Sequence[int]) -> CellGrid:
        """The cell grid of some bones, by number (kept)."""
        key = tuple(sorted(chosen))
        if key not in self._grids:
            self._grids[key] = CellGrid.build(self.bones, key, CELL_MM, 0.0)
        return self._grids[key]

    def crossings(self, bone: str, origins_mm: ArrayLike, directions: ArrayLike, t_max_mm: float = 200.0) -> F64:
        """Distance along rays to the first crossing of one bone's surface, starting inside or outside (inf: none)."""
        n = self.index(bone)
        return crossings(
            self.bones, n, self.cells([n]), np.asarray(origins_mm, float), np.asarray(directions, float), t_max_mm
        )

    def stand(self, level: str) -> Stand:
        """A vertebra in its place, by level (`L3`)."""
        return next(s for s in self.stands if s.size.level == level)

    def pedicle_frame(self, level: str, side: str) -> tuple[F64, F64]:
        """Where a vertebra's pedicle neck was modelled: centre, frame columns (width, height, anterior axis)."""
        return pedicle_frame(self.stand(level), [n for n, _ in SIDES].index(side))

    @cached_property
    def legs(self) -> tuple[Leg, ...]:
        """The legs in their places, where the region has knees."""
        if self.anatomy.region not in LEGS:
            return ()
        return tuple(leg_of(self.anatomy, self.pelvis, side) for side in self.anatomy.sides)

    @cached_property
    def s1(self) -> Placed:
        """The frame that the S1 endplate was modelled on."""
        return self.pelvis.s1
