"""A vertebra's own axes from its surface alone: the foramen seen from above parts the body from the arch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import voxels
from twin.scan.volume import Grid

LEAST_FORAMEN_MM2 = 60.0


@dataclass(frozen=True, eq=False)
class VertebralFrame:
    """Axes (3, 3) with columns right, anterior, cranial; origin (3,) at the body's centroid; sizes in these axes, mm.

    `foramen_front_mm`, `foramen_back_mm`: y of the foramen's walls; `foramen_half_mm`: half its width.
    """

    origin_mm: Array
    axes: Array
    foramen_front_mm: float
    foramen_back_mm: float
    foramen_half_mm: float
    foramen_x_mm: float

    def local(self, points_mm: Array) -> Array:
        """Patient points (..., 3) in these axes."""
        return np.asarray((points_mm - self.origin_mm) @ self.axes)

    def patient(self, local_mm: Array) -> Array:
        """Inverse of `local`."""
        return np.asarray(local_mm @ self.axes.T + self.origin_mm)


def axes_from(up: Array, anterior: Array) -> Array:
    """Orthonormal columns right, anterior, cranial: cranial is kept, anterior made square to it."""
    z = up / np.linalg.norm(up)
    y = anterior - (anterior @ z) * z
    y = y / np.linalg.norm(y)
    return np.column_stack([np.cross(y, z), y, z])


def measure(mesh: TriangleMesh[Patient], axes: Array, step_mm: float = 1.0) -> VertebralFrame | None:
    """The frame for rough axes (columns right, anterior, cranial); None when no foramen shows (a part of a
    vertebra).
    """
    local = mesh.vertices_mm @ axes
    low = local.min(axis=0) - 2.0
    size = np.ceil((local.max(axis=0) + 2.0 - low) / step_mm).astype(int) + 1
    grid = Grid((int(size[0]), int(size[1]), int(size[2])), np.full(3, step_mm), axes @ low, axes)
    mask = voxels.inside(mesh, grid)
    shadow = np.asarray(mask.any(axis=0))  # (y, x)
    holes, count = ndimage.label(ndimage.binary_fill_holes(shadow) & ~shadow)
    if count == 0:
        return None
    area = np.bincount(holes.ravel())[1:] * step_mm**2
    best = int(np.argmax(area))
    if area[best] < LEAST_FORAMEN_MM2:
        return None
    y, x = np.nonzero(holes == best + 1)
    front = float(np.percentile(y, 97.0)) + 0.5
    body = mask.copy()
    body[:, : int(front) + 1, :] = False
    # the body is what stands in front of the foramen, not a rib facet's lip or a process beside it
    half = 0.5 * (np.percentile(x, 98) - np.percentile(x, 2))
    middle = 0.5 * (np.percentile(x, 98) + np.percentile(x, 2))
    if body.sum() * step_mm**3 < 2000.0:
        return None
    k, j, i = (float(v.mean()) for v in np.nonzero(body))
    origin_local = low + step_mm * np.array([i, j, k])
    return VertebralFrame(
        axes @ origin_local,
        axes,
        float(low[1] + step_mm * front - origin_local[1]),
        float(low[1] + step_mm * (np.percentile(y, 3.0) - 0.5) - origin_local[1]),
        float(step_mm * half),
        float(low[0] + step_mm * middle - origin_local[0]),
    )
