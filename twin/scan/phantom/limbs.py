"""Whole legs: femur, patella, tibia and fibula, hung on the hip, with angles that each patient has of his own.

A leg is laid out in its mechanical frame: origin at the knee's centre, z along the femur's mechanical axis (knee to
head), x lateral, y posterior, turned so that the femur's posterior condyles lie along x. Angles are what a long-leg
radiograph and a torsion CT would show; means of healthy adults (mLDFA 88, MPTA 87, joint line 1, slope 7, version 15,
tibial torsion 28 degrees). The truth is measured on the surfaces (`limb_measures.py`), not taken from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.pelvis import Pelvis
from twin.scan.phantom.solids import F64, Placed, Solid, unit
from twin.scan.phantom.vertebra import SIDES

MARROW_HU = -55.0
JOINT_SPACE_MM = 4.5  # knee, both cartilages
CUT_MM = 95.0  # how much of the neighbour bone a scan of one bone shows, to a saw cut


@dataclass(frozen=True)
class LegSize:
    """One leg's lengths and angles as drawn."""

    femur_mm: float
    tibia_mm: float
    mldfa_deg: float
    mpta_deg: float
    joint_line_deg: float
    slope_deg: float
    version_deg: float
    torsion_deg: float
    neck_deg: float
    width_mm: float  # of the condyles, epicondyle to epicondyle


@dataclass(frozen=True)
class Leg:
    """A leg in its place: frames have x lateral (so the left's is right-handed, the right's is not), y back, z up."""

    side: str
    size: LegSize
    head: F64
    knee: Placed
    plateau: Placed  # origin at the tibia's knee centre, z normal to its mechanical axis' horizontal, joint line in xz
    ankle: F64
    shin: Placed  # the tibia's mechanical frame at the knee


def leg_of(anatomy: Anatomy, pelvis: Pelvis, side: str) -> Leg:
    """One leg of a patient."""
    rng = np.random.default_rng([20263, anatomy.seed, side == "left"])
    both = np.random.default_rng([20263, anatomy.seed, 2])
    scale = anatomy.head_radius_mm / 23.5

    def draw(mean: float, sd: float) -> float:
        shared, own = both.standard_normal(), rng.standard_normal()
        return float(mean + sd * np.clip(0.85 * shared + 0.5 * own, -1.6, 1.6))

    size = LegSize(
        draw(425.0, 12.0) * scale, draw(365.0, 10.0) * scale, draw(88.0, 1.3), draw(87.0, 1.4), draw(1.0, 0.4),
        draw(7.0, 2.0), draw(15.0, 5.0), draw(28.0, 5.0), draw(127.0, 3.0), draw(82.0, 2.0) * scale,
    )  # fmt: skip
    sign = dict(SIDES)[side]
    head = pelvis.head(sign)
    inward = np.radians(2.5)  # supine: knees nearer to the middle than hips, kneecaps up
    up = unit([sign * np.sin(inward), 0.02, np.cos(inward)])
    lateral = unit(np.array([sign, 0.0, 0.0]) - up * (sign * up[0]))
    out = np.radians(6.0)  # feet fall outward
    back = np.cross(up, lateral) * sign
    lateral, back = np.cos(out) * lateral + np.sin(out) * back, np.cos(out) * back - np.sin(out) * lateral
    rotation = np.column_stack([lateral, back, up])
    knee = Placed(rotation, head - up * size.femur_mm)
    # the tibia's axis leans so that its medial angle to the joint line is the MPTA
    line = 90.0 - size.mldfa_deg  # how much the lateral side of the femoral joint line stands higher
    lean = np.radians(line - (90.0 - size.mpta_deg) - size.joint_line_deg)
    shaft = np.array([[np.cos(lean), 0, -np.sin(lean)], [0, 1, 0], [np.sin(lean), 0, np.cos(lean)]])
    shin = Placed(rotation @ shaft, knee.at(0.0, 0.0, -JOINT_SPACE_MM))
    tilt, slope = np.radians(90.0 - size.mpta_deg), np.radians(size.slope_deg)
    across = np.array([np.cos(tilt), 0.0, np.sin(tilt)])
    deep = unit(np.array([0.0, np.cos(slope), -np.sin(slope)]))
    normal = unit(np.cross(across, deep))
    plateau = Placed(shin.rotation @ np.column_stack([across, unit(np.cross(normal, across)), normal]), shin.origin)
    return Leg(side, size, head, knee, plateau, shin.at(0.0, 0.0, -size.tibia_mm), shin)


def leg_solids(anatomy: Anatomy, pelvis: Pelvis, region: str) -> list[Solid]:
    """The bones of the legs that a region's scan holds, each whole or ended by a saw cut."""
    solids = []
    legs = [leg_of(anatomy, pelvis, side) for side in anatomy.sides]
    for leg in legs:
        solids.append(femur_solid(anatomy, leg, whole=region != "tibia"))
    for leg in legs:
        solids.append(patella_solid(anatomy, leg))
    for leg in legs:
        solids.append(tibia_solid(anatomy, leg, whole=region != "femur"))
    for leg in legs:
        solids.append(fibula_solid(anatomy, leg, whole=region != "femur"))
    return solids


def condyle(leg: Leg, outward: float) -> tuple[F64, tuple[float, float, float]]:
    """A condyle's centre in the knee's frame and its half axes; it touches the joint line below. Lateral: outward 1."""
    s = leg.size.width_mm / 82.0
    x = outward * 23.0 * s
    rise = np.tan(np.radians(90.0 - leg.size.mldfa_deg)) * x
    r = 21.5 * s if outward > 0 else 21.0 * s
    return np.array([x, 12.0 * s, rise + r]), (13.5 * s, 21.5 * s, r)


def femur_solid(anatomy: Anatomy, leg: Leg, *, whole: bool) -> Solid:
    """Head, neck in its version, trochanters, bowed shaft with its marrow, condyles with notch and groove."""
    shell, hu = anatomy.cortex_scale, anatomy.trabecular_hu
    solid = Solid(f"femur_{leg.side}", 0.9 * shell, hu * 0.9)
    k, s, length = leg.knee, leg.size.width_mm / 82.0, leg.size.femur_mm
    version = np.radians(leg.size.version_deg)
    aside = np.array([np.cos(version), np.sin(version), 0.0])  # from the head to the shaft: outward and back
    forward = np.array([np.sin(version), -np.cos(version), 0.0])

    def top(out: float, front: float, z: float) -> F64:
        """A point of the upper femur: along the neck's horizontal, forward of it, above the head's centre."""
        return k.at(*(out * s * aside + front * s * forward + np.array([0.0, 0.0, length + z * s])))

    def low(x: float, y: float, z: float) -> F64:
        return k.at(x * s, y * s, z * s)

    if whole:
        drop = np.tan(np.radians(leg.size.neck_deg - 90.0))
        solid.sphere(leg.head, anatomy.head_radius_mm)
        solid.cone(
            top(10, 0, -10 * drop), top(35, 0, -35 * drop), 14.0 * s, 17.0 * s, k=7.0, stretch=1.12,
            cortex_mm=1.3 * shell,
        )  # fmt: skip
        solid.ellipsoid(top(53, -6, -22), k.rotation, (12.5 * s, 17.0 * s, 22.0 * s), k=8.0)
        solid.cone(top(51, -12, -16), top(44, -14, -9), 8.0 * s, 6.0 * s, k=6.0)
        solid.cone(top(35, -9, -62), top(27, -15, -65), 9.0 * s, 6.0 * s, k=11.0)  # lesser trochanter
    knots = np.array(
        [
            k.rotation.T @ (top(42, 1, -40) - k.origin), k.rotation.T @ (top(41, 4, -95) - k.origin),
            [24.0 * s, -4.0 * s, 0.52 * length], [9.0 * s, 1.0 * s, 0.26 * length], [2.0 * s, 1.0 * s, 58.0 * s],
        ]
    )  # fmt: skip
    line = CubicSpline([0.0, 1.0, 2.2, 3.5, 4.4], knots)
    t = np.linspace(0.0, 4.4, 27)
    way = line(t)
    height = way[:, 2] / length
    thick = np.interp(height, [0.13, 0.20, 0.32, 0.55, 0.8, 0.9], [21.0, 17.0, 14.5, 13.6, 15.2, 17.5]) * s
    wall = np.interp(height, [0.13, 0.20, 0.32, 0.55, 0.8, 0.9], [1.2, 2.0, 4.0, 6.2, 4.5, 2.2]) * shell
    marrow = np.interp(height, [0.12, 0.26, 0.35, 0.8, 0.9], [hu * 0.7, 0.0, MARROW_HU, MARROW_HU, hu * 0.7])
    for n in range(len(way) - 1):
        if not whole and way[n, 2] > CUT_MM + 40.0:
            continue
        solid.cone(
            k.at(*way[n]), k.at(*way[n + 1]), thick[n], thick[n + 1], k=6.0 if n == 0 else 1.0,
            cortex_mm=float(wall[n]), hu=float(marrow[n]),
        )  # fmt: skip
    solid.cone(low(2, 1, 66), low(0, 3, 30), 20.0 * s, 25.0 * s, k=12.0, stretch=1.28, wide=k.along(1, 0, 0))
    for outward in (1.0, -1.0):
        centre, half = condyle(leg, outward)
        middle = k.at(*centre)
        solid.ellipsoid(middle, k.rotation, half, k=5.0, cortex_mm=0.8 * shell, hu=hu)
        solid.cone(
            low(outward * 20, -10, 24), k.at(centre[0], centre[1] - 14.0 * s, centre[2] + 1.5 * s), 14.0 * s, 14.5 * s,
            k=8.0, cortex_mm=0.8 * shell, hu=hu,
        )  # fmt: skip
        tip = low(outward * (leg.size.width_mm / 2 / s - 8.5), 4.0, 26.0)
        solid.ellipsoid(tip, k.rotation, (8.0 * s, 12.0 * s, 12.0 * s), k=13.0)  # epicondyle
    solid.cone(low(0, 42, -2), low(0, 12, 10), 10.5 * s, 9.0 * s, k=4.0, operation=shapes.SUBTRACT)  # notch
    solid.cone(low(1.5, -31, 62), low(0, -40, 6), 13.0 * s, 17.0 * s, k=8.0, operation=shapes.SUBTRACT)  # groove
    if not whole:
        solid.cut(low(0, 0, CUT_MM), k.along(0.0, 0.0, 1.0), k=0.5)
    return solid


def patella_solid(anatomy: Anatomy, leg: Leg) -> Solid:
    """The kneecap in front of the groove."""
    solid = Solid(f"patella_{leg.side}", 1.2 * anatomy.cortex_scale, anatomy.trabecular_hu)
    k, s = leg.knee, leg.size.width_mm / 82.0
    middle = k.at(1.0 * s, -39.5 * s, 34.0 * s)
    solid.ellipsoid(middle, k.rotation, (21.0 * s, 8.5 * s, 20.0 * s))
    solid.cone(middle + k.along(0, 1.0, 0) * s, k.at(0.5 * s, -40.5 * s, 13.0 * s), 7.0 * s, 3.0 * s, k=6.0)
    solid.cone(k.at(1.0 * s, -32.5 * s, 44.0 * s), k.at(1.0 * s, -33.0 * s, 26.0 * s), 3.5 * s, 3.0 * s, k=5.0)
    return solid


def tibia_solid(anatomy: Anatomy, leg: Leg, *, whole: bool) -> Solid:
    """Plateau in its slope, eminence, tuberosity, three-edged shaft with its marrow, plafond and inner malleolus."""
    shell, hu = anatomy.cortex_scale, anatomy.trabecular_hu
    solid = Solid(f"tibia_{leg.side}", 0.9 * shell, hu * 0.85)
    m, p, s = leg.shin, leg.plateau, leg.size.width_mm / 82.0
    length = leg.size.tibia_mm

    def at(x: float, y: float, z: float) -> F64:
        return p.at(x * s, y * s, z * s)

    for outward in (1.0, -1.0):  # the two plateaus: flat discs, a little hollow
        solid.body(
            Placed(p.rotation, at(outward * 20.0, 4.0 if outward < 0 else 2.0, -9.0)),
            (18.5 * s, 23.5 * s if outward < 0 else 21.0 * s, 9.0 * s, 0, 0, 1.0, 0, -0.02, 0.0, 3.0, 0.0),
            k=9.0, cortex_mm=1.0 * shell, hu=hu,
        )  # fmt: skip
    for outward in (1.0, -1.0):  # the spines between them
        solid.cone(at(outward * 4.5, 3.0, -3.0), at(outward * 4.0, 2.0, 3.0), 4.0 * s, 1.8 * s, k=3.0)
    solid.cone(at(0, 3, -25), m.at(-1.0 * s, 2.0 * s, -56.0 * s), 19.5 * s, 12.0 * s, k=7.0, stretch=1.5,
               wide=m.along(1, 0, 0))  # fmt: skip
    solid.cone(m.at(2.0 * s, -15.0 * s, -40.0 * s), m.at(0.0, -9.0 * s, -74.0 * s), 10.0 * s, 7.5 * s, k=14.0)
    z = -np.linspace(50.0 * s, length - 22.0 * s, 19)
    along = -z / length
    thick = np.interp(along, [0.14, 0.25, 0.5, 0.75, 0.88, 0.95], [17.0, 13.5, 11.2, 10.4, 13.5, 17.0]) * s
    wall = np.interp(along, [0.13, 0.22, 0.5, 0.75, 0.9, 0.95], [1.6, 3.5, 5.5, 4.0, 1.8, 1.0]) * shell
    marrow = np.interp(along, [0.14, 0.25, 0.75, 0.92], [hu * 0.6, MARROW_HU, MARROW_HU, hu * 0.7])
    side_mm = np.interp(along, [0.14, 0.5, 0.95], [-1.0, -3.0, 0.0]) * s
    for n in range(len(z) - 1):
        if not whole and -z[n] > CUT_MM + 40.0:
            continue
        a, b = m.at(side_mm[n], 2.0 * s, z[n]), m.at(side_mm[n + 1], 2.0 * s, z[n + 1])
        solid.cone(
            a, b, thick[n], thick[n + 1], k=6.0 if n == 0 else 1.0, cortex_mm=float(wall[n]), hu=float(marrow[n])
        )  # fmt: skip
    if not whole:
        solid.cut(m.at(0, 0, -CUT_MM), m.along(0, 0, -1.0), k=0.5)
        _bed(solid, leg)
        return solid
    # the ankle: its axis is turned outward by the torsion, against the plateau's
    foot = ankle_frame(leg)
    solid.body(foot.moved(0.0, 0.0, 8.0 * s), (21.0 * s, 17.5 * s, 8.5 * s, 0, 0, 0.0, 2.0, 0.0, 0.0, 5.0, 0.0), k=16.0)
    solid.cone(foot.at(-20.0 * s, -2.0 * s, 8.0 * s), foot.at(-22.0 * s, -1.0 * s, -9.0 * s), 9.0 * s, 5.5 * s, k=6.0)
    low, high = foot.at(31.5 * s, 4.5 * s, -25.0 * s), foot.at(30.5 * s, 5.5 * s, 55.0 * s)
    solid.cone(low, high, 11.0 * s, 9.0 * s, k=2.0, operation=shapes.SUBTRACT)  # where the fibula lies
    _bed(solid, leg)
    return solid


def _bed(solid: Solid, leg: Leg) -> None:
    # the fibula, grown by the joint's gap, is taken out of the tibia
    way, _, thick = _fibula_course(leg)
    for n in range(len(way) - 1):
        a, b = leg.shin.at(*way[n]), leg.shin.at(*way[n + 1])
        solid.cone(a, b, thick[n] + 2.0, thick[n + 1] + 2.0, k=1.0, operation=shapes.SUBTRACT)


def ankle_frame(leg: Leg) -> Placed:
    """The ankle's frame: middle of the plafond, x toward the outer malleolus, turned outward by the torsion."""
    twist = np.radians(leg.size.torsion_deg)
    c, t = np.cos(twist), np.sin(twist)
    turn = np.array([[c, -t, 0.0], [t, c, 0.0], [0.0, 0.0, 1.0]])  # outward: the lateral side goes back
    return Placed(leg.shin.rotation @ turn, leg.ankle)


def fibula_solid(anatomy: Anatomy, leg: Leg, *, whole: bool) -> Solid:
    """Head below the plateau's outer back corner, slender shaft, outer malleolus lower than the inner one."""
    shell = anatomy.cortex_scale
    solid = Solid(f"fibula_{leg.side}", 1.2 * shell, anatomy.trabecular_hu * 0.7)
    way, t, thick = _fibula_course(leg)
    wall = np.interp(t, [0, 0.4, 1.0, 3.4, 4.1, 4.6], [0.9, 1.5, 3.2, 3.2, 1.4, 1.0]) * shell
    for n in range(len(way) - 1):
        if whole or -way[n, 2] <= CUT_MM + 40.0:
            a, b = leg.shin.at(*way[n]), leg.shin.at(*way[n + 1])
            solid.cone(a, b, thick[n], thick[n + 1], k=0.8, cortex_mm=float(wall[n]))
    if not whole:
        solid.cut(leg.shin.at(0, 0, -CUT_MM), leg.shin.along(0, 0, -1.0), k=0.5)
    return solid


def _fibula_course(leg: Leg) -> tuple[F64, F64, F64]:
    # points of its axis in the shin's frame, where they are along it, and how thick it is there
    m, s = leg.shin, leg.size.width_mm / 82.0
    foot = ankle_frame(leg)

    def local(point: F64) -> F64:
        return np.asarray(m.rotation.T @ (point - m.origin))

    knots = np.array(
        [
            [37.0 * s, 23.0 * s, -27.0 * s], [34.0 * s, 22.0 * s, -60.0 * s],
            [25.0 * s, 22.0 * s, -0.5 * leg.size.tibia_mm], local(foot.at(27.5 * s, 7.0 * s, 70.0 * s)),
            local(foot.at(31.0 * s, 4.0 * s, 15.0 * s)), local(foot.at(31.0 * s, 5.0 * s, -17.0 * s)),
        ]
    )  # fmt: skip
    line = CubicSpline([0.0, 0.4, 2.0, 3.6, 4.2, 4.6], knots)
    t = np.linspace(0.0, 4.6, 26)
    way = line(t)
    thick = np.interp(t, [0, 0.25, 0.6, 2.0, 3.6, 4.2, 4.6], [11.0, 8.8, 5.8, 6.0, 6.0, 8.4, 5.5]) * s
    return way, t, thick
