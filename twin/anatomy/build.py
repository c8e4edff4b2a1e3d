"""From a CT (or from surfaces) to a patient twin: labels, surfaces, landmarks, density, and how each came about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, part, silent
from twin.anatomy import density, edges, landmarks, segmentation, surface, voxels
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.canal_tube import with_canal
from twin.anatomy.levels import UPWARD
from twin.anatomy.twin import Levels, Twin
from twin.scan.names import numbered
from twin.scan.volume import LabelMap, Volume

LIBRARIES = ("numpy", "scipy", "open3d-cpu", "open3d", "connected-components-3d", "fast-simplification", "numba")
GIVEN = 0.9  # names that came with the labels: somebody's, but nobody here has confirmed them
CALIBRATED_ON = 6  # the largest bones tell the scanner's blur and the cortex's density
# one sigma a coordinate, as a share of the coarsest voxel edge
VOXEL_SHARE = {"endplate": 0.4, "pedicle": 0.6, "femoral_head": 0.2}


class EmptyTwin(Fault):
    """Labels or meshes without a bone."""


def build_twin(
    volume: Volume, labels: LabelMap | None, *, segmenter: str = "default", progress: Progress = silent
) -> tuple[Twin, LabelMap]:
    """The twin of a CT and its label map.

    Without `labels` the named segmenter finds the bones, and each surface is moved to the half-maximum of the HU;
    the label map returned is what lies inside those surfaces. Given labels are taken as the truth: meshed as they
    are, returned as they are. Raises Misuse (unknown segmenter), NoSpine, NoBones, EmptyTwin.
    """
    warnings: list[str] = []
    steps: list[dict[str, Any]] = []
    if labels is None:
        found = segmentation.segment(volume, segmenter, part(progress, 0.0, 0.45))
        labels, confidence = found.labels, found.confidence
        levels = Levels(confidence, None, found.evidence, found.transitional)
        warnings += found.warnings
        steps.append({"step": "segmentation", "settings": found.settings, "confidence": confidence})
        meshes, settings = _refined(volume, labels, part(progress, 0.45, 0.75), warnings)
        labels = _labels_inside(meshes, labels)
    else:
        confidence = GIVEN if any(n in UPWARD for n in labels.names.values()) else 0.0
        steps.append(
            {"step": "segmentation", "settings": {"segmenter": None, "labels": "given"}, "confidence": confidence}
        )
        levels = Levels(confidence, None, ("the given labels name them",) if confidence else ())
        meshes, settings = _as_given(labels, part(progress, 0.0, 0.75), warnings)
    if not meshes:
        raise EmptyTwin("no bone could be meshed; do the labels hold any voxel?")
    steps.append({"step": "surfaces", "settings": settings})
    progress("measuring landmarks", 0.75)
    marks, missing = landmarks.measure(meshes)
    marks = tuple(with_voxel_spread(mark, float(volume.grid.spacing_mm.max())) for mark in marks)
    steps.append({"step": "landmarks", "settings": {"measured_on": "surfaces", "found": len(marks)}})
    structures, no_canal = with_canal(meshes, marks)
    progress("measuring density", 0.85)
    dense = density.measure(volume, marks)
    steps.append({"step": "density", "settings": {"calibrated": False, "radius_mm": list(density.RADIUS_MM)}})
    bones = _bones(meshes, part(progress, 0.86, 1.0), warnings)
    built = Twin(
        twin_id(bones),
        bones,
        marks,
        levels,
        dense,
        _with_versions(steps),
        tuple([*warnings, *missing, *no_canal]),
        structures,
        fitness=volume.fitness,
    )
    return built, labels


def twin_from_meshes(
    source: Path | Mapping[str, TriangleMesh[Patient]], source_sha256s: Mapping[str, str] | None = None
) -> Twin:
    """A twin without CT, from closed meshes by bone name or a folder of them; its density is None.

    Raises BadSurface, EmptyTwin.
    """
    warnings: list[str] = []
    if isinstance(source, Path):
        from twin.scan.meshes import load_surfaces, surface_files

        loaded = load_surfaces(source)
        warnings += loaded.warnings
        meshes: Mapping[str, TriangleMesh[Patient]] = loaded.meshes
        if source_sha256s is None:
            source_sha256s = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in surface_files(source)}
    else:
        meshes = source
    if not meshes:
        raise EmptyTwin("no mesh was given")
    marks, missing = landmarks.measure(meshes)
    marks = tuple(replace(mark, sd_mm=None) for mark in marks)  # the scan behind the meshes is not known
    steps: list[dict[str, Any]] = [
        {
            "step": "surfaces",
            "settings": {"source": "meshes", "refined": False},
            "inputs_sha256": dict(source_sha256s or {}),
        },
        {"step": "landmarks", "settings": {"measured_on": "surfaces", "found": len(marks)}},
    ]
    bones = _bones(meshes, silent, warnings)
    confidence = GIVEN if any(name in UPWARD for name in meshes) else 0.0
    structures, no_canal = with_canal(meshes, marks)
    told = tuple([*warnings, *missing, *no_canal])
    return Twin(twin_id(bones), bones, marks, Levels(confidence), None, _with_versions(steps), told, structures)


def with_voxel_spread(mark: Landmark, voxel_mm: float) -> Landmark:
    """The landmark with the scan's share in its spread: a fit over thousands of vertices knows nothing of their bias.

    The shares were measured on phantoms at 0.8, 1.1 and 3 mm; a test holds the spreads against the truth.
    """
    share = next((s for name, s in VOXEL_SHARE.items() if mark.name.startswith(name)), None)
    if mark.sd_mm is None or share is None:
        return replace(mark, sd_mm=None)
    return replace(mark, sd_mm=float(np.hypot(mark.sd_mm, share * voxel_mm)))


def twin_id(bones: Mapping[str, Bone]) -> str:
    """The twin's name: the hash of its finest surfaces, so the same bones have the same name on every machine."""
    digest = hashlib.sha256()
    for name in sorted(bones):
        mesh = bones[name].surface
        digest.update(f"{name} {len(mesh.vertices_mm)} {len(mesh.triangles)}\n".encode())
        digest.update(np.ascontiguousarray(np.round(mesh.vertices_mm * 1000.0).astype("<i8")).tobytes())
        digest.update(np.ascontiguousarray(mesh.triangles.astype("<i4")).tobytes())
    return digest.hexdigest()[:32]


def _refined(
    volume: Volume, labels: LabelMap, progress: Progress, warnings: list[str]
) -> tuple[dict[str, TriangleMesh[Patient]], dict[str, Any]]:
    blocks = {}
    boxes = surface.bounding_boxes(labels.labels)
    for n, (number, name) in enumerate(sorted(labels.names.items(), key=lambda item: item[1])):
        progress(f"meshing {name}", 0.5 * n / len(labels.names))
        box = boxes.get(number)
        if box is not None:
            mask, hu, grid = surface.cropped(volume, labels, box, number)
            blocks[name] = (surface.from_mask(surface.cleaned(mask, grid), grid, keep_volume=False), hu, grid)
    largest = sorted(blocks, key=lambda name: -len(blocks[name][0].triangles))[:CALIBRATED_ON]
    cortex = edges.calibrate([blocks[name] for name in largest])
    meshes = {}
    for n, (name, (mesh, hu, grid)) in enumerate(blocks.items()):
        progress(f"finding the edge of {name}", 0.5 + 0.5 * n / len(blocks))
        moved = edges.refine(mesh, hu, grid, cortex)
        if moved.is_closed and moved.volume_ml > 0:
            meshes[name] = moved
        else:
            warnings.append(f"{name}: no closed surface could be made; the bone is left out")
    settings: dict[str, Any] = {"refined": True, "taubin_iterations": surface.TAUBIN_ITERATIONS}
    if cortex is not None:
        settings |= {"cortex_hu": round(cortex.cortex_hu, 1), "scanner_blur_mm": cortex.blur_mm}
    return meshes, settings


def _as_given(
    labels: LabelMap, progress: Progress, warnings: list[str]
) -> tuple[dict[str, TriangleMesh[Patient]], dict[str, Any]]:
    meshes = {}
    boxes = surface.bounding_boxes(labels.labels)
    for n, (number, name) in enumerate(sorted(labels.names.items(), key=lambda item: item[1])):
        progress(f"meshing {name}", n / len(labels.names))
        box = boxes.get(number)
        if box is None:
            warnings.append(f"{name}: the given labels hold no voxel of it")
            continue
        k, j, i = box
        grid = labels.grid.cropped((i.start, j.start, k.start), (i.stop - i.start, j.stop - j.start, k.stop - k.start))
        meshes[name] = surface.from_mask(labels.labels[box] == number, grid)
        if any(s.start == 0 or s.stop == size for s, size in zip(box, labels.grid.shape, strict=True)):
            warnings.append(f"{name} reaches the edge of the scan: it is cut there, and closed flat")
    return meshes, {"refined": False, "taubin_iterations": surface.TAUBIN_ITERATIONS, "volume_kept": True}


def _labels_inside(meshes: Mapping[str, TriangleMesh[Patient]], like: LabelMap) -> LabelMap:
    """What lies inside the surfaces, on the same grid, with the common numbers; of two the first keeps a voxel."""
    numbers = numbered(sorted(meshes))
    wide = max(numbers.values(), default=0) > 255
    out = np.zeros(like.grid.shape, dtype=np.uint16 if wide else np.uint8)
    for name, number in numbers.items():
        block = voxels.block_of(like.grid, meshes[name])
        if block is not None:
            box, grid = block
            inside = voxels.inside(meshes[name], grid)
            out[box][inside & (out[box] == 0)] = number
    return LabelMap(like.grid, out, {number: name for name, number in numbers.items()})


def _bones(meshes: Mapping[str, TriangleMesh[Patient]], progress: Progress, warnings: list[str]) -> dict[str, Bone]:
    bones = {}
    for n, (name, mesh) in enumerate(sorted(meshes.items())):
        progress("making levels of detail", n / len(meshes))
        if not mesh.is_closed:
            warnings.append(f"{name}: the surface is not closed; volume and grades are unreliable")
            bones[name] = Bone(name, mesh)
        else:
            bones[name] = Bone(name, mesh, surface.levels_of_detail(mesh))
    return bones


def _with_versions(steps: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except ModuleNotFoundError:
            continue  # open3d comes as one of two packages
    return tuple({**step, "versions": versions} for step in steps)
