"""The way in: where each screw's instruments pass the skin, how deep the bone lies, and what stands in the way.

A way in is straight: the screw's own axis, prolonged from its entry out through the skin. Its instrument is a sleeve of
the theatre's file around that axis. The clearance is the distance of the axis to a surface less the sleeve's radius, so
a sleeve's square end counts as a round one. Skin and bones are those of the scan: the patient lay supine in it, turned
over the soft tissue moves, and no model of that is used here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from spatial.shapes import Line
from twin.anatomy.skin import SPREAD_MM, Skin
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.screws.screw import Screw
from twin.plan.theatre import Instrument, Theatre

STEP_MM = 1.0
GRID_MM = 1.0
REACH_MM = 16.0  # of a grid beyond its bone: a thick sleeve and what is near it
NEAR_MM = 5.0  # obstacles farther from a sleeve than this are not told
FREE_ABOVE_MM = 3.0  # the sleeve stands so far off its own bone, on the head of the screw
OWN_NEAR_MM = 2.0  # its own bone is told of only from here on: the sleeve stands on it
OUT_MM = 40.0  # of the sleeve beyond the skin is looked at
HAND_MM = 10.0  # of the instrument's reach are left above the skin
LEAST_STANDING_MM = 100.0  # where no skin is known, so much of the sleeve


@dataclass(frozen=True)
class Obstacle:
    """A bone or structure near a sleeve: its clearance (negative: in the way) and where, above the entry."""

    name: str
    kind: Literal["bone", "critical", "target"]
    distance_mm: float
    above_mm: float

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "distance_mm": round(self.distance_mm, 2),
            "above_mm": round(self.above_mm, 1),
        }


@dataclass(frozen=True, eq=False)
class WayIn:
    """One screw's way: `skin` and `depth_mm` (entry on the bone to skin) None where the scan does not show the skin.

    `lateral_mm`: the skin entry's distance from the middle plane of its vertebra, to the left positive; `axial_deg` the
    lean of the instrument away from the patient's sagittal plane (outward positive), `sagittal_deg` toward the head
    (positive) or the feet. `spare_reach_mm`: reach beyond the skin, less 10 mm for the hand.
    """

    screw: Screw
    instrument: Instrument
    skin: Points[Patient] | None
    depth_mm: float | None
    incision_mm: float
    lateral_mm: float | None
    axial_deg: float
    sagittal_deg: float
    spare_reach_mm: float | None
    obstacles: tuple[Obstacle, ...]

    @property
    def outward(self) -> Line[Patient]:
        """From the entry on the bone out of the patient."""
        return Line[Patient](self.screw.entry.mm, -self.screw.axis.direction)

    @property
    def marker(self) -> Points[Patient]:
        """Where the instrument's marker stands."""
        return self.outward.at(self.instrument.marker_mm)

    @property
    def is_free(self) -> bool:
        """Nothing in the way, and within reach as far as the skin is known."""
        return all(o.distance_mm >= 0 for o in self.obstacles) and (
            self.spare_reach_mm is None or self.spare_reach_mm >= 0
        )

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "screw": self.screw.id,
            "instrument": self.instrument.name,
            "skin_mm": None if self.skin is None else [round(v, 2) for v in self.skin.mm.tolist()],
            "depth_mm": _rounded(self.depth_mm),
            "depth_sd_mm": None if self.depth_mm is None else SPREAD_MM,
            "incision_mm": round(self.incision_mm, 1),
            "lateral_mm": _rounded(self.lateral_mm),
            "axial_deg": round(self.axial_deg, 1),
            "sagittal_deg": round(self.sagittal_deg, 1),
            "spare_reach_mm": _rounded(self.spare_reach_mm),
            "obstacles": [o.to_json() for o in self.obstacles],
            "free": self.is_free,
        }


@dataclass(frozen=True)
class Meeting:
    """Two sleeves that can't stand at the same time: how far they overlap, and where above the entries."""

    screws: tuple[str, str]
    overlap_mm: float
    above_mm: tuple[float, float]


@dataclass(frozen=True)
class CameraView:
    """What a camera place sees of the instruments' markers: hidden ones by what hides them, and the worst incidence.

    Incidence: how oblique a flat marker is seen when it is turned about its instrument toward the camera as well as it
    can be. Hands, retractors and drapes are not in it.
    """

    name: str
    hidden: Mapping[str, str]
    worst_incidence_deg: float


def way_in(twin: Twin, screw: Screw, instrument: Instrument, skin: Skin | None) -> WayIn:
    """The straight way to one screw. Raises NoBone."""
    twin.bone(screw.bone)
    outward = Directions[Patient](-screw.axis.direction)
    found = None if skin is None else skin.out_of(screw.entry, outward)
    out, depth = (None, None) if found is None else found
    radius = instrument.sleeve_mm / 2
    long = LEAST_STANDING_MM if depth is None else depth + OUT_MM
    left, posterior, cranial = outward.unit
    aside = left if screw.side == "left" else -left
    return WayIn(
        screw,
        instrument,
        out,
        depth,
        incision_mm=np.pi * instrument.sleeve_mm / 2,  # a slit that opens to the sleeve's girth, without any stretch
        lateral_mm=None if out is None else _lateral_mm(twin, screw, out),
        axial_deg=float(np.degrees(np.arctan2(aside, posterior))),
        sagittal_deg=float(np.degrees(np.arctan2(cranial, posterior))),
        spare_reach_mm=None if depth is None else instrument.reach_mm - depth - HAND_MM,
        obstacles=_obstacles(twin, screw, radius, long),
    )


@dataclass(frozen=True, eq=False)
class CutWay:
    """How deep a cut lies: the depth below the skin of its edge's shallowest and deepest place, and the skin above the
    shallowest.
    """

    osteotomy: str
    shallow_mm: float
    deep_mm: float
    skin: Points[Patient]

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "osteotomy": self.osteotomy,
            "shallow_mm": round(self.shallow_mm, 1),
            "deep_mm": round(self.deep_mm, 1),
            "depth_sd_mm": SPREAD_MM,
            "skin_mm": [round(v, 2) for v in self.skin.mm.tolist()],
        }


def way_to_cut(twin: Twin, cut: Osteotomy, skin: Skin) -> CutWay | None:
    """The way to where the cut's planes meet the bone; None where they miss it or the skin above is not in the scan."""
    surface = twin.bone(cut.bone).surface
    edge = np.concatenate([surface.section(plane).reshape(-1, 3) for plane in (*cut.planes, *cut.more)])
    if not len(edge):
        return None
    depth = skin.depth_mm(Points[Patient](edge))
    near = Points[Patient](edge[int(depth.argmin())])
    outward = Directions[Patient](skin.grid.gradient(near))
    found = skin.out_of(near, outward)
    return None if found is None else CutWay(cut.id, float(depth.min()), float(depth.max()), found[0])


def meetings(ways: Sequence[WayIn]) -> tuple[Meeting, ...]:
    """Sleeves that would overlap if they stood together, from the bone to 40 mm beyond the skin; worst first."""
    found = []
    for n, one in enumerate(ways):
        for other in ways[n + 1 :]:
            gap, s, t = _gap(one.outward, _standing_mm(one), other.outward, _standing_mm(other))
            gap -= (one.instrument.sleeve_mm + other.instrument.sleeve_mm) / 2
            if gap < 0:
                found.append(Meeting((one.screw.id, other.screw.id), -gap, (s, t)))
    return tuple(sorted(found, key=lambda m: (-m.overlap_mm, m.screws)))


def camera_views(ways: Sequence[WayIn], theatre: Theatre, skin: Skin | None) -> tuple[CameraView, ...]:
    """What each camera place of the theatre sees; the one that sees most, least obliquely, first."""
    if not ways:
        return ()
    middle = np.mean([way.screw.entry.mm for way in ways], axis=0)
    views = []
    for name, place in theatre.cameras_mm.items():
        hidden, worst = {}, 0.0
        for way in ways:
            toward = middle + place - way.marker.mm
            far = float(np.linalg.norm(toward))
            incidence = float(np.degrees(np.arcsin(min(1.0, abs(toward @ way.outward.direction) / max(far, 1e-9)))))
            worst = max(worst, incidence)
            if skin is not None and _through(skin, way.marker.mm, toward / far, far):
                hidden[way.screw.id] = "the patient's body"
            elif incidence > theatre.most_incidence_deg:
                hidden[way.screw.id] = f"seen too obliquely ({incidence:.0f} degrees)"
        views.append(CameraView(name, hidden, worst))
    return tuple(sorted(views, key=lambda v: (len(v.hidden), v.worst_incidence_deg, v.name)))


def midline_incision_mm(twin: Twin, bones: Sequence[str], skin: Skin) -> float | None:
    """Length along the skin over the spinous processes of these vertebrae, end to end; None when fewer than two are
    marked or the skin behind them is not seen.
    """
    tips = [m.position.mm for m in twin.landmarks if m.name == "spinous_tip" and m.bone in bones]
    if len(tips) < 2:
        return None
    ends = sorted(tips, key=lambda p: float(p[2]))
    back = Directions[Patient](np.array([0.0, 1.0, 0.0]))
    line = [skin.out_of(Points[Patient](p), back) for p in np.linspace(ends[0], ends[-1], 24)]
    seen = [found[0].mm for found in line if found is not None]
    if len(seen) < len(line):
        return None
    return float(np.linalg.norm(np.diff(seen, axis=0), axis=1).sum())


def _lateral_mm(twin: Twin, screw: Screw, at: Points[Patient]) -> float | None:
    from twin.anatomy.local_frame import bone_frame

    try:
        right = float((bone_frame(twin, screw.bone).inverse() @ at).mm[0])
    except NoLandmark:
        return None
    return -right


def _obstacles(twin: Twin, screw: Screw, radius_mm: float, long_mm: float) -> tuple[Obstacle, ...]:
    """Bones and structures within 5 mm of the sleeve, nearest first."""
    above = np.arange(0.0, long_mm, STEP_MM)
    axis = screw.entry.mm - above[:, None] * screw.axis.direction
    low, high = axis.min(axis=0) - radius_mm - NEAR_MM, axis.max(axis=0) + radius_mm + NEAR_MM
    surfaces: list[tuple[str, Literal["bone", "critical", "target"], TriangleMesh[Patient], float]] = [
        (name, "bone", bone.surface, radius_mm + FREE_ABOVE_MM if name == screw.bone else 0.0)
        for name, bone in twin.bones.items()
    ]
    for s in twin.structures.values():
        if s.role != "context":
            surfaces.append((s.name, "critical" if s.role == "critical" else "target", s.surface, 0.0))
    found = []
    for name, kind, surface, from_mm in surfaces:
        least, most = surface.bounds_mm
        if (least > high).any() or (most < low).any():
            continue
        rows = above >= from_mm
        near = _around(surface).distance_mm(Points[Patient](axis[rows])) - radius_mm
        place = int(near.argmin())
        if near[place] < (OWN_NEAR_MM if name == screw.bone else NEAR_MM):
            found.append(Obstacle(name, kind, float(near[place]), float(above[rows][place])))
    return tuple(sorted(found, key=lambda o: (o.distance_mm, o.name)))


def _around(surface: TriangleMesh[Patient]) -> DistanceGrid[Patient]:
    """A grid coarser than the one that screws are graded on: whole bones are looked at, to a tenth of a millimetre."""
    grid = _GRIDS.get(surface)
    if grid is None:
        grid = _GRIDS[surface] = DistanceGrid[Patient].from_mesh(surface, GRID_MM, margin_mm=REACH_MM)
    return grid


def _standing_mm(way: WayIn) -> float:
    return LEAST_STANDING_MM if way.depth_mm is None else way.depth_mm + OUT_MM


def _gap(one: Line[Patient], long_mm: float, other: Line[Patient], other_long_mm: float) -> tuple[float, float, float]:
    """Smallest distance between two segments that begin at the lines' points, and where on each it lies.

    Ericson, Real-Time Collision Detection (2005), section 5.1.9.
    """
    between = one.point_mm - other.point_mm
    b = float(one.direction @ other.direction)
    c, f = float(one.direction @ between), float(other.direction @ between)
    denominator = 1.0 - b * b
    s = float(np.clip((b * f - c) / denominator, 0.0, long_mm)) if denominator > 1e-12 else 0.0
    t = float(np.clip(b * s + f, 0.0, other_long_mm))
    s = float(np.clip(b * t - c, 0.0, long_mm))
    return float(np.linalg.norm(one.at(s).mm - other.at(t).mm)), s, t


def _through(skin: Skin, start: Array, way: Array, far_mm: float) -> bool:
    """Whether a line of sight passes the body."""
    along = np.arange(0.0, far_mm, 5.0)
    return bool((skin.grid.distance_mm(Points[Patient](start + along[:, None] * way)) < 0).any())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


_GRIDS: WeakKeyDictionary[TriangleMesh[Any], DistanceGrid[Any]] = WeakKeyDictionary()
