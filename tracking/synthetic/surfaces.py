"""What rays hit: a surface by its own `cast` (the phantom's analytic one), steel rods; outlines with several rays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, readonly
from spatial.shapes import Cylinder

BONE_RGB = (0.80, 0.74, 0.62)
STEEL_RGB = (0.55, 0.57, 0.60)
CHUNK = 200_000
SUBRAYS_ACROSS = 3  # rays a pixel on outlines, across and down


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


def draw(
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


def rod(shaft: Cylinder[Any]) -> Surface:
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
