"""Writing bones down: rows for the compiled fold, built from points and directions in the patient frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from twin.scan.phantom import shapes

F64 = NDArray[np.float64]


def unit(vector: ArrayLike) -> F64:
    """A vector scaled to length 1."""
    v = np.asarray(vector, float)
    return v / float(np.linalg.norm(v))


def axes_along(z: ArrayLike, x_hint: ArrayLike) -> F64:
    """A right-handed frame (columns x, y, z) with the given z and an x as near to the hint as it can be."""
    w = unit(z)
    hint = np.asarray(x_hint, float)
    u = hint - (hint @ w) * w
    if np.linalg.norm(u) < 1e-6:
        u = np.cross(w, [0.3, 0.9, 0.1])
    u = unit(u)
    return np.column_stack([u, np.cross(w, u), w])


@dataclass(frozen=True)
class Placed:
    """A local frame in the patient: rotation columns are its axes (x left, y posterior, z cranial), origin in mm."""

    rotation: F64
    origin: F64

    def at(self, x: float, y: float, z: float) -> F64:
        """A local point in the patient frame."""
        return np.asarray(self.origin + self.rotation @ np.array([x, y, z]))

    def along(self, x: float, y: float, z: float) -> F64:
        """A local direction in the patient frame (not normalised)."""
        return np.asarray(self.rotation @ np.array([x, y, z], float))

    def turned(self, about_x_deg: float) -> Placed:
        """The same origin, rotated about the frame's own left axis."""
        a = np.radians(about_x_deg)
        c, s = np.cos(a), np.sin(a)
        return Placed(self.rotation @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), self.origin)

    def moved(self, x: float, y: float, z: float) -> Placed:
        """The same axes with the origin at a local point."""
        return Placed(self.rotation, self.at(x, y, z))


@dataclass
class Solid:
    """One bone under construction: rows in fold order, with a box that holds the whole surface."""

    name: str
    cortex_mm: float = 1.0
    trabecular_hu: float = 180.0
    rows: list[F64] = field(default_factory=list)
    low: F64 = field(default_factory=lambda: np.full(3, np.inf))
    high: F64 = field(default_factory=lambda: np.full(3, -np.inf))
    outline: list[F64] = field(default_factory=list)
    _opening: bool = True
    _in_group: bool = False
    _counts: bool = True

    def _add(
        self, kind: int, operation: int, k: float, frame: F64, origin: F64, parameters: Sequence[float],
        reach: tuple[F64, float] | None, cortex_mm: float | None, hu: float | None,
    ) -> None:  # fmt: skip
        row = np.zeros(shapes.ROW)
        opens = self._opening
        row[0], row[1], row[2] = kind, shapes.OPEN if opens else operation, k
        row[3] = self.cortex_mm if cortex_mm is None else cortex_mm
        row[4] = self.trabecular_hu if hu is None else hu
        row[5:8], row[8:17] = origin, frame.T.ravel()
        row[17 : 17 + len(parameters)] = parameters
        self.rows.append(row)
        self._opening = False
        if reach is not None and self._counts and (opens or operation == shapes.UNION):
            points, radius = reach
            self.low = np.minimum(self.low, points.min(axis=0) - radius)
            self.high = np.maximum(self.high, points.max(axis=0) + radius)

    @contextmanager
    def group(self, operation: int, k: float) -> Iterator[None]:
        """Collect the rows inside into one solid, then join it to the bone by the operation."""
        self._opening, self._counts = True, operation == shapes.UNION
        yield
        self._counts = True
        row = np.zeros(shapes.ROW)
        row[0], row[1], row[2] = shapes.MERGE, operation, k
        self.rows.append(row)

    def cone(
        self, a: ArrayLike, b: ArrayLike, r1: float, r2: float, *, k: float = 2.0, stretch: float = 1.0,
        wide: ArrayLike = (0.0, 0.0, 1.0), operation: int = shapes.UNION, cortex_mm: float | None = None,
        hu: float | None = None,
    ) -> None:  # fmt: skip
        """A round cone from a to b; `stretch` times as broad along `wide`."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        length = float(np.linalg.norm(b - a))
        reach = (np.stack([a, b]), max(r1, r2) * stretch)
        self._add(
            shapes.ROUND_CONE, operation, k, axes_along(b - a, wide), a, (length, r1, r2, stretch), reach, cortex_mm, hu
        )

    def sphere(self, centre: ArrayLike, radius: float, *, k: float = 2.0, operation: int = shapes.UNION) -> None:
        """A ball."""
        self.ellipsoid(centre, np.eye(3), (radius, radius, radius), k=k, operation=operation)

    def ellipsoid(
        self, centre: ArrayLike, frame: F64, radii: Sequence[float], *, k: float = 2.0, operation: int = shapes.UNION,
        cortex_mm: float | None = None, hu: float | None = None,
    ) -> None:  # fmt: skip
        """An ellipsoid with its half axes along the frame's columns."""
        c = np.asarray(centre, float)
        self._add(shapes.ELLIPSOID, operation, k, frame, c, radii, (c[None], max(radii)), cortex_mm, hu)

    def box(
        self, centre: ArrayLike, frame: F64, half: Sequence[float], rounding: float, *, k: float = 2.0,
        operation: int = shapes.UNION, cortex_mm: float | None = None,
    ) -> None:  # fmt: skip
        """A rounded box of the given half sizes."""
        c = np.asarray(centre, float)
        corners = (
            c + (np.array([[i, j, m] for i in (-1, 1) for j in (-1, 1) for m in (-1, 1)]) * np.asarray(half)) @ frame.T
        )
        self._add(shapes.BOX, operation, k, frame, c, (*half, rounding), (corners, 0.0), cortex_mm, None)

    def cut(self, point: ArrayLike, normal: ArrayLike, *, k: float = 1.0) -> None:
        """Keep what lies behind a plane (opposite to its normal)."""
        frame = axes_along(normal, (0.2, 0.5, 0.8))
        self._add(shapes.HALF_SPACE, shapes.INTERSECT, k, frame, np.asarray(point, float), (), None, None, None)

    def body(
        self, at: Placed, p: Sequence[float], *, k: float = 2.0, cortex_mm: float | None = None, hu: float | None = None
    ) -> None:
        """A vertebral body (or disc); parameters as `shapes._body` lists them."""
        reach = float(np.hypot(max(p[0], p[1]) * 1.2, p[2] + max(abs(p[3]), abs(p[4])) * p[1])) + 2.0
        self._add(shapes.BODY, shapes.UNION, k, at.rotation, at.origin, p, (at.origin[None], reach), cortex_mm, hu)

    def pedicle(
        self, centre: ArrayLike, frame: F64, half_width: float, half_height: float, flare: float, half_length: float, *,
        k: float = 2.0, cortex_mm: float | None = None, hu: float | None = None,
    ) -> None:  # fmt: skip
        """An hourglass neck about the frame's z axis."""
        c = np.asarray(centre, float)
        p = (half_width, half_height, flare, half_length)
        reach = (c[None], float(np.hypot(half_length, max(half_width, half_height) * (1 + 1.5 * flare))))
        self._add(shapes.PEDICLE, shapes.UNION, k, frame, c, p, reach, cortex_mm, hu)

    def tunnel(self, centre: ArrayLike, frame: F64, a: float, b: float, *, k: float = 1.5) -> None:
        """Take away an endless elliptic cylinder along the frame's z axis."""
        self._add(shapes.CYLINDER, shapes.SUBTRACT, k, frame, np.asarray(centre, float), (a, b), None, None, None)

    def sheet(
        self, origin: F64, frame: F64, through: F64, border: F64, half_thickness: float, *, k: float = 2.0,
        cortex_mm: float | None = None,
    ) -> None:  # fmt: skip
        """A curved plate through patient points, bounded by a closed smooth line through the border points."""
        local = (np.concatenate([through, border]) - origin) @ frame
        u, v = local[:, 0] / 50.0, local[:, 1] / 50.0
        basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)
        smooth = np.diag([0, 0, 0, 0.05, 0.05, 0.05, 0.15, 0.15, 0.15, 0.15])  # bends no more than the points ask
        coefficients = np.linalg.lstsq(
            np.concatenate([basis, smooth]), np.concatenate([local[:, 2], np.zeros(10)]), rcond=None
        )[0]
        edge = (border - origin) @ frame
        closed = np.concatenate([edge[:, :2], edge[:1, :2]])
        s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
        rim = CubicSpline(s, closed, bc_type="periodic")(np.linspace(0, s[-1], 40, endpoint=False))
        slope = float(np.hypot(coefficients[1], coefficients[2])) / 50.0
        p = (
            *coefficients,
            half_thickness,
            min(half_thickness * 0.9, 2.5),
            float(np.hypot(1.0, slope)),
            sum(map(len, self.outline)),
            len(rim),
        )
        self.outline.append(rim)
        height = self._height(coefficients, rim)
        points = origin + np.column_stack([rim, height]) @ frame.T
        self._add(shapes.SHEET, shapes.UNION, k, frame, origin, p, (points, half_thickness + 6.0), cortex_mm, None)

    @staticmethod
    def _height(c: F64, uv: F64) -> F64:
        u, v = uv[:, 0] / 50.0, uv[:, 1] / 50.0
        return np.asarray(
            c[0] + c[1] * u + c[2] * v + c[3] * u * u + c[4] * u * v + c[5] * v * v + c[6] * u**3 + c[7] * u * u * v
            + c[8] * u * v * v + c[9] * v**3
        )  # fmt: skip
