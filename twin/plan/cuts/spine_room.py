"""What an osteotomy of the spine leaves for the nerves: the canal's room, its shortening, and the foramina."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from twin.anatomy.canal_tube import NAME as CANAL
from twin.anatomy.twin import NoBone, NoLandmark, Twin
from twin.plan.cuts.consequences import Caution
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.pieces import pieces_of
from twin.plan.cuts.section import Section
from twin.plan.cuts.spine_cuts import neighbour

LEAST_ROOM_MM = 2.0  # between the pedicles that a merged foramen runs between


@dataclass(frozen=True)
class Room:
    """`canal_mm`: the least distance of bone to the canal's surface, before and after (negative: bone inside it).

    `canal_shortens_mm`: how much nearer the canal's ends come at the cut. `foramen_mm`: bone to bone from pedicle to
    pedicle after the turn, by side, between the two bones named.
    """

    canal_mm: tuple[float, float] | None = None
    canal_shortens_mm: float | None = None
    foramen_mm: dict[str, float] = field(default_factory=dict)
    foramen_between: tuple[str, str] | None = None
    cautions: tuple[Caution, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        before, after = self.canal_mm or (None, None)
        return {
            "canal_before_mm": before,
            "canal_after_mm": after,
            "canal_shortens_mm": self.canal_shortens_mm,
            "foramen_mm": self.foramen_mm,
            "foramen_between": list(self.foramen_between or ()),
            "cautions": [caution.to_json() for caution in self.cautions],
        }


def room(twin: Twin, cut: Osteotomy) -> Room:
    """Of one osteotomy of a vertebra. Raises NoBone, NotCut."""
    tube = twin.structures.get(CANAL)
    canal, shorter = None, None
    if tube is not None:
        canal, shorter = _canal(twin, cut, tube.surface), _shortening(cut, tube.surface)
    between = _pedicled(twin, cut)
    foramen = {}
    for side in ("left", "right"):
        try:
            if between is not None:
                foramen[side] = _foramen(twin, cut, *between, side)
        except NoLandmark:
            continue
    cautions = [
        Caution(f"the {side} foramen is {mm:.1f} mm high, less than {LEAST_ROOM_MM:g}", mm, LEAST_ROOM_MM)
        for side, mm in foramen.items()
        if mm < LEAST_ROOM_MM
    ]
    return Room(canal, shorter, foramen, between, tuple(cautions))


def _canal(twin: Twin, cut: Osteotomy, tube: TriangleMesh[Patient]) -> tuple[float, float] | None:
    grid = DistanceGrid[Patient].of(tube)
    motion, back = cut.motion, cut.motion.inverse()
    moving, staying = _near(twin, cut)
    if not (len(moving) or len(staying)):
        return None
    every = np.concatenate([moving, staying])
    before = float(grid.distance_mm(Points[Patient](every)).min())
    upper, lower = cut.planes
    found = [math.inf]
    # a bone keeps its distance to its own side's part of the canal; the other side's part, which ends at its cut, is
    # asked in its own place
    for points, seen, own, other, sign in (
        (moving, motion @ Points[Patient](moving), upper, lower, 1.0),
        (staying, back @ Points[Patient](staying), lower, upper, -1.0),
    ):
        if len(points):
            same = sign * own.signed_distance_mm(Points[Patient](points)) >= 0
            across = sign * other.signed_distance_mm(seen) < 0
            for chosen in (points[same], seen.mm[across]):
                if len(chosen):
                    found.append(float(grid.distance_mm(Points[Patient](chosen)).min()))
    return before, min(found)


def _near(twin: Twin, cut: Osteotomy) -> tuple[Any, Any]:
    """Corners of the moving and of the staying bones beside the cut, as scanned."""
    moving, staying = [], []
    for name in (cut.bone, *cut.also):
        pieces = pieces_of(twin, cut, name)
        moving.append(pieces.moving.vertices_mm)
        staying.append(pieces.staying.vertices_mm)
    for way, kept in ((-1, moving), (1, staying)):
        try:
            name = neighbour(twin, cut.bone, way)
        except NoBone:
            continue
        if name not in cut.also:
            kept.append(twin.bone(name).surface.vertices_mm)
    return np.concatenate(moving), np.concatenate(staying)


def _shortening(cut: Osteotomy, tube: TriangleMesh[Patient]) -> float | None:
    """How much nearer a place in the canal's middle at the cut comes to itself on the other side."""
    plane = cut.bisector
    section = Section.of(tube, plane, cut.hinge.point_mm)
    if not section.rings:
        return None
    middle = section.centroid_mm
    # from the upper cut to the lower one: a chord about the hinge, square to the plane between them
    turned = (cut.hinge.rotation(cut.angle_rad) @ Points[Patient](middle)).mm - middle
    chord = math.copysign(float(np.linalg.norm(turned)), float(turned @ plane.normal))
    return -chord - float(cut.shift_mm @ plane.normal)


def _pedicled(twin: Twin, cut: Osteotomy) -> tuple[str, str] | None:
    """The bones whose pedicles bound the foramen at the cut."""
    try:
        if cut.kind == "SPO":
            return cut.bone, cut.also[0]
        if cut.kind in ("PSO", "VCR"):
            return neighbour(twin, cut.bone, -1), neighbour(twin, cut.bone, 1)
    except NoBone:
        return None
    return None


def _foramen(twin: Twin, cut: Osteotomy, above: str, below: str, side: str) -> float:
    """From pedicle to pedicle along the line between the isthmuses, less the bone at its ends."""
    start = twin.landmark(f"pedicle_{side}", above).position
    stop = twin.landmark(f"pedicle_{side}", below).position
    moved = cut.motion @ start
    line = stop.mm - moved.mm
    whole = float(np.linalg.norm(line))
    way = Directions[Patient](line)
    down = cut.motion.inverse() @ way
    first = float(DistanceGrid[Patient].of(twin.bone(above).surface).trace(start, down))
    last = float(DistanceGrid[Patient].of(twin.bone(below).surface).trace(stop, Directions[Patient](-way.unit)))
    return whole - first - last
