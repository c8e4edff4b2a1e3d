"""A CT from whatever it came in: DICOM folder or file, NIfTI, NRRD, MetaImage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from spatial.progress import Progress, part, silent
from twin.scan.dicom_seg import fingerprint as uid_fingerprint
from twin.scan.images import is_image_file, load_image
from twin.scan.labels import load_labels as load_labels
from twin.scan.series import Series, Survey, choose, survey
from twin.scan.volume import Volume
from twin.scan.voxels import read_voxels


def load_volume(source: Path, *, series_uid: str | None = None, progress: Progress = silent) -> Volume:
    """The CT in `source`, HU in Patient coordinates. Raises a fault of `twin.scan.refusals` that names what is wrong.

    `series_uid` chooses among several DICOM series.
    """
    if source.is_file() and is_image_file(source):
        return load_image(source, progress)
    found = survey(source, part(progress, 0.0, 0.3))
    series = choose(found, series_uid, source)
    return load_series(series, found, part(progress, 0.3, 1.0))


def load_series(series: Series, found: Survey, progress: Progress = silent) -> Volume:
    """The voxels of one series; raises the first of its faults."""
    verdict = series.verdict
    if verdict.faults:
        raise verdict.faults[0]
    assert verdict.layout is not None
    layout = verdict.layout
    hu, fingerprint, notes = read_voxels(layout, progress)
    first = layout.headers[0]
    about: dict[str, Any] = {
        "format": "DICOM",
        "modality": "CT",
        "slices": len(layout.headers),
        "thickness_mm": first.thickness_mm,
        "transfer_syntax": None if first.pixels is None else first.pixels.transfer_syntax,
        **dict(first.about),
        "gantry_tilt_corrected_deg": layout.tilt_deg if layout.is_tilted else None,
        "resampled_from_mm": list(layout.gaps_mm) if layout.is_resampled else None,
        "series_fingerprint": uid_fingerprint(first.series_uid) if first.series_uid else None,
        "frame_of_reference_fingerprint": (
            uid_fingerprint(first.frame_of_reference) if first.frame_of_reference else None
        ),
        "content_sha256": fingerprint,
        "versions": {"pydicom": pydicom.__version__},
    }
    warnings = [*verdict.warnings, *notes]
    if found.not_dicom:
        warnings.append(f"{found.not_dicom} file{'s' * (found.not_dicom > 1)} in the folder ignored: no DICOM")
    others = len(found.series) - 1
    if others:
        warnings.append(f"{others} other series in the folder left aside")
    return Volume(layout.grid, hu, about, tuple(warnings))
