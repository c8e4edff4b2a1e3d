"""The patient's skin from the CT: where an incision begins and how deep the bone lies under it.

The border between air and tissue, at the middle of their HU, on a grid of 3 mm; table, cushions and blankets are left
away, gas inside the body is filled. What the scan does not show has no skin: where the body leaves the field of view
the surface ends in a flat lid, and a point on it counts as not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spatial.distance import DistanceGrid
from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from twin.anatomy.body import parts
from twin.anatomy.marching import contour
from twin.anatomy.working import prepare
from twin.scan.volume import Volume

SPACING_MM = 3.0
AIR_HU, TISSUE_HU = -1000.0, 0.0
BORDER_HU = -500.0  # halfway
DEEP_MM = 6.0  # so far below the border everything is body, gas too
LID_MM = 4.0  # so near to the scan's edge a surface is a lid, not skin
PADDING_HU = -1100.0  # below it: not air but a scanner's filling beyond its circle
BEYOND_MM = 5.0
SPREAD_MM = 1.0  # one sigma that is stated of a depth below the skin: a third of the grid; clothes and straps count


class NoSkin(Fault):
    """A scan in which no patient stands out from the air."""


@dataclass(frozen=True, eq=False)
class Skin:
    """The closed outer surface of the patient as far as the scan shows it, and the scan that it came from."""

    surface: TriangleMesh[Patient]
    volume: Volume

    @classmethod
    def of(cls, volume: Volume) -> Skin:
        """Found in the CT; about a second for a whole trunk. Raises NoSkin."""
        import edt

        working = prepare(volume, SPACING_MM)
        body = np.pad(parts(working) > 0, 2)
        hu = np.pad(np.clip(working.hu, AIR_HU, TISSUE_HU), 2, constant_values=AIR_HU)
        depth = edt.edt(body, anisotropy=(SPACING_MM,) * 3)
        around = edt.edt(~body, anisotropy=(SPACING_MM,) * 3) <= 1.5 * SPACING_MM
        field = np.where(around, hu, np.float32(AIR_HU)).astype(np.float32)
        field[depth > DEEP_MM] = TISSUE_HU
        for axis in range(3):
            ends = np.moveaxis(field, axis, 0)
            ends[0] = ends[-1] = AIR_HU
        if not (field > BORDER_HU).any():
            raise NoSkin("no patient stands out from the air in this scan; is it a CT in Hounsfield units?")
        vertices, triangles = contour(field, BORDER_HU)
        mesh = TriangleMesh[Patient]((vertices - 2.0) * SPACING_MM + working.origin_mm, triangles)
        if mesh.volume_ml < 0:
            mesh = TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[:, ::-1])
        return cls(mesh, volume)

    @cached_property
    def grid(self) -> DistanceGrid[Patient]:
        """Distances to the skin, negative inside the patient."""
        return DistanceGrid[Patient].from_mesh(self.surface, SPACING_MM)

    def depth_mm(self, points: Points[Patient]) -> Array:
        """Depth (...,) below the nearest skin; negative outside."""
        return -self.grid.distance_mm(points)

    def out_of(self, start: Points[Patient], direction: Directions[Patient]) -> tuple[Points[Patient], float] | None:
        """Where a straight way from a point in the body first comes out of the skin, and how long it is in mm.

        None when the way leaves the scan before it reaches skin.
        """
        run = float(self.grid.trace(start, direction))
        if not np.isfinite(run):
            return None
        out = Points[Patient](start.mm + run * direction.unit)
        return (out, run) if self.is_seen(out, direction) else None

    def is_seen(self, point: Points[Patient], outward: Directions[Patient]) -> bool:
        """Whether the scan shows air beyond this point of the surface: a lid at its edge is not skin."""
        at = self.volume.grid.index_from_patient(point)
        last = np.array(self.volume.grid.size) - 1
        margin = LID_MM / self.volume.grid.spacing_mm
        if (at < margin).any() or (at > last - margin).any():
            return False
        ijk = np.rint(self.volume.grid.index_from_patient(Points[Patient](point.mm + BEYOND_MM * outward.unit))).astype(
            int
        )
        i, j, k = np.clip(ijk, 0, last)
        return bool(self.volume.hu[k, j, i] > PADDING_HU)
