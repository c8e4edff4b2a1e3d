"""Who lies under the demo's camera: the phantom itself, or (for a real CT) a rigid copy of the twin.

The copy has no anatomy of its own, so nothing that needs a truth is measured on it; the camera, the markers and the
rays are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.anatomy.twin import Twin
from twin.scan.phantom.patient import Phantom

Hits = tuple[Array, NDArray[np.integer[Any]], Array]


class Standin(Protocol):
    """Bones that rays can hit, in Patient coordinates."""

    @property
    def bones(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def cast(self, origins_mm: Array, directions: Array, t_max_mm: float, bones: Sequence[str]) -> Hits:
        """First hits of rays (N, 3) on the named bones: distance (inf: none), index (-1: none), outward normal."""
        ...

    def bounds(self, bones: Sequence[str]) -> tuple[Array, Array]:
        """The box (low, high) mm that holds them, with 2 mm to spare."""
        ...


class PhantomStandin:
    """The phantom's analytic surfaces."""

    def __init__(self, phantom: Phantom) -> None:
        """Keep the phantom."""
        self.phantom = phantom

    @property
    def bones(self) -> tuple[str, ...]:
        """Their names."""
        return self.phantom.bone_names

    def cast(self, origins_mm: Array, directions: Array, t_max_mm: float, bones: Sequence[str]) -> Hits:
        """Rays on the zero level sets."""
        return self.phantom.cast(origins_mm, directions, t_max_mm, bones=bones)

    def bounds(self, bones: Sequence[str]) -> tuple[Array, Array]:
        """From samples of the surfaces."""
        points = np.concatenate([self.phantom.surface(bone).samples_mm for bone in bones])
        return points.min(axis=0) - 2.0, points.max(axis=0) + 2.0


class TwinStandin:
    """A rigid copy of the twin's surfaces."""

    def __init__(self, twin: Twin) -> None:
        """Keep the twin."""
        self.twin = twin
        self._scenes: dict[tuple[str, ...], Any] = {}

    @cached_property
    def bones(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.twin.bones)

    def cast(self, origins_mm: Array, directions: Array, t_max_mm: float, bones: Sequence[str]) -> Hits:
        """Rays on the triangles (single precision, about the bones' middle)."""
        import open3d as o3d

        tensor: Any = o3d.core.Tensor  # its type stubs know no arrays
        chosen = tuple(bones)
        low, high = self.bounds(chosen)
        middle = (low + high) / 2
        if chosen not in self._scenes:
            scene = o3d.t.geometry.RaycastingScene()
            for bone in chosen:
                mesh = self.twin.bone(bone).surface
                vertices = np.ascontiguousarray(mesh.vertices_mm - middle, np.float32)
                scene.add_triangles(tensor(vertices), tensor(mesh.triangles.astype(np.uint32)))
            self._scenes[chosen] = scene
        rays = np.hstack([origins_mm - middle, directions]).astype(np.float32)
        found = self._scenes[chosen].cast_rays(tensor(rays))
        t = found["t_hit"].numpy().astype(np.float64)
        t[t > t_max_mm] = np.inf
        index = np.where(np.isfinite(t), found["geometry_ids"].numpy().astype(np.int64), -1)
        normals = found["primitive_normals"].numpy().astype(np.float64)
        return t, index, normals

    def bounds(self, bones: Sequence[str]) -> tuple[Array, Array]:
        """From the vertices."""
        points = np.concatenate([self.twin.bone(bone).surface.vertices_mm for bone in bones])
        return points.min(axis=0) - 2.0, points.max(axis=0) + 2.0
