"""Plates and nails for an osteotomy of a limb: the library's size, laid on or into the bone where the plan leaves it.

A straight plate is laid along the cortex over the gap so that it touches and stands off as little as it can; how far it
stands off is what bending it, or the bone's shape, has to make up. A straight nail runs where most bone is
about it; the wall that it leaves is measured to the outer surface, for the marrow's own width is not known from
surfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.faults import Fault
from spatial.frames import Instrument, Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points, Rigid
from spatial.shapes import Plane
from twin.anatomy.limbs import shaft_axis
from twin.anatomy.twin import Twin
from twin.plan.cuts.consequences import opening_way
from twin.plan.cuts.cut import cut_mesh, joined, plane_axes
from twin.plan.cuts.implant import Implant
from twin.plan.cuts.limb_cuts import Limb
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import carry_out
from twin.plan.cuts.section import Section
from twin.plan.screws.implants import BadImplant, Library, NailFamily, PlateFamily, PlateSize

STATION_MM = 2.0
END_MM = 15.0  # of the bone beyond a nail's tip; nearer to the ends than this (twice at the entry) no wall is asked
AHEAD_MM = 80.0
ON_FACE_MM = 0.2  # of a cut's face: seen through the gap
FROM_JOINT_MM = 12.0  # of a plate's end
# where the search for a nail's place starts: its ends half a centimetre aside
SPREAD_MM = np.vstack([np.zeros(4), 5.0 * np.eye(4)])
KNEE_SHARE = 0.35  # of the bone's length: a cut nearer to the knee takes the plate for that end


class NoFixation(Fault):
    """A plate or nail that the library has not, or that the bone can't take."""


@dataclass(frozen=True)
class Fixation:
    """An implant and how it fits. Plate: `gap_mm` mean and largest between its underside and bone, `holes` over the
    moving and the staying part. Nail: `wall_mm`, least bone from its surface to the bone's.
    """

    implant: Implant
    source_status: str
    gap_mm: tuple[float, float] | None = None
    holes: tuple[int, int] | None = None
    wall_mm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        mean, most = self.gap_mm or (None, None)
        moving, staying = self.holes or (None, None)
        return {
            **self.implant.to_json(),
            "source_status": self.source_status,
            "gap_mean_mm": mean,
            "gap_most_mm": most,
            "holes_moving": moving,
            "holes_staying": staying,
            "wall_mm": self.wall_mm,
        }


def plate(twin: Twin, cut: Osteotomy, library: Library, family: str | None = None) -> Fixation:
    """A plate along the bone over the far cortex of a wedge, on the part that stays. Raises NoFixation, BadImplant."""
    limb = Limb.of(twin, cut.bone)
    name, size, status = _plate_size(limb, cut, library, family)
    wedge = cut.kind in ("open-wedge", "close-wedge")
    out = opening_way(cut) if wedge else limb.axes.across
    bone = _planned_bone(twin, cut)
    along = limb.axes.up
    out = out - (out @ along) * along
    out = out / np.linalg.norm(out)
    reach = size.length_mm / 2
    level = FROM_JOINT_MM + reach
    middle = Section.of(bone, Plane[Patient](limb.knee_mm + level * limb.away, along), limb.knee_mm).centroid_mm
    grid = DistanceGrid[Patient].from_mesh(_between(bone, middle, along, reach + 10.0))
    # the bone seen from the plate: heights at stations along and across
    y, x = (np.arange(-half, half + 1e-9, STATION_MM) for half in (reach, size.width_mm / 2))
    aside = np.cross(along, out)
    base = middle[None, None] + y[:, None, None] * along + x[None, :, None] * aside + AHEAD_MM * out
    run = grid.trace(Points[Patient](base), Directions[Patient](np.broadcast_to(-out, base.shape).copy()), 200.0)
    height = AHEAD_MM - run
    hit = Points[Patient](base - np.where(np.isfinite(run), run, 0.0)[..., None] * out)
    faces = (cut.planes[1], cut.planes[0].moved(cut.motion))
    in_gap = np.min([np.abs(face.signed_distance_mm(hit)) for face in faces], axis=0) < ON_FACE_MM
    highest = np.where(np.isfinite(height) & ~in_gap, height, -np.inf).max(
        axis=1
    )  # across: a plate rests on its highest bone
    on_bone = np.isfinite(highest)
    if on_bone.mean() < 0.8:
        raise NoFixation(
            f"a plate of {size.length_mm:g} mm is longer than the bone at this cut; another size is needed"
        )
    lean, top = _lain(y[on_bone], highest[on_bone])
    tilt = along + lean * out
    tilt = tilt / np.linalg.norm(tilt)
    side = np.cross(tilt, out)
    side = side / np.linalg.norm(side)
    origin = middle + top * out
    axes = np.column_stack([side, tilt, np.cross(side, tilt)])
    under = (top + lean * y - highest)[on_bone]
    hole = origin + np.linspace(-reach + 6.0, reach - 6.0, size.holes)[:, None] * tilt
    beyond = (cut.planes[1].signed_distance_mm(Points[Patient](hole)) > 0).sum()
    implant = Implant(
        f"{cut.id}-plate",
        "plate",
        name,
        cut.bone,
        size.length_mm,
        size.width_mm,
        Rigid[Patient, Instrument](axes, origin),
    )
    gaps = (float(under.mean()), float(under.max()))
    return Fixation(implant, status, gaps, (int(beyond), int(size.holes - beyond)))


def nail(twin: Twin, cut: Osteotomy, library: Library, diameter_mm: float, length_mm: float | None = None) -> Fixation:
    """A straight nail along the shaft, with as much bone about it as there is. Raises NoFixation, BadImplant."""
    limb = Limb.of(twin, cut.bone)
    families = library.of(NailFamily)
    fits = [(f, s) for f in families for s in f.sizes if s.use == limb.kind and abs(s.diameter_mm - diameter_mm) < 1e-6]
    if not fits:
        known = sorted({s.diameter_mm for f in families for s in f.sizes if s.use == limb.kind})
        raise BadImplant(f"no nail of {diameter_mm:g} mm for a {limb.kind} in the library; it has {known or 'none'}")
    family, size = fits[0]
    surface = twin.bone(cut.bone).surface
    axis = shaft_axis(surface)
    centre = Section.of(surface, Plane[Patient](cut.hinge.point_mm, axis), cut.hinge.point_mm).centroid_mm
    grid = DistanceGrid[Patient].of(surface)
    back = cut.motion.inverse()

    def wall_mm(points: Array) -> Array:
        """Bone about places of the planned bone, whose parts are asked as scanned, where they are whole."""
        placed = Points[Patient](points)
        moving = cut.planes[1].signed_distance_mm(placed) > 0
        return -np.asarray(np.where(moving, grid.distance_mm(back @ placed), grid.distance_mm(placed)))

    ends = [float(grid.trace(Points[Patient](centre), Directions[Patient](way))) for way in (axis, -axis)]
    room = ends[0] + ends[1] - END_MM
    lengths = [mm for mm in family.lengths_mm if mm <= room] if length_mm is None else [length_mm]
    if not np.isfinite(room) or not lengths or lengths[-1] > room:
        raise NoFixation(f"a straight nail has {room:.0f} mm along the shaft of {cut.bone}; the library's are longer")
    chosen = max(lengths)
    entry, axis = _midmost(wall_mm, centre + ends[0] * axis, axis, chosen)
    runs = np.arange(2.0 * END_MM, chosen - END_MM, STATION_MM)
    wall = float(wall_mm(entry - runs[:, None] * axis).min()) - size.diameter_mm / 2
    if wall <= 0:
        raise NoFixation(
            f"a straight nail of {diameter_mm:g} mm would leave {cut.bone} by {-wall:.1f} mm; the shaft bows"
        )
    lateral = limb.axes.across - (limb.axes.across @ axis) * axis
    lateral = lateral / np.linalg.norm(lateral)
    pose = Rigid[Patient, Instrument](np.column_stack([lateral, -axis, np.cross(lateral, -axis)]), entry)
    implant = Implant(f"{cut.id}-nail", "nail", family.name, cut.bone, chosen, size.diameter_mm, pose)
    return Fixation(implant, family.source_status, wall_mm=wall)


def _plate_size(limb: Limb, cut: Osteotomy, library: Library, family: str | None) -> tuple[str, PlateSize, str]:
    level = float((cut.hinge.point_mm - limb.knee_mm) @ limb.away)
    use = {"tibia": "proximal tibia", "femur": "distal femur"}[limb.kind]
    known = library.of(PlateFamily)
    for one in known:
        for size in one.sizes:
            if family in (None, one.name) and size.use == use and level < KNEE_SHARE * limb.length_mm:
                return one.name, size, one.source_status
    uses = ", ".join(sorted({s.use for f in known for s in f.sizes})) or "none"
    raise BadImplant(f"no plate for a cut {level:.0f} mm from the knee of {limb.bone} in the library; it has {uses}")


def _planned_bone(twin: Twin, cut: Osteotomy) -> TriangleMesh[Patient]:
    """The cut bone's parts where the plan puts them, in axes that Planned shares with Patient."""
    parts = [b for b in carry_out(twin, [cut]) if b.bone == cut.bone and b.role != "removed"]
    return joined([TriangleMesh[Patient](b.planned_mesh.vertices_mm, b.mesh.triangles) for b in parts])


def _between(mesh: TriangleMesh[Patient], middle: Array, along: Array, reach_mm: float) -> TriangleMesh[Patient]:
    for sign in (1.0, -1.0):
        mesh, _ = cut_mesh(mesh, Plane[Patient](middle - sign * reach_mm * along, sign * along))
    return mesh


def _lain(y: Array, height: Array) -> tuple[float, float]:
    """Slope and height at zero of the straight line that lies on all heights and leaves the least between."""
    from scipy.optimize import linprog

    # least sum of (top + lean y - height) with none below zero: the sums reduce to means
    found = linprog([1.0, float(y.mean())], A_ub=np.column_stack([-np.ones_like(y), -y]), b_ub=-height,
                    bounds=[(None, None), (None, None)])  # fmt: skip
    if found.x is None:
        raise NoFixation("no straight plate lies on the bone there")
    return float(found.x[1]), float(found.x[0])


def _midmost(wall_mm: Callable[[Array], Array], entry: Array, axis: Array, length_mm: float) -> tuple[Array, Array]:
    """The straight line nearest to `axis` with most bone about it: its top (3,) and its direction upward (3,)."""
    from scipy.optimize import minimize

    u, v = plane_axes(axis).T
    runs = np.arange(2.0 * END_MM, length_mm - END_MM, STATION_MM)

    def line(off: Array) -> tuple[Array, Array]:
        top, tip = entry + off[0] * u + off[1] * v, entry - length_mm * axis + off[2] * u + off[3] * v
        return top, (top - tip) / np.linalg.norm(top - tip)

    def lack(off: Array) -> float:
        top, way = line(off)
        return -float(wall_mm(top - runs[:, None] * way).min())

    found = minimize(
        lack,
        np.zeros(4),
        method="Nelder-Mead",
        options={"xatol": 0.05, "fatol": 0.01, "maxiter": 600, "initial_simplex": SPREAD_MM},
    )
    return line(found.x)
