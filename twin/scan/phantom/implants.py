"""Metal in the patient: pedicle screws with their rods, and a hip prosthesis. Known surfaces, like the bones.

Screws lie on the pedicle axes that were modelled; a rod a side runs through their heads. The hip: a cobalt-chrome head
on a titanium stem, and a titanium cup in the socket; that femur has lost its head and neck.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.field import Bones
from twin.scan.phantom.pelvis import JOINT_SPACE_MM, Pelvis
from twin.scan.phantom.solids import F64, Solid, unit
from twin.scan.phantom.vertebra import SIDES, Stand, pedicle_frame

TITANIUM_HU = 11000.0
COBALT_HU = 30000.0
ROD_MM = 2.75
STEPS = (4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5)


@dataclass(frozen=True)
class Implant:
    """One piece of metal: what it is, where it runs from and to, its diameter."""

    name: str
    kind: str
    bone: str | None
    side: str
    start_mm: F64
    end_mm: F64
    diameter_mm: float
    hu: float


@dataclass(frozen=True)
class Metal:
    """Every implant with its surface, in one order."""

    pieces: tuple[Implant, ...]
    shapes: Bones


def hip_side(anatomy: Anatomy) -> str | None:
    """The side of the hip prosthesis, None without one."""
    if anatomy.metal not in ("hip", "both"):
        return None
    return "left" if np.random.default_rng([20266, anatomy.seed]).random() < 0.5 else "right"


def implants(anatomy: Anatomy, stands: list[Stand], pelvis: Pelvis) -> Metal | None:
    """The patient's metal; None where he has none."""
    pieces: list[Implant] = []
    solids: list[Solid] = []
    if anatomy.metal in ("screws", "both"):
        _screws(anatomy, stands, pieces, solids)
    side = hip_side(anatomy)
    if side is not None:
        _hip(anatomy, pelvis, side, pieces, solids)
    return Metal(tuple(pieces), Bones.pack(solids)) if solids else None


def _screws(anatomy: Anatomy, stands: list[Stand], pieces: list[Implant], solids: list[Solid]) -> None:
    rng = np.random.default_rng([20267, anatomy.seed])
    fit = [s for s in stands if min(s.size.pedicle_width_mm) >= 5.8 and s.size.level != "C7"]
    runs = [
        n for n in range(len(fit) - 2)
        if stands.index(fit[n + 2]) == stands.index(fit[n]) + 2
    ]  # fmt: skip
    if not runs:
        return
    first = runs[int(rng.integers(0, min(3, len(runs))))]
    levels = fit[first : first + 3]
    for i, (side, _) in enumerate(SIDES):
        heads = []
        for stand in levels:
            size = stand.size
            centre, frame = pedicle_frame(stand, i)
            way = frame[:, 2]
            most = 0.8 * size.pedicle_width_mm[i]
            diameter = max([d for d in STEPS if d <= most] or [STEPS[0]])
            reach = 8.0 + 0.62 * size.depth_mm
            head = centre - way * (23.0 if size.lumbar else 20.0)
            tip = centre + way * reach
            name = f"screw_{size.level}_{side}"
            solid = Solid(name, 0.0, TITANIUM_HU)
            solid.cone(head, tip - way * 5.0, diameter / 2, diameter / 2, k=0.5)
            solid.cone(tip - way * 6.0, tip - way * 1.2, diameter / 2, 1.2, k=0.5)
            solid.cone(head - way * 6.0, head + way * 2.0, 6.3, 5.6, k=1.0)
            solids.append(solid)
            bone = f"vertebrae_{size.level}"
            pieces.append(Implant(name, "pedicle screw", bone, side, head, tip, diameter, TITANIUM_HU))
            heads.append(head - way * 3.0)
        line = np.array(heads)
        ends = line[0] - 8.0 * unit(line[1] - line[0]), line[-1] + 8.0 * unit(line[-1] - line[-2])
        path = np.array([ends[0], *line, ends[1]])
        rod = Solid(f"rod_{side}", 0.0, TITANIUM_HU)
        for a, b in pairwise(path):
            rod.cone(a, b, ROD_MM, ROD_MM, k=0.3)
        solids.append(rod)
        pieces.append(Implant(rod.name, "rod", None, side, path[0], path[-1], 2 * ROD_MM, TITANIUM_HU))


def _hip(anatomy: Anatomy, pelvis: Pelvis, side: str, pieces: list[Implant], solids: list[Solid]) -> None:
    sign = dict(SIDES)[side]
    s, head = pelvis.scale, pelvis.head(sign)

    def p(x: float, y: float, z: float) -> F64:
        return head + pelvis.hips.along(sign * x * s, y * s, z * s)

    ball = Solid(f"hip_head_{side}", 0.0, COBALT_HU)
    ball.sphere(head, 16.0)
    stem = Solid(f"hip_stem_{side}", 0.0, TITANIUM_HU)
    stem.cone(p(12.0, 2.5, -9.0), p(33.0, 6.5, -28.0), 6.2, 7.5, k=2.0)
    stem.cone(p(33.0, 6.5, -28.0), p(39.5, 8.3, -46.0), 9.0, 8.0, k=4.0)
    stem.cone(p(39.5, 8.3, -46.0), p(39.3, 9.0, -86.0), 8.0, 5.5, k=4.0)
    stem.sphere(head, 16.3, k=0.3, operation=shapes.SUBTRACT)
    cup = Solid(f"hip_cup_{side}", 0.0, TITANIUM_HU)
    opening = unit(pelvis.hips.along(sign * 0.70, -0.30, -0.65))
    outer = anatomy.head_radius_mm + JOINT_SPACE_MM - 0.4
    cup.sphere(head, outer)
    cup.sphere(head, outer - 4.5, k=0.5, operation=shapes.SUBTRACT)
    cup.cut(head + opening * 1.0, opening, k=0.5)
    solids.extend([ball, stem, cup])
    femur, hip = f"femur_{side}", f"hip_{side}"
    pieces.append(Implant(ball.name, "prosthetic head", femur, side, head, head, 32.0, COBALT_HU))
    pieces.append(Implant(stem.name, "stem", femur, side, p(12.0, 2.5, -9.0), p(39.3, 9.0, -86.0), 15.0, TITANIUM_HU))
    pieces.append(Implant(cup.name, "cup", hip, side, head, head, 2 * outer, TITANIUM_HU))
