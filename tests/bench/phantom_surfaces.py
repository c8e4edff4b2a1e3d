"""Surfaces of phantoms at the speed that hundreds of them need, with errors of the size that a scan's surfaces have.

The bone's field is taken at the nodes of its own marked cells alone, meshed by marching cubes, and each vertex is moved
along its normal by a smooth random field: a surface that a scan gives is off by patches, not by points. What lies far
from the pedicles (the processes' ends, the sacrum's lower half) is cut off: no screw's rule looks there.
"""

from __future__ import annotations

import numpy as np

from spatial.compiled import njit_parallel, prange
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.marching import contour
from twin.scan.phantom import shapes
from twin.scan.phantom.patient import CELL_MM, Phantom

PARTS = 4  # nodes a cell's edge
WAVES = 96
LENGTHS_MM = (5.0, 25.0)  # of the waves that make up the error
VERTEBRA_MM, SACRUM_MM = (30.0, 30.0, 22.0), (58.0, 55.0, 40.0)  # kept: to each side, behind the body, and down


def bone_surface(phantom: Phantom, bone: str, sd_mm: float, seed: int) -> TriangleMesh[Patient]:
    """A closed surface of one bone, off along its normal by `sd_mm` (one sigma)."""
    grid = phantom.cells([phantom.index(bone)])
    bones = phantom.bones
    marked = np.argwhere(grid.entry >= 0)
    field = np.where(grid.inside >= 0, -1.0, 1.0).astype(np.float32)
    field = np.repeat(np.repeat(np.repeat(field, PARTS, 0), PARTS, 1), PARTS, 2)
    entries = np.array([grid.entry[tuple(c)] for c in marked])
    program = grid.program, grid.entry_start, entries
    _fill(bones.table, bones.outline, *program, marked, grid.corner_mm, grid.cell_mm, field)
    field = np.maximum(field, _beyond_mm(phantom, bone, grid.corner_mm, field.shape)).astype(np.float32)
    field = np.pad(-field, 1, constant_values=-1.0)
    index, triangles = contour(np.ascontiguousarray(field.transpose(2, 1, 0)), 0.0)
    vertices = grid.corner_mm + (index - 1.0) * (CELL_MM / PARTS)
    mesh = TriangleMesh[Patient](vertices, triangles)
    if mesh.volume_ml < 0:
        mesh = TriangleMesh[Patient](vertices, triangles[:, ::-1])
    if sd_mm == 0.0:
        return mesh
    rng = np.random.default_rng([20264, seed, phantom.index(bone)])
    way = rng.normal(size=(WAVES, 3))
    way *= (2 * np.pi / rng.uniform(*LENGTHS_MM, WAVES) / np.linalg.norm(way, axis=1))[:, None]
    phase = rng.uniform(0.0, 2 * np.pi, WAVES)
    error = np.sqrt(2.0 / WAVES) * np.cos(mesh.vertices_mm @ way.T + phase).sum(axis=1)
    return TriangleMesh[Patient](mesh.vertices_mm + sd_mm * error[:, None] * mesh.vertex_normals, mesh.triangles)


def _beyond_mm(phantom: Phantom, bone: str, corner: Array, shape: tuple[int, ...]) -> Array:
    """How far each node is beyond what is kept of a bone: along three directions, the largest."""
    level = bone.removeprefix("vertebrae_")
    stand = None if bone == "sacrum" else phantom.stand(level)
    at, (aside, behind, down) = (phantom.s1, SACRUM_MM) if stand is None else (stand.body, VERTEBRA_MM)
    behind += 0.0 if stand is None else stand.size.depth_mm / 2
    steps = [np.arange(n) * CELL_MM / PARTS + c - o for n, c, o in zip(shape, corner, at.origin, strict=True)]

    def along(k: int) -> Array:
        way = at.rotation[:, k]
        x, y, z = (w * s for w, s in zip(way, steps, strict=True))
        return np.asarray(x[:, None, None] + y[None, :, None] + z[None, None, :])

    return np.maximum(np.maximum(np.abs(along(0)) - aside, along(1) - behind), -along(2) - down)


@njit_parallel
def _fill(table, outline, program, starts, entries, cells, corner, cell, field):
    h = cell / PARTS
    for n in prange(len(cells)):
        a, b = starts[entries[n]], starts[entries[n] + 1]
        for i in range(PARTS):
            for j in range(PARTS):
                for k in range(PARTS):
                    u, v, w = cells[n, 0] * PARTS + i, cells[n, 1] * PARTS + j, cells[n, 2] * PARTS + k
                    x, y, z = corner[0] + u * h, corner[1] + v * h, corner[2] + w * h
                    field[u, v, w] = shapes.fold(table, outline, program, a, b, x, y, z)[0]
