"""Labels that someone else made, on the CT's grid: bones as a `LabelMap`, whatever else is labelled as named masks.

A label map (NIfTI, NRRD, MetaImage), 3D Slicer's `.seg.nrrd`, a DICOM Segmentation, or a folder with a mask a file.
Names inside the file rule; numbers without names are read by a table (`twin.scan.numbering`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.progress import Progress, silent
from twin.scan import dicom_seg, numbering, seg_nrrd
from twin.scan.images import is_image_file, read_placed, stem
from twin.scan.label_grid import onto
from twin.scan.label_layer import Layer, binary, coded
from twin.scan.label_names import names_in
from twin.scan.names import OWN_FIRST, numbered
from twin.scan.numbering import Extent, bone_named, is_bone, safe_name
from twin.scan.refusals import BadLabels
from twin.scan.relabel import centroids, mapped
from twin.scan.volume import Grid, LabelMap


@dataclass(frozen=True, eq=False)
class NamedMask:
    """A structure that is no bone: its voxels (k, j, i) in the smallest block of the CT's grid that holds them."""

    name: str
    mask: NDArray[np.bool_]
    grid: Grid
    source: str


@dataclass(frozen=True, eq=False)
class Labels:
    """What a label file held; `bones` is None when it held none. `numbering`: how its numbers were understood."""

    bones: LabelMap | None
    others: tuple[NamedMask, ...]
    numbering: str
    warnings: tuple[str, ...]


def load_labels(
    path: Path,
    grid: Grid,
    progress: Progress = silent,
    *,
    numbering: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> LabelMap:
    """The bones in a label file or a folder of masks, on `grid`; warnings say what was joined, resampled, left out.

    `numbering` names the table of a map without names, `about` is the CT's (a DICOM SEG must be of it). Raises
    BadLabels (no bone, unknown numbers, another place), WrongReference, NumberingChoice.
    """
    found = read_labels(path, grid, progress, numbering=numbering, about=about)
    if found.bones is None:
        held = f"; it labels {_listed([other.name for other in found.others])}" if found.others else ""
        raise BadLabels(f"no voxel is labelled as bone{held}", path=path)
    return found.bones


def load_structures(
    path: Path,
    grid: Grid,
    progress: Progress = silent,
    *,
    numbering: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> tuple[NamedMask, ...]:
    """What a label file holds beside bones (cord, vessels, discs, tumour …), by name; raises as `load_labels` does."""
    found = read_labels(path, grid, progress, numbering=numbering, about=about)
    if not found.others:
        raise BadLabels("nothing but bones is labelled; structures beside the bones are needed", path=path)
    return found.others


def read_labels(
    path: Path,
    grid: Grid,
    progress: Progress = silent,
    *,
    numbering: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Labels:
    """Bones and all the rest of a label file, in one reading; raises as `load_labels` does."""
    notes: list[str] = []
    taken = ""
    gathered = _Gathered(grid, path)
    for layer, source in _layers(path, about, notes, progress):
        table, taken, why = _meanings(layer, path, numbering, taken)
        notes += [f"numbers without names read as {taken}'s: {why}"] if why else []
        own: list[str] = []
        gathered.add(onto(layer.codes, layer.matrix, grid, path, own), table, source)
        notes += own
    bones = gathered.bones()
    warnings = [*_counted(notes), *gathered.notes()]
    if bones is not None:
        bones = LabelMap(grid, bones.labels, bones.names, tuple([*warnings, *_doubts(bones)]))
        warnings = list(bones.warnings)
    return Labels(bones, tuple(gathered.others), taken or "names", tuple(warnings))


def _layers(
    path: Path, about: Mapping[str, Any] | None, notes: list[str], progress: Progress
) -> Iterator[tuple[Layer, str]]:
    """The layers of a file, or of the files of a folder, each with the name of its file."""
    if not path.exists():
        raise BadLabels("there is no such file or folder", path=path)
    if path.is_dir():
        yield from _folder(path, about, notes, progress)
        return
    progress("reading labels", 0.0)
    if seg_nrrd.is_segmentation(path):
        yield from ((layer, path.name) for layer in seg_nrrd.read_segmentation(path, notes))
    elif is_image_file(path):
        yield _image(path, notes), path.name
    elif dicom_seg.is_dicom(path):
        yield from ((layer, path.name) for layer in dicom_seg.read_seg(path, about, notes))
    else:
        raise BadLabels("no label file: NIfTI, NRRD, MetaImage, DICOM SEG or a folder of masks is needed", path=path)


def _folder(
    folder: Path, about: Mapping[str, Any] | None, notes: list[str], progress: Progress
) -> Iterator[tuple[Layer, str]]:
    """A mask a file, named by the file; a folder with DICOM SEG files is read as those."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    images = [p for p in files if is_image_file(p)]
    if not images:
        segs = [p for p in files if dicom_seg.is_dicom(p)]
        if not segs:
            raise BadLabels(
                f"none of {len(files)} files is a mask named as a bone (vertebrae_L3.nii.gz, sacrum.nii.gz, "
                "hip_left.nii.gz …) or a DICOM SEG",
                path=folder,
            )
        for seg in segs:
            yield from ((layer, seg.name) for layer in dicom_seg.read_seg(seg, about, notes))
        return
    empty = []
    for done, path in enumerate(images):
        progress("reading masks", done / len(images))
        stored, matrix, said = read_placed(path)
        notes.extend(said)
        mask = binary(stored, path, notes)
        if not mask.any():
            empty.append(stem(path))
            continue
        yield Layer(mask, matrix, {1: 1}, {1: bone_named(stem(path)) or stem(path)}), path.name
    if empty:
        notes.append(f"{_listed(empty)} {'is' if len(empty) == 1 else 'are'} empty and left out")


def _image(path: Path, notes: list[str]) -> Layer:
    """A label map; a map of one number 1 without a name is a mask that its file's name names."""
    stored, matrix, said = read_placed(path)
    notes.extend(said)
    words = names_in(path)
    codes, numbers = coded(stored, path)
    if not words and list(numbers.values()) == [1]:
        return Layer(codes, matrix, numbers, {1: bone_named(stem(path)) or stem(path)})
    return Layer(codes, matrix, numbers, {code: words[n] for code, n in numbers.items() if n in words})


def _meanings(layer: Layer, path: Path, wanted: str | None, before: str) -> tuple[dict[int, str], str, str]:
    """The name of each code; the table that said so (`before`: the file itself did) and why that one was taken."""
    table = None if wanted is None else numbering.table_of(wanted)
    named = {code: bone_named(word) or safe_name(word) for code, word in layer.words.items()}
    without = {code: n for code, n in layer.numbers.items() if code not in named}
    if not without:
        _agreed(named, layer, table, wanted, path)
        return named, before, ""
    if named:
        raise BadLabels(f"the file names some of its numbers but not {_listed(list(without.values()))}", path=path)
    why = ""
    if wanted is None:
        wanted, why = numbering.recognised(_extents(layer))
        table = numbering.NUMBERINGS.get(wanted)
    unknown = [n for n in without.values() if table is None or n not in table]
    if table is None or unknown:
        v2 = numbering.NUMBERINGS["totalsegmentator"]
        whose = (
            f"not in the numbering {wanted}"
            if table is not None
            else (
                "no TotalSegmentator v2 labels (25 sacrum, 26-50 vertebrae S1-C1, 69-78 and 91-116 other bones, "
                "201 L6, 202 T13) nor VerSe's (1-28)"
            )
        )
        shown = _listed([n for n in unknown if table is not None or n not in v2] or unknown)
        raise BadLabels(f"numbers {shown} are {whose}; is it another program's numbering?", path=path)
    return {code: table[n] for code, n in without.items()}, wanted or "", why


def _agreed(
    named: Mapping[int, str], layer: Layer, table: Mapping[int, str] | None, wanted: str | None, path: Path
) -> None:
    """Raise BadLabels when the file's own names contradict the numbering that was asked for."""
    if table is None or len(named) < 2:
        return
    for code, number in layer.numbers.items():
        if is_bone(named[code]) and table.get(number, named[code]) != named[code]:
            raise BadLabels(
                f"the file names {number} {named[code]}, {wanted} has {table[number]} there; leave --numbering out",
                path=path,
            )


def _extents(layer: Layer) -> dict[int, Extent]:
    voxel_ml = abs(float(np.linalg.det(layer.matrix[:3, :3]))) / 1000.0
    return {
        layer.numbers[code]: Extent(float(layer.matrix[2, :3] @ centre + layer.matrix[2, 3]), count * voxel_ml)
        for code, (count, centre) in centroids(layer.codes).items()
    }


class _Gathered:
    """Bones and structures of several layers on one grid; of two bones the first keeps a voxel."""

    def __init__(self, grid: Grid, path: Path) -> None:
        self._grid, self._path = grid, path
        self._labels = np.zeros(grid.shape, np.uint8)
        self._numbers: dict[str, int] = {}
        self._overlaps: Counter[tuple[str, str]] = Counter()
        self._joined: Counter[str] = Counter()
        self.others: list[NamedMask] = []

    def add(self, codes: NDArray[np.uint8], table: Mapping[int, str], source: str) -> None:
        """Take a layer whose codes `table` names."""
        from scipy import ndimage

        boxes: list[Any] = ndimage.find_objects(codes)
        present = {code: box for code, box in enumerate(boxes, 1) if box is not None and code in table}
        bones = {code: self._bone(table[code]) for code in present if is_bone(table[code])}
        for code, box in present.items():
            if code not in bones:
                self._other(table[code], codes[box] == code, box, source)
        if not bones:
            return
        numbers = np.zeros(256, np.uint8)
        numbers[list(bones)] = list(bones.values())
        span = tuple(
            slice(min(present[c][axis].start for c in bones), max(present[c][axis].stop for c in bones))
            for axis in range(3)
        )
        new, held = mapped(codes[span], numbers), self._labels[span]
        both = (held != 0) & (new != 0) & (held != new)
        if both.any():
            names = {number: name for name, number in self._numbers.items()}
            pairs = np.bincount(held[both].astype(np.int64) * 256 + new[both])
            for pair in np.flatnonzero(pairs):
                self._overlaps[(names[int(pair) // 256], names[int(pair) % 256])] += int(pairs[pair])
        np.copyto(held, new, where=held == 0)

    def bones(self) -> LabelMap | None:
        """The bones so far; None when there is none."""
        if not self._numbers:
            return None
        return LabelMap(self._grid, self._labels, {number: name for name, number in self._numbers.items()})

    def notes(self) -> list[str]:
        """What was joined, what overlapped, what is no bone."""
        notes = []
        if "vertebrae_S1" in self._joined:
            notes.append("vertebrae_S1 joined to sacrum: S1 screws belong to it")
        twice = [name for name, count in self._joined.items() if count > 1 and name != "vertebrae_S1"]
        if twice:
            notes.append(f"{_listed(twice)} labelled more than once; joined")
        if self._overlaps:
            worst = ", ".join(f"{a} and {b} {n}" for (a, b), n in self._overlaps.most_common(3))
            notes.append(f"masks overlap in {self._overlaps.total()} voxels ({worst}); the first bone keeps them")
        if self.others and self._numbers:
            names = _listed([other.name for other in self.others])
            notes.append(f"{len(self.others)} labels that are no bones are not among the bones ({names})")
        return notes

    def _bone(self, name: str) -> int:
        self._joined[name] += 1
        name = "sacrum" if name == "vertebrae_S1" else name
        if name not in self._numbers:
            number = numbered([*(n for n in self._numbers if self._numbers[n] >= OWN_FIRST), name])[name]
            if number > 255:
                raise BadLabels("more bones of unknown numbers than a byte can hold", path=self._path)
            self._numbers[name] = number
        return self._numbers[name]

    def _other(self, name: str, mask: NDArray[np.bool_], box: Any, source: str) -> None:
        taken = sum(other.name == name or other.name.rpartition("_")[0] == name for other in self.others)
        k, j, i = box
        size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
        block = self._grid.cropped((i.start, j.start, k.start), size)
        self.others.append(NamedMask(f"{name}_{taken + 1}" if taken else name, mask, block, source))


def _doubts(bones: LabelMap) -> list[str]:
    """What speaks against the names: vertebrae out of order or too large, left bones to the right of right ones."""
    found = {}
    aside = {}
    for number, (count, centre) in centroids(np.asarray(bones.labels, np.uint8)).items():
        at = bones.grid.patient_from_index(centre).mm
        found[bones.names[number]] = Extent(float(at[2]), count * bones.grid.voxel_ml)
        aside[bones.names[number]] = float(at[0])
    doubts = []
    wrong = numbering.disorder(found)
    if wrong:
        doubts.append(f"{wrong}: are the names or the orientation of the labels right?")
    crossed = [
        name for name, x in aside.items() if "_left" in name and x < aside.get(name.replace("_left", "_right"), -np.inf)
    ]
    if crossed:
        doubts.append(f"{_listed(crossed)} to the RIGHT of the same bone of the right: are the sides swapped?")
    return doubts


def _listed(names: Sequence[Any]) -> str:
    """Names for a sentence, the first dozen of them."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(str(name) for name in names[:12]) + more


def _counted(texts: Any) -> list[str]:
    """Equal remarks as one, with their count."""
    return [f"{text} ({count} times)" if count > 1 else text for text, count in Counter(texts).items()]
