"""Sacrum, hip bones and proximal femora, on the sacral endplate and the hip axis.

The sacrum hangs on the S1 endplate's frame; hip bones and femora stand in the pelvic frame (origin midway between the
femoral heads),
which turns about the hip axis with pelvic tilt. Sacroiliac joint: one plane a side with the gap between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.solids import F64, Placed, Solid, axes_along, unit
from twin.scan.phantom.vertebra import FACET_DEG, SIDES, Process

JOINT_SPACE_MM = 3.5  # hip: head to socket
SACROILIAC_GAP_MM = 2.2

# S1 to S5: half width, half depth, height, curve (deg, concave forward), half reach and radius of the lateral mass,
# canal half width and half depth
_SEGMENTS = (
    (25.0, 16.5, 29.0, 0.0, 45.0, 12.0, 14.5, 8.0),
    (18.5, 11.5, 24.0, 7.0, 45.0, 11.0, 11.5, 6.0),
    (15.5, 8.5, 20.0, 26.0, 34.0, 8.5, 8.5, 4.2),
    (13.0, 7.0, 17.0, 46.0, 27.0, 6.5, 6.5, 3.0),
    (10.5, 5.5, 15.0, 60.0, 19.5, 5.5, 5.0, 2.4),
)


# the masses beside and behind the bodies, S1 to S5: middle behind and below the segment's front edge, half sizes,
# rounding
_MASSES = (
    (22.5, -21.5, 22.0, 20.0, 10.5, 9.0),
    (21.5, -12.0, 47.0, 16.0, 14.0, 10.0),
    (16.0, -10.0, 43.0, 11.5, 12.0, 8.0),
    (12.0, -8.5, 34.0, 8.5, 10.0, 6.5),
    (9.0, -7.0, 26.0, 6.0, 8.5, 5.0),
)  # fmt: skip


@dataclass(frozen=True)
class Pelvis:
    """Where the pelvis is: the S1 endplate's frame, the pelvic frame, and the size factor."""

    s1: Placed
    hips: Placed
    half_distance_mm: float
    scale: float

    def head(self, side: float) -> F64:
        """The femoral head's centre."""
        return self.hips.at(side * self.half_distance_mm, 0.0, 0.0)

    def point(self, side: float, x: float, y: float, z: float) -> F64:
        """A point given for an 87 mm half hip distance, on the wanted side."""
        s = self.scale
        return self.hips.at(side * (x * s + self.half_distance_mm - 87.0 * s), y * s, z * s)


def place(anatomy: Anatomy, s1_mm: F64) -> Pelvis:
    """Stand the pelvis: PI = PT + SS with the hip axis level."""
    tilt = np.radians(anatomy.pelvic_tilt_deg)
    s1 = Placed(np.eye(3), s1_mm).turned(anatomy.sacral_slope_deg)
    d = anatomy.sacrum_hip_mm
    middle = s1_mm - d * np.array([0.0, np.sin(tilt), np.cos(tilt)])
    hips = Placed(np.eye(3), middle).turned(-(anatomy.pelvic_tilt_deg - 12.0))
    return Pelvis(s1, hips, anatomy.hip_half_distance_mm, d / 108.0)


def _segments(pelvis: Pelvis) -> list[Placed]:
    """Frames at the anterior upper edge of each sacral segment."""
    s = pelvis.scale
    frames = []
    at = pelvis.s1.moved(0.0, -_SEGMENTS[0][1] * s, 0.0)
    for _, _, height, curve, *_ in _SEGMENTS:
        frame = Placed(pelvis.s1.turned(-curve).rotation, at.origin)
        frames.append(frame)
        at = frame.moved(0.0, 0.0, -height * s)
    frames.append(Placed(pelvis.s1.turned(-78.0).rotation, at.origin))
    return frames


def sacral_middles(pelvis: Pelvis) -> list[tuple[F64, F64]]:
    """Middles of the body and of the canal, S1 to S4."""
    s = pelvis.scale
    return [
        (f.at(0.0, half_d * s, -height * 0.5 * s), f.at(0.0, (2 * half_d + canal_d) * s, -height * 0.55 * s))
        for f, (_, half_d, height, _, _, _, _, canal_d) in zip(_segments(pelvis)[:4], _SEGMENTS[:4], strict=True)
    ]


def sacroiliac_plane(pelvis: Pelvis, side: float) -> tuple[F64, F64]:
    """A point of the joint's middle and the normal, pointing from the sacrum to the ilium."""
    s = pelvis.scale
    return pelvis.s1.at(side * 50.0 * s, 9.0 * s, -30.0 * s), unit(pelvis.s1.along(side * 0.94, 0.20, -0.28))


def sacrum_solid(anatomy: Anatomy, pelvis: Pelvis, above: list[Process], gap_mm: float) -> Solid:
    """Bodies, alae, foramina, canal, dorsal wall with its crest, and the S1 facets carved by L5."""
    s, shell = pelvis.scale, anatomy.cortex_scale
    solid = Solid("sacrum", 1.0 * shell, anatomy.trabecular_hu * 0.9)
    frames = _segments(pelvis)
    for n, (half_w, half_d, height, *_) in enumerate(_SEGMENTS):
        at = frames[n].moved(0.0, half_d * s, -height * s / 2)
        bowl = 1.5 if n == 0 else 0.5
        taper = -0.06 if n == 0 else -0.1
        p = (
            half_w * s,
            half_d * s,
            (height + (0.0 if n == 0 else 1.0)) * s / 2,
            0.0,
            0.0,
            bowl,
            0.3,
            0.10,
            1.0,
            2.2,
            taper,
        )
        solid.body(at, p, k=5.0, cortex_mm=0.7 * shell)
    tail = frames[5]
    solid.ellipsoid(tail.at(0, 4 * s, -5 * s), tail.rotation, (7.5 * s, 4.0 * s, 8 * s), k=3.0)
    solid.ellipsoid(tail.at(0, 2 * s, -17 * s), tail.rotation, (5.0 * s, 3.2 * s, 7 * s), k=2.0)
    for n, (y, z, *half, rounding) in enumerate(_MASSES):
        f = frames[n]
        sides = SIDES if n == 0 else SIDES[:1]  # S1 has an ala each side; below, one fused mass
        for _, side in sides:
            x = side * 31.0 if n == 0 else 0.0
            tilt = np.radians(side * 14.0 if n == 0 else 0.0)  # sloping down to the side
            turn = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
            k = 6.0 if n == 0 else 9.0
            solid.box(f.at(x * s, y * s, z * s), f.rotation @ turn, [h * s for h in half], rounding * s, k=k)
    ridge = []  # the median crest, on a shallow roof behind the canal
    for n, (y, span, fall) in enumerate(((46.5, 26.0, 8.0), (38.5, 22.0, 6.0), (29.0, 17.0, 5.0), (22.0, 13.0, 4.0))):
        f, height = frames[n], _SEGMENTS[n][2]
        z = -height * (0.72 if n == 0 else 0.5) * s
        stretch = (height * (0.42 if n == 0 else 0.5) + 1.0) * s / 3.4
        for _, side in SIDES:
            end = f.at(side * span * s, (y - fall) * s, z)
            solid.cone(f.at(0.0, y * s, z), end, 3.4, 3.4, k=5.0, stretch=stretch, wide=f.along(0.0, 0.0, 1.0))
        ridge.append(f.at(0.0, (y + (3.5, 4.0, 3.0, 2.0)[n]) * s, z))
    for n, point in enumerate(ridge):
        run = frames[n].along(0.0, 0.3, -1.0) * (7.0 - n) * s
        start = point - run * (0.3 if n == 0 else 1.0)
        solid.cone(start, point + run, 2.6 * s, 3.4 * s, k=6.0)
    for _, side in SIDES:  # the borders run together toward the coccyx
        solid.cut(pelvis.s1.at(side * 47.0 * s, 8.0 * s, -36.0 * s), pelvis.s1.along(side * 0.90, 0.0, -0.43), k=7.0)
    # S1 superior articular processes
    for i, (_, side) in enumerate(SIDES):
        tip = pelvis.s1.rotation.T @ (above[i].tip - pelvis.s1.origin)
        phi = np.radians(FACET_DEG["L5"])
        x, y = abs(tip[0]) + 7.0 * np.cos(phi), tip[1] - 7.0 * np.sin(phi)
        at = pelvis.s1
        solid.cone(at.at(side * x, y, -14.0), at.at(side * x, y, -1.0), 7.0, 5.8, k=5.0, cortex_mm=1.2 * shell)
        solid.cone(
            at.at(side * x, y, -2.0), at.at(side * (x - 0.5), y + 0.5, 2.5), 5.6, 4.0, k=3.0, cortex_mm=1.2 * shell
        )
    _sacral_openings(solid, frames, s)
    for process in above:
        process.add(solid, grow_mm=gap_mm, k=0.6, operation=shapes.SUBTRACT)
    for _, side in SIDES:
        point, normal = sacroiliac_plane(pelvis, side)
        solid.cut(point, normal, k=4.0)
    return solid


def _sacral_openings(solid: Solid, frames: list[Placed], s: float) -> None:
    """The canal and the four pairs of foramina."""
    track = [frames[0].at(0.0, (2 * _SEGMENTS[0][1] + 8.5) * s, 14.0 * s)]
    for n in range(4):
        _, half_d, height, _, _, _, _, canal_d = _SEGMENTS[n]
        track.append(frames[n].at(0.0, (2 * half_d + canal_d) * s, -height * 0.55 * s))
    for n in range(4):
        canal_w, canal_d = _SEGMENTS[n][6], _SEGMENTS[n][7]
        after = _SEGMENTS[n + 1][7]
        r0 = canal_d if n == 0 else (canal_d + _SEGMENTS[n - 1][7]) / 2 * 0.9
        solid.cone(
            track[n], track[n + 1], r0 * s, (canal_d + after) / 2 * 0.95 * s, k=2.0, stretch=canal_w / canal_d,
            wide=frames[n].along(1.0, 0.0, 0.0), operation=shapes.SUBTRACT,
        )  # fmt: skip
    for _, side in SIDES:
        for n, (x, r) in enumerate(((20.0, 6.0), (16.5, 5.2), (13.0, 4.3), (11.0, 3.6))):
            f, half_d = frames[n + 1], _SEGMENTS[n + 1][1]
            front = f.at(side * (x + 2.5) * s, -5.0 * s, 0.5 * s)
            middle = f.at(side * x * s, (1.5 * half_d) * s, 0.0)
            back = f.at(side * (x + 1.5) * s, (2.0 * half_d + 24.0) * s, -2.0 * s)
            solid.cone(front, middle, (r + 1.4) * s, r * s, k=2.5, operation=shapes.SUBTRACT)
            solid.cone(middle, back, r * s, (r - 1.6) * s, k=2.0, operation=shapes.SUBTRACT)


# the iliac wing's border, from the anterior superior spine over the crest to the notch and back (left, mm from
# mid-hips)
_WING = (
    (121, -42, 80), (127, -33, 101), (132, -12, 123), (130, 14, 137), (118, 42, 141), (95, 67, 132), (68, 87, 115),
    (45, 100, 93), (44, 94, 70), (58, 72, 54), (72, 50, 44), (82, 34, 26), (84, 20, 10), (90, -8, 8), (98, -28, 22),
    (105, -37, 40), (113, -35, 58),
)  # fmt: skip
_FOSSA = (
    (110, 0, 82),
    (97, 26, 88),
    (70, 54, 86),
    (55, 74, 88),
    (97, 2, 42),
    (117, 22, 116),
    (82, 34, 54),
    (119, -20, 95),
)
_CREST = 8  # so many of the border's points lie on the crest
ASIS = (121.0, -42.0, 80.0)


def hip_solid(anatomy: Anatomy, pelvis: Pelvis, name: str, side: float) -> Solid:
    """Iliac wing with crest and spines, acetabulum, ischium, pubis with the obturator foramen."""
    shell, s = anatomy.cortex_scale, pelvis.scale
    solid = Solid(name, 1.2 * shell, anatomy.trabecular_hu * 0.85)

    def p(x: float, y: float, z: float) -> F64:
        return pelvis.point(side, x, y, z)

    border = np.array([p(*q) for q in _WING])
    middle = border.mean(axis=0)
    axes = np.linalg.svd(border - middle)[2].T
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    solid.sheet(middle, axes, np.array([p(*q) for q in _FOSSA]), border, 3.2 * s, k=2.0)
    t = np.linspace(0.0, _CREST - 1.0, 19)
    crest = CubicSpline(np.arange(_CREST), border[:_CREST])(t)
    thick = np.interp(t, [0, 0.5, 2.2, 3, 5, 7], [5.4, 4.4, 5.6, 4.6, 4.2, 5.6]) * s
    for n in range(len(crest) - 1):
        solid.cone(crest[n], crest[n + 1], thick[n], thick[n + 1], k=3.0 if n == 0 else 0.3)
    solid.cone(p(119, -41, 77), p(113, -35, 62), 4.4 * s, 3.4 * s, k=4.0)
    solid.cone(p(105, -35, 41), p(94, -16, 20), 5.4 * s, 11.0 * s, k=8.0)  # anterior inferior spine
    solid.cone(p(96, 2, 34), p(122, -2, 112), 5.0 * s, 2.6 * s, k=14.0)  # pillar of the wing
    solid.cone(p(90, 6, 34), p(92, -8, 30), 12.0 * s, 11.0 * s, k=12.0)  # body above the socket
    solid.cone(p(88, 14, 28), p(66, 46, 62), 12.0 * s, 9.0 * s, k=10.0)  # along the brim to the sacroiliac joint
    solid.cone(p(61, 40, 68), p(58, 52, 100), 9.5 * s, 9.0 * s, k=10.0)
    solid.cone(p(58, 62, 70), p(53, 74, 96), 9.0 * s, 8.0 * s, k=10.0)
    solid.cone(p(54, 78, 88), p(47, 94, 84), 8.5 * s, 6.5 * s, k=8.0)  # posterior spines
    solid.cone(p(46, 97, 91), p(46, 91, 73), 6.0 * s, 5.0 * s, k=6.0)
    point, normal = sacroiliac_plane(pelvis, side)
    frame = axes_along(normal, (0.0, 0.4, 0.9))
    solid.box(
        point + normal * (SACROILIAC_GAP_MM - 40.0), frame, (55.0, 55.0, 40.0), 0.5, k=3.0, operation=shapes.SUBTRACT
    )  # fmt: skip
    head = pelvis.head(side)
    socket = anatomy.head_radius_mm + JOINT_SPACE_MM
    opening = unit(pelvis.hips.along(side * 0.74, -0.34, -0.58))
    with solid.group(shapes.UNION, 8.0):
        solid.sphere(head, socket + 6.5)
        solid.cut(head + opening * 5.0, opening, k=3.0)
    _ischium_and_pubis(solid, pelvis, side)
    solid.sphere(head, socket, k=1.5, operation=shapes.SUBTRACT)
    solid.cone(head + opening * 2.0, head + opening * 45.0, socket, socket + 9.0, k=3.0, operation=shapes.SUBTRACT)
    return solid


def _ischium_and_pubis(solid: Solid, pelvis: Pelvis, side: float) -> None:
    s = pelvis.scale

    def p(x: float, y: float, z: float) -> F64:
        return pelvis.point(side, x, y, z)

    solid.cone(p(80, 20, -10), p(70, 31, -42), 14.5 * s, 12.0 * s, k=10.0)
    solid.cone(p(70, 31, -42), p(58, 23, -66), 12.5 * s, 14.0 * s, k=6.0)
    solid.cone(p(58, 23, -66), p(50, 8, -72), 12.5 * s, 8.0 * s, k=4.0)
    solid.cone(p(74, 34, -4), p(60, 46, -12), 6.5 * s, 2.4 * s, k=8.0, stretch=1.5)  # ischial spine
    solid.cone(p(84, 8, 24), p(70, -18, 7), 9.0 * s, 10.0 * s, k=10.0)
    line = CubicSpline(
        np.arange(6), [p(74, -17, 4), p(56, -33, -1), p(36, -45, -8), p(15, -51, -19), p(10, -48, -33), p(11, -43, -46)]
    )
    way = line(np.linspace(0, 5, 13))
    thick = np.interp(np.linspace(0, 5, 13), [0, 1, 2, 3, 4, 5], [11.5, 8.6, 7.4, 8.4, 7.6, 6.6]) * s
    for n in range(len(way) - 1):
        solid.cone(way[n], way[n + 1], thick[n], thick[n + 1], k=6.0 if n == 0 else 0.2)
    line = CubicSpline(np.arange(4), [p(54, 14, -72), p(40, -10, -67), p(25, -30, -58), p(12, -43, -46)])
    way = line(np.linspace(0, 3, 9))
    thick = np.interp(np.linspace(0, 3, 9), [0, 1, 2, 3], [8.5, 6.0, 5.6, 6.6]) * s
    for n in range(len(way) - 1):
        stretch = 1.25
        solid.cone(way[n], way[n + 1], thick[n] * 0.85, thick[n + 1] * 0.85, k=4.0 if n == 0 else 0.2, stretch=stretch)
    solid.cut(pelvis.hips.at(side * 2.6, 0.0, 0.0), pelvis.hips.along(-side, 0.0, 0.0), k=2.0)


def femur_solid(anatomy: Anatomy, pelvis: Pelvis, name: str, side: float, *, replaced: bool = False) -> Solid:
    """Head, neck, trochanters and the shaft down to a saw cut (so that every bone is whole within the scan).

    `replaced`: head and neck were sawn off for a prosthesis.
    """
    shell, s = anatomy.cortex_scale, pelvis.scale
    solid = Solid(name, 0.9 * shell, anatomy.trabecular_hu * 0.9)
    head, r = pelvis.head(side), anatomy.head_radius_mm

    def p(x: float, y: float, z: float) -> F64:
        return head + pelvis.hips.along(side * x * s, y * s, z * s)

    solid.sphere(head, r)
    solid.cone(p(10, 2, -8), p(36, 7, -29), 14.5 * s, 17.0 * s, k=7.0, stretch=1.12, cortex_mm=1.2 * shell)
    solid.cone(p(41, 8, -38), p(41, 9, -70), 18.0 * s, 16.0 * s, k=8.0, cortex_mm=2.0 * shell)
    solid.cone(p(41, 9, -68), p(38, 9, -125), 15.8 * s, 14.0 * s, k=6.0, cortex_mm=3.0 * shell)
    solid.ellipsoid(p(54, 15, -27), pelvis.hips.rotation, (13.0 * s, 17.0 * s, 22.0 * s), k=8.0)
    solid.cone(p(52, 22, -20), p(44, 24, -12), 8.0 * s, 6.0 * s, k=6.0)
    solid.cone(p(36, 18, -66), p(25, 24, -68), 8.0 * s, 5.5 * s, k=7.0)  # lesser trochanter
    solid.cut(p(0, 0, -95), (0.0, 0.0, -1.0), k=0.5)
    if replaced:
        solid.cut(p(23, 4.5, -18), p(0, 0, 0) - p(36, 7, -29), k=0.5)
    return solid


def wing_landmark(pelvis: Pelvis, side: float) -> F64:
    """A point inside the anterior superior iliac spine; its surface point is measured on the field."""
    return pelvis.point(side, *ASIS)
