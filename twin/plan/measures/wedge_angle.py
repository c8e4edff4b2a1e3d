"""The angle that brings the weight-bearing line where it is wanted: Miniaci's method about a hinge, as vectors.

Coronal plane of the leg: lateral, up. The hip stays, what lies below the cut turns about the hinge. For a cut of the
tibia the ankle goes to where the ray from the hip through the wanted place on the plateau meets its own circle about
the hinge: the angle between the ankle before and after is the correction. A cut of the femur takes the plateau along;
seen from the shank it is the hip that turns, the other way. (Miniaci et al., Clin Orthop 1989;246:251; vector form
derived here.) Heights follow as chords, 2 L sin(a/2) at L from the hinge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.faults import Misuse
from spatial.frames import Patient, Planned
from spatial.rigid import Array, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.plan.measures import leg_angles
from twin.plan.measures.cora import Limb
from twin.plan.measures.leg_angles import leg_axes
from twin.plan.measures.measured import Key, Marks, Measured, Unmeasured, measure

WANTED_PERCENT = 62.5
NORMAL_JLCA_DEG = 2.0
SECANTS = 8


class BadTarget(Misuse):
    """A wanted place of the weight-bearing line, or a choice of correction, that can't be."""


@dataclass(frozen=True)
class Slack:
    """What is taken off the angle because the joint closes by itself once the load moves."""

    share: float
    status: str
    words: str


SLACKS: Mapping[str, Slack] = MappingProxyType(
    {
        "none": Slack(0.0, "verified", "Miniaci's angle as it is"),
        "half": Slack(0.5, "unverified", "half of what the joint line opens beyond 2 degrees is taken off"),
        "third": Slack(
            1.0 / 3.0, "verified by the abstract only (PMC8495530)",
            "a third of what the joint line opens beyond 2 degrees is taken off",
        ),
    }
)  # fmt: skip


def turn_to_ray(fixed: Array, turned: Array, target: Array, hinge: Array) -> float:
    """By how much (rad, from lateral toward up) a point turns about the hinge to lie on the ray from `fixed` through
    `target`; all (2,). Raises Unmeasured when its circle does not reach the ray.
    """
    way = (target - fixed) / np.linalg.norm(target - fixed)
    off = fixed - hinge
    half, rest = float(way @ off), float(off @ off - (turned - hinge) @ (turned - hinge))
    inside = half * half - rest
    if inside < 0.0:
        raise Unmeasured("no turn about this hinge brings the axis there")
    reached = fixed + (-half + math.sqrt(inside)) * way
    a, b = turned - hinge, reached - hinge
    return math.atan2(float(a[0] * b[1] - a[1] * b[0]), float(a @ b))


def wedge_angle_rad(
    marks: Marks, side: Side, limb: Limb, hinge: Line[Patient], percent: float = WANTED_PERCENT
) -> float:
    """The turn of what lies below the cut about the hinge line, + toward valgus. Raises Unmeasured, BadTarget.

    The closed form turns in the leg's coronal plane. A hinge that runs straight back in the bone's own frame leaves
    that plane by the leg's torsion, so the last hundredths are found by turning the leg about the hinge as it is.
    """
    if not 0.0 <= percent <= 100.0:
        raise BadTarget(f"the weight-bearing line at {percent:g} %; the plateau goes from 0 (medial) to 100 (lateral)")
    angle = in_coronal_plane_rad(marks, side, limb, hinge.point_mm, percent)
    normal = coronal_normal(marks, side)
    if abs(abs(float(normal @ hinge.direction)) - 1.0) < 1e-12:
        return angle * math.copysign(1.0, float(normal @ hinge.direction))

    def off(turn: float) -> float:
        return leg_angles.load_percent(turned(marks, side, limb, hinge, turn), side) - percent

    before, angle = angle, angle * 1.001 + 1e-4
    was, now = off(before), off(angle)
    for _ in range(SECANTS):
        if abs(now) < 1e-10 or now == was:
            break
        before, angle, was = angle, angle - now * (angle - before) / (now - was), now
        now = off(angle)
    return angle


def in_coronal_plane_rad(marks: Marks, side: Side, limb: Limb, hinge_mm: Array, percent: float) -> float:
    """The same in closed form, the hinge (3,) running square to the leg's coronal plane. Raises Unmeasured."""
    axes, bone = leg_axes(marks, side), f"tibia_{side}"
    inner, outer = (axes.coronal(marks.point(f"plateau_edge_{n}", bone)) for n in ("medial", "lateral"))
    target = inner + 0.01 * percent * (outer - inner)
    top, foot = (axes.coronal(p) for p in (leg_angles.hip(marks, side), leg_angles.ankle(marks, side)))
    hinge = axes.coronal(hinge_mm)
    if limb == "tibia":
        return turn_to_ray(top, foot, target, hinge)
    return -turn_to_ray(foot, top, target, hinge)


def coronal_normal(marks: Marks, side: Side) -> Array:
    """The way (3,) about which a positive turn brings what lies below into valgus."""
    axes = leg_axes(marks, side)
    return np.cross(axes.across, axes.up)


def wedge_mm(length_mm: float, angle_rad: float) -> float:
    """How high a wedge is at a distance from its hinge, along the cut face: the chord."""
    return 2.0 * length_mm * math.sin(abs(angle_rad) / 2.0)


def turned(marks: Marks, side: Side, limb: Limb, hinge: Line[Patient], angle_rad: float) -> Marks:
    """The leg after a turn about the hinge line; composed with what the marks have."""
    turn = hinge.rotation(angle_rad)
    motions: dict[Key, Rigid[Planned, Patient]] = dict(marks.motions)
    for name, bone in marks.by_key:
        if not _is_below(name, bone, side, limb):
            continue
        own = motions.get((name, bone))
        rotation, shift = (np.eye(3), np.zeros(3)) if own is None else (own.rotation, own.translation_mm)
        motions[name, bone] = Rigid[Planned, Patient](
            turn.rotation @ rotation, turn.rotation @ shift + turn.translation_mm
        )
    return marks.moved(motions)


def _is_below(name: str, bone: str, side: Side, limb: Limb) -> bool:
    if not bone.endswith(f"_{side}") or bone.startswith(("hip", "rib")):
        return False
    if limb == "tibia":
        return not bone.startswith(("femur", "patella")) and not name.startswith("plateau")
    return not bone.startswith("femur") or name.startswith(("condyle", "epicondyle", "intercondylar"))


@dataclass(frozen=True, eq=False)
class Correction:
    """A proposed wedge: its angle with spread, the height of the wedge at the far cortex, what it makes of the leg."""

    limb: Limb
    side: Side
    technique: str
    hinge: Line[Patient]
    angle: Measured
    length_mm: float
    wanted_percent: float
    slack: str
    after: Mapping[str, Measured]
    notes: tuple[str, ...]

    @property
    def height_mm(self) -> float:
        """Of the wedge, at the cortex far from the hinge."""
        return wedge_mm(self.length_mm, math.radians(self.angle.value or 0.0))

    def words(self) -> str:
        """`medial opening wedge of 8.2° ± 0.5 for WBL 62.5 %, 8.6 mm high at 60 mm from the hinge`."""
        part = "proximal tibia" if self.limb == "tibia" else "distal femur"
        return (
            f"{part}: {self.technique} of {replace(self.angle, value=abs(self.angle.value or 0.0)).words()} for WBL "
            f"{self.wanted_percent:g} %, {self.height_mm:.1f} mm high at {self.length_mm:.0f} mm from the hinge"
        )

    def to_json(self) -> dict[str, Any]:
        """As `plan deformity --json` prints it; `angle_deg` + toward valgus."""
        return {
            "bone": f"{self.limb}_{self.side}", "technique": self.technique,
            "hinge_mm": self.hinge.point_mm.tolist(), "axis": self.hinge.direction.tolist(),
            "angle_deg": self.angle.to_json(), "wedge_mm": self.height_mm, "hinge_to_cortex_mm": self.length_mm,
            "wanted_percent": self.wanted_percent, "jlca_correction": self.slack,
            "jlca_correction_status": SLACKS[self.slack].status,
            "after": {name: m.to_json() for name, m in self.after.items()}, "notes": list(self.notes),
            "words": self.words(),
        }  # fmt: skip


SHOWN_AFTER = (
    "hka_deg", "mldfa_deg", "mpta_deg", "joint_line_obliquity_deg", "joint_line_to_load_deg",
    "weight_bearing_line_percent", "leg_length_mm",
)  # fmt: skip
MOST_OPENING_MM = 12.0
STEEP_DEG = 5.0


def propose(
    marks: Marks, side: Side, limb: Limb, opening: bool, hinge: Line[Patient], length_mm: float,
    *, percent: float = WANTED_PERCENT, slack: str = "none",
) -> Correction:  # fmt: skip
    """The wedge about a given hinge, whose direction makes a turn toward valgus positive.

    `opening` or closing; the hinge's side must suit, which is the caller's choice.

    Raises Unmeasured and BadTarget.
    """
    if slack not in SLACKS:
        raise BadTarget(f"no correction {slack!r} for the joint line's opening; there are {', '.join(SLACKS)}")

    def angle_deg(m: Marks) -> float:
        found = math.degrees(wedge_angle_rad(m, side, limb, hinge, percent))
        if not SLACKS[slack].share or found <= 0.0:  # a valgus knee does not lean on its lateral ligaments
            return found
        excess = max(0.0, math.degrees(leg_angles.jlca(m, side)) - NORMAL_JLCA_DEG)
        return found - SLACKS[slack].share * excess

    angle = measure("angle_deg", angle_deg, marks)
    if angle.value is None:
        raise Unmeasured(angle.reason)
    turn = math.radians(angle.value)
    moved = turned(marks, side, limb, hinge, turn)
    after = {
        name: measure(name, leg_angles.of_side(leg_angles.LEG_FORMULAS[name], side), moved) for name in SHOWN_AFTER
    }
    where = _wedge_side(limb, opening, angle.value)
    technique = f"{where} {'opening' if opening else 'closing'} wedge"
    notes = []
    if opening and wedge_mm(length_mm, turn) > MOST_OPENING_MM:
        notes.append(
            f"opens {wedge_mm(length_mm, turn):.1f} mm: beyond {MOST_OPENING_MM:g} mm the hinge is said to break more "
            "often (unverified)"
        )
    line = after["joint_line_to_load_deg"].value
    if line is not None and abs(line) > STEEP_DEG:
        notes.append(f"leaves the joint line {abs(line):.1f}° oblique: more than {STEEP_DEG:g}° (unverified)")
    if slack != "none":
        notes.append(f"{SLACKS[slack].words} ({SLACKS[slack].status})")
    return Correction(
        limb, side, technique, hinge, angle, length_mm, percent, slack, MappingProxyType(after), tuple(notes)
    )  # fmt: skip


def _wedge_side(limb: Limb, opening: bool, angle_deg: float) -> str:
    """Where the wedge's base lies: toward valgus (+) the medial side opens, or the lateral one closes."""
    return "medial" if opening == (angle_deg > 0) else "lateral"
