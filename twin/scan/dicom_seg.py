"""DICOM Segmentation objects: BINARY, FRACTIONAL and LABELMAP; checked to be of the CT that they are given for.

PS3.3 A.51 and C.8.20. Each segment is named by its coded term (SNOMED) where we know it, else by its label. Only
uncompressed, deflated and RLE pixels are read: no foreign decoder runs on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.decoders import RLELosslessDecoder

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan import codes
from twin.scan.label_layer import Layer
from twin.scan.refusals import BadLabels, BrokenFile, WrongReference
from twin.scan.seg_nrrd import meant

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
RLE = "1.2.840.10008.1.2.5"
HALF = 0.5  # of a fractional segment's full value: from there on a voxel belongs to it
SAME_PLANE_MM = 0.02
LIMIT_BYTES = 8 << 30


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: its segment (0 in a label map), the centre of its first pixel (Patient mm)."""

    index: int
    segment: int
    position_mm: Array


@dataclass(frozen=True, eq=False)
class Stack:
    """Where the frames stand: (4, 4) map from (i, j, k), voxels i, j, k, and the slice of each frame."""

    matrix: Array
    size: tuple[int, int, int]
    slice_of: tuple[int, ...]


def fingerprint(uid: str) -> str:
    """A UID's fingerprint: enough to see whether two are the same, nothing to trace a patient by."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_seg(path: Path, about: Mapping[str, Any] | None, notes: list[str]) -> tuple[Layer, ...]:
    """The segments, packed into as few layers as their overlaps allow.

    `about` is the CT's (`Volume.about`): its `series_fingerprint` and `frame_of_reference_fingerprint` are compared.
    Raises BadLabels, BrokenFile, WrongReference.
    """
    try:
        data = pydicom.dcmread(path)
    except Exception as error:  # pydicom raises anything on a damaged file; it becomes one fault
        raise BrokenFile(f"cannot be read as DICOM ({type(error).__name__})", path=path) from None
    if data.get("SOPClassUID") not in (SEGMENTATION, LABEL_MAP):
        raise BadLabels(f"a DICOM {data.get('Modality', 'file')} that is no Segmentation object", path=path)
    try:
        _check_reference(data, about or {}, path, notes)
        words = _words(data, path)
        frames, orientation, steps = _frames(data)
        stack = _stacked(frames, orientation, steps, data, path)
        kind = str(data.get("SegmentationType", "")).upper()
        if data.SOPClassUID == LABEL_MAP or kind == "LABELMAP":
            return _label_map(data, frames, stack, words, path)
        if kind not in ("BINARY", "FRACTIONAL"):
            raise BadLabels(
                f"segmentation type {kind or 'absent'}; BINARY, FRACTIONAL and LABELMAP are read", path=path
            )
        return _segments(data, frames, stack, words, kind, path, notes)
    except Fault:
        raise
    except Exception as error:  # what pydicom finds wrong when an element is first looked at
        raise BadLabels(f"the Segmentation lacks or spoils what it must have ({error})", path=path) from None


def _check_reference(data: Any, about: Mapping[str, Any], path: Path, notes: list[str]) -> None:
    frame, series = about.get("frame_of_reference_fingerprint"), about.get("series_fingerprint")
    if not frame and not series:
        notes.append("whether the DICOM SEG was made on this CT could not be checked: the CT names no series")
        return
    own_frame = str(data.get("FrameOfReferenceUID", "") or "")
    own_series = [
        str(item.SeriesInstanceUID) for item in data.get("ReferencedSeriesSequence", ()) if "SeriesInstanceUID" in item
    ]
    same_series = bool(series) and series in [fingerprint(uid) for uid in own_series]
    if own_frame and frame:
        if fingerprint(own_frame) != frame:
            raise WrongReference(
                "the Segmentation lies in another frame of reference than the CT; was it made on another scan?",
                path=path,
            )
        if own_series and not same_series:
            notes.append("the DICOM SEG was made on another series of the same frame of reference")
    elif own_series and not same_series:
        raise WrongReference(
            "the Segmentation refers to another series than the CT; was it made on another scan?", path=path
        )
    elif not same_series:
        notes.append("the DICOM SEG names neither a series nor a frame of reference: whose it is could not be checked")


def _words(data: Any, path: Path) -> dict[int, str]:
    """What each segment number is; of several segments of one name the later ones get their number behind it."""
    words: dict[int, str] = {}
    for item in data.SegmentSequence:
        kind = [_term(term) for term in item.get("SegmentedPropertyTypeCodeSequence", ())]
        modifiers = [
            _term(term)
            for kind_item in item.get("SegmentedPropertyTypeCodeSequence", ())
            for term in kind_item.get("SegmentedPropertyTypeModifierCodeSequence", ())
        ]
        modifiers += [_term(term) for term in item.get("SegmentedPropertyTypeModifierCodeSequence", ())]
        number = int(item.SegmentNumber)
        label = str(item.get("SegmentLabel", "") or (kind[0].meaning if kind else f"segment {number}"))
        words[number] = meant(label, kind[0] if kind else None, modifiers, path)
    words.pop(0, None)  # a label map's background
    return words


def _term(item: Any) -> codes.Term:
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return codes.Term(str(item.get("CodingSchemeDesignator", "")), str(value), str(item.get("CodeMeaning", "")))


def _frames(data: Any) -> tuple[list[Frame], Array, tuple[float, float, float | None]]:
    """Frames, orientation (6,), and steps: row, column, and between slices where it is said."""
    shared = data.SharedFunctionalGroupsSequence[0]
    groups = data.PerFrameFunctionalGroupsSequence
    if len(groups) != int(data.get("NumberOfFrames", 1)):
        raise ValueError(f"{len(groups)} descriptions of {data.get('NumberOfFrames')} frames")
    frames, orientations = [], []
    for index, group in enumerate(groups):
        place = _group("PlanePositionSequence", group, shared)
        identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        segment = int(identification[0].ReferencedSegmentNumber) if identification else 0
        frames.append(Frame(index, segment, np.array([float(x) for x in place.ImagePositionPatient])))
        turned = _group("PlaneOrientationSequence", group, shared)
        orientations.append([float(x) for x in turned.ImageOrientationPatient])
    if np.ptp(np.array(orientations), axis=0).max() > 1e-4:
        raise ValueError("frames of several orientations")
    measures = _group("PixelMeasuresSequence", groups[0], shared)
    row_step, column_step = (float(x) for x in measures.PixelSpacing)
    between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    return frames, np.array(orientations[0]), (row_step, column_step, None if between is None else float(between))


def _group(name: str, group: Any, shared: Any) -> Any:
    found = group.get(name) or shared.get(name)
    if not found:
        raise ValueError(f"no {name}")
    return found[0]


def _stacked(
    frames: Sequence[Frame], orientation: Array, steps: tuple[float, float, float | None], data: Any, path: Path
) -> Stack:
    """One regular stack that holds every frame; slices in which nothing is segmented may be absent."""
    along_i, along_j = orientation[:3], orientation[3:]
    normal = np.cross(along_i, along_j)
    first = frames[0].position_mm
    offsets = np.array([frame.position_mm - first for frame in frames])
    heights = offsets @ normal
    distinct = np.unique(np.round(heights / SAME_PLANE_MM)) * SAME_PLANE_MM
    gaps = np.diff(distinct)
    step = float(gaps.min()) if len(gaps) else steps[2] or 1.0
    if steps[2] and len(gaps) and abs(step / steps[2] - round(step / steps[2])) < 0.02:
        step = steps[2] if step >= 0.98 * steps[2] else step
    lowest = float(heights.min())
    slices = np.rint((heights - lowest) / step).astype(int)
    if np.abs((heights - lowest) - slices * step).max() > 0.1:
        raise BadLabels(
            f"the frames stand at irregular heights (steps of {gaps.min():.2f} to {gaps.max():.2f} mm)", path=path
        )
    size = (int(data.Columns), int(data.Rows), int(slices.max()) + 1)
    if int(np.prod(size, dtype=np.int64)) > LIMIT_BYTES:
        raise BadLabels(f"{size[0]} x {size[1]} x {size[2]} voxels; the limit is {LIMIT_BYTES >> 30} GB", path=path)
    vector = normal * step
    if slices.max():  # of a tilted gantry the planes are displaced, each by as much
        centred = slices - slices.mean()
        vector = centred @ offsets / (centred @ centred)
    start = (offsets - slices[:, None] * vector).mean(axis=0)
    if np.linalg.norm(offsets - slices[:, None] * vector - start, axis=1).max() > 0.1:
        raise BadLabels("the frames are displaced irregularly within their planes", path=path)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = along_i * steps[1], along_j * steps[0], vector
    matrix[:3, 3] = first + start
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise BadLabels("pixel spacing or orientation of the Segmentation is impossible", path=path)
    return Stack(matrix, size, tuple(int(s) for s in slices))


def _pictures(data: Any, path: Path) -> Iterator[NDArray[Any]]:
    """The stored values of frame after frame (rows, columns); one bit a pixel becomes 0 or 1."""
    rows, columns, bits = int(data.Rows), int(data.Columns), int(data.BitsAllocated)
    count = int(data.get("NumberOfFrames", 1))
    syntax = str(data.file_meta.TransferSyntaxUID)
    if bits not in (1, 8, 16) or int(data.get("SamplesPerPixel", 1)) != 1:
        raise BadLabels(f"{bits} bits a pixel; 1, 8 or 16 are read", path=path)
    pixels = rows * columns
    if syntax == RLE:
        dtype = np.dtype("<u2" if bits == 16 else "u1")
        decoded = RLELosslessDecoder.iter_array(data, raw=True)
        for frame, _ in decoded:
            yield frame.astype(dtype).reshape(rows, columns)
        return
    if syntax not in NATIVE:
        raise BadLabels(
            f"transfer syntax {pydicom.uid.UID(syntax).name}; export the Segmentation uncompressed or as RLE", path=path
        )
    stored = data.PixelData
    need = -(-pixels * count * bits // 8)
    if len(stored) < need:
        raise BrokenFile(f"pixels need {need} bytes, {len(stored)} are there; is the copy complete?", path=path)
    raw = np.frombuffer(stored, np.uint8)
    for n in range(count):
        if bits == 1:  # frames follow one another without filling up the last byte
            begin, end = n * pixels, (n + 1) * pixels
            bytes_here = raw[begin // 8 : -(-end // 8)]
            flat = np.unpackbits(bytes_here, bitorder="little")[begin % 8 : begin % 8 + pixels]
        else:
            flat = raw[n * pixels * bits // 8 : (n + 1) * pixels * bits // 8].view("<u2" if bits == 16 else "u1")
        yield flat.reshape(rows, columns)


def _label_map(
    data: Any, frames: Sequence[Frame], stack: Stack, words: Mapping[int, str], path: Path
) -> tuple[Layer, ...]:
    if len(words) > 255:
        raise BadLabels(f"{len(words)} segments, 255 can be", path=path)
    table = np.zeros(1 << 16, np.uint8)
    code_of = {number: code for code, number in enumerate(sorted(words), 1)}
    for number, code in code_of.items():
        table[number] = code
    out = np.zeros(stack.size[::-1], np.uint8)
    strange: set[int] = set()
    background = int(data.get("PixelPaddingValue", 0))
    for frame, picture in zip(frames, _pictures(data, path), strict=True):
        found = np.unique(picture)
        strange.update(int(n) for n in found if int(n) not in (0, background) and int(n) not in words)
        out[stack.slice_of[frame.index]] = table[picture]
    if strange:
        raise BadLabels(f"pixels of segment {sorted(strange)[:5]} that the Segmentation does not describe", path=path)
    return (Layer(out, stack.matrix, {c: n for n, c in code_of.items()}, {c: words[n] for n, c in code_of.items()}),)


def _segments(
    data: Any,
    frames: Sequence[Frame],
    stack: Stack,
    words: Mapping[int, str],
    kind: str,
    path: Path,
    notes: list[str],
) -> tuple[Layer, ...]:
    """Segments into layers: a segment goes to the first layer where it meets no other."""
    least = 1
    if kind == "FRACTIONAL":
        full = int(data.MaximumFractionalValue)
        least = max(1, int(np.ceil(HALF * full)))
        meaning = str(data.get("SegmentationFractionalType", "fraction")).lower()
        notes.append(f"FRACTIONAL segmentation ({meaning}): voxels of {least} of {full} and above belong to a segment")
    unknown = sorted({frame.segment for frame in frames} - set(words))
    if unknown:
        raise BadLabels(f"frames of segment {unknown[:5]} that the Segmentation does not describe", path=path)
    # frames of one segment may be scattered over the file: they are gathered first, as their labelled pixels only
    pixels: dict[int, dict[int, NDArray[np.int64]]] = {}
    for frame, picture in zip(frames, _pictures(data, path), strict=True):
        slices = pixels.setdefault(frame.segment, {})
        mine = np.flatnonzero(picture >= least)
        at = stack.slice_of[frame.index]
        slices[at] = mine if at not in slices else np.union1d(slices[at], mine)
    layers: list[tuple[NDArray[np.uint8], dict[int, int]]] = []
    for number in sorted(pixels):
        for array, inside in layers:
            flat = array.reshape(array.shape[0], -1)
            if len(inside) < 255 and not any(flat[at][mine].any() for at, mine in pixels[number].items()):
                break
        else:
            array, inside = np.zeros(stack.size[::-1], np.uint8), {}
            flat = array.reshape(array.shape[0], -1)
            layers.append((array, inside))
        code = len(inside) + 1
        inside[code] = number
        for at, mine in pixels[number].items():
            flat[at, mine] = code
    return tuple(
        Layer(array, stack.matrix, inside, {code: words[number] for code, number in inside.items()})
        for array, inside in layers
    )
