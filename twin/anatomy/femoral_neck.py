"""The upper end of a femur: the middle of its neck's narrowest section, and the tip of the greater trochanter.

The line from the head's centre through the neck's middle is the neck's axis that version and neck-shaft angle are
measured with.
"""

from __future__ import annotations

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points
from twin.anatomy import sections
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.limbs import LATERAL, LEAST_SD_MM, NEAR_MM
from twin.anatomy.pelvis import Sphere

NECK_SHAFT_DEG = 127.0  # where the search begins
NECK_RADII = np.arange(0.9, 1.75, 0.1)  # of the head, from its centre along the neck
MOST_NECK_SHARE = 1.0  # of the head's own section: what is wider is the trochanters' block
SWEEPS = 5
BESIDE_RADII = 0.9  # of the head: the trochanter's tip lies at least this far beyond the neck's middle
ABOVE_MM = 45.0  # and no further from the neck's level along the bone


def measure(mesh: TriangleMesh[Patient], side: Side, head: Sphere) -> list[Landmark]:
    """`femoral_neck` and `greater_trochanter`; either is left out when the surface does not show it."""
    neck = neck_middle(mesh, side, head)
    if neck is None:
        return []
    middle, spread = neck
    marks = [Landmark("femoral_neck", f"femur_{side}", side, Points[Patient](middle), None, spread)]
    tip = _trochanter(mesh.vertices_mm, middle, head)
    if tip is not None:
        marks.append(Landmark("greater_trochanter", f"femur_{side}", side, Points[Patient](tip[0]), None, tip[1]))
    return marks


def neck_middle(mesh: TriangleMesh[Patient], side: Side, head: Sphere) -> tuple[Array, float] | None:
    """Centroid (3,) of the neck's narrowest section square to the line from the head's centre to it, and its spread."""
    a = np.radians(NECK_SHAFT_DEG - 90.0)
    axis = np.cos(a) * LATERAL[side] - np.sin(a) * np.array([0.0, 0.0, 1.0])
    middle: Array | None = None
    patch = sections.near(mesh, head.centre_mm + 1.3 * head.radius_mm * axis, 3.0 * head.radius_mm)
    most = MOST_NECK_SHARE * np.pi * head.radius_mm**2
    moved = np.inf
    for _ in range(SWEEPS):
        least = most
        found: Array | None = None
        for reach in NECK_RADII * head.radius_mm:
            point = head.centre_mm + reach * axis
            for loop in sections.loops(patch, point, axis):
                if 0.0 < loop.area_mm2 < least and np.linalg.norm(loop.centroid_mm - point) < 0.8 * head.radius_mm:
                    least, found = loop.area_mm2, loop.centroid_mm
        if found is None:
            return None
        moved = np.inf if middle is None else float(np.linalg.norm(found - middle))
        middle = found
        axis = (middle - head.centre_mm) / np.linalg.norm(middle - head.centre_mm)
    if middle is None:
        return None
    return middle, float(max(LEAST_SD_MM, moved))


def _trochanter(points: Array, neck: Array, head: Sphere) -> tuple[Array, float] | None:
    """The highest point beyond the neck, and the spread of what is as high."""
    up = np.array([0.0, 0.0, 1.0])
    aside = neck - head.centre_mm
    aside = aside - (aside @ up) * up
    aside = aside / np.linalg.norm(aside)
    local = points - neck
    beyond = (local @ aside > BESIDE_RADII * head.radius_mm) & (np.abs(local @ up) < ABOVE_MM)
    if not beyond.any():
        return None
    high = points[beyond]
    last = high[high[:, 2] > high[:, 2].max() - NEAR_MM]
    at = last.mean(axis=0)
    return at, float(max(LEAST_SD_MM, np.sqrt(((last - at) ** 2).sum(axis=1).mean() / 3.0)))
