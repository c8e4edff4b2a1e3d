"""Sacrum, hip bones and proximal femora, on the sacral endplate and the hip axis.

The sacrum hangs on the S1 endplate's frame; hip bones and femora stand in the pelvic frame (origin midway between the
femoral heads), which turns about the hip axis with pelvic tilt. Sacroiliac joint: one plane a side with the gap between.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.solids import F64, Placed, Solid, axes_along, unit
from twin.scan.phantom.vertebra import FACET_DEG, SIDES, Process

JOINT_SPACE_MM = 3.5  # hip: head to socket
SACROILIAC_GAP_MM = 2.2

# S1 to S5: half width, half depth, height, curve (deg, concave forward), half reach and radius of the lateral mass, canal half width and half depth
_SEGMENTS = (
    (25.0, 16.5, 29.0, -2.0, 45.0, 12.0, 14.5, 8.0),
    (18.5, 11.5, 24.0, 7.0, 45.0, 11.0, 11.5, 6.0),
    (15.5, 8.5, 20.0, 26.0, 34.0, 8.5, 8.5, 4.2),
    (13.0, 7.0, 17.0, 46.0, 27.0, 6.5, 6.5, 3.0),
    (10.5, 5.5, 15.0, 60.0, 19.5, 5.5, 5.0, 2.4),
)


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
    outer: dict[float, list[F64]] = {1.0: [], -1.0: []}
    for _, side in SIDES:
        for n, (half_w, half_d, height, _, reach, radius, *_) in enumerate(_SEGMENTS):
            f = frames[n]
            depth = 1.35 * half_d * s
            inner = f.at(side * half_w * 0.75 * s, depth * 0.85, -height * 0.50 * s)
            end = f.at(
                side * (reach - radius * 0.6) * s,
                depth + (3.0 if n < 2 else 0.0) * s,
                -height * (0.68 if n == 0 else 0.5) * s,
            )
            outer[side].append(end)
            solid.cone(inner, end, radius * 0.85 * s, radius * s, k=6.0)
            if n == 0:  # the ala: its broad upper surface, sloping down and forward
                solid.cone(
                    f.at(side * 20 * s, 11 * s, -12 * s), f.at(side * 44 * s, 16 * s, -22 * s), 9.5 * s, 11.0 * s, k=7.0
                )
                solid.cone(
                    f.at(side * 22 * s, 30 * s, -13 * s), f.at(side * 44 * s, 36 * s, -24 * s), 8.5 * s, 10.0 * s, k=7.0
                )
        for n in range(4):
            r0, r1 = _SEGMENTS[n][5] * 0.85, _SEGMENTS[n + 1][5] * 0.85
            solid.cone(outer[side][n], outer[side][n + 1], r0 * s, r1 * s, k=4.0)
    # dorsal wall and median crest
    behind = []
    for n, (_, half_d, height, _, _, _, _canal_w, canal_d) in enumerate(_SEGMENTS[:4]):
        f = frames[n]
        y = (2 * half_d + 2 * canal_d + 1.5) * s
        z = -height * (0.55 if n == 0 else 0.5) * s
        half = (17.0, 15.0, 12.0, 9.0)[n] * s
        solid.cone(
            f.at(-half, y - 1.5, z),
            f.at(half, y - 1.5, z),
            3.2,
            3.2,
            k=3.0,
            stretch=height * s / 2 / 3.4,
            wide=f.along(0, 0, 1),
        )
        behind.append(f.at(0.0, y + (5.0, 4.5, 3.5, 2.5)[n] * s, z))
    for n, point in enumerate(behind):
        lower = behind[n] + frames[n].along(0.0, 1.0, -(7.0 - n) * s)
        solid.cone(point + frames[n].along(0.0, -1.0, (6.0 - n) * s), lower, 2.8 * s, 3.4 * s, k=4.0)
    # S1 superior articular processes
    for i, (_, side) in enumerate(SIDES):
        tip = pelvis.s1.rotation.T @ (above[i].tip - pelvis.s1.origin)
        phi = np.radians(FACET_DEG["L5"])
        x, y = abs(tip[0]) + 7.0 * np.cos(phi), tip[1] - 7.0 * np.sin(phi)
        at = pelvis.s1
        solid.cone(at.at(side * x, y, -14.0), at.at(side * x, y, -1.0), 7.0, 5.8, k=5.0, cortex_mm=1.2 * shell)
        solid.cone(
            at.at(side * x, y, -2.0), at.at(side * (x - 0.5), y + 0.5, 4.5), 5.6, 4.0, k=3.0, cortex_mm=1.2 * shell
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
        for n, (x, r) in enumerate(((17.0, 5.6), (15.0, 5.0), (13.0, 4.3), (11.0, 3.6))):
            f, half_d = frames[n + 1], _SEGMENTS[n + 1][1]
            front = f.at(side * (x + 2.5) * s, -5.0 * s, 0.5 * s)
            middle = f.at(side * x * s, (1.5 * half_d) * s, 0.0)
            back = f.at(side * (x + 1.5) * s, (2.0 * half_d + 24.0) * s, -2.0 * s)
            solid.cone(front, middle, (r + 1.4) * s, r * s, k=2.5, operation=shapes.SUBTRACT)
            solid.cone(middle, back, r * s, (r - 1.6) * s, k=2.0, operation=shapes.SUBTRACT)


# the iliac wing's border, from the anterior superior spine over the crest to the notch and back (left, mm from mid-hips)
_WING = (
    (121, -42, 80), (127, -33, 101), (132, -12, 123), (130, 14, 137), (119, 42, 141), (97, 69, 131), (70, 90, 114),
    (45, 101, 93), (44, 95, 70), (60, 72, 54), (72, 50, 46), (82, 34, 26), (84, 20, 10), (90, -8, 8), (98, -28, 22),
    (105, -37, 40), (112, -36, 58),
)  # fmt: skip
_FOSSA = (
    (110, 0, 82),
    (99, 28, 88),
    (76, 56, 84),
    (60, 74, 86),
    (97, 2, 42),
    (117, 22, 116),
    (84, 34, 52),
    (119, -20, 95),
)
ASIS = (121.0, -42.0, 80.0)


def hip_solid(anatomy: Anatomy, pelvis: Pelvis, name: str, side: float) -> Solid:
    """Iliac wing with crest and spines, acetabulum, ischium, pubis with the obturator foramen."""
    shell, s = anatomy.cortex_scale, pelvis.scale
    solid = Solid(name, 1.2 * shell, anatomy.trabecular_hu * 0.85)

    def p(x: float, y: float, z: float) -> F64:
        return pelvis.point(side, x, y, z)

    border = np.array([p(*q) for q in _WING])
    inner = np.array([p(*q) for q in _FOSSA])
    middle = border.mean(axis=0)
    axes = np.linalg.svd(border - middle)[2].T
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    solid.sheet(middle, axes, inner, border, 3.0 * s, k=2.0)
    crest = [(*q, 4.6) for q in _WING[:8]]
    crest[0] = (120.0, -41.0, 79.0, 5.6)
    for a, b in itertools.pairwise(crest):
        solid.cone(p(*a[:3]), p(*b[:3]), a[3] * s, b[3] * s, k=4.0)
    solid.cone(p(*ASIS), p(113, -36, 62), 4.6 * s, 3.6 * s, k=4.0)
    solid.cone(p(104, -35, 42), p(95, -18, 20), 6.0 * s, 11.0 * s, k=6.0)  # anterior inferior spine
    solid.cone(p(98, 0, 26), p(126, -4, 118), 6.5 * s, 4.5 * s, k=9.0)  # pillar of the wing
    solid.cone(
        p(88, 14, 26), p(66, 52, 60), 12.0 * s, 10.0 * s, k=9.0
    )  # from the socket's roof to the sacroiliac joint
    solid.cone(p(64, 56, 62), p(60, 66, 98), 9.0 * s, 8.0 * s, k=8.0)
    solid.cone(p(60, 70, 84), p(47, 96, 86), 9.0 * s, 7.0 * s, k=8.0)  # posterior spines
    solid.cone(p(47, 97, 92), p(47, 92, 72), 6.0 * s, 5.5 * s, k=5.0)
    point, normal = sacroiliac_plane(pelvis, side)
    frame = axes_along(normal, (0.0, 0.4, 0.9))
    solid.box(
        point + normal * (SACROILIAC_GAP_MM - 40.0), frame, (45.0, 45.0, 40.0), 0.5, k=1.5, operation=shapes.SUBTRACT
    )  # fmt: skip
    socket = anatomy.head_radius_mm + JOINT_SPACE_MM
    head = pelvis.head(side)
    opening = unit(pelvis.hips.along(side * 0.74, -0.34, -0.58))
    with solid.group(shapes.UNION, 8.0):
        solid.sphere(head, socket + 6.5)
        solid.cut(head + opening * 5.0, opening, k=3.0)
    # ischium
    solid.cone(p(80, 20, -10), p(70, 32, -42), 14.0 * s, 11.5 * s, k=9.0)
    solid.cone(p(70, 32, -42), p(58, 24, -66), 12.0 * s, 13.5 * s, k=6.0)
    solid.cone(p(72, 36, -2), p(59, 47, -12), 7.0 * s, 2.6 * s, k=6.0)  # ischial spine
    # pubis
    solid.cone(p(82, 8, 22), p(70, -18, 8), 9.0 * s, 9.5 * s, k=9.0)
    solid.cone(p(74, -18, 4), p(40, -43, -6), 11.0 * s, 6.8 * s, k=8.0)
    solid.cone(p(40, -43, -6), p(14, -50, -17), 6.6 * s, 7.0 * s, k=5.0)
    solid.cone(p(11, -49, -20), p(9, -45, -45), 7.0 * s, 6.0 * s, k=5.0)
    solid.cone(p(56, 16, -71), p(28, -27, -58), 7.5 * s, 5.0 * s, k=6.0)
    solid.cone(p(28, -27, -58), p(10, -45, -44), 5.0 * s, 6.0 * s, k=5.0)
    solid.cut(pelvis.hips.at(side * 2.6, 0.0, 0.0), pelvis.hips.along(-side, 0.0, 0.0), k=2.0)
    solid.sphere(head, socket, k=1.5, operation=shapes.SUBTRACT)
    solid.cone(head + opening * 2.0, head + opening * 45.0, socket, socket + 9.0, k=3.0, operation=shapes.SUBTRACT)
    return solid


def femur_solid(anatomy: Anatomy, pelvis: Pelvis, name: str, side: float) -> Solid:
    """Head, neck, trochanters and the shaft down to a saw cut (so that every bone is whole within the scan)."""
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
    return solid


def wing_landmark(pelvis: Pelvis, side: float) -> F64:
    """A point inside the anterior superior iliac spine; its surface point is measured on the field."""
    return pelvis.point(side, *ASIS)
