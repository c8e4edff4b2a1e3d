"""Meshes on the GPU: each TriangleMesh object is uploaded once and released when it is gone."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import moderngl
import numpy as np

from render.surfaces import corner_normals, drawing_order
from spatial.mesh import TriangleMesh
from spatial.rigid import Array


@dataclass(eq=False)
class StoredMesh:
    """Buffers of one mesh; positions are float32 about `centre_mm`, so that precision does not depend on the place.

    `hides_back_faces`: closed and the right way out, so faces that look away can't be seen.
    """

    centre_mm: Array
    radius_mm: float
    hides_back_faces: bool
    positions: moderngl.Buffer
    normals: moderngl.Buffer
    indices: moderngl.Buffer
    arrays: dict[int, moderngl.VertexArray] = field(default_factory=dict)

    def release(self) -> None:
        """Give everything back."""
        for array in self.arrays.values():
            array.release()
        for buffer in (self.positions, self.normals, self.indices):
            buffer.release()
        self.arrays.clear()


class MeshStore:
    """Uploads meshes on first use and keeps them by identity."""

    def __init__(self, context: moderngl.Context) -> None:
        """Keep the context; nothing is allocated yet."""
        self._context = context
        self._meshes: dict[int, tuple[weakref.ref[TriangleMesh[Any]], StoredMesh]] = {}
        self._gone: list[int] = []

    def __len__(self) -> int:
        """How many meshes are on the GPU."""
        return len(self._meshes)

    def get(self, mesh: TriangleMesh[Any]) -> StoredMesh:
        """The mesh's buffers, uploaded now if it is new."""
        key = id(mesh)
        held = self._meshes.get(key)
        if held is not None and held[0]() is mesh:
            return held[1]
        if held is not None:  # another object had this address
            self._meshes.pop(key)[1].release()
        stored = self._upload(mesh)
        # A mesh may die on any thread, so its buffers wait for `sweep` on the context's own.
        gone = self._gone
        self._meshes[key] = (weakref.ref(mesh, lambda _: gone.append(key)), stored)
        return stored

    def sweep(self) -> None:
        """Release what belongs to meshes that no longer exist."""
        while self._gone:
            key = self._gone.pop()
            held = self._meshes.get(key)
            if held is not None and held[0]() is None:
                self._meshes.pop(key)[1].release()

    def vertex_array(self, stored: StoredMesh, program: moderngl.Program) -> moderngl.VertexArray:
        """The mesh bound to a program's inputs."""
        array = stored.arrays.get(program.glo)
        if array is None:
            content: list[tuple[Any, ...]] = [(stored.positions, "3f4", "in_position")]
            if "in_normal" in program:
                content.append((stored.normals, "3f4", "in_normal"))
            array = self._context.vertex_array(program, content, stored.indices, index_element_size=4)
            stored.arrays[program.glo] = array
        return array

    def release(self) -> None:
        """Release every mesh."""
        for _, stored in self._meshes.values():
            stored.release()
        self._meshes.clear()
        self._gone.clear()

    def _upload(self, mesh: TriangleMesh[Any]) -> StoredMesh:
        low, high = mesh.bounds_mm
        centre = (low + high) / 2
        vertices, normals, triangles = corner_normals(mesh)
        order, triangles = drawing_order(vertices, triangles)
        vertices, normals = vertices[order], normals[order]
        local = (vertices - centre).astype(np.float32)
        radius = float(np.sqrt((local.astype(np.float64) ** 2).sum(axis=1).max())) * (1 + 1e-6)
        return StoredMesh(
            centre,
            radius,
            mesh.is_closed and mesh.volume_ml > 0,
            self._context.buffer(np.ascontiguousarray(local).tobytes()),
            self._context.buffer(np.ascontiguousarray(normals, dtype=np.float32).tobytes()),
            self._context.buffer(np.ascontiguousarray(triangles, dtype=np.int32).tobytes()),
        )
