"""Where a long bone is bent: the centre of rotation of angulation (CORA), by its mechanical axes in the coronal plane.

The bone's two ends each say, by their joint line and its usual angle, how the mechanical axis ought to leave them;
where the two lines meet is the CORA, the angle between them what has to be corrected there (Paley, Principles of
Deformity Correction, 2002, ch. 4). Lines that do not meet within the bone mean two levels, or a shift. What the usual
angles are is the weak part: a population's spread by a few degrees moves the place by centimetres, so place and angle
carry it, and an angle within its own error has no place at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import sections
from twin.anatomy.bone import Side
from twin.plan.measures import leg_angles
from twin.plan.measures.leg_angles import LegAxes
from twin.plan.measures.measured import Marks, Measured, Unmeasured, measure

Status = Literal["verified", "unverified"]
Limb = Literal["femur", "tibia"]
BEYOND = 0.08  # of the bone's length: how far outside it the lines may meet and still count as one level
LEAST_DEG = 2.0
NEAR_JOINT = 0.12  # of the bone's length
SHAFT = (0.38, 0.62)  # the share of a tibia between whose sections its own line is drawn
SHAFT_SD_DEG = 1.0  # how far a straight tibia's shaft may lean from its mechanical axis
UNSURE = 0.25  # of the bone's length: a place that is less sure than this is not named


@dataclass(frozen=True)
class Usual:
    """What an angle usually is: its range, the value that an axis is drawn with, one sigma of that value, the source.

    Where the source was not read itself (`unverified`) the range is shown and decides nothing.
    """

    low: float
    normal: float
    high: float
    sd: float
    source: str
    status: Status = "unverified"

    def words(self) -> str:
        """`85 to 91, unverified`."""
        return f"{self.low:.3g} to {self.high:.3g}{', unverified' if self.status == 'unverified' else ''}"


PALEY = "Paley 2002"
POPULATION: Mapping[str, Usual] = MappingProxyType(
    {
        "hka_deg": Usual(177.0, 179.0, 181.0, 1.5, PALEY),
        "mldfa_deg": Usual(85.0, 88.0, 91.0, 1.5, PALEY),
        "mpta_deg": Usual(84.0, 87.0, 90.0, 1.5, PALEY),
        "jlca_deg": Usual(0.0, 1.0, 2.0, 0.5, PALEY),
        "lpfa_deg": Usual(85.0, 90.0, 95.0, 2.5, PALEY),
        "ldta_deg": Usual(86.0, 89.0, 92.0, 1.5, PALEY),
        "tibial_slope_medial_deg": Usual(3.0, 7.0, 12.0, 2.5, "surgeons' common range"),
        "femoral_version_deg": Usual(10.0, 15.0, 20.0, 5.0, "surgeons' common range"),
    }
)


def of_other_leg(marks: Marks, side: Side) -> Mapping[str, Usual]:
    """The other leg's angles as what is usual, as far as they were measured; the population's where not."""
    other: Side = "right" if side == "left" else "left"
    found = dict(POPULATION)
    for name, usual in POPULATION.items():
        there = measure(name, leg_angles.of_side(leg_angles.LEG_FORMULAS[name], other), marks)
        if there.value is not None:
            half = 0.5 * (usual.high - usual.low)
            sd = usual.sd if there.sd is None else there.sd
            found[name] = Usual(there.value - half, there.value, there.value + half, sd, f"the {other} leg", "verified")
    return MappingProxyType(found)


@dataclass(frozen=True)
class Cora:
    """One bend: angle (varus +), how far below the bone's upper joint centre it lies, and that as a share of the bone.

    `place` is the point (3,) in Patient on the bone's coronal plane. `within`: whether the lines meet inside the bone.
    `levels`: of how many bends of this bone it is one.
    """

    bone: str
    angle: Measured
    below: Measured
    share: float
    place_mm: tuple[float, float, float]
    within: bool
    levels: int = 1

    @property
    def is_placed(self) -> bool:
        """Whether its place is sure enough to be named."""
        length = abs((self.below.value or 0.0) / self.share) if self.share else 0.0
        return self.below.sd is not None and 2.0 * self.below.sd < UNSURE * length

    def words(self) -> str:
        """In a line: angle, one level or two, where."""
        value = self.angle.value or 0.0
        bend = f"{self.bone.split('_')[0]} {bend_words(value)}"
        if not self.is_placed:
            spread = "unknown" if self.below.sd is None else f"± {2.0 * self.below.sd:.0f} mm"
            return f"{bend} between its ends' usual angles; at which level is not sure ({spread})"
        if not self.within:
            return f"{bend}, the axes meet outside the bone: two levels, or a shift"
        return f"{bend} at one level{'' if self.levels == 1 else ' of two'}: {self.where()}"

    def where(self) -> str:
        """The place in words."""
        end = "the hip" if self.bone.startswith("femur") else "the knee"
        if self.share < NEAR_JOINT:
            part = "proximal end"
        elif self.share > 1.0 - NEAR_JOINT:
            part = "distal end"
        else:
            third = min(2, int(3.0 * self.share))
            part = ("proximal third", "middle third", "distal third")[third]
        return f"{part} of the {self.bone.split('_')[0]}, {self.below.words()} below {end}'s centre"

    def to_json(self) -> dict[str, Any]:
        """As `plan deformity --json` prints it."""
        return {
            "bone": self.bone, "angle_deg": self.angle.to_json(), "below_joint_mm": self.below.to_json(),
            "share_of_bone": self.share, "place_mm": list(self.place_mm), "within_bone": self.within,
            "placed": self.is_placed, "levels": self.levels, "words": self.words(),
        }  # fmt: skip


def bend_words(varus_deg: float) -> str:
    """`varus 3.1°`."""
    return f"{'varus' if varus_deg >= 0 else 'valgus'} {abs(varus_deg):.1f}°"


def find_cora(marks: Marks, side: Side, limb: Limb, usual: Mapping[str, Usual] = POPULATION) -> Cora | str:
    """The bend of one bone, or why there is none to place."""
    upper, lower = ("lpfa_deg", "mldfa_deg") if limb == "femur" else ("mpta_deg", "ldta_deg")

    def lines(m: Marks, off: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float, float, Array]:
        return _lines(m, side, limb, usual[upper].normal + off[0], usual[lower].normal + off[1])

    angle = _with_usual("cora_angle_deg", marks, lambda m, off: lines(m, off)[0], usual[upper].sd, usual[lower].sd)
    if angle.value is None:
        return angle.reason
    sd = angle.sd if angle.sd is not None else math.hypot(usual[upper].sd, usual[lower].sd)
    if abs(angle.value) < max(LEAST_DEG, 2.0 * sd):
        return f"{limb} {bend_words(angle.value)}, no more than the error of {2.0 * sd:.1f}°: nothing to place"
    below = _with_usual("below_joint_mm", marks, lambda m, off: lines(m, off)[1], usual[upper].sd, usual[lower].sd)
    _, _, share, place = lines(marks)
    within = -BEYOND <= share <= 1.0 + BEYOND
    return Cora(f"{limb}_{side}", angle, below, share, (float(place[0]), float(place[1]), float(place[2])), within)


def _with_usual(
    name: str, marks: Marks, formula: Callable[[Marks, tuple[float, float]], float], first: float, second: float
) -> Measured:
    """The measure with the spread of the two usual angles added."""
    found = measure(name, lambda m: formula(m, (0.0, 0.0)), marks)
    if found.value is None:
        return found
    step = 0.05
    slopes = [(formula(marks, off) - found.value) / step for off in ((step, 0.0), (0.0, step))]
    own = 0.0 if found.sd is None else found.sd
    return Measured(name, found.value, math.hypot(own, slopes[0] * first, slopes[1] * second), "")


def two_levels(
    mesh: TriangleMesh[Patient], marks: Marks, side: Side, usual: Mapping[str, Usual] = POPULATION
) -> tuple[Cora, Cora] | None:
    """Both bends of a tibia whose shaft follows neither end's axis; None where one level explains it all.

    The shaft's own line (the middles of its sections, SHAFT) is the third axis: a tibia's runs parallel to its
    mechanical axis, a femur's does not. Raises Unmeasured.
    """
    axes = leg_angles.tibia_axes(marks, side)
    top, foot = leg_angles.tibial_knee(marks, side), leg_angles.ankle(marks, side)
    shaft = _shaft(mesh, axes, top, foot)
    if shaft is None:
        return None
    middle, own = shaft
    start, end = axes.coronal(top), axes.coronal(foot)
    depth = float(np.mean([top @ axes.back, foot @ axes.back]))
    found = []
    for name, joint, sign in (("mpta_deg", start, 1.0), ("ldta_deg", end, -1.0)):
        value = math.degrees((leg_angles.mpta if name == "mpta_deg" else leg_angles.ldta)(marks, side))
        turn = math.radians(usual[name].normal - value)
        bend = math.degrees(sign * (turn - own))
        sd = math.hypot(usual[name].sd, SHAFT_SD_DEG)
        if abs(bend) < 2.0 * sd:
            return None
        meet = _meet(joint, turn, middle, own)
        # an end's axis that is off by its sd meets the shaft that much nearer or farther
        spread = math.radians(sd) * float(np.linalg.norm(meet - joint)) / abs(math.sin(math.radians(bend)))
        place = meet[0] * axes.across + meet[1] * axes.up + depth * axes.back
        below = float(start[1] - meet[1])
        share = below / float(start[1] - end[1])
        found.append(
            Cora(
                f"tibia_{side}", Measured("cora_angle_deg", bend, sd), Measured("below_joint_mm", below, spread), share,
                (float(place[0]), float(place[1]), float(place[2])), -BEYOND <= share <= 1.0 + BEYOND, 2,
            )
        )  # fmt: skip
    return found[0], found[1]


def _shaft(mesh: TriangleMesh[Patient], axes: LegAxes, top: Array, foot: Array) -> tuple[Array, float] | None:
    """The shaft's line in the coronal plane: its middle (2,) and its turn from up, from lateral toward up, rad."""
    middles = []
    for share in np.linspace(*SHAFT, 9):
        outlines = sections.loops(mesh, top + share * (foot - top), axes.up)
        if not outlines:
            return None
        middles.append(axes.coronal(max(outlines, key=lambda loop: loop.area_mm2).centroid_mm))
    points = np.array(middles)
    slope, _ = np.polyfit(points[:, 1], points[:, 0], 1)
    return points.mean(axis=0), -math.atan(float(slope))


def _meet(first: Array, turn: float, second: Array, other: float) -> Array:
    """Where two lines (2,) meet whose upward ways are turned from up by these angles, from lateral toward up."""
    a, b = (np.array([-math.sin(t), math.cos(t)]) for t in (turn, other))
    along, _ = np.linalg.solve(np.column_stack([a, -b]), second - first)
    return np.asarray(first + along * a)


def _lines(
    marks: Marks, side: Side, limb: Limb, upper_deg: float, lower_deg: float
) -> tuple[float, float, float, Array]:
    """Angle in degrees (varus +), mm below the upper centre, share of the bone, the place (3,)."""
    if limb == "femur":
        axes = leg_angles.femur_axes(marks, side)
        top, foot = leg_angles.hip(marks, side), leg_angles.knee(marks, side)
        from_top = math.degrees(leg_angles.lpfa(marks, side)) - upper_deg
        from_foot = lower_deg - math.degrees(leg_angles.mldfa(marks, side))
    else:
        axes = leg_angles.tibia_axes(marks, side)
        top, foot = leg_angles.tibial_knee(marks, side), leg_angles.ankle(marks, side)
        from_top = upper_deg - math.degrees(leg_angles.mpta(marks, side))
        from_foot = lower_deg - math.degrees(leg_angles.ldta(marks, side))
    # both turns are of the axis, from lateral toward up
    first, second = (math.radians(turn) for turn in (from_top, from_foot))
    bend = first - second
    if abs(bend) < math.radians(0.01):
        raise Unmeasured(f"the axes of the {limb} are parallel")
    start, end = axes.coronal(top), axes.coronal(foot)
    meet = _meet(start, first, end, second)
    depth = float(np.mean([top @ axes.back, foot @ axes.back]))
    place = meet[0] * axes.across + meet[1] * axes.up + depth * axes.back
    below = float(start[1] - meet[1])
    return math.degrees(bend), below, below / float(start[1] - end[1]), place
