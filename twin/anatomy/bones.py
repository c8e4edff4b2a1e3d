"""From a label map to closed bones with their coarser copies, several bones at a time; and back to labels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from spatial.allocator import trim
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, part
from twin.anatomy import edges, surface, voxels
from twin.anatomy.bone import Bone
from twin.anatomy.surface import Box, NoSurface
from twin.scan.names import numbered
from twin.scan.volume import Grid, LabelMap, Volume

CALIBRATED_ON = (4, 3)  # the largest vertebrae, and of the others, tell the scanner's blur and the cortex's density
SAME_MM = 0.5  # boxes of two meshes that are one bone differ by less
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, eq=False)
class Bones:
    """Closed bones by name, how they were made, and what to tell of them."""

    bones: Mapping[str, Bone]
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]
    surface_sd_mm: float | None = None

    @property
    def meshes(self) -> dict[str, TriangleMesh[Patient]]:
        """The finest surface of each."""
        return {name: bone.surface for name, bone in self.bones.items()}


def from_scan(volume: Volume, labels: LabelMap, progress: Progress) -> Bones:
    """Bones whose labels only say roughly where they are: each surface is moved to the edge in the HU."""
    trim()
    boxes = _boxes(labels)

    def start(name: str) -> TriangleMesh[Patient] | None:
        number, box = boxes[name]
        try:
            return surface.rough(labels, number, box)
        except NoSurface:
            return None

    begun = dict(zip(boxes, _each(start, list(boxes), "meshing", part(progress, 0.0, 0.3)), strict=True))
    warnings = [f"{name}: thinner than a voxel or two, no surface could be made" for name in begun if not begun[name]]
    rough = {name: mesh for name, mesh in begun.items() if mesh is not None}
    cortex = _cortex(volume, rough)

    def finish(name: str) -> Bone | None:
        mesh = edges.refine(rough.pop(name), volume.hu, volume.grid, cortex)
        return _with_detail(name, mesh) if mesh.is_closed and mesh.volume_ml > 0 else None

    names = sorted(rough, key=lambda name: -len(rough[name].triangles))  # the long jobs first
    done = dict(zip(names, _each(finish, names, "finding the edge of", part(progress, 0.3, 1.0)), strict=True))
    warnings += [f"{name}: no closed surface could be made; the bone is left out" for name in names if not done[name]]
    bones = {name: bone for name in sorted(done) if (bone := done[name]) is not None}
    settings: dict[str, Any] = {"refined": True, "taubin_iterations": surface.SOFT_ITERATIONS}
    if cortex is not None:
        settings |= {"cortex_hu": round(cortex.cortex_hu, 1), "scanner_blur_mm": round(cortex.blur_mm, 3)}
    told = tuple([*warnings, *_cut(boxes, labels, bones)])
    return Bones(bones, settings, told, surface_sd_mm(volume.grid, cortex is not None))


def surface_sd_mm(grid: Grid, fitted: bool) -> float:
    """One sigma (mm) of a bone's surface along its normal, bias included, where the label is right.

    Measured on phantoms, root mean square over L3: 0.04 at 0.6 mm, 0.07 at 0.8, 0.10 at 1.0, 0.12 to 0.19 at 1.25 with
    the shell `fitted`; 0.4 to 0.7 at 2 mm and 0.6 to 0.8 at 3 mm by the half-maximum alone.
    """
    voxel_mm = float(grid.spacing_mm.max())
    return 0.1 * voxel_mm**1.9 if fitted else 0.27 * voxel_mm


def as_given(labels: LabelMap, progress: Progress) -> Bones:
    """Bones of labels that are the truth: meshed as they are, volume kept."""
    boxes = _boxes(labels)

    def make(name: str) -> Bone:
        number, box = boxes[name]
        mesh = surface.from_mask(labels.labels[box] == number, surface.boxed(labels.grid, box))
        return _with_detail(name, mesh)

    bones = dict(zip(boxes, _each(make, list(boxes), "meshing", progress), strict=True))
    absent = [name for name in sorted(labels.names.values()) if name not in boxes]
    warnings = [f"{name}: the given labels hold no voxel of it" for name in absent]
    warnings += [open_words(name) for name, bone in bones.items() if not bone.is_closed]
    settings = {"refined": False, "taubin_iterations": surface.TAUBIN_ITERATIONS, "volume_kept": True}
    return Bones(bones, settings, tuple([*warnings, *_cut(boxes, labels, bones)]))


def with_detail(meshes: Mapping[str, TriangleMesh[Patient]], progress: Progress) -> dict[str, Bone]:
    """Bones of finished surfaces, with coarser copies of those that are closed."""
    names = sorted(meshes)
    made = _each(lambda name: _with_detail(name, meshes[name]), names, "making levels of detail of", progress)
    return dict(zip(names, made, strict=True))


def open_words(name: str) -> str:
    """What is told of a surface that is not closed."""
    return f"{name}: the surface is not closed; volume and grades are unreliable"


def in_the_same_place(meshes: Mapping[str, TriangleMesh[Patient]]) -> list[str]:
    """What is told of meshes that are the same bone under two names: equal boxes and volumes."""
    told = []
    for (a, one), (b, other) in itertools.combinations(sorted(meshes.items()), 2):
        gap = max(float(np.abs(p - q).max()) for p, q in zip(one.bounds_mm, other.bounds_mm, strict=True))
        if gap < SAME_MM and abs(one.volume_ml - other.volume_ml) < 0.01 * abs(one.volume_ml):
            told.append(f"{a} and {b} lie in the same place; is one bone given under two names?")
    return told


def labels_inside(meshes: Mapping[str, TriangleMesh[Patient]], like: LabelMap) -> LabelMap:
    """What lies inside the surfaces, on the same grid, with the common numbers; of two the first keeps a voxel."""
    numbers = numbered(sorted(meshes))
    wide = max(numbers.values(), default=0) > 255
    trim()
    out = np.zeros(like.grid.shape, dtype=np.uint16 if wide else np.uint8)
    for name, number in numbers.items():
        voxels.paint(meshes[name], like.grid, number, out)
    return LabelMap(like.grid, out, {number: name for name, number in numbers.items()})


def _cortex(volume: Volume, rough: Mapping[str, TriangleMesh[Patient]]) -> edges.Cortex | None:
    """How cortex shows in this CT: the mean of what vertebrae and other bones say, each of which errs its own way."""
    by_size = sorted(rough, key=lambda name: -len(rough[name].triangles))
    found = []
    for is_spine, count in zip((True, False), CALIBRATED_ON, strict=True):
        telling = [name for name in by_size if name.startswith("vertebrae") == is_spine]
        telling = [name for name in telling if not _beside_metal(volume, rough[name])][:count] or telling[:count]
        said = edges.calibrate([rough[name] for name in telling], volume.hu, volume.grid)
        if said is not None:
            found.append(said)
    if not found:
        return None
    return edges.Cortex(
        float(np.mean([said.cortex_hu for said in found])), float(np.mean([said.blur_mm for said in found]))
    )


def _beside_metal(volume: Volume, mesh: TriangleMesh[Patient]) -> bool:
    block = voxels.block_of(volume.grid, mesh)
    return block is not None and bool((volume.hu[block[0]] > edges.METAL_HU).any())


def _with_detail(name: str, mesh: TriangleMesh[Patient]) -> Bone:
    return Bone(name, mesh, surface.levels_of_detail(mesh) if mesh.is_closed else ())


def _boxes(labels: LabelMap) -> dict[str, tuple[int, Box]]:
    """Number and box of each bone that has a voxel, by name."""
    boxes = surface.bounding_boxes(labels.labels)
    return {name: (n, boxes[n]) for n, name in sorted(labels.names.items(), key=lambda item: item[1]) if n in boxes}


def _cut(boxes: Mapping[str, tuple[int, Box]], labels: LabelMap, bones: Mapping[str, Bone]) -> list[str]:
    """Which bones the edge of the scan cuts."""
    cut = [
        name
        for name, (_, box) in boxes.items()
        if name in bones and any(s.start == 0 or s.stop == n for s, n in zip(box, labels.grid.shape, strict=True))
    ]
    return [f"cut by the edge of the scan, and closed flat there: {', '.join(cut)}"] if cut else []


def _each(job: Callable[[_In], _Out], items: Sequence[_In], words: str, progress: Progress) -> list[_Out]:
    """The job of each item, in their order; the kernels work without the interpreter, so threads share the cores."""
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, len(items)))) as pool:
        running = [pool.submit(job, item) for item in items]
        done = []
        try:
            for n, (item, result) in enumerate(zip(items, running, strict=True)):
                progress(f"{words} {item}", n / len(items))
                done.append(result.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # cancelled, or failed: the rest need not be done
            raise
    return done
