"""Where the slices of a series stand: sorted along the normal, one distance apart, or the reason why not.

The normal is row direction x column direction, so (i, j, k) is right-handed for every patient position. A gantry tilt
(slices displaced sideways by a constant step) is kept as `shift_mm` for the voxels to be sheared back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.headers import CT_CLASSES, Header
from twin.scan.refusals import (
    BadGeometry,
    DuplicateSlices,
    IrregularSlices,
    MixedSeries,
    NoCT,
    NotHounsfield,
    SingleSlice,
)
from twin.scan.volume import Grid

ORIENTATION_TOLERANCE = 2e-4  # direction cosines are written with four digits or more: 0.1 mm over 500 mm
POSITION_TOLERANCE_MM = 0.06  # positions are often rounded to 0.1 mm
FINE_MM = 1.25  # the usual protocol for planning pedicle screws
SAME_PLACE_MM = 0.01
PARAMETER_MAPS = frozenset({"PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "TMAX"})
DRIFT_TOLERANCE_MM = 0.1  # sideways over the whole stack; beyond it is a gantry tilt


@dataclass(frozen=True, eq=False)
class Layout:
    """Sorted slices with their grid; the sideways `shift_mm` (along i, along j) a slice is zero without gantry tilt."""

    headers: tuple[Header, ...]
    grid: Grid
    shift_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def is_tilted(self) -> bool:
        """Whether the voxels must be sheared onto the grid."""
        return self.shift_mm != (0.0, 0.0)

    @property
    def tilt_deg(self) -> float:
        """Angle between the stacking direction and the slice normal."""
        return float(np.degrees(np.arctan2(np.hypot(*self.shift_mm), self.grid.spacing_mm[2])))


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the headers of a series amount to: a layout, or the faults that stand against it; and words of warning."""

    layout: Layout | None
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


def judge(headers: Sequence[Header]) -> Verdict:
    """Check identity, then geometry, then grey values; every fault that can be found from the headers is named."""
    faults: list[Fault] = [fault for header in headers for fault in header.faults]
    notes: list[str] = []
    slices = _without_localizers(headers, notes)
    if not slices:
        return Verdict(
            None, (NoCT("only localizer (scout) views; give the series of slices", path=headers[0].path),), tuple(notes)
        )
    _check_identity(slices, faults, notes)
    _check_greys(slices, faults, notes)
    if not _check_planes(slices, faults):
        return Verdict(None, tuple(faults), tuple(notes))
    layout = _stack(slices, faults, notes)
    if layout is not None:
        _check_coverage(layout, notes)
    return Verdict(None if faults else layout, tuple(faults), tuple(notes))


def _without_localizers(headers: Sequence[Header], notes: list[str]) -> list[Header]:
    slices = [h for h in headers if not h.is_localizer]
    dropped = len(headers) - len(slices)
    if dropped and slices:
        notes.append(f"{dropped} localizer (scout) image{'s' * (dropped > 1)} inside the series left out")
    return slices


def _check_identity(slices: Sequence[Header], faults: list[Fault], notes: list[str]) -> None:
    first = slices[0]
    if first.modality != "CT" and first.sop_class not in CT_CLASSES:
        faults.append(NoCT(f"modality {first.modality or 'unknown'}, CT is needed", path=first.path))
    identities: tuple[tuple[str, Callable[[Header], str]], ...] = (
        ("patients", lambda h: h.patient),
        ("studies", lambda h: h.study_uid),
        ("frames of reference", lambda h: h.frame_of_reference),
        ("modalities", lambda h: h.modality),
    )
    for what, value in identities:
        found = {value(h) for h in slices}
        if len(found) > 1:
            odd = _odd_one_out([value(h) for h in slices])
            faults.append(
                MixedSeries(
                    f"slices of {len(found)} {what} under one series; were folders mixed?", path=slices[odd].path
                )
            )
    blank = [
        name
        for name, value in (("SeriesInstanceUID", first.series_uid), ("StudyInstanceUID", first.study_uid))
        if not value
    ]
    if blank:
        notes.append(f"{' and '.join(blank)} blank (anonymised?); the slices were grouped by folder and series number")
    if not first.frame_of_reference:
        notes.append("no FrameOfReferenceUID: other objects of this study cannot be matched by it")


def _check_greys(slices: Sequence[Header], faults: list[Fault], notes: list[str]) -> None:
    for header in slices:
        reason = _grey_fault(header)
        if reason:
            faults.append(NotHounsfield(reason, path=header.path))
            return
    if any(h.pixels is not None and h.pixels.photometric == "MONOCHROME1" for h in slices):
        notes.append("MONOCHROME1: taken as HU by the rescale values, not inverted")
    rescales = {(h.slope, h.intercept) for h in slices}
    if len(rescales) > 1:
        notes.append(f"{len(rescales)} different rescale values in one series, each applied to its own slices")


def _grey_fault(header: Header) -> str | None:
    """Why this slice's stored values cannot become HU, or None."""
    pixels = header.pixels
    if pixels is None:
        return "there are no pixel data"
    if pixels.samples != 1 or not pixels.photometric.startswith("MONOCHROME"):
        found = f"{pixels.photometric or 'unknown'} pixels with {pixels.samples} samples"
        return f"{found}; a CT has one grey value (is it a screenshot?)"
    is_packed = 1 <= pixels.bits_stored <= pixels.bits_allocated and pixels.high_bit == pixels.bits_stored - 1
    if pixels.bits_allocated not in (8, 16, 32) or not is_packed:
        return f"{pixels.bits_stored} bits in {pixels.bits_allocated} with high bit {pixels.high_bit}"
    if header.slope is None or header.intercept is None:
        return "RescaleSlope or RescaleIntercept is absent, so the grey values are not HU"
    if header.slope == 0:
        return "RescaleSlope is 0; the header is damaged"
    if header.rescale_type not in ("", "HU", "US"):
        return f"grey values in {header.rescale_type}, HU are needed"
    maps = PARAMETER_MAPS & set(header.image_type)
    return f"a {min(maps)} map, not a CT in HU" if maps else None


def _check_planes(slices: Sequence[Header], faults: list[Fault]) -> bool:
    """Position, orientation, size and spacing of every slice; True when they can be stacked."""
    before = len(faults)
    for header in slices:
        if header.faults:
            return False
        for what, value in (
            ("ImagePositionPatient", header.position_mm),
            ("ImageOrientationPatient", header.orientation),
            ("PixelSpacing", header.spacing_mm),
        ):
            if value is None:
                faults.append(BadGeometry(f"{what} is absent; is it a secondary capture?", path=header.path))
                return False
        assert header.orientation is not None
        assert header.spacing_mm is not None
        if (header.spacing_mm <= 0).any():
            faults.append(
                BadGeometry(f"PixelSpacing is {header.spacing_mm.tolist()} mm, it must be above zero", path=header.path)
            )
            return False
        gram = header.orientation @ header.orientation.T
        if np.abs(gram - np.eye(2)).max() > 1e-3:
            faults.append(
                BadGeometry(
                    "ImageOrientationPatient is not two perpendicular unit vectors; is the header damaged?",
                    path=header.path,
                )
            )
            return False
    _same(slices, faults, "image sizes (rows x columns)", [_size(h) for h in slices])
    _same(slices, faults, "pixel spacings", [_rounded(h.spacing_mm, 1e-4) for h in slices])
    normals = np.array([h.orientation for h in slices])
    usual = normals[_usual_index([_rounded(h.orientation, ORIENTATION_TOLERANCE) for h in slices])]
    odd = np.flatnonzero(np.abs(normals - usual).max(axis=(1, 2)) > ORIENTATION_TOLERANCE)
    if len(odd):
        turned = f"{len(odd)} of {len(slices)} slices have another orientation"
        faults.append(MixedSeries(f"{turned}; is a localizer among them?", path=slices[odd[0]].path))
    return len(faults) == before


def _stack(slices: Sequence[Header], faults: list[Fault], notes: list[str]) -> Layout | None:
    rows = np.mean([_known(h.orientation) for h in slices], axis=0)
    u, _, vt = np.linalg.svd(rows.T, full_matrices=False)
    across = u @ vt  # nearest pair of perpendicular unit vectors, as columns: along i, along j
    normal = np.cross(across[:, 0], across[:, 1])
    height_mm = {id(h): float(_known(h.position_mm) @ normal) for h in slices}
    slices = sorted(slices, key=lambda h: (height_mm[id(h)], h.instance_number or 0, h.path))
    slices = _deduplicated(slices, normal, faults, notes)
    if len(slices) < 2:
        faults.append(
            SingleSlice(
                "one slice; a volume needs several (was one file given instead of the folder?)", path=slices[0].path
            )
        )
        return None
    if faults:
        return None
    places = np.array([h.position_mm for h in slices])
    along = (places - places[0]) @ normal
    index = np.arange(len(slices))
    pitch, start = np.round(np.polyfit(index, along, 1), 9)
    offsets = (places - places[0]) @ across
    shift, origin, lean_deg = np.zeros(2), places[0] + start * normal, 0.0
    uneven_mm = 0.0
    if np.linalg.norm(offsets, axis=1).max() > DRIFT_TOLERANCE_MM:
        shift, first_mm = np.polyfit(index, offsets, 1)
        uneven_mm = float(np.abs(offsets - first_mm - index[:, None] * shift).max())
        origin = origin + across @ first_mm
        lean_deg = float(np.degrees(np.arctan2(np.linalg.norm(shift), pitch)))
    if np.abs(along - (start + pitch * index)).max() > POSITION_TOLERANCE_MM:
        faults.append(_irregular(slices, np.diff(along), lean_deg))
        return None
    if uneven_mm > DRIFT_TOLERANCE_MM:
        uneven = f"slices are displaced sideways unevenly, by up to {uneven_mm:.2f} mm"
        faults.append(IrregularSlices(f"{uneven}; no gantry tilt explains that", path=slices[0].path))
        return None
    first = slices[0]
    assert first.spacing_mm is not None
    assert first.pixels is not None
    spacing = np.array([first.spacing_mm[1], first.spacing_mm[0], pitch])
    size = np.array([first.pixels.columns, first.pixels.rows, len(slices)])
    if lean_deg:
        size, origin = _widened(size, spacing, shift, origin, across)
        notes.append(
            f"gantry tilt of {lean_deg:.1f} degrees corrected: slices resampled in their planes onto upright axes"
        )
    elif first.tilt_deg is not None and abs(first.tilt_deg) > 0.5 and abs(normal[2]) > 0.9999:
        notes.append(
            f"header names a gantry tilt of {first.tilt_deg:g} degrees, the slices stand straight; corrected before?"
        )
    extent = (int(size[0]), int(size[1]), int(size[2]))
    grid = Grid(extent, spacing, origin, np.column_stack([across, normal]))
    return Layout(tuple(slices), grid, (float(shift[0]), float(shift[1])))


def _widened(size: Array, spacing: Array, shift: Array, origin: Array, across: Array) -> tuple[Array, Array]:
    """The in-plane size and origin that hold every displaced slice whole."""
    reach = shift * (size[2] - 1)
    size = size.copy()
    for axis in (0, 1):
        size[axis] += int(np.ceil(abs(reach[axis]) / spacing[axis] - 1e-9))
        if reach[axis] < 0:
            origin = origin + across[:, axis] * reach[axis]
    return size, origin


def _deduplicated(slices: Sequence[Header], normal: Array, faults: list[Fault], notes: list[str]) -> list[Header]:
    """Keep one of several identical slices at a place; different ones are a fault."""
    kept: list[Header] = []
    dropped = 0
    most, where = 1, slices[0].path
    run = 1
    for header in slices:
        assert header.position_mm is not None
        last = kept[-1].position_mm if kept else None
        if last is None or np.linalg.norm(header.position_mm - last) > SAME_PLACE_MM:
            kept.append(header)
            run = 1
            continue
        if stored_digest(header) == stored_digest(kept[-1]):
            dropped += 1
            continue
        run += 1
        if run > most:
            most, where = run, header.path
    if most > 1:
        cause = "is it a repeated (contrast, perfusion) acquisition?"
        faults.append(DuplicateSlices(f"{most} different slices at one position; {cause}", path=where))
    if dropped:
        notes.append(f"{dropped} duplicate slice{'s' * (dropped > 1)} (same place, same pixels) left out")
    return kept


def stored_digest(header: Header) -> tuple[object, ...]:
    """What makes two stored slices the same picture: the frame's bytes (compressed: the file's), how they are read."""
    pixels = header.pixels
    if pixels is None:
        return (header.path,)
    with header.path.open("rb") as file:
        if pixels.offset is not None:
            file.seek(pixels.offset + header.frame * pixels.frame_bytes)
            data = file.read(pixels.frame_bytes)
        else:
            data = file.read()
    return (hashlib.sha256(data).digest(), pixels.transfer_syntax, pixels.is_signed, header.slope, header.intercept)


def _irregular(slices: Sequence[Header], gaps: Array, lean_deg: float) -> Fault:
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(0.02 * usual, POSITION_TOLERANCE_MM))
    tilted = f"; the gantry is tilted by {lean_deg:.1f} degrees as well" if lean_deg else ""
    if not len(odd):
        odd = np.array([int(np.argmax(np.abs(gaps - usual)))])
    worst = int(odd[np.argmax(np.abs(gaps[odd] - usual))])
    lost = gaps[odd] / usual
    if (np.abs(lost - np.rint(lost)) < 0.05).all() and (lost > 1.5).all() and len(odd) <= max(1, len(gaps) // 4):
        count = int(np.rint(lost).sum()) - len(odd)
        cause = f"are {count} slices missing?" if count > 1 else "is a slice missing?"
        more = f" ({len(odd)} gaps in all)" if len(odd) > 1 else ""
        return IrregularSlices(
            f"gap of {gaps[worst]:.2f} mm after slice {worst + 1}{more}, the others are {usual:.2f} mm apart; "
            f"{cause}{tilted}",
            path=slices[worst].path,
        )
    spread = " and ".join(f"{g:.2f}" for g in _distinct(gaps))
    return IrregularSlices(
        f"slices are {spread} mm apart, one distance is needed (it changes after slice {int(odd[0]) + 1}); were two "
        f"scans joined, or is a slice missing?{tilted}",
        path=slices[int(odd[0])].path,
    )


def _distinct(gaps: Array) -> list[float]:
    values: list[float] = []
    for gap in gaps:
        if all(abs(gap - v) > POSITION_TOLERANCE_MM for v in values):
            values.append(float(gap))
    return values[:4]


def coarse(pitch_mm: float) -> list[str]:
    """What slices too far apart for the spine's small parts are told with; nothing for fine ones."""
    if pitch_mm <= FINE_MM:
        return []
    return [f"slices are {pitch_mm:.2f} mm apart; pedicles and facets need {FINE_MM:g} mm or less"]


def _check_coverage(layout: Layout, notes: list[str]) -> None:
    """Hints that slices are absent although the rest is regular; nothing here proves it."""
    headers, pitch = layout.headers, float(layout.grid.spacing_mm[2])
    thickness = headers[0].thickness_mm
    if thickness and pitch > 1.05 * thickness:
        unseen = "tissue between them was not seen; were slices left out?"
        notes.append(f"slices are {pitch:.3f} mm apart but {thickness:.3f} mm thick: {unseen}")
    announced = headers[0].related_instances
    if announced and announced > len(headers):
        notes.append(f"{len(headers)} slices, the series announces {announced}; was it copied whole?")
    notes.extend(coarse(pitch))


def _same(slices: Sequence[Header], faults: list[Fault], what: str, values: list[tuple[float, ...]]) -> None:
    found = set(values)
    if len(found) > 1:
        odd = _odd_one_out(values)
        shown = ", ".join(" x ".join(f"{n:g}" for n in v) for v in sorted(found)[:3])
        faults.append(MixedSeries(f"{len(found)} different {what} in one series ({shown})", path=slices[odd].path))


def _known(values: Array | None) -> Array:
    assert values is not None  # every plane was checked before
    return values


def _size(header: Header) -> tuple[float, ...]:
    assert header.pixels is not None
    return (header.pixels.rows, header.pixels.columns)


def _rounded(values: Array | None, step: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.round(_known(values).ravel() / step) * step)


def _usual_index(values: Sequence[Hashable]) -> int:
    counts = Counter(values)
    return max(range(len(values)), key=lambda i: counts[values[i]])


def _odd_one_out(values: Sequence[Hashable]) -> int:
    counts = Counter(values)
    return min(range(len(values)), key=lambda i: counts[values[i]])
