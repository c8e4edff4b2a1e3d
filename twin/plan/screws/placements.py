"""Where a screw goes by a rule: along the pedicle's axis, by the cortical bone trajectory, freely through two points.

Nothing here is the best screw (`twin.plan.auto.autoplan` looks for it): each is the textbook's, with a size that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.distance import DistanceGrid
from spatial.faults import Fault
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from spatial.shapes import Line, Plane
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Twin
from twin.plan.levels import level_of
from twin.plan.screws.batch import Candidates, Pedicle
from twin.plan.screws.grade import ANTERIOR_KEEP_MM, OffBone, anterior_cortex_mm, entry_on_bone
from twin.plan.screws.implants import Kind, Library, load_library
from twin.plan.screws.screw import BadScrew, Screw
from twin.plan.screws.walls import Across, measure_walls

FILL, CHORD = 0.8, 0.85  # of isthmus width and chord (clinical fact sheet 1.3 [M])
MOST_MM, MOST_SACRAL_MM = 8.5, 10.5  # thickest usual screw (1.3 [M])
LEAST_MARGIN_MM = 0.3
# cortical bone trajectory: 8 to 10 degrees lateral, 25 cranial, from the pedicle's lower inner quarter (Santoni 2009,
# Matsukawa 2013 [M]); 13.8 to 20.9 and 17.5 to 24.9 in a CT population, 8.5 and 25.3 as delivered ([V], fact sheet 1.4)
CORTICAL_LATERAL_RAD = np.radians(np.arange(5.0, 21.1, 2.0))
CORTICAL_CRANIAL_RAD = np.radians(np.arange(15.0, 30.1, 2.5))
CORTICAL_USUAL_RAD = np.radians(np.array([9.0, 25.0]))
CORTICAL_MEDIAL_MM = np.arange(-2.0, 3.1, 1.0)
CORTICAL_DOWN_MM = np.arange(-1.0, 4.1, 1.0)
TURN_COST = 12.0  # mm a square radian away from the usual directions
BEHIND_MM = 60.0


class NoRoom(Fault):
    """A trajectory that this bone has no room for: no size of the family fits on it."""


@dataclass(frozen=True)
class Aim:
    """A screw's direction in its bone's frame, degrees: out of the sagittal plane away from the middle, and up."""

    lateral_deg: float
    cranial_deg: float

    @classmethod
    def of(cls, direction: Array, frame: Rigid[Patient, Bone], side: Side) -> Aim:
        """For a screw on one side of the bone; convergence is negative."""
        right, anterior, cranial = frame.rotation.T @ direction
        outward = -right if side == "left" else right
        lateral = np.degrees(np.arctan2(outward, anterior))
        return cls(float(lateral), float(np.degrees(np.arcsin(np.clip(cranial, -1.0, 1.0)))))

    def to_json(self) -> dict[str, float]:
        """As `aim_deg`."""
        return {"lateral": round(self.lateral_deg, 2), "cranial": round(self.cranial_deg, 2)}


def along_axis(
    twin: Twin, bone: str, side: Side, *, diameter_mm: float | None = None, length_mm: float | None = None,
    family: str = "", library: Library | None = None,
) -> Screw:  # fmt: skip
    """A pedicle screw on the pedicle's own axis: 80 % of its isthmus, 85 % of the chord, where no size is given.

    Raises NoBone, NoLandmark, OffBone, NoRoom.
    """
    neck = twin.landmark(f"pedicle_{side}", bone)
    frame = bone_frame(twin, bone)
    way = frame.rotation[:, 1] if neck.direction is None else neck.direction.unit
    grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
    entry = entry_on_bone(grid, neck.position, Directions[Patient](way))
    return _sized(twin, bone, side, entry.mm, way, "pedicle", diameter_mm, length_mm, family, library)


def cortical(
    twin: Twin, bone: str, side: Side, *, diameter_mm: float | None = None, length_mm: float | None = None,
    family: str = "", library: Library | None = None,
) -> Screw:  # fmt: skip
    """A screw by the cortical bone trajectory: from the pars upward and outward through the pedicle.

    Of the directions and entries that are usual the one with most room in the pedicle, less for each degree away from 9
    lateral and 25 cranial. Raises NoBone, NoLandmark, OffBone, NoRoom.
    """
    library = load_library() if library is None else library
    sizes = library.screws(family or None, "cortical")
    thin = min(sizes.diameters_mm) if diameter_mm is None else diameter_mm
    short = min(sizes.lengths_mm) if length_mm is None else length_mm
    frame = bone_frame(twin, bone)
    pedicle = Pedicle.of(twin, bone, side, frame)
    lateral, cranial, medial, down = (
        v.ravel() for v in np.meshgrid(CORTICAL_LATERAL_RAD, CORTICAL_CRANIAL_RAD, CORTICAL_MEDIAL_MM, CORTICAL_DOWN_MM)
    )
    anterior = frame.rotation[:, 1]
    flat = np.cos(lateral)[:, None] * anterior - np.sin(lateral)[:, None] * pedicle.inward
    ways = np.cos(cranial)[:, None] * flat + np.sin(cranial)[:, None] * pedicle.cranial
    through = pedicle.isthmus_mm + medial[:, None] * pedicle.inward - down[:, None] * pedicle.cranial
    start = Points[Patient](through - BEHIND_MM * ways)
    run = pedicle.grid.trace(start, Directions[Patient](ways), BEHIND_MM)
    met = np.isfinite(run)
    if not met.any():
        raise NoRoom(f"no cortical trajectory meets {bone} behind its {side} pedicle")
    entries, ways = start.mm[met] + run[met][:, None] * ways[met], ways[met]
    tried = Candidates(entries, ways, np.full(len(ways), thin), np.full(len(ways), short))
    graded = pedicle.grade(tried)
    usual = (lateral[met] - CORTICAL_USUAL_RAD[0]) ** 2 + (cranial[met] - CORTICAL_USUAL_RAD[1]) ** 2
    fits = (graded.margin_mm >= LEAST_MARGIN_MM) & (graded.anterior_mm >= ANTERIOR_KEEP_MM)
    fits &= _inside(pedicle, tried)
    if not fits.any():
        raise NoRoom(
            f"no cortical trajectory of {thin:g} x {short:g} mm keeps {LEAST_MARGIN_MM:g} mm from the walls of the "
            f"{side} pedicle of {bone}; the best leaves {float(np.nanmax(graded.margin_mm)):.1f} mm"
        )
    worth = np.where(fits, np.minimum(graded.margin_mm, 2.0) - TURN_COST * usual, -np.inf)
    best = int(np.argmax(worth))
    return _sized(twin, bone, side, entries[best], ways[best], "cortical", diameter_mm, length_mm, family, library)


def lag(
    twin: Twin, bone: str, side: Side, entry_mm: Array, target_mm: Array, *, diameter_mm: float,
    length_mm: float | None = None, thread_mm: float | None = None, fracture: Plane[Patient] | None = None,
    family: str = "", library: Library | None = None,
) -> Screw:  # fmt: skip
    """A lag screw from its entry on the bone to the target, or of the given length toward it.

    With the plane of a fracture the thread is the longest of the family that lies wholly beyond it, so that the screw
    draws the fragments together. Raises NoBone, OffBone, BadScrew, NoRoom.
    """
    library = load_library() if library is None else library
    sizes = library.screws(family or None, "lag")
    grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
    way = np.asarray(target_mm - entry_mm, dtype=float)
    if float(np.linalg.norm(way)) < 0.1:
        raise BadScrew("entry and target are the same point, so the screw has no axis")
    way = way / np.linalg.norm(way)
    at = entry_on_bone(grid, Points[Patient](entry_mm), Directions[Patient](way)).mm
    reach = float((target_mm - at) @ way)
    if reach <= 0.1:
        raise BadScrew("the target lies before the bone on this axis")
    if length_mm is None:
        length_mm = max((v for v in sizes.lengths_mm if v <= reach + 0.1), default=None)
        if length_mm is None:
            raise NoRoom(f"{reach:.1f} mm from entry to target; the shortest screw has {min(sizes.lengths_mm):g} mm")
    if fracture is not None:
        far = _beyond_mm(fracture, at, way, length_mm, diameter_mm)
        thread_mm = max((v for v in sizes.threads_mm if v <= far), default=None) if thread_mm is None else thread_mm
        if thread_mm is None or thread_mm > far:
            raise NoRoom(
                f"{max(far, 0.0):.1f} mm of the screw lie wholly beyond the fracture; the thread needs "
                f"{min(sizes.threads_mm) if thread_mm is None else thread_mm:g} mm"
            )
    return Screw(
        f"{level_of(bone) or bone}-{side}-lag", bone, side, Points[Patient](at), Points[Patient](at + length_mm * way),
        diameter_mm, length_mm, kind="lag", family=family, thread_mm=thread_mm,
    )  # fmt: skip


def _beyond_mm(fracture: Plane[Patient], entry: Array, way: Array, length: float, diameter: float) -> float:
    """How much of the screw's end lies beyond the plane with its whole thickness."""
    slope = float(fracture.normal @ way)
    if abs(slope) < 1e-6:
        raise NoRoom("the screw runs along the fracture's plane and does not cross it")
    crossing = -float(fracture.signed_distance_mm(Points[Patient](entry))) / slope
    if not 0.0 < crossing < length:
        raise NoRoom(f"the fracture crosses the axis {crossing:.1f} mm from the entry, the screw ends at {length:g} mm")
    return length - crossing - 0.5 * diameter * float(np.sqrt(max(1.0 - slope * slope, 0.0))) / abs(slope)


def _inside(pedicle: Pedicle, screws: Candidates) -> NDArray[np.bool_]:
    """Whether the thread (N,) stays in bone from the isthmus to the tip, an axis and its thickness."""
    share = np.linspace(0.55, 1.0, 8)
    points = screws.entries_mm[:, None] + (share[:, None] * screws.lengths_mm[:, None, None]) * screws.ways[:, None]
    return np.asarray(pedicle.grid.distance_mm(Points[Patient](points)).max(axis=1) <= -screws.diameters_mm / 2.0)


def _sized(
    twin: Twin, bone: str, side: Side, entry: Array, way: Array, kind: Kind, diameter_mm: float | None,
    length_mm: float | None, family: str, library: Library | None,
) -> Screw:  # fmt: skip
    """The screw on an axis, in sizes of its family where none are given."""
    library = load_library() if library is None else library
    sizes = library.screws(family or None, kind)
    grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
    frame = bone_frame(twin, bone)
    axis = Line[Patient](entry, way)
    across = Across.of(axis.direction, frame, side)
    isthmus = float(axis.along_mm(twin.landmark(f"pedicle_{side}", bone).position))
    walls = measure_walls(grid, axis, isthmus, across)
    if diameter_mm is None:
        if np.isnan(walls.width_mm):
            raise OffBone(f"this axis leaves the {side} pedicle of {bone}")
        nearest = min(walls.wall_mm.values())
        most = min(FILL * walls.width_mm, MOST_SACRAL_MM if bone == "sacrum" else MOST_MM)
        fitting = [d for d in sizes.diameters_mm if d <= most and d / 2 + LEAST_MARGIN_MM <= nearest]
        diameter_mm = _most(
            fitting, f"the isthmus is {walls.width_mm:.1f} mm wide, the nearest wall {nearest:.1f} mm away"
        )
    if length_mm is None:
        chord = anterior_cortex_mm(grid, axis)
        room = [v for v in sizes.lengths_mm if v <= min(CHORD * chord, chord - ANTERIOR_KEEP_MM)]
        length_mm = _most([v for v in room if _tip_inside(grid, axis, v, diameter_mm)], f"the chord is {chord:.1f} mm")
    end = "" if kind == "pedicle" else f"-{kind}"
    return Screw(
        f"{level_of(bone) or bone}-{side}{end}", bone, side, Points[Patient](entry), axis.at(length_mm), diameter_mm,
        length_mm, kind=kind, family=family,
    )  # fmt: skip


def _tip_inside(grid: DistanceGrid[Patient], axis: Line[Patient], length: float, diameter: float) -> bool:
    return float(grid.distance_mm(axis.at(length))) <= -diameter / 2.0


def _most(fitting: Sequence[float], why: str) -> float:
    if not fitting:
        raise NoRoom(f"no size of this family fits: {why}")
    return max(fitting)
