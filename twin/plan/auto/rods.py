"""Rods for a set of screws: the line of their heads, bent no tighter than a rod may be, and what it runs into.

The centre line is a natural cubic spline along the heads, smoothed (Reinsch 1967) just as far as its tightest bend asks
for, with straight ends. Heads stand behind the entries on the screws' axes. The least radius is a setting of our own:
the outer fibre of a round rod of diameter d bent to radius R is stretched by d / 2R, and MOST_STRAIN bounds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from spatial.distance import DistanceGrid
from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.auto.rod import Rod, bend_radius_mm
from twin.plan.levels import rank
from twin.plan.screws.implants import Library, RodFamily, ScrewHead, load_library
from twin.plan.screws.screw import Screw

MOST_STRAIN = 0.055  # 50 mm for a rod of 5.5 mm: about what a bending iron's smallest groove makes
OVERHANG_MM = 6.0  # beyond the middle of the end heads
STEP_MM = 1.0
HEAD_FROM_MM = 4.0  # below it a head may sit in bone: that is where it is seated
HEAD_IN_MM = 1.0  # bone that a head may overlap before it is told
REACH_MM = 3.0  # bones whose surface comes no nearer than this are not measured
USUAL_MM = 5.5


class NoRod(Misuse):
    """Screws that no rod can join: fewer than two on a side, or a size that the library does not have."""


@dataclass(frozen=True)
class Seat:
    """One head on its rod: how far its centre is off the rod's, the angle it has to tilt, and the gap to the next head
    (None: the last); `most_tilt_deg` is what the head allows.
    """

    screw: str
    residual_mm: float
    tilt_deg: float
    most_tilt_deg: float
    gap_mm: float | None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class Contact:
    """Bone that is in the way of a rod or of a head: how deep, mm."""

    part: str
    bone: str
    depth_mm: float

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class RodPlan:
    """A rod with what it asks of the heads and what it touches. `least_radius_mm` is the limit of its bending."""

    rod: Rod
    seats: tuple[Seat, ...]
    contacts: tuple[Contact, ...]
    least_radius_mm: float
    stock_mm: float | None

    def to_json(self) -> dict[str, Any]:
        """As the commands print it; `stock_mm`: the shortest rod of the library that is long enough."""
        radius = self.rod.radius_mm
        return {
            **self.rod.to_json(),
            "length_mm": self.rod.length_mm,
            "stock_mm": self.stock_mm,
            "radius_mm": radius if np.isfinite(radius) else None,
            "least_radius_mm": self.least_radius_mm,
            "heads": [seat.to_json() for seat in self.seats],
            "worst_residual_mm": max(seat.residual_mm for seat in self.seats),
            "contacts": [contact.to_json() for contact in self.contacts],
        }


def head_centre_mm(screw: Screw, head: ScrewHead) -> Array:
    """Where the rod should pass (3,): the middle of the head, behind the entry on the axis."""
    return np.asarray(screw.entry.mm - head.height_mm / 2.0 * screw.axis.direction)


def plan_rod(
    twin: Twin,
    screws: Iterable[Screw],
    side: Side,
    *,
    diameter_mm: float | None = None,
    material: str | None = None,
    library: Library | None = None,
    name: str | None = None,
) -> RodPlan:
    """The rod for the screws of one side, cranial first. Raises NoRod."""
    library = library or load_library()
    chosen = sorted(
        (s for s in screws if s.side == side and rank(s.bone) is not None and s.kind != "lag"),
        key=lambda s: (rank(s.bone) or 0, s.id),
    )
    if len(chosen) < 2:
        raise NoRod(f"{len(chosen)} screws on the {side}; a rod joins two or more")
    family = _family(library)
    diameter, made_of = _size(family, diameter_mm, material)
    heads = [library.screws(s.family_name).head for s in chosen]
    centres = np.array([head_centre_mm(s, h) for s, h in zip(chosen, heads, strict=True)])
    least = diameter / (2.0 * MOST_STRAIN)
    line = rod_line(centres, least)
    rod = Rod(name or f"rod-{side}", side, tuple(s.id for s in chosen), diameter, made_of, Points[Patient](line))
    return RodPlan(
        rod, _seats(chosen, heads, centres, line), _contacts(twin, rod, chosen, heads), least,
        min((v for v in family.lengths_mm if v >= rod.length_mm), default=None),
    )  # fmt: skip


def _family(library: Library) -> RodFamily:
    families = library.of(RodFamily)
    if not families:
        raise NoRod("the implant library has no rods")
    return families[0]


def _size(family: RodFamily, diameter_mm: float | None, material: str | None) -> tuple[float, str]:
    names = [m.name for m in family.materials]
    diameter = diameter_mm or (USUAL_MM if USUAL_MM in family.diameters_mm else family.diameters_mm[0])
    if diameter not in family.diameters_mm:
        sizes = ", ".join(f"{d:g}" for d in family.diameters_mm)
        raise NoRod(f"no rod of {diameter:g} mm in {family.name}; it has {sizes}")
    if material is not None and material not in names:
        raise NoRod(f"no rod of {material!r} in {family.name}; it has {', '.join(names)}")
    return diameter, material or names[0]


def rod_line(centres_mm: Array, least_radius_mm: float) -> Array:
    """Points (N, 3) a millimetre apart along the heads (M, 3), bent to no less than a radius, with straight ends."""
    if len(centres_mm) == 2:
        return _stations(lambda u: centres_mm[0] + np.outer(u, centres_mm[1] - centres_mm[0]), 0.0, 1.0)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres_mm, axis=0), axis=1))])
    stiff = _stiffness(along)

    def line(smooth: float) -> Array:
        knots = np.linalg.solve(np.eye(len(along)) + smooth * stiff, centres_mm)
        return _stations(CubicSpline(along, knots, bc_type="natural"), 0.0, float(along[-1]))

    if bend_radius_mm(line(0.0)) >= least_radius_mm:
        return line(0.0)
    low, high = -2.0, 9.0  # powers of ten: at 1e9 mm3 it is straight
    while high - low > 0.02:
        middle = (low + high) / 2.0
        low, high = (middle, high) if bend_radius_mm(line(10.0**middle)) < least_radius_mm else (low, middle)
    return line(10.0**high)


def _stiffness(along: Array) -> Array:
    """The matrix of a natural cubic spline's bending: values @ K @ values is the integral of its squared second
    derivative.
    """
    h, n = np.diff(along), len(along)
    q, r = np.zeros((n, n - 2)), np.zeros((n - 2, n - 2))
    for j in range(1, n - 1):
        q[j - 1, j - 1], q[j, j - 1], q[j + 1, j - 1] = 1 / h[j - 1], -1 / h[j - 1] - 1 / h[j], 1 / h[j]
        r[j - 1, j - 1] = (h[j - 1] + h[j]) / 3
        if j < n - 2:
            r[j - 1, j] = r[j, j - 1] = h[j] / 6
    return np.asarray(q @ np.linalg.solve(r, q.T))


def _stations(curve: Any, first: float, last: float) -> Array:
    """The curve at even steps of about STEP_MM, and its straight ends."""
    fine = np.asarray(curve(np.linspace(first, last, 2000)))
    ends = [(fine[0] - fine[1]), (fine[-1] - fine[-2])]
    ends = [OVERHANG_MM * e / np.linalg.norm(e) for e in ends]
    fine = np.vstack([fine[0] + ends[0], fine, fine[-1] + ends[1]])
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.linspace(0.0, run[-1], max(2, round(run[-1] / STEP_MM)) + 1)
    return np.column_stack([np.interp(even, run, fine[:, a]) for a in range(3)])


def _seats(
    screws: Sequence[Screw], heads: Sequence[ScrewHead], centres: Array, line: Array
) -> tuple[Seat, ...]:  # fmt: skip
    found = []
    for n, (screw, head) in enumerate(zip(screws, heads, strict=True)):
        off, along = _to_line(centres[n], line)
        tilt = 90.0 - np.degrees(np.arccos(min(1.0, abs(float(along @ screw.axis.direction)))))
        gap = None
        if n + 1 < len(screws):
            apart = float(np.linalg.norm(centres[n + 1] - centres[n]))
            gap = apart - (head.diameter_mm + heads[n + 1].diameter_mm) / 2.0
        found.append(Seat(screw.id, off, float(tilt), head.most_angle_deg, gap))
    return tuple(found)


def _to_line(point: Array, line: Array) -> tuple[float, Array]:
    """How far a point is off a line of straight pieces, and the line's direction there."""
    step = np.diff(line, axis=0)
    part = np.clip(((point - line[:-1]) * step).sum(axis=1) / (step**2).sum(axis=1), 0.0, 1.0)
    away = np.linalg.norm(point - line[:-1] - part[:, None] * step, axis=1)
    n = int(np.argmin(away))
    return float(away[n]), np.asarray(step[n] / np.linalg.norm(step[n]))


def _contacts(twin: Twin, rod: Rod, screws: Sequence[Screw], heads: Sequence[ScrewHead]) -> tuple[Contact, ...]:
    """Bones that the rod or a head would have to go through, the deepest first."""
    parts: dict[str, tuple[Array, float, float]] = {rod.id: (rod.centreline.mm, rod.diameter_mm / 2.0, 0.0)}
    for screw, head in zip(screws, heads, strict=True):
        parts[f"head of {screw.id}"] = (_head_surface_mm(screw, head), 0.0, HEAD_IN_MM)
    every = np.vstack([points for points, _, _ in parts.values()])
    found = []
    for name in _near(twin, every, rod.diameter_mm / 2.0):
        grid = DistanceGrid[Patient].of(twin.bone(name).surface)
        for part, (points, radius, allowed) in parts.items():
            depth = radius - float(np.min(grid.distance_mm(Points[Patient](points))))
            if depth > allowed:
                found.append(Contact(part, name, depth))
    return tuple(sorted(found, key=lambda c: (-c.depth_mm, c.part, c.bone)))


def _head_surface_mm(screw: Screw, head: ScrewHead) -> Array:
    """Points (N, 3) over the head's cylinder, from HEAD_FROM_MM behind the entry to its end, and over its end."""
    axis = screw.axis.direction
    aside = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    aside /= np.linalg.norm(aside)
    angle = 2.0 * np.pi * np.arange(24) / 24
    ring = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * np.cross(axis, aside)
    up = np.append(np.arange(HEAD_FROM_MM, head.height_mm, 1.0), head.height_mm)
    side = screw.entry.mm - up[:, None, None] * axis + head.diameter_mm / 2.0 * ring
    end = screw.entry.mm - head.height_mm * axis + head.diameter_mm / 4.0 * ring
    return np.vstack([side.reshape(-1, 3), end])


def _near(twin: Twin, points: Array, radius: float) -> list[str]:
    """Bones whose surface comes near the points; no grid is built for the others."""
    tree = cKDTree(points)
    low, high = points.min(axis=0), points.max(axis=0)
    found = []
    for name in sorted(twin.bones):
        surface = twin.bone(name).surface
        corners = surface.vertices_mm[surface.triangles]
        middle = corners.mean(axis=1)
        reach = np.linalg.norm(corners - middle[:, None], axis=2).max(axis=1) + radius + REACH_MM
        inside = ((middle > low - reach[:, None]) & (middle < high + reach[:, None])).all(axis=1)
        if inside.any() and (tree.query(middle[inside])[0] < reach[inside]).any():
            found.append(name)
    return found


def plan_rods(twin: Twin, screws: Mapping[str, Screw], **options: Any) -> list[RodPlan]:
    """A rod for each side that has two or more spinal screws."""
    found = []
    sides: tuple[Side, ...] = ("left", "right")
    for side in sides:
        if sum(s.side == side and rank(s.bone) is not None and s.kind != "lag" for s in screws.values()) >= 2:
            found.append(plan_rod(twin, screws.values(), side, **options))
    return found
