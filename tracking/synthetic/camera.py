"""A camera that does not exist: pictures by rays through a bent lens, with the truth beside them.

The second renderer of the demo and of the tests. It shares nothing with Painter or the twin: surfaces are hit by rays
that the caller's own `cast` follows (the phantom's analytic surface), markers are area-sampled, then come blur,
uneven light, noise and rounding. Light is linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.faults import Misuse
from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, readonly
from spatial.shapes import Cylinder
from tracking.bodies.body import Body
from tracking.frame import Frame
from tracking.synthetic.plates import lay, plates

BONE_RGB = (0.80, 0.74, 0.62)
STEEL_RGB = (0.55, 0.57, 0.60)
DRAPE_RGB = (0.12, 0.26, 0.33)
CHUNK = 200_000
SUBRAYS_ACROSS = 3  # rays a pixel on outlines, across and down


class BadSynthetic(Misuse):
    """A synthetic source that can't be made as asked."""


class Caster(Protocol):
    """What follows rays to a surface."""

    def __call__(
        self, origins_mm: Array, directions: Array, t_max_mm: float, /
    ) -> tuple[Array, NDArray[np.integer[Any]], Array]:
        """First hits of rays (N, 3): distance (N,) mm (inf: none), index of the object (N,), outward normal (N, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Surface:
    """Something to be seen: its caster, and a box (low, high) mm that holds it, both in Patient."""

    cast: Caster
    low_mm: Array
    high_mm: Array
    rgb: tuple[float, float, float] = BONE_RGB

    def __post_init__(self) -> None:
        """Freeze the box."""
        object.__setattr__(self, "low_mm", readonly(self.low_mm, (3,), "Surface.low_mm"))
        object.__setattr__(self, "high_mm", readonly(self.high_mm, (3,), "Surface.high_mm"))


@dataclass(frozen=True)
class Optics:
    """What the picture suffers: blur (Gaussian sd), noise (sd in grey levels), light falling off across it, gain."""

    blur_px: float = 0.7
    noise_grey: float = 2.0
    gradient: float = 0.25
    gain: float = 255.0


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture and where everything truly was."""

    frame: Frame
    camera_from_patient: Rigid[Camera, Patient]
    camera_from_body: Mapping[str, Rigid[Camera, Any]]


@dataclass(frozen=True, eq=False)
class SyntheticCamera:
    """A lens, its optics, what stands in the room; `shafts` are steel rods in their body's frame."""

    pinhole: Pinhole
    bodies: Sequence[Body[Any]] = ()
    surface: Surface | None = None
    shafts: Mapping[str, Cylinder[Any]] = field(default_factory=lambda: MappingProxyType({}))
    optics: Optics = Optics()
    fps: float = 30.0
    seed: int = 0

    def shoot(
        self,
        index: int,
        camera_from_patient: Rigid[Camera, Patient],
        patient_from_body: Mapping[str, Rigid[Patient, Any]],
    ) -> Shot:
        """Frame `index`; a body without a pose is not in the room. The same arguments give the same picture."""
        grid = ray_grid(self.pinhole)
        picture = _drape(grid, camera_from_patient)
        depth_mm = np.full(grid.shape[:2], np.inf)
        camera_from_body = {name: camera_from_patient @ pose for name, pose in patient_from_body.items()}
        if self.surface is not None:
            _draw(self.surface, grid, camera_from_patient, picture, depth_mm)
        for name, shaft in self.shafts.items():
            if name in camera_from_body:
                _draw(_rod(shaft), grid, camera_from_body[name], picture, depth_mm)
        for body in self.bodies:
            if body.name in camera_from_body:
                for plate in plates(body, camera_from_body[body.name], self.pinhole):
                    lay(plate, grid, depth_mm, picture)
        t_ns = round(index * 1e9 / self.fps)
        frame = Frame(t_ns, self._expose(picture, index), index)
        return Shot(frame, camera_from_patient, MappingProxyType(camera_from_body))

    def _expose(self, picture: NDArray[np.float32], index: int) -> NDArray[np.uint8]:
        if self.optics.blur_px > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), self.optics.blur_px, borderType=cv2.BORDER_REPLICATE)
        height, width = picture.shape[:2]
        across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
        down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
        light = 1.0 + self.optics.gradient * (0.8 * across + 0.6 * down)
        grey = picture * (self.optics.gain * light)[..., None]
        if self.optics.noise_grey > 0:
            noise = np.random.default_rng((self.seed, index)).standard_normal(grey.shape, dtype=np.float32)
            grey += self.optics.noise_grey * noise
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def truth_mask(surface: Surface, pinhole: Pinhole, camera_from_patient: Rigid[Camera, Patient]) -> NDArray[np.bool_]:
    """Which pixels (h, w) see the surface at their centre: the silhouette that an overlay has to match."""
    grid = ray_grid(pinhole)
    rows, _, _, _ = _cast_all(surface, grid.reshape(-1, 2), camera_from_patient)
    mask = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    mask[rows] = True
    return mask.reshape(grid.shape[:2])


@lru_cache(maxsize=4)
def ray_grid(pinhole: Pinhole) -> Array:
    """The undistorted ray (x, y, 1) of every pixel centre: (h, w, 2). Read-only."""
    v, u = np.mgrid[0.0 : pinhole.height_px, 0.0 : pinhole.width_px]
    grid = np.ascontiguousarray(pinhole.normalised(np.stack([u, v], axis=-1)))
    grid.flags.writeable = False
    return grid


def orbit(
    centre_mm: Array,
    toward: Array,
    up: Array,
    distance_mm: float,
    frames: int,
    *,
    swing_rad: float = 0.45,
    fps: float = 30.0,
) -> Iterator[Rigid[Camera, Patient]]:
    """A hand-held camera that looks at `centre_mm` from the side `toward` (out of the patient), swaying smoothly.

    The sway repeats after eight seconds; the camera's up in the picture is `up` as well as it can be.
    """
    out = np.asarray(toward, dtype=np.float64) / np.linalg.norm(toward)
    side = np.cross(up, out)
    side /= np.linalg.norm(side)
    top = np.cross(out, side)
    for index in range(frames):
        phase = 2 * np.pi * index / fps / 8.0
        a, b = swing_rad * np.sin(phase), 0.6 * swing_rad * np.sin(2 * phase + 0.7)
        eye = np.asarray(centre_mm) + distance_mm * (1 + 0.12 * np.sin(phase + 1.1)) * (
            out * np.cos(a) * np.cos(b) + side * np.sin(a) * np.cos(b) + top * np.sin(b)
        )
        roll = 0.12 * np.sin(phase + 2.0)
        yield looking(eye, np.asarray(centre_mm), top * np.cos(roll) + side * np.sin(roll))


def looking(eye_mm: Array, at_mm: Array, up: Array) -> Rigid[Camera, Patient]:
    """The camera at `eye_mm` that looks at `at_mm` with `up` upward in the picture."""
    z = np.asarray(at_mm, dtype=np.float64) - eye_mm
    z = z / np.linalg.norm(z)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return Rigid[Camera, Patient](R, -R @ eye_mm)


def _drape(grid: Array, camera_from_patient: Rigid[Camera, Patient]) -> NDArray[np.float32]:
    """A cloth far behind, with folds that stay with the patient: reflectances (h, w, 3)."""
    R = camera_from_patient.rotation.astype(np.float32)
    xy = grid.astype(np.float32)
    a = xy[..., 0] * R[0, 0] + xy[..., 1] * R[1, 0] + R[2, 0]
    b = xy[..., 0] * R[0, 2] + xy[..., 1] * R[1, 2] + R[2, 2]
    folds = 1.0 + 0.18 * np.sin(9 * a + 2 * np.sin(5 * b)) + 0.10 * np.sin(23 * b + 3 * np.sin(7 * a))
    return np.asarray(folds[..., None] * np.array(DRAPE_RGB, dtype=np.float32), dtype=np.float32)


def _draw(
    surface: Surface, grid: Array, camera_from_frame: Rigid[Camera, Any], picture: NDArray[np.float32], depth_mm: Array
) -> None:
    """Draw a surface into the picture and the depth, its outlines with several rays a pixel."""
    height, width = depth_mm.shape
    flat = grid.reshape(-1, 2)
    rows, t_mm, index, normals = _cast_all(surface, flat, camera_from_frame)
    z = t_mm / np.sqrt(1.0 + (flat[rows] ** 2).sum(axis=1))
    seen = z < depth_mm.ravel()[rows]
    if not seen.any():
        return
    rows, z, index, normals = rows[seen], z[seen], index[seen], normals[seen]
    behind, depth_behind = picture.copy(), depth_mm.copy()
    picture.reshape(-1, 3)[rows] = _shade(surface, flat[rows], index, normals, camera_from_frame)
    depth_mm.ravel()[rows] = z
    v, u = _rim(rows, index, z, height, width)
    n = SUBRAYS_ACROSS
    du, dv = np.meshgrid((np.arange(n) - (n - 1) / 2) / n, (np.arange(n) - (n - 1) / 2) / n)
    right, below = np.minimum(u + 1, width - 1), np.minimum(v + 1, height - 1)
    step_u = grid[v, right] - grid[v, right - 1]
    step_v = grid[below, u] - grid[below - 1, u]
    fine = (
        grid[v, u][:, None] + du.ravel()[None, :, None] * step_u[:, None] + dv.ravel()[None, :, None] * step_v[:, None]
    ).reshape(-1, 2)
    hits, t_mm, index, normals = _cast_all(surface, fine, camera_from_frame)
    near = t_mm / np.sqrt(1.0 + (fine[hits] ** 2).sum(axis=1)) < np.repeat(depth_behind[v, u], n * n)[hits]
    hits = hits[near]
    samples = np.repeat(behind[v, u], n * n, axis=0)
    samples[hits] = _shade(surface, fine[hits], index[near], normals[near], camera_from_frame)
    picture[v, u] = samples.reshape(-1, n * n, 3).mean(axis=1)


def _rim(
    rows: NDArray[np.int64], index: NDArray[np.int64], z_mm: Array, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels (v, u) where the object or the depth jumps to a neighbour: outlines, which need more than one ray."""
    tag = np.full((height, width), -1, dtype=np.int64)
    tag.ravel()[rows] = index
    depth = np.full((height, width), 1e6)
    depth.ravel()[rows] = z_mm
    rim = np.zeros((height, width), dtype=bool)
    jump = (tag[:, 1:] != tag[:, :-1]) | (np.abs(depth[:, 1:] - depth[:, :-1]) > 3.0)
    rim[:, 1:] |= jump
    rim[:, :-1] |= jump
    jump = (tag[1:] != tag[:-1]) | (np.abs(depth[1:] - depth[:-1]) > 3.0)
    rim[1:] |= jump
    rim[:-1] |= jump
    v, u = np.nonzero(rim)
    return v, u


def _cast_all(
    surface: Surface, xy: Array, camera_from_frame: Rigid[Camera, Any]
) -> tuple[NDArray[np.int64], Array, NDArray[np.int64], Array]:
    """Follow the rays (x, y, 1) that meet the surface's box: rows that hit, distance mm, index, normal in its frame."""
    back = camera_from_frame.inverse()
    eye = back.translation_mm
    rows = np.flatnonzero(_meets_box(xy, back.rotation, eye, surface.low_mm, surface.high_mm))
    t_mm = np.full(len(rows), np.inf)
    index = np.full(len(rows), -1, dtype=np.int64)
    normals = np.zeros((len(rows), 3))
    farthest = float(np.linalg.norm(np.maximum(abs(surface.low_mm - eye), abs(surface.high_mm - eye)))) + 1.0
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        rays = np.concatenate([xy[rows[part]], np.ones((len(rows[part]), 1))], axis=1)
        directions = (rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ back.rotation.T
        origins = np.broadcast_to(eye, directions.shape).copy()
        t_mm[part], index[part], normals[part] = surface.cast(origins, directions, farthest)
    hit = np.isfinite(t_mm)
    return rows[hit], t_mm[hit], index[hit], normals[hit]


def _shade(
    surface: Surface, xy: Array, index: NDArray[np.int64], normals: Array, camera_from_frame: Rigid[Camera, Any]
) -> NDArray[np.float32]:
    """A lamp beside the camera, and some light from everywhere; each object a slightly different tone."""
    n = normals @ camera_from_frame.rotation.T
    view = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
    lamp = -view + np.array([0.35, -0.5, 0.0])
    lamp /= np.linalg.norm(lamp, axis=1, keepdims=True)
    light = 0.25 + 0.75 * np.clip(np.einsum("ij,ij->i", n, lamp), 0, 1)
    tone = 1.0 + 0.06 * np.sin(2.4 * index)
    return np.asarray((light * tone)[:, None] * np.array(surface.rgb), dtype=np.float32)


def _rod(shaft: Cylinder[Any]) -> Surface:
    """A steel rod with a half sphere at either end."""
    a, b = shaft.start_mm, shaft.start_mm + shaft.length_mm * shaft.axis
    r = shaft.radius_mm

    def cast(origins_mm: Array, directions: Array, t_max_mm: float) -> tuple[Array, NDArray[np.int64], Array]:
        t, normals = _cast_capsule(origins_mm, directions, a, b, r)
        return np.where(t <= t_max_mm, t, np.inf), np.where(np.isfinite(t), 0, -1), normals

    return Surface(cast, np.minimum(a, b) - r, np.maximum(a, b) + r, STEEL_RGB)


@njit
def _meets_box(xy: Array, R: Array, eye: Array, low: Array, high: Array) -> NDArray[np.bool_]:
    """Slab test of the rays R (x, y, 1) from one point."""
    out = np.zeros(len(xy), dtype=np.bool_)
    for i in range(len(xy)):
        near, far = 0.0, 1e30
        for k in range(3):
            d = R[k, 0] * xy[i, 0] + R[k, 1] * xy[i, 1] + R[k, 2]
            if abs(d) < 1e-12:
                if eye[k] < low[k] or eye[k] > high[k]:
                    far = -1.0
            else:
                a, b = (low[k] - eye[k]) / d, (high[k] - eye[k]) / d
                near, far = max(near, min(a, b)), min(far, max(a, b))
        out[i] = near <= far
    return out


@njit
def _cast_capsule(origins: Array, directions: Array, a: Array, b: Array, radius: float) -> tuple[Array, Array]:
    """First hit of each ray with all points within `radius` of the segment a-b: its exact distance, sphere-traced."""
    n = len(origins)
    t = np.full(n, np.inf)
    normals = np.zeros((n, 3))
    axis = b - a
    square = (axis**2).sum()
    for i in range(n):
        place = 0.0
        for _ in range(200):
            p = origins[i] + place * directions[i]
            s = min(max(((p - a) * axis).sum() / square, 0.0), 1.0)
            gap = p - a - s * axis
            distance = np.sqrt((gap**2).sum())
            if distance - radius < 1e-5:
                t[i] = place
                normals[i] = gap / distance
                break
            place += distance - radius
            if place > 1e5:
                break
    return t, normals
