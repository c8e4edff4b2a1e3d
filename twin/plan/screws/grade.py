"""The Gertzbein-Robbins grade of a screw, and its margins, measured on the bone's actual surface.

Walls are those within 6 mm of the isthmus along the axis; the outer thread radius is held against the outer cortex;
breach = max(0, -smallest wall margin); the anterior cortex stands apart. A 0, B below 2, C below 4, D below 6 mm, else
E (modified Gertzbein & Robbins, Spine 1990;15:11).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Directions, Points, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.screws.clearance import clearances
from twin.plan.screws.density import PLACES, along_screw
from twin.plan.screws.facet import facet_check
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.scales import heary_grade
from twin.plan.screws.screw import Screw
from twin.plan.screws.screw_grade import OffBone as OffBone
from twin.plan.screws.screw_grade import ScrewGrade as ScrewGrade
from twin.plan.screws.screw_grade import grade_letter as grade_letter
from twin.plan.screws.through import NO_JOINT, Bones, grade_through, held_in
from twin.plan.screws.walls import STATIONS, WALLS, WINDOW_MM, Across, Walls, measure_walls, narrowest_mm
from twin.plan.screws.whole import whole_breaches
from twin.scan.volume import Volume

ANTERIOR_KEEP_MM = 2.0


def entry_on_bone(
    grid: DistanceGrid[Patient], point: Points[Patient], direction: Directions[Patient]
) -> Points[Patient]:
    """Where the axis through `point` meets the outer bone: backward from inside, else forward. Raises OffBone."""
    inside = float(grid.distance_mm(point)) < 0
    way = -direction.unit if inside else direction.unit
    run = float(grid.trace(point, Directions[Patient](way)))
    if not np.isfinite(run):
        raise OffBone("the axis does not meet the bone; are entry and target in patient coordinates (LPS, mm)?")
    return Points[Patient](point.mm + run * way)


def anterior_cortex_mm(grid: DistanceGrid[Patient], axis: Line[Patient]) -> float:
    """Way from the axis' point to the last crossing of the bone in front of it, seen from the front. Raises OffBone."""
    low, high = grid.bounds_mm
    far = float(np.linalg.norm(high - low))
    start = axis.at(far)
    back = float(grid.trace(start, Directions[Patient](-axis.direction), max_mm=far))
    if not np.isfinite(back):
        raise OffBone("the axis leaves the bone at the entry and meets no bone beyond it; is the target in the body?")
    return far - back


def pedicle_isthmus_mm(
    twin: Twin, bone: str, side: Side, axis: Line[Patient], across: Across, chord_mm: float
) -> tuple[float, str]:
    """The place along the axis that is nearest to the isthmus of the pedicle, and how it was found.

    `landmark`: as the anatomy measured it; `section`: the narrowest section of the bone along this axis, where it was
    not measured. Raises OffBone when the axis lies outside the bone.
    """
    try:
        return float(axis.along_mm(twin.landmark(f"pedicle_{side}", bone).position)), "landmark"
    except NoLandmark:
        found = narrowest_mm(DistanceGrid[Patient].of(twin.bone(bone).surface), axis, across, chord_mm)
    if found is None:
        raise OffBone("the axis runs outside the bone where its pedicle should be; are entry and target right?")
    return found, "section"


def grade_screw(
    twin: Twin,
    screw: Screw,
    volume: Volume | None = None,
    *,
    patient_from_bone: Rigid[Patient, Bone] | None = None,
    stations: int = STATIONS,
    library: Library | None = None,
) -> ScrewGrade:
    """Grade a screw against the twin; HU and hold need the CT. Raises NoBone, NoLandmark, OffBone.

    Pedicle and cortical screws by the walls of the pedicle; screws from the sacrum into the ilium and lag screws along
    their whole way, see `twin.plan.screws.through`.
    """
    if screw.kind in ("s2ai", "lag"):
        return grade_through(twin, screw, volume, library=library)
    grid = DistanceGrid[Patient].of(twin.bone(screw.bone).surface)
    frame = _frame(twin, screw.bone) if patient_from_bone is None else patient_from_bone
    axis = screw.axis
    across = Across.of(axis.direction, frame, screw.side)
    chord = anterior_cortex_mm(grid, axis)
    isthmus, isthmus_from = pedicle_isthmus_mm(twin, screw.bone, screw.side, axis, across, chord)
    walls = _walls(grid, screw, isthmus, across, stations)
    radius = screw.diameter_mm / 2
    margin = {name: walls.wall_mm[name] - radius for name in WALLS}
    margin["anterior"] = chord - screw.length_mm
    worst = min(WALLS, key=lambda name: margin[name])
    breach = max(0.0, -margin[worst])
    room = {**margin, "anterior": margin["anterior"] - ANTERIOR_KEEP_MM}
    direction = worst if breach > 0 else None
    near = clearances(twin, screw)
    whole = whole_breaches(grid, screw, isthmus, across, frame)
    library = load_library() if library is None else library
    seen = None if volume is None else along_screw(volume, screw, (across.medial, across.superior))
    held = held_in(twin, Bones(grid, grid, NO_JOINT), screw, across, seen, library)
    return ScrewGrade(
        grade=grade_letter(breach),
        breach_mm=breach,
        breach_direction=direction,
        margin_mm={name: margin[name] for name in ("medial", "lateral", "superior", "inferior", "anterior")},
        hu=dict.fromkeys(PLACES) if seen is None else seen.places((isthmus - WINDOW_MM, isthmus + WINDOW_MM)),
        hold_n=None if isinstance(held, str) else held.interval_n,
        binding=min(room, key=lambda name: room[name]),
        chord_mm=chord,
        width_mm=None if np.isnan(walls.width_mm) else walls.width_mm,
        isthmus_mm=isthmus,
        isthmus_from=isthmus_from,
        margin_sd_mm=twin.surface_sd_mm,
        clearances=near,
        diameter_mm=screw.diameter_mm,
        length_mm=screw.length_mm,
        whole=whole,
        heary=heary_grade(screw.bone, breach, direction, whole, near),
        facet=facet_check(twin, screw, library),
        hold=held,
    )


def _frame(twin: Twin, bone: str) -> Rigid[Patient, Bone]:
    """The bone's axes, found once while the twin lives: a drag grades each frame."""
    known = _FRAMES.setdefault(twin, {})
    if bone not in known:
        known[bone] = bone_frame(twin, bone)
    return known[bone]


_FRAMES: WeakKeyDictionary[Twin, dict[str, Rigid[Patient, Bone]]] = WeakKeyDictionary()


def _walls(grid: DistanceGrid[Patient], screw: Screw, isthmus_mm: float, across: Across, stations: int) -> Walls:
    """Walls along the part of the window that the screw passes; the whole window when it never gets there."""
    first, last = max(-WINDOW_MM, -isthmus_mm), min(WINDOW_MM, screw.length_mm - isthmus_mm)
    if first >= last:
        first, last = -WINDOW_MM, WINDOW_MM
    return measure_walls(grid, screw.axis, isthmus_mm, across, window_mm=(first, last), stations=stations)
