"""Labels that someone else made: one label map, or a folder with a mask a bone; brought onto the CT's grid."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.progress import Progress, silent
from spatial.rigid import Array, Points
from twin.scan.images import is_image_file, read_placed, stem
from twin.scan.names import BONES, NUMBERS, ORGANS
from twin.scan.orientation import nearest_turn, patient_from_index
from twin.scan.refusals import BadLabels
from twin.scan.relabel import mapped, nearest, present
from twin.scan.volume import Grid, LabelMap

SACRUM, S1 = NUMBERS["sacrum"], NUMBERS["vertebrae_S1"]
INSIDE_SHARE = 0.9
SAMPLE = 200_000  # labelled voxels that are looked up to see whether they lie in the CT
SAME_PLACE_VOXELS = 0.05


def load_labels(path: Path, grid: Grid, progress: Progress = silent) -> LabelMap:
    """The bones in a label file or a folder of masks, on `grid`; warnings say what was joined or resampled.

    Raises BadLabels: unknown numbers, no bone, or another physical space than the CT's.
    """
    if path.is_dir():
        labels, notes = _from_folder(path, grid, progress)
    else:
        labels, notes = _from_map(path, grid)
    numbers = present(labels)
    if S1 in numbers:
        table = np.arange(256, dtype=np.uint8)
        table[S1] = SACRUM
        labels = mapped(labels, table)
        numbers = sorted({*numbers, SACRUM} - {S1})
        notes.append("vertebrae_S1 joined to sacrum: S1 screws belong to it")
    if not numbers:
        raise BadLabels("no voxel is labelled as bone", path=path)
    return LabelMap(grid, labels, {n: BONES[n] for n in numbers}, tuple(notes))


def _from_map(path: Path, grid: Grid) -> tuple[NDArray[np.uint8], list[str]]:
    stored, matrix, said = read_placed(path)
    values = _whole_numbers(stored, path)
    found = present(values)
    unknown = [n for n in found if n not in BONES and n not in ORGANS]
    if unknown:
        shown = ", ".join(str(n) for n in unknown[:12])
        raise BadLabels(
            f"numbers {shown} are no TotalSegmentator v2 labels (25 sacrum, 26-50 vertebrae S1-C1, 69-78 and 91-116 "
            "other bones, 201 L6, 202 T13); is it another program's numbering?",
            path=path,
        )
    organs = [n for n in found if n in ORGANS]
    notes = list(said)
    if organs:
        notes.append(f"{len(organs)} labels that are no bones ignored ({', '.join(map(str, organs[:8]))})")
    known = np.zeros(256, np.uint8)
    known[list(BONES)] = list(BONES)
    return _onto(mapped(values, known), matrix, grid, path, notes), notes


def _from_folder(folder: Path, grid: Grid, progress: Progress) -> tuple[NDArray[np.uint8], list[str]]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_image_file(p))
    bones = [p for p in files if stem(p) in NUMBERS]
    if not bones:
        raise BadLabels(
            f"none of {len(files)} image files is named as a bone; names like vertebrae_L3.nii.gz, sacrum.nii.gz, "
            "hip_left.nii.gz are needed",
            path=folder,
        )
    notes: list[str] = []
    others = [stem(p) for p in files if stem(p) not in NUMBERS]
    if others:
        notes.append(f"{len(others)} masks that are no bones ignored ({', '.join(others[:5])})")
    labels = np.zeros(grid.shape, np.uint8)
    overlaps: Counter[tuple[str, str]] = Counter()
    said: Counter[str] = Counter()
    for done, path in enumerate(bones):
        progress("reading masks", done / len(bones))
        own: list[str] = []
        stored, matrix, noted = read_placed(path)
        mask = _onto(_binary(stored, path, own), matrix, grid, path, own).astype(bool)
        said.update([*noted, *own])
        if not mask.any():
            notes.append(f"{stem(path)} is empty and left out")
            continue
        taken = mask & (labels != 0)
        if taken.any():
            for number, count in enumerate(np.bincount(labels[taken])):
                if count:
                    overlaps[(BONES[number], stem(path))] += int(count)
            mask &= ~taken
        labels[mask] = NUMBERS[stem(path)]
    notes.extend(f"{text} ({count} masks)" if count > 1 else text for text, count in said.items())
    if overlaps:
        worst = ", ".join(f"{a} and {b} {n}" for (a, b), n in overlaps.most_common(3))
        notes.append(f"masks overlap in {overlaps.total()} voxels ({worst}); the first bone keeps them")
    return labels, notes


def _whole_numbers(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Label numbers as uint8; raises BadLabels on fractions, negatives and numbers above 255."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or np.abs(values - np.rint(values)).max() > 1e-3:
            raise BadLabels(
                "values with fractions; a label map has whole numbers (is it a probability or a CT?)", path=path
            )
        values = np.rint(values)
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise BadLabels(f"numbers from {low:.0f} to {high:.0f}, 0 to 255 can be; is it the CT itself?", path=path)
    return values.astype(np.uint8)


def _binary(values: NDArray[Any], path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """A mask as 0 and 1; fractions are cut at one half. Raises BadLabels on values beyond 0 and 1."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadLabels("the mask holds values that are not finite", path=path)
    found = np.unique(values)
    if len(found) <= 2 and float(found[0]) >= 0:
        return (values > 0).astype(np.uint8)
    if float(found[0]) < -1e-3 or float(found[-1]) > 1.001:
        raise BadLabels(f"values from {found[0]:g} to {found[-1]:g}; a bone's mask has 0 and 1", path=path)
    notes.append("mask with fractions cut at one half")
    return (values >= 0.5).astype(np.uint8)


def _onto(values: NDArray[np.uint8], matrix: Array, grid: Grid, path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """Label values on the CT's grid: turned where the voxels coincide, else the nearest one. Raises BadLabels."""
    size = values.shape[::-1]
    turn = nearest_turn(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0), grid.axes)
    if tuple(size[old] for old in turn.order) == grid.size:
        corners = np.array(
            [[i, j, k, 1] for i in (0, grid.size[0]) for j in (0, grid.size[1]) for k in (0, grid.size[2])]
        )
        apart = (corners @ (turn.affine(size, matrix) - patient_from_index(grid)).T)[:, :3]
        if np.linalg.norm(apart, axis=1).max() <= SAME_PLACE_VOXELS * float(grid.spacing_mm.min()):
            return turn.array(values)
    labelled = np.flatnonzero(values)
    k, j, i = np.unravel_index(labelled[:: max(1, len(labelled) // SAMPLE)], values.shape)
    if len(i):
        places = np.column_stack([i, j, k]) @ matrix[:3, :3].T + matrix[:3, 3]
        at = grid.index_from_patient(Points[Patient](places))
        inside = float(((at > -0.5) & (at < np.array(grid.size) - 0.5)).all(axis=1).mean())
        if inside < INSIDE_SHARE:
            share = f"{inside:.0%} of the labelled voxels lie inside the CT, {INSIDE_SHARE:.0%} must"
            raise BadLabels(f"{share}; are they of another scan?", path=path)
    shown = " x ".join(str(n) for n in size)
    notes.append(f"labels on another grid ({shown}) than the CT; each voxel took its nearest label")
    return nearest(values, matrix, grid)
