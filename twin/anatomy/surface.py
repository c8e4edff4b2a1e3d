"""From a label to a bone's closed surface: isosurface of the padded label, Taubin smoothing, levels of detail."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.anatomy import edges
from twin.anatomy.bone import Bone
from twin.anatomy.smoothing import taubin
from twin.scan.volume import Grid, LabelMap, Volume

TAUBIN_ITERATIONS = 15
BURR_MM = 0.55
LEAST_PART_ML = 1.0
MARGIN_VOXELS = 6  # around a bone's box, so that profiles can run outside it
DETAIL = (0.25, 0.06)  # share of the triangles that each coarser copy keeps
LEAST_TRIANGLES = 400


Box = tuple[slice, slice, slice]  # k, j, i


class NoSurface(Fault):
    """A label without voxels, or a surface that could not be closed."""


def extract(
    volume: Volume, labels: LabelMap, name: str, *, refine: bool = True, cortex: edges.Cortex | None = None
) -> Bone:
    """The bone called `name` as a closed smooth surface, with its levels of detail.

    `refine` moves the surface to the local half-maximum of the HU, for labels that only say roughly where the bone
    is. Labels that are the truth (given masks) are meshed as they are, volume kept. All components stay; cavities
    are filled. Raises NoSurface.
    """
    number = next((n for n, known in labels.names.items() if known == name), None)
    box = None if number is None else bounding_boxes(labels.labels).get(number)
    if number is None or box is None:
        raise NoSurface(f"no voxel is labelled {name}; the labels hold {', '.join(labels.names.values())}")
    block, hu, grid = cropped(volume, labels, box, number)
    mesh = from_mask(cleaned(block, grid) if refine else block, grid, keep_volume=not refine)
    if refine:
        mesh = edges.refine(mesh, hu, grid, cortex or edges.calibrate([(mesh, hu, grid)]))
    if not mesh.is_closed:
        raise NoSurface(f"the surface of {name} ({len(mesh.triangles)} triangles) is not closed")
    return Bone(name, mesh, levels_of_detail(mesh))


def bounding_boxes(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[int, Box]:
    """The smallest box (k, j, i) that holds each label; one pass over the voxels."""
    from scipy import ndimage

    found: list[Any] = ndimage.find_objects(labels)
    return {n: (box[0], box[1], box[2]) for n, box in enumerate(found, 1) if box is not None}


def cropped(
    volume: Volume, labels: LabelMap, box: Box, number: int
) -> tuple[NDArray[np.bool_], NDArray[np.int16], Grid]:
    """One label, the HU and the grid of a box widened by MARGIN_VOXELS (clipped at the volume's edge)."""
    wide = tuple(
        slice(max(0, s.start - MARGIN_VOXELS), min(n, s.stop + MARGIN_VOXELS))
        for s, n in zip(box, volume.hu.shape, strict=True)
    )
    k, j, i = wide
    size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
    grid = volume.grid.cropped((i.start, j.start, k.start), size)
    return labels.labels[wide] == number, np.ascontiguousarray(volume.hu[wide]), grid


def from_mask(mask: NDArray[np.bool_], grid: Grid, *, keep_volume: bool = True) -> TriangleMesh[Patient]:
    """A closed smooth surface of a mask (k, j, i): padded, cavities filled, all components, Taubin-smoothed.

    `keep_volume` gives back along the normals what the isosurface cuts off at the voxels' corners, so that the mesh
    encloses what the voxels did.
    """
    filled = fill_cavities(mask)
    mesh = taubin(isosurface(filled.astype(np.float32), 0.5, grid), TAUBIN_ITERATIONS)
    if keep_volume and len(mesh.triangles):
        wanted_ml = float(filled.sum()) * grid.voxel_ml
        for _ in range(3):
            offset_mm = 10.0 * (wanted_ml - mesh.volume_ml) / mesh.area_cm2
            offset_mm = float(np.clip(offset_mm, -0.3, 0.3) * min(1.0, float(grid.spacing_mm.max())))
            mesh = TriangleMesh[Patient](mesh.vertices_mm + offset_mm * mesh.vertex_normals, mesh.triangles)
    return mesh


def cleaned(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """A mask without burrs of noise and bridges a voxel thin; nothing changes where voxels are large themselves."""
    import cc3d
    from scipy import ndimage

    sigma = [BURR_MM / float(mm) for mm in grid.spacing_mm[::-1]]
    if max(sigma) < 0.4:
        return mask
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=3.0) > 0.5
    parts = cc3d.connected_components(smooth.astype(np.uint8), connectivity=6)
    size = np.bincount(parts.ravel())
    if len(size) < 2:
        return mask
    size[0] = 0
    kept = size * grid.voxel_ml >= LEAST_PART_ML
    kept[int(np.argmax(size))] = True
    return np.asarray(kept[parts])


def fill_cavities(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with every hollow that has no way out filled (6-connected background); the canal has two ways out."""
    import cc3d

    outside = cc3d.connected_components(np.pad(~mask, 1, constant_values=True), connectivity=6)
    return np.asarray(outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def isosurface(field: NDArray[np.float32], level: float, grid: Grid) -> TriangleMesh[Patient]:
    """Where a field (k, j, i) falls below `level`, closed at the array's edge by padding. Flying edges (open3d).

    The level must not equal a voxel's value: that gives triangles without area.
    """
    import open3d

    padded = np.pad(field, 1, constant_values=min(float(field.min()), 2 * level - float(field.max())))
    mesh = open3d.t.geometry.TriangleMesh.create_isosurfaces(open3d.core.Tensor.from_numpy(padded), [level])
    if "indices" not in mesh.triangle or len(mesh.triangle.indices) == 0:
        raise NoSurface(f"the field runs from {field.min():.3g} to {field.max():.3g} and never crosses {level:.3g}")
    vertices = mesh.vertex.positions.numpy().astype(np.float64) - 1.0
    triangles = mesh.triangle.indices.numpy().astype(np.int32)
    surface = TriangleMesh[Patient](grid.patient_from_index(vertices).mm, triangles)
    if surface.volume_ml < 0:
        surface = TriangleMesh[Patient](surface.vertices_mm, triangles[:, ::-1])
    return surface


def levels_of_detail(mesh: TriangleMesh[Patient]) -> tuple[TriangleMesh[Patient], ...]:
    """Coarser closed copies with about DETAIL of the triangles; one that does not stay closed is tried again."""
    copies: list[TriangleMesh[Patient]] = []
    for share in DETAIL:
        for finer in (1.0, 1.15, 0.85, 1.35, 1.6, 2.0, 2.5):
            if len(mesh.triangles) * share * finer < LEAST_TRIANGLES or share * finer >= 0.9:
                continue
            copy = simplified(mesh, share * finer)
            if copy.is_closed and len(copy.triangles) < len((copies or [mesh])[-1].triangles):
                copies.append(copy)
                break
    return tuple(copies)


def simplified(mesh: TriangleMesh[Patient], share: float) -> TriangleMesh[Patient]:
    """Quadric edge collapse (fast-simplification) down to about `share` of the triangles."""
    import fast_simplification

    # the library wants writable arrays
    points, faces = fast_simplification.simplify(np.array(mesh.vertices_mm), np.array(mesh.triangles), 1.0 - share)
    used, faces = np.unique(faces, return_inverse=True)
    return TriangleMesh[Patient](points[used].astype(np.float64), faces.reshape(-1, 3).astype(np.int32))
