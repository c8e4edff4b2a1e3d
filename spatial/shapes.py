"""Planes, lines and cylinders in a named frame, with the distances and angles that planning asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import numpy as np

from spatial.faults import Fault
from spatial.frames import A, B
from spatial.rigid import Array, Directions, Points, Rigid, readonly, rotation_exp


class BadShape(Fault):
    """A radius or a length that is not positive, or geometry that is not defined."""


@dataclass(frozen=True, eq=False)
class Plane(Generic[A]):
    """A plane through `point_mm` (3,) with unit `normal` (3,); the side that the normal shows to is positive."""

    point_mm: Array
    normal: Array

    def __post_init__(self) -> None:
        """Validate, normalise, freeze."""
        object.__setattr__(self, "point_mm", readonly(self.point_mm, (3,), "Plane.point_mm"))
        object.__setattr__(self, "normal", Directions[A](self.normal).unit)

    @classmethod
    def fit(cls, points: Points[A]) -> Plane[A]:
        """Total least squares through (N, 3) points, N >= 3; the sign of the normal is free. Raises BadShape."""
        mm = points.mm.reshape(-1, 3)
        if len(mm) < 3:
            raise BadShape(f"{len(mm)} points; a plane needs three")
        centre = mm.mean(axis=0)
        _, s, vt = np.linalg.svd(mm - centre, full_matrices=False)
        if s[1] < 1e-9 * max(s[0], 1e-300):
            raise BadShape("the points lie on a line; a plane is not defined")
        return cls(centre, vt[2])

    def signed_distance_mm(self, points: Points[A]) -> Array:
        """Distance (...,) along the normal."""
        return np.asarray((points.mm - self.point_mm) @ self.normal)

    def moved(self, b_from_a: Rigid[B, A]) -> Plane[B]:
        """The same plane in frame B."""
        return Plane[B](b_from_a.rotation @ self.point_mm + b_from_a.translation_mm, b_from_a.rotation @ self.normal)

    def angle_rad(self, other: Plane[A]) -> float:
        """Angle between the normals, 0 to pi; stable near 0 and pi."""
        return angle_between_rad(self.normal, other.normal)

    def flipped(self) -> Plane[A]:
        """The same plane, its sides exchanged."""
        return Plane[A](self.point_mm, -self.normal)


@dataclass(frozen=True, eq=False)
class Line(Generic[A]):
    """A directed line through `point_mm` (3,) along unit `direction` (3,)."""

    point_mm: Array
    direction: Array

    def __post_init__(self) -> None:
        """Validate, normalise, freeze."""
        object.__setattr__(self, "point_mm", readonly(self.point_mm, (3,), "Line.point_mm"))
        object.__setattr__(self, "direction", Directions[A](self.direction).unit)

    def distance_mm(self, points: Points[A]) -> Array:
        """Distance (...,) of points to the line."""
        d = points.mm - self.point_mm
        return np.asarray(np.linalg.norm(d - (d @ self.direction)[..., None] * self.direction, axis=-1))

    def along_mm(self, points: Points[A]) -> Array:
        """Position (...,) of each point's foot along the line, from `point_mm`."""
        return np.asarray((points.mm - self.point_mm) @ self.direction)

    def at(self, along_mm: float | Array) -> Points[A]:
        """The point(s) at a distance along the line."""
        t = np.asarray(along_mm, dtype=np.float64)
        return Points[A](self.point_mm + t[..., None] * self.direction)

    def moved(self, b_from_a: Rigid[B, A]) -> Line[B]:
        """The same line in frame B."""
        return Line[B](b_from_a.rotation @ self.point_mm + b_from_a.translation_mm, b_from_a.rotation @ self.direction)

    def rotation(self, angle_rad: float) -> Rigid[A, A]:
        """The turn about this line by the right-hand rule: x' = h + R(u, angle)(x - h)."""
        R = rotation_exp(self.direction * angle_rad)
        return Rigid[A, A](R, self.point_mm - R @ self.point_mm)


@dataclass(frozen=True, eq=False)
class Cylinder(Generic[A]):
    """A solid cylinder from `start_mm` (3,) along unit `axis` (3,) for `length_mm`, of `radius_mm`."""

    start_mm: Array
    axis: Array
    length_mm: float
    radius_mm: float

    def __post_init__(self) -> None:
        """Validate, normalise, freeze."""
        if not (self.length_mm > 0 and self.radius_mm > 0):
            raise BadShape(f"length {self.length_mm} mm, radius {self.radius_mm} mm; both must be above zero")
        object.__setattr__(self, "start_mm", readonly(self.start_mm, (3,), "Cylinder.start_mm"))
        object.__setattr__(self, "axis", Directions[A](self.axis).unit)

    def signed_distance_mm(self, points: Points[A]) -> Array:
        """Exact signed distance (...,) to the capped cylinder, negative inside."""
        d = points.mm - self.start_mm
        along = d @ self.axis
        radial = np.linalg.norm(d - along[..., None] * self.axis, axis=-1) - self.radius_mm
        axial = np.abs(along - self.length_mm / 2) - self.length_mm / 2
        outside = np.hypot(np.maximum(radial, 0), np.maximum(axial, 0))
        return np.asarray(outside + np.minimum(np.maximum(radial, axial), 0))


def angle_between_rad(u: Array, v: Array) -> float:
    """Angle between two vectors, 0 to pi, by atan2(|u x v|, u . v): exact to rounding at small angles too."""
    return float(np.arctan2(np.linalg.norm(np.cross(u, v)), np.dot(u, v)))
