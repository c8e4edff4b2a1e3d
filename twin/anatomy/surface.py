"""From a label to a bone's closed surface: isosurface of the softened label, moved to the edge in the HU, and coarser
copies of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit_parallel, prange
from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import decimation, edges, masks, pieces, runs
from twin.anatomy.bone import Bone
from twin.anatomy.marching import contour
from twin.anatomy.smoothing import taubin
from twin.scan.volume import Grid, LabelMap, Volume

TAUBIN_ITERATIONS = 15  # for a mask with sharp steps
SOFT_ITERATIONS = 3  # for a softened one
BURR_MM = 0.55  # sigma of the softening
LEAST_SIGMA = 0.5  # of a voxel
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
    if refine:
        mesh = rough(labels, number, box)
        cortex = cortex or edges.calibrate([mesh], volume.hu, volume.grid)
        mesh = edges.refine(mesh, volume.hu, volume.grid, cortex)
    else:
        mesh = from_mask(labels.labels[box] == number, boxed(labels.grid, box))
    if not mesh.is_closed:
        raise NoSurface(f"the surface of {name} ({len(mesh.triangles)} triangles) is not closed")
    return Bone(name, mesh, levels_of_detail(mesh))


def bounding_boxes(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[int, Box]:
    """The smallest box (k, j, i) that holds each label; one pass over the voxels."""
    numbers = 256 if labels.itemsize == 1 else int(labels.max(initial=0)) + 1
    found = np.empty((labels.shape[0], numbers, 4), dtype=np.int32)
    _boxes(labels, found)
    boxes: dict[int, Box] = {}
    for number in np.flatnonzero((found[:, :, 1] >= 0).any(axis=0)):
        slices = np.flatnonzero(found[:, number, 1] >= 0)
        j, _, i, _ = (int(v) for v in found[slices, number].min(axis=0))
        _, j_last, _, i_last = (int(v) for v in found[slices, number].max(axis=0))
        k, k_last = int(slices[0]), int(slices[-1])
        boxes[int(number)] = (slice(k, k_last + 1), slice(j, j_last + 1), slice(i, i_last + 1))
    return boxes


def boxed(grid: Grid, box: Box) -> Grid:
    """The grid of a box."""
    k, j, i = box
    return grid.cropped((i.start, j.start, k.start), (i.stop - i.start, j.stop - j.start, k.stop - k.start))


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


def rough(labels: LabelMap, number: int, box: Box) -> TriangleMesh[Patient]:
    """A closed smooth surface of one label, about where it ends: no burrs, no hollows, no pieces under LEAST_PART_ML
    but the largest. Raises NoSurface when nothing thicker than a burr is left.
    """
    grid = labels.grid
    i_mm, j_mm, k_mm = (float(mm) for mm in grid.spacing_mm)
    sigma = (
        max(BURR_MM / k_mm, LEAST_SIGMA), max(BURR_MM / j_mm, LEAST_SIGMA), max(BURR_MM / i_mm, LEAST_SIGMA)
    )  # fmt: skip
    vertices, triangles = contour(masks.softened(labels.labels[box], number, sigma), float(masks.LEVEL))
    if not len(triangles):
        raise NoSurface(f"label {number} is thinner than {2 * BURR_MM:.1f} mm everywhere")
    vertices, triangles, _ = pieces.outer(vertices, triangles, LEAST_PART_ML / grid.voxel_ml)
    start = np.array([box[2].start, box[1].start, box[0].start], dtype=float) - masks.border(sigma)
    points: Array = grid.patient_from_index(vertices + start).mm
    return taubin(TriangleMesh[Patient](points, triangles), SOFT_ITERATIONS)


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
    out = np.array(mask, dtype=np.bool_, order="C")
    if out.size:
        runs.fill(out)
    return out


def isosurface(field: NDArray[np.float32], level: float, grid: Grid) -> TriangleMesh[Patient]:
    """Where a field (k, j, i) falls below `level`, closed at the array's edge by padding.

    The level must not equal a voxel's value: that gives triangles without area.
    """
    outside = min(float(field.min()), 2 * level - float(field.max()))
    vertices, triangles = contour(np.pad(field, 1, constant_values=np.float32(outside)), level)
    if not len(triangles):
        raise NoSurface(f"the field runs from {field.min():.3g} to {field.max():.3g} and never crosses {level:.3g}")
    return TriangleMesh[Patient](grid.patient_from_index(vertices - 1.0).mm, triangles)


def levels_of_detail(mesh: TriangleMesh[Patient]) -> tuple[TriangleMesh[Patient], ...]:
    """Coarser closed copies with about DETAIL of the triangles each; none smaller than LEAST_TRIANGLES."""
    wanted = [round(share * len(mesh.triangles)) for share in DETAIL]
    return decimation.decimated(mesh, [n for n in wanted if n >= LEAST_TRIANGLES])


@njit_parallel
def _boxes(labels: NDArray[np.uint8] | NDArray[np.uint16], found: NDArray[np.int32]) -> None:
    """First and last j, first and last i of each label in each slice; last j is -1 where it is absent."""
    nk, nj, ni = labels.shape
    for k in prange(nk):
        for n in range(found.shape[1]):
            found[k, n, 0], found[k, n, 1], found[k, n, 2], found[k, n, 3] = nj, -1, ni, -1
        for j in range(nj):
            for i in range(ni):
                n = labels[k, j, i]
                if n != 0:
                    found[k, n, 0] = min(found[k, n, 0], j)
                    found[k, n, 1] = j
                    found[k, n, 2] = min(found[k, n, 2], i)
                    found[k, n, 3] = max(found[k, n, 3], i)
