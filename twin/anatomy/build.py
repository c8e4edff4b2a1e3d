"""From a CT (or from surfaces) to a patient twin: labels, surfaces, landmarks, density, and how each came about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, part, silent
from twin.anatomy import density, landmarks, segmentation, sides, spread
from twin.anatomy.bone import Bone
from twin.anatomy.bones import as_given, from_scan, in_the_same_place, labels_inside, open_words, with_detail
from twin.anatomy.canal_tube import with_canal
from twin.anatomy.levels import UPWARD
from twin.anatomy.site import DEFAULT, Site
from twin.anatomy.twin import Levels, Twin
from twin.scan.volume import LabelMap, Volume

LIBRARIES = ("numpy", "scipy", "open3d-cpu", "open3d", "connected-components-3d", "fast-simplification", "numba")
GIVEN = 0.9  # names that came with the labels: somebody's, but nobody here has confirmed them


class EmptyTwin(Fault):
    """Labels or meshes without a bone."""


def build_twin(
    volume: Volume,
    labels: LabelMap | None,
    *,
    segmenter: str = "default",
    site: Site = DEFAULT,
    progress: Progress = silent,
) -> tuple[Twin, LabelMap]:
    """The twin of a CT and its label map.

    Without `labels` the named segmenter finds the bones, and each surface is moved to the half-maximum of the HU;
    the label map returned is what lies inside those surfaces. Given labels are taken as the truth: meshed as they
    are, returned as they are. `site` has the thresholds and the calibration for the density. Raises Misuse (unknown
    segmenter), NoSpine, NoBones, EmptyTwin.
    """
    warnings: list[str] = []
    steps: list[dict[str, Any]] = []
    drawn = labels is not None
    if labels is None:
        found = segmentation.segment(volume, segmenter, part(progress, 0.0, 0.45))
        labels, confidence = found.labels, found.confidence
        levels = Levels(confidence, None, found.evidence, found.transitional)
        warnings += found.warnings
        steps.append({"step": "segmentation", "settings": found.settings, "confidence": confidence})
        made = from_scan(volume, labels, part(progress, 0.45, 0.8))
        labels = labels_inside(made.meshes, labels)
    else:
        confidence = GIVEN if any(n in UPWARD for n in labels.names.values()) else 0.0
        steps.append(
            {"step": "segmentation", "settings": {"segmenter": None, "labels": "given"}, "confidence": confidence}
        )
        extra = next((n for n in ("vertebrae_L6", "vertebrae_T13") if n in labels.names.values()), None)
        levels = Levels(confidence, None, ("the given labels name them",) if confidence else (), extra)
        made = as_given(labels, part(progress, 0.0, 0.8))
    if not made.bones:
        raise EmptyTwin("no bone could be meshed; do the labels hold any voxel?")
    warnings += made.warnings
    steps.append({"step": "surfaces", "settings": dict(made.settings)})
    meshes = made.meshes
    progress("measuring landmarks", 0.8)
    marks, missing = landmarks.measure(meshes)
    marks = tuple(spread.with_spread(mark, volume.grid.spacing_mm, drawn=drawn) for mark in marks)
    steps.append({"step": "landmarks", "settings": {"measured_on": "surfaces", "found": len(marks)}})
    structures, no_canal = with_canal(meshes, marks)
    seen = sides.check_sides(meshes, marks, volume.about)
    progress("measuring density", 0.95)
    dense = density.measure(volume, marks, site)
    steps.append({"step": "density", "settings": density.settings(dense)})
    built = Twin(
        twin_id(made.bones),
        made.bones,
        marks,
        levels,
        dense,
        _with_versions(steps),
        tuple([*sides.warnings(seen), *warnings, *missing, *no_canal]),
        structures,
        fitness=volume.fitness,
        sides=seen,
        surface_sd_mm=made.surface_sd_mm,
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
    marks = tuple(spread.without_spread(mark) for mark in marks)
    steps: list[dict[str, Any]] = [
        {
            "step": "surfaces",
            "settings": {"source": "meshes", "refined": False},
            "inputs_sha256": dict(source_sha256s or {}),
        },
        {"step": "landmarks", "settings": {"measured_on": "surfaces", "found": len(marks)}},
    ]
    warnings += [open_words(name) for name in sorted(meshes) if not meshes[name].is_closed]
    warnings += in_the_same_place(meshes)
    bones = with_detail(meshes, silent)
    confidence = GIVEN if any(name in UPWARD for name in meshes) else 0.0
    structures, no_canal = with_canal(meshes, marks)
    seen = sides.check_sides(meshes, marks)
    told = tuple([*sides.warnings(seen), *warnings, *missing, *no_canal])
    return Twin(
        twin_id(bones), bones, marks, Levels(confidence), None, _with_versions(steps), told, structures, sides=seen
    )


def twin_id(bones: Mapping[str, Bone]) -> str:
    """The twin's name: the hash of its finest surfaces, so the same bones have the same name on every machine."""
    digest = hashlib.sha256()
    for name in sorted(bones):
        mesh = bones[name].surface
        digest.update(f"{name} {len(mesh.vertices_mm)} {len(mesh.triangles)}\n".encode())
        digest.update(np.ascontiguousarray(np.round(mesh.vertices_mm * 1000.0).astype("<i8")).tobytes())
        digest.update(np.ascontiguousarray(mesh.triangles.astype("<i4")).tobytes())
    return digest.hexdigest()[:32]


def _with_versions(steps: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except ModuleNotFoundError:
            continue  # open3d comes as one of two packages
    return tuple({**step, "versions": versions} for step in steps)
