"""Where one looks from and through which lens: a View of a world W, and the pixels it draws world points on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from spatial.faults import Fault
from spatial.frames import Camera, Eye, Frame
from spatial.pinhole import EYE_FROM_CAMERA, Pinhole
from spatial.rigid import Array, Points, Rigid, Similarity, readonly

W = TypeVar("W", bound=Frame)
CLOSEST_MM = 1.0  # no framed point comes nearer to the eye


class BadScene(Fault):
    """A part that can't be drawn: a colour off the scale, points of the wrong shape, a picture of another size."""


@dataclass(frozen=True, eq=False)
class View(Generic[W]):
    """Where one looks from and through which lens: `projection` (4, 4) is OpenGL's, from Eye to clip coordinates."""

    eye_from_world: Rigid[Eye, W] | Similarity[Eye, W]
    projection: Array
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "projection", readonly(self.projection, (4, 4), "View.projection"))
        if self.width_px < 1 or self.height_px < 1:
            raise BadScene(f"a view of {self.width_px} x {self.height_px} px")

    @classmethod
    def from_pinhole(
        cls,
        pinhole: Pinhole,
        camera_from_world: Rigid[Camera, W] | Similarity[Camera, W],
        near_mm: float = 10.0,
        far_mm: float = 5000.0,
    ) -> View[W]:
        """A real camera's view onto its undistorted picture; lands on OpenCV's pixels."""
        eye_from_world: Rigid[Eye, W] | Similarity[Eye, W]
        if isinstance(camera_from_world, Similarity):
            eye_from_world = Similarity[Eye, Camera].of(EYE_FROM_CAMERA) @ camera_from_world
        else:
            eye_from_world = EYE_FROM_CAMERA @ camera_from_world
        return cls(eye_from_world, pinhole.gl_projection(near_mm, far_mm), pinhole.width_px, pinhole.height_px)

    @classmethod
    def looking(
        cls,
        at_mm: ArrayLike,
        from_mm: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        fov_y_rad: float = 0.6,
        near_mm: float | None = None,
        far_mm: float | None = None,
    ) -> View[W]:
        """A perspective view from one point to another; near and far default to 1/50 and 4 times their distance."""
        eye_from_world, distance_mm = _look(at_mm, from_mm, up)
        near = distance_mm / 50.0 if near_mm is None else near_mm
        far = distance_mm * 4.0 if far_mm is None else far_mm
        f = 1.0 / np.tan(fov_y_rad / 2.0)
        P = np.zeros((4, 4))
        P[0, 0], P[1, 1] = f * height_px / width_px, f
        P[2, 2], P[2, 3], P[3, 2] = -(far + near) / (far - near), -2.0 * far * near / (far - near), -1.0
        return cls(eye_from_world, P, width_px, height_px)

    @classmethod
    def parallel(
        cls,
        at_mm: ArrayLike,
        from_mm: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        span_mm: float,
    ) -> View[W]:
        """A parallel view, as a radiograph's picture is read: `span_mm` fills the height; near and far are generous."""
        eye_from_world, distance_mm = _look(at_mm, from_mm, up)
        near, far = distance_mm - 4.0 * span_mm, distance_mm + 4.0 * span_mm
        P = np.diag([2.0 * height_px / (span_mm * width_px), 2.0 / span_mm, -2.0 / (far - near), 1.0])
        P[2, 3] = -(far + near) / (far - near)
        return cls(eye_from_world, P, width_px, height_px)

    @classmethod
    def framing(
        cls,
        points: Points[W],
        toward_eye: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        fov_y_rad: float = 0.45,
        margin: float = 0.08,
    ) -> View[W]:
        """The nearest perspective view from `toward_eye` (a direction) that holds all points (N, 3) in its margin, none
        nearer than a millimetre.
        """
        mm = points.mm.reshape(-1, 3)
        eye_from_world, _ = _look(np.zeros(3), toward_eye, up)
        turned = mm @ eye_from_world.rotation.T
        t_y = np.tan(fov_y_rad / 2.0) * (1.0 - 2.0 * margin)
        t = np.array([t_y * width_px / height_px, t_y])
        # Each edge of the frame asks one thing of the distance d and the shift c: +-(x - c) <= t (d - z).
        high = (turned[:, :2] + t * turned[:, 2:]).max(axis=0)
        low = (-turned[:, :2] + t * turned[:, 2:]).max(axis=0)
        d = max(float(((high + low) / (2.0 * t)).max()), float(turned[:, 2].max()) + CLOSEST_MM)
        reach = d - turned[:, 2]
        centre = np.array([*((high - low) / 2.0), float(turned[:, 2].mean())])
        eye = np.array([centre[0], centre[1], d])
        R = eye_from_world.rotation
        return cls.looking(
            R.T @ centre,
            R.T @ eye,
            R[1],
            width_px,
            height_px,
            fov_y_rad=fov_y_rad,
            near_mm=max(float(reach.min()) * 0.5, d / 500.0),
            far_mm=float(reach.max()) * 1.5,
        )

    @property
    def is_parallel(self) -> bool:
        """Whether size is the same at every depth."""
        return bool(self.projection[3, 2] == 0.0)

    @property
    def rotation(self) -> Array:
        """Eye from world, the rotation alone (3, 3)."""
        return self.eye_from_world.rotation

    def clip_from_world(self) -> Array:
        """Homogeneous (4, 4), float64."""
        return np.asarray(self.projection @ self.eye_from_world.matrix())

    def pixels(self, points: Points[W]) -> Array:
        """Pixels (..., 2) where the painter draws world points, (u, v) from the top-left; NaN behind the eye."""
        M = self.clip_from_world()
        clip = points.mm @ M[:, :3].T + M[:, 3]
        w = np.where(clip[..., 3] > 1e-9, clip[..., 3], np.nan)
        x, y = clip[..., 0] / w, clip[..., 1] / w
        return np.stack([(x + 1) * self.width_px / 2 - 0.5, (1 - y) * self.height_px / 2 - 0.5], axis=-1)

    def depths_mm(self, points: Points[W]) -> Array:
        """Distance (...,) before the eye along its axis (in the world's scale as the eye sees it)."""
        M = self.eye_from_world.matrix()
        return np.asarray(-(points.mm @ M[2, :3] + M[2, 3]))

    def pixels_per_mm(self, points: Points[W]) -> Array:
        """How tall (...,) one world millimetre, parallel to the picture, is drawn at each point; NaN behind the eye."""
        M = self.clip_from_world()
        w = points.mm @ M[3, :3] + M[3, 3]
        scale = self.eye_from_world.scale if isinstance(self.eye_from_world, Similarity) else 1.0
        return np.asarray(self.projection[1, 1] * scale * self.height_px / 2 / np.where(w > 1e-9, w, np.nan))


def _look(at_mm: ArrayLike, from_mm: ArrayLike, up: ArrayLike) -> tuple[Rigid[Eye, Any], float]:
    at, eye = readonly(at_mm, (3,), "at_mm"), readonly(from_mm, (3,), "from_mm")
    distance_mm = float(np.linalg.norm(eye - at))
    right = np.cross(np.asarray(up, dtype=np.float64), eye - at)
    if distance_mm < 1e-9 or float(np.linalg.norm(right)) < 1e-9 * distance_mm:
        raise BadScene("the view has no direction: the eye stands at its target, or `up` lies along the line of sight")
    z = (eye - at) / distance_mm
    x = right / np.linalg.norm(right)
    R = np.stack([x, np.cross(z, x), z])
    return Rigid[Eye, Any](R, -R @ eye), distance_mm
