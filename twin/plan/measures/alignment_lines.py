"""The lines that a surgeon draws on an alignment picture, as polylines in Patient mm, before or after a plan.

Endplates as lines from back to front, the hips' axis, the line that pelvic tilt is measured by, the plumb line of C7,
the legs' mechanical axes and joint lines. What was not measured is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.levels import SPINE, bone_of
from twin.plan.measures import leg_angles, sagittal
from twin.plan.measures.effects import SIDES, motions_of
from twin.plan.measures.measured import Marks, Unmeasured

HALF_PLATE_MM = 17.0
HALF_LINE_MM = 40.0
BELOW_MM = 30.0  # how far the plumb line goes on below S1


@dataclass(frozen=True, eq=False)
class Polyline:
    """Corners (N, 3), what the line is called on a picture, and what it belongs to: `sagittal`, `coronal` or `leg`."""

    points: Points[Patient]
    label: str
    plane: str


def alignment_lines(twin: Twin, osteotomies: Iterable[Osteotomy] = ()) -> Mapping[str, Polyline]:
    """By name: `endplate_superior L1`, `hip_axis`, `pelvic_tilt`, `c7_plumb`, `mechanical_axis_left` …"""
    before = Marks.of_twin(twin)
    return lines_of(before.moved(motions_of(twin, osteotomies)))


def lines_of(marks: Marks) -> Mapping[str, Polyline]:
    """The same of marks, where their plan puts them."""
    found: dict[str, Polyline] = {}

    def add(name: str, label: str, plane: str, corners: Callable[[], list[Array]]) -> None:
        try:
            found[name] = Polyline(Points[Patient](np.array(corners())), label, plane)
        except Unmeasured:
            return  # what was not measured is not drawn; the alignment says why

    def endplate(plate: str, bone: str) -> Callable[[], list[Array]]:
        return lambda: _plate(marks, plate, bone)

    for level in SPINE:
        for which in (sagittal.SUPERIOR, sagittal.INFERIOR):
            if marks.has(which, bone_of(level)):
                add(f"{which} {level}", level, "sagittal", endplate(which, bone_of(level)))
    add("hip_axis", "hip axis", "coronal", lambda: [marks.point("femoral_head", f"femur_{s}") for s in SIDES])
    s1 = (sagittal.SUPERIOR, "sacrum")
    add("pelvic_tilt", "PT", "sagittal", lambda: [sagittal.hips(marks), marks.point(*s1)])
    add("hip_vertical", "", "sagittal", lambda: _upward(marks))
    add(
        "t1_pelvic_angle", "TPA", "sagittal", lambda: [sagittal.hips(marks), sagittal.body_middle(marks, bone_of("T1"))]
    )
    add(
        "l1_pelvic_angle", "LPA", "sagittal", lambda: [sagittal.hips(marks), sagittal.body_middle(marks, bone_of("L1"))]
    )
    add("c7_plumb", "C7 plumb line", "sagittal", lambda: _plumb(marks))
    add("sva", "SVA", "sagittal", lambda: _offset(marks))
    add("sacral_vertical", "CSVL", "coronal", lambda: _sacral_vertical(marks))
    for side in SIDES:
        for name, (label, corners) in _leg(marks, side).items():
            add(f"{name}_{side}", label, "leg", corners)
    return MappingProxyType(found)


def _plate(marks: Marks, plate: str, bone: str) -> list[Array]:
    """From back to front through the endplate's centre."""
    forward = np.cross(marks.normal(plate, bone), sagittal.right_axis(marks))
    forward = forward / np.linalg.norm(forward)
    centre = marks.point(plate, bone)
    return [centre - HALF_PLATE_MM * forward, centre + HALF_PLATE_MM * forward]


def _upward(marks: Marks) -> list[Array]:
    hips = sagittal.hips(marks)
    height = float(marks.point(sagittal.SUPERIOR, "sacrum")[2] - hips[2])
    return [hips, hips + np.array([0.0, 0.0, max(height, 0.0) + BELOW_MM])]


def _plumb(marks: Marks) -> list[Array]:
    top = sagittal.body_middle(marks, "vertebrae_C7")
    foot = top.copy()
    foot[2] = marks.point(sagittal.SUPERIOR, "sacrum")[2] - BELOW_MM
    return [top, foot]


def _offset(marks: Marks) -> list[Array]:
    """From the corner of S1 level to the plumb line."""
    corner = marks.point("posterior_corner", "sacrum")
    return [corner, corner + sagittal.vertical_axis_mm(marks) * sagittal.sagittal_axes(marks)[0]]


def _sacral_vertical(marks: Marks) -> list[Array]:
    start = marks.point(sagittal.SUPERIOR, "sacrum")
    top = max(marks.point(*key)[2] for key in marks.by_key if key[0].startswith("endplate"))
    return [start, np.array([start[0], start[1], top])]


def _leg(marks: Marks, side: Side) -> dict[str, tuple[str, Callable[[], list[Array]]]]:
    femur, tibia = f"femur_{side}", f"tibia_{side}"

    def joint(name: str, bone: str) -> list[Array]:
        a, b = marks.point(f"{name}_medial", bone), marks.point(f"{name}_lateral", bone)
        way, middle = (b - a) / np.linalg.norm(b - a), 0.5 * (a + b)
        return [middle - HALF_LINE_MM * way, middle + HALF_LINE_MM * way]

    return {
        "load_line": ("weight-bearing line", lambda: [leg_angles.hip(marks, side), leg_angles.ankle(marks, side)]),
        "femur_axis": ("mechanical axis", lambda: [leg_angles.hip(marks, side), leg_angles.knee(marks, side)]),
        "tibia_axis": ("mechanical axis", lambda: [leg_angles.tibial_knee(marks, side), leg_angles.ankle(marks, side)]),
        "condyle_line": ("condyles", lambda: joint("condyle_distal", femur)),
        "plateau_line": ("plateau", lambda: joint("plateau", tibia)),
        "plateau_width": (
            "0 to 100 %",
            lambda: [marks.point(f"plateau_edge_{name}", tibia) for name in ("medial", "lateral")],
        ),
        "neck_axis": ("neck", lambda: [leg_angles.hip(marks, side), marks.point("femoral_neck", femur)]),
        "trochanter_line": ("", lambda: [leg_angles.hip(marks, side), marks.point("greater_trochanter", femur)]),
    }
