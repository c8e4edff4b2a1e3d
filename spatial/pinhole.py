"""A camera's lens: OpenCV's projection, its inverse, and the OpenGL projection that lands on the same pixels.

Pixel centres are at integers: pixel (u, v) covers [u - 0.5, u + 0.5]. Two lenses: "brown" bends the image plane by
OpenCV's k1 k2 p1 p2 [k3 [k4 k5 k6]] with the rational denominator (calib3d documentation, "Detailed description");
"fisheye" maps the angle from the axis, theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8) (Kannala &
Brandt 2006, OpenCV's cv::fisheye), so it bends even with no coefficients. Only rays in front of the camera are seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from spatial.faults import Fault
from spatial.frames import Camera, Eye
from spatial.rigid import Array, Directions, Points, Rigid, readonly

Lens = Literal["brown", "fisheye"]
WIDEST_RAD = 1.55  # a fisheye's rays further off the axis meet the image plane nowhere useful

EYE_FROM_CAMERA: Rigid[Eye, Camera] = Rigid(np.diag([1.0, -1.0, -1.0]), np.zeros(3))


class BadLens(Fault):
    """Intrinsics that are no camera."""


@dataclass(frozen=True, slots=True)
class Pinhole:
    """Focal lengths, principal point and distortion of a picture of width x height pixels."""

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    distortion: tuple[float, ...] = ()
    lens: Lens = "brown"

    def __post_init__(self) -> None:
        """Refuse what no camera has."""
        numbers = (self.fx_px, self.fy_px, self.cx_px, self.cy_px, *self.distortion)
        if not np.isfinite(numbers).all() or self.fx_px <= 0 or self.fy_px <= 0:
            raise BadLens(f"focal lengths {self.fx_px}, {self.fy_px} px must be finite and above zero")
        if self.width_px < 1 or self.height_px < 1:
            raise BadLens(f"picture of {self.width_px} x {self.height_px} px")
        if self.lens not in ("brown", "fisheye"):
            raise BadLens(f"lens {self.lens!r}; brown and fisheye are known")
        known = (0, 4, 5, 8) if self.lens == "brown" else (0, 4)
        if len(self.distortion) not in known:
            raise BadLens(
                f"{len(self.distortion)} distortion coefficients; {', '.join(map(str, known[:-1]))} or {known[-1]} are "
                f"known for a {self.lens} lens"
            )

    @property
    def is_ideal(self) -> bool:
        """Whether straight lines stay straight: no distortion at all."""
        return self.lens == "brown" and not any(self.distortion)

    @property
    def matrix(self) -> Array:
        """OpenCV's 3x3 camera matrix."""
        return np.array([[self.fx_px, 0, self.cx_px], [0, self.fy_px, self.cy_px], [0, 0, 1.0]])

    def undistorted(self) -> Pinhole:
        """The same camera with an ideal lens: the picture that the overlay is drawn on."""
        return Pinhole(self.width_px, self.height_px, self.fx_px, self.fy_px, self.cx_px, self.cy_px)

    def scaled(self, factor: float) -> Pinhole:
        """The same camera with a picture `factor` times as large; pixel centres stay at integers."""
        return Pinhole(
            round(self.width_px * factor),
            round(self.height_px * factor),
            self.fx_px * factor,
            self.fy_px * factor,
            (self.cx_px + 0.5) * factor - 0.5,
            (self.cy_px + 0.5) * factor - 0.5,
            self.distortion,
            self.lens,
        )

    def project(self, points: Points[Camera]) -> Array:
        """Pixels (..., 2) of points in front of the camera; NaN for points at or behind it."""
        z = points.mm[..., 2]
        safe = np.where(z > 1e-9, z, np.nan)
        xy = self._distort(points.mm[..., :2] / safe[..., None])
        return xy * (self.fx_px, self.fy_px) + (self.cx_px, self.cy_px)

    def rays(self, pixels_px: ArrayLike) -> Directions[Camera]:
        """Unit rays (..., 3) through raw pixels (..., 2): the distortion is inverted to below 1e-9."""
        xy = self.normalised(pixels_px)
        return Directions[Camera](np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1))

    def normalised(self, pixels_px: ArrayLike) -> Array:
        """Undistorted image-plane coordinates (..., 2), z = 1, of raw pixels.

        Newton's method with the analytic Jacobian. Raises BadLens where the model folds over (a pixel that no ray
        reaches), and for a fisheye's rays more than 1.55 rad off its axis.
        """
        target = (np.asarray(pixels_px, dtype=np.float64) - (self.cx_px, self.cy_px)) / (
            self.fx_px,
            self.fy_px,
        )
        if self.is_ideal:
            return np.asarray(target)
        if self.lens == "fisheye":
            return self._unroll(target)
        xy = target.copy()
        for _ in range(30):
            error = self._distort(xy) - target
            J = self._distort_jacobian(xy)
            det = J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0]
            det = np.where(np.abs(det) < 1e-12, 1e-12, det)
            step = np.stack(
                [
                    (J[..., 1, 1] * error[..., 0] - J[..., 0, 1] * error[..., 1]) / det,
                    (J[..., 0, 0] * error[..., 1] - J[..., 1, 0] * error[..., 0]) / det,
                ],
                axis=-1,
            )
            xy = xy - step
            if np.abs(step).max(initial=0.0) < 1e-13:
                break
        worst = float(np.abs(self._distort(xy) - target).max(initial=0.0))
        folded = bool((np.linalg.det(self._distort_jacobian(xy)) <= 0).any() or (xy * target < -1e-3).any())
        if folded or not worst < 1e-9:
            raise BadLens(
                f"distortion {self.distortion} cannot be inverted over the picture; was it fitted too widely?"
            )
        return xy

    def slopes(self, xy: Array) -> Array:
        """d pixel / d (x, y) at undistorted image-plane coordinates (..., 2): (..., 2, 2)."""
        return np.asarray(np.array([[self.fx_px], [self.fy_px]]) * self._distort_jacobian(xy))

    def gl_projection(self, near_mm: float, far_mm: float) -> Array:
        """OpenGL projection (4, 4) from Eye, for a viewport of this size: pixel (u, v) lights GL's (u, h - 1 - v)."""
        w, h = self.width_px, self.height_px
        P = np.zeros((4, 4))
        P[0, 0], P[1, 1] = 2 * self.fx_px / w, 2 * self.fy_px / h
        P[0, 2] = 1 - 2 * (self.cx_px + 0.5) / w
        P[1, 2] = 2 * (self.cy_px + 0.5) / h - 1
        P[2, 2] = -(far_mm + near_mm) / (far_mm - near_mm)
        P[2, 3] = -2 * far_mm * near_mm / (far_mm - near_mm)
        P[3, 2] = -1.0
        return P

    def _coefficients(self) -> Array:
        k = np.zeros(8)
        k[: len(self.distortion)] = self.distortion
        return readonly(k, (8,), "distortion")

    def _unroll(self, target: Array) -> Array:
        """A fisheye's inverse: the angle from the axis by Newton's method, from a start that never overshoots."""
        bent = np.linalg.norm(target, axis=-1)
        theta = np.minimum(bent, WIDEST_RAD)
        for _ in range(50):
            value, slope = self._roll(theta)
            step = (value - bent) / np.where(slope > 0.05, slope, 0.05)
            theta = np.clip(theta - step, 0.0, WIDEST_RAD)
            if np.abs(step).max(initial=0.0) < 1e-14:
                break
        value, slope = self._roll(theta)
        if not float(np.abs(value - bent).max(initial=0.0)) < 1e-9 or bool((slope <= 0).any()):
            raise BadLens(
                f"fisheye distortion {self.distortion} cannot be inverted here within {np.degrees(WIDEST_RAD):.0f} "
                "degrees of the axis; does the picture's rim lie outside the lens' circle?"
            )
        return np.asarray(target * np.where(bent > 1e-12, np.tan(theta) / np.maximum(bent, 1e-12), 1.0)[..., None])

    def _roll(self, theta: Array) -> tuple[Array, Array]:
        """A fisheye's image radius at the angle theta, and its derivative."""
        k1, k2, k3, k4 = self._coefficients()[:4]
        q = theta * theta
        value = theta * (1 + q * (k1 + q * (k2 + q * (k3 + q * k4))))
        return value, 1 + q * (3 * k1 + q * (5 * k2 + q * (7 * k3 + q * 9 * k4)))

    def _distort(self, xy: Array) -> Array:
        if self.is_ideal:
            return xy
        if self.lens == "fisheye":
            r = np.linalg.norm(xy, axis=-1)
            value, _ = self._roll(np.arctan(r))
            return np.asarray(xy * np.where(r > 1e-12, value / np.maximum(r, 1e-12), 1.0)[..., None])
        k1, k2, p1, p2, k3, k4, k5, k6 = self._coefficients()
        x, y = xy[..., 0], xy[..., 1]
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )

    def _distort_jacobian(self, xy: Array) -> Array:
        if self.lens == "fisheye":
            return self._roll_jacobian(xy)
        k1, k2, p1, p2, k3, k4, k5, k6 = self._coefficients()
        x, y = xy[..., 0], xy[..., 1]
        r2 = x * x + y * y
        top, bottom = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        radial = top / bottom
        slope = (  # d radial / d r2
            (k1 + r2 * (2 * k2 + 3 * r2 * k3)) * bottom - top * (k4 + r2 * (2 * k5 + 3 * r2 * k6))
        ) / bottom**2
        J = np.empty((*xy.shape[:-1], 2, 2))
        J[..., 0, 0] = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
        J[..., 0, 1] = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        J[..., 1, 0] = J[..., 0, 1]
        J[..., 1, 1] = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
        return J

    def _roll_jacobian(self, xy: Array) -> Array:
        r = np.linalg.norm(xy, axis=-1)
        far = np.maximum(r, 1e-9)
        value, slope = self._roll(np.arctan(far))
        across = value / far  # perpendicular to the radius
        along = slope / (1 + far * far)
        unit = xy / far[..., None]
        outer = unit[..., :, None] * unit[..., None, :]
        return np.asarray(across[..., None, None] * np.eye(2) + (along - across)[..., None, None] * outer)
