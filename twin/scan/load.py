"""A CT from whatever it came in: DICOM folder, file, zip, tar or DICOMDIR, NIfTI, NRRD, MetaImage."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pydicom

from spatial.progress import Progress, part, silent
from twin.scan.containers import unpacked
from twin.scan.coverage import bone_at_edge
from twin.scan.dicom_seg import fingerprint
from twin.scan.facts import day, facts_of
from twin.scan.fitness import judge_fitness
from twin.scan.images import is_image_file, load_image
from twin.scan.labels import load_labels as load_labels
from twin.scan.series import Series, Survey, choose, survey
from twin.scan.volume import Volume
from twin.scan.voxels import read_voxels


def load_volume(
    source: Path,
    *,
    series_uid: str | None = None,
    surgery_since: date | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> Volume:
    """The CT in `source`, HU in Patient coordinates. Raises a fault of `twin.scan.refusals` that names what is wrong.

    `series_uid` chooses among several DICOM series (`UID#2`: the second stack of one). `surgery_since` is the day of
    the last operation on this anatomy, `today` what the scan's age is judged by (the clock's date by default).
    """
    today = today or date.today()
    if source.is_file() and is_image_file(source):
        return load_image(source, progress, surgery_since=surgery_since, today=today)
    with unpacked(source, part(progress, 0.0, 0.2)) as place:
        found = survey(place, part(progress, 0.2, 0.4))
        series = choose(found, series_uid, source)
        if series.strays and series_uid is None:
            raise series.strays[0]
        return load_series(series, found, part(progress, 0.4, 1.0), surgery_since=surgery_since, today=today)


def load_series(
    series: Series,
    found: Survey,
    progress: Progress = silent,
    *,
    surgery_since: date | None = None,
    today: date | None = None,
) -> Volume:
    """The voxels of one series with its fitness; raises the first of its faults."""
    verdict = series.verdict
    if verdict.faults:
        raise verdict.faults[0]
    assert verdict.layout is not None
    layout = verdict.layout
    hu, content_sha256, notes = read_voxels(layout, progress)
    first = layout.headers[0]
    facts = facts_of(layout, bone_at_edge(hu))
    scanned = day(first.study_date)
    about: dict[str, Any] = {
        "format": "DICOM",
        "modality": "CT",
        "slices": len(layout.headers),
        "thickness_mm": first.thickness_mm,
        "transfer_syntax": None if first.pixels is None else first.pixels.transfer_syntax,
        **dict(first.about),
        "lossy": facts.lossy or None,
        "phantom": facts.is_phantom,
        "gantry_tilt_corrected_deg": layout.tilt_deg if layout.is_tilted else None,
        "resampled_from_mm": list(layout.gaps_mm) if layout.is_resampled else None,
        "scan_month": None if scanned is None else f"{scanned:%Y-%m}",  # the day stays with the hospital
        "series_fingerprint": fingerprint(first.series_uid) if first.series_uid else None,
        "frame_of_reference_fingerprint": fingerprint(first.frame_of_reference) if first.frame_of_reference else None,
        "content_sha256": content_sha256,
        "versions": {"pydicom": pydicom.__version__},
    }
    warnings = [*verdict.warnings, *(stray.message for stray in series.strays), *notes]
    if facts.lossy:
        warnings.append(f"the pictures were compressed with loss (ratio {facts.lossy}); edges and density suffer")
    if found.not_dicom:
        warnings.append(f"{found.not_dicom} file{'s' * (found.not_dicom > 1)} in the folder ignored: no DICOM")
    others = len(found.series) - 1
    if others:
        warnings.append(f"{others} other series in the folder left aside")
    fitness = judge_fitness(facts, today=today or date.today(), surgery_since=surgery_since)
    return Volume(layout.grid, hu, about, tuple(warnings), fitness)
