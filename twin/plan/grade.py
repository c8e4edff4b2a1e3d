"""The Gertzbein-Robbins grade of a screw, and its margins, measured on the bone's actual surface.

Walls are those within 6 mm of the isthmus along the axis; the outer thread radius is held against the outer cortex;
breach = max(0, -smallest wall margin); the anterior cortex stands apart. A 0, B below 2, C below 4, D below 6 mm, else
E (modified Gertzbein & Robbins, Spine 1990;15:11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.faults import Fault
from spatial.frames import Bone, Patient
from spatial.rigid import Directions, Points, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan import hold as holding
from twin.plan.clearance import Clearance, clearances
from twin.plan.density import PLACES, STEP_MM, AlongScrew, along_screw
from twin.plan.facet import FacetCheck, facet_check
from twin.plan.hold import Hold, Reading, hold
from twin.plan.implants import Library, load_library
from twin.plan.scales import CANAL, heary_grade, neo_grade
from twin.plan.screw import Screw
from twin.plan.walls import STATIONS, WALLS, WINDOW_MM, Across, Walls, measure_walls, narrowest_mm
from twin.plan.whole import Breaches, whole_breaches
from twin.scan.volume import Volume

GRADES = ((0.0, "A"), (2.0, "B"), (4.0, "C"), (6.0, "D"))
ANTERIOR_KEEP_MM = 2.0
FILL = 0.8  # of the isthmus width (clinical fact sheet 1.3 [M]: shown, gates nothing)
AROUND = 12  # places around the thread that tell whether it lies in bone


class OffBone(Fault):
    """An axis that does not run through the bone it is meant for."""


@dataclass(frozen=True, eq=False)
class ScrewGrade:
    """The grade with its evidence. Margins in mm, negative = beyond the cortex; directions in the bone's axes.

    `binding` names the margin that leaves least room (the anterior one counts with its 2 mm to keep). `chord_mm` is the
    way from the entry to the anterior cortex along the axis, `width_mm` the narrowest chord across it (None when the
    axis leaves the bone), `isthmus_mm` the place of the isthmus along the axis and `isthmus_from` how it was found.
    `margin_sd_mm` is one sigma of each margin from the scan's resolution (None: not known), `clearances` the distances
    of the whole screw to the twin's critical and target structures, nearest first. `whole` are the breaches anywhere
    from the pedicle to the tip, `facet` the joint with the vertebra above, `hold` the pull-out estimate; a text in the
    place of the last two says why there is none.
    """

    grade: str
    breach_mm: float
    breach_direction: str | None
    margin_mm: Mapping[str, float]
    hu: Mapping[str, float | None]
    hold_n: tuple[float, float, float] | None
    binding: str
    chord_mm: float
    width_mm: float | None
    isthmus_mm: float
    isthmus_from: str
    margin_sd_mm: float | None = None
    clearances: tuple[Clearance, ...] = ()
    scale: str = "Gertzbein-Robbins"
    diameter_mm: float = 0.0
    length_mm: float = 0.0
    whole: Breaches | None = None
    heary: str | None = None
    facet: FacetCheck | str | None = None
    hold: Hold | str = holding.NO_CT

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        object.__setattr__(self, "margin_mm", MappingProxyType(dict(self.margin_mm)))
        object.__setattr__(self, "hu", MappingProxyType(dict(self.hu)))

    @property
    def fill(self) -> float | None:
        """Diameter over the narrowest width of bone across the axis."""
        return None if not self.width_mm or not self.diameter_mm else self.diameter_mm / self.width_mm

    @property
    def canal_mm(self) -> float | None:
        """Distance of the whole screw to the spinal canal, negative: inside; None: this twin has none."""
        return next((c.distance_mm for c in self.clearances if c.structure == CANAL), None)

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        unheld = self.hold if isinstance(self.hold, str) else None
        return {
            "grade": self.grade,
            "breach_mm": self.breach_mm,
            "breach_direction": self.breach_direction,
            "margin_mm": dict(self.margin_mm),
            "margin_sd_mm": self.margin_sd_mm,
            "structures": [clearance.to_json() for clearance in self.clearances],
            "hu": dict(self.hu),
            "hold_n": None if self.hold_n is None else list(self.hold_n),
            "hold_status": holding.STATUS,
            "hold_reason": unheld,
            "hold": None if isinstance(self.hold, str) else self.hold.to_json(),
            "binding": self.binding,
            "chord_mm": self.chord_mm,
            "width_mm": self.width_mm,
            "isthmus_from": self.isthmus_from,
            "scale": self.scale,
            "neo": neo_grade(self.breach_mm),
            "heary": self.heary,
            "breach_whole_mm": None if self.whole is None else self.whole.to_json(),
            "tip_depth_mm": None if self.whole is None else round(self.whole.tip_mm, 3),
            "canal_mm": None if self.canal_mm is None else round(self.canal_mm, 3),
            "facet": self.facet.to_json() if isinstance(self.facet, FacetCheck) else None,
            "facet_reason": self.facet if isinstance(self.facet, str) else None,
            "fill": None if self.fill is None else round(self.fill, 3),
            "within_80_percent": None if self.fill is None else self.fill <= FILL,
            "chord_share": round(self.length_mm / self.chord_mm, 3) if self.length_mm and self.chord_mm > 0 else None,
        }


def grade_letter(breach_mm: float) -> str:
    """A: none, B: below 2 mm, C: 2 to below 4, D: 4 to below 6, E: 6 and more."""
    if breach_mm <= 0.0:
        return "A"
    return next((letter for limit, letter in GRADES if breach_mm < limit), "E")


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
    """Grade a screw against the twin; HU and hold need the CT. Raises NoBone, NoLandmark, OffBone."""
    grid = DistanceGrid[Patient].of(twin.bone(screw.bone).surface)
    frame = bone_frame(twin, screw.bone) if patient_from_bone is None else patient_from_bone
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
    held = _held(twin, grid, screw, across, seen, library)
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


def _held(
    twin: Twin, grid: DistanceGrid[Patient], screw: Screw, across: Across, seen: AlongScrew | None, library: Library
) -> Hold | str:
    """The hold estimate of the thread, counted where it lies in bone."""
    if seen is None:
        return holding.NO_CT
    family = library.screws(screw.family_name, screw.kind)
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    ring = np.cos(angle)[:, None] * across.medial + np.sin(angle)[:, None] * across.superior
    axis = screw.axis
    points = axis.point_mm + seen.place_mm[:, None, None] * axis.direction + screw.diameter_mm / 2 * ring
    engaged = (grid.distance_mm(Points[Patient](points)) < 0.0).mean(axis=1)
    if screw.thread_mm is not None:
        engaged = np.where(seen.place_mm >= screw.length_mm - screw.thread_mm, engaged, 0.0)
    depth = (screw.diameter_mm - family.core_diameter_mm(screw.diameter_mm)) / 2
    reading = Reading.of(twin.density)
    return hold(seen.thread_hu, engaged, STEP_MM, screw.diameter_mm, depth, family.pitch_mm, reading)


def _walls(grid: DistanceGrid[Patient], screw: Screw, isthmus_mm: float, across: Across, stations: int) -> Walls:
    """Walls along the part of the window that the screw passes; the whole window when it never gets there."""
    first, last = max(-WINDOW_MM, -isthmus_mm), min(WINDOW_MM, screw.length_mm - isthmus_mm)
    if first >= last:
        first, last = -WINDOW_MM, WINDOW_MM
    return measure_walls(grid, screw.axis, isthmus_mm, across, window_mm=(first, last), stations=stations)
