"""Whether slices belong together and hold Hounsfield units: patient, study, frame of reference, grey values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from spatial.faults import Fault
from twin.scan.headers import CT_CLASSES, Header
from twin.scan.refusals import MixedSeries, NoCT, NotHounsfield

PARAMETER_MAPS = frozenset({"PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "TMAX"})


def check_identity(slices: Sequence[Header], faults: list[Fault], notes: list[str], *, ct_only: bool = True) -> None:
    """One patient, study, frame of reference and modality; what is not goes to `faults`, and so does what is no CT."""
    first = slices[0]
    is_ct = first.modality == "CT" or (not first.modality and first.sop_class in CT_CLASSES)
    if ct_only and not is_ct:
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
            odd = odd_one_out([value(h) for h in slices])
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


def check_greys(slices: Sequence[Header], faults: list[Fault], notes: list[str]) -> None:
    """Whether the stored values can become Hounsfield units; what cannot goes to `faults`."""
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


def odd_one_out(values: Sequence[Hashable]) -> int:
    """The index of the rarest value."""
    counts = Counter(values)
    return min(range(len(values)), key=lambda i: counts[values[i]])
