"""Another scan of the same patient, of any modality: its geometry judged as a CT's, its grey values left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.progress import Progress, part, silent
from twin.scan.containers import unpacked
from twin.scan.digest import content_sha256
from twin.scan.geometry import judge
from twin.scan.headers import Header
from twin.scan.images import is_image_file, read_image
from twin.scan.placing import placed
from twin.scan.refusals import BadImage, NoScan, SeriesChoice
from twin.scan.series import Series, survey
from twin.scan.volume import Volume
from twin.scan.voxels import read_slices

WIDEST = 30_000.0  # grey values of a scan that does not fit int16 are scaled to this


def load_other(source: Path, *, series_uid: str | None = None, progress: Progress = silent) -> Volume:
    """MR, CT or another stack of slices, grey values as stored (no HU). Raises as `load_volume`, except NoCT.

    `series_uid` chooses among several DICOM series.
    """
    if source.is_file() and is_image_file(source):
        image = read_image(source)
        if min(image.values.shape) < 2:
            raise BadImage(f"{image.values.shape[::-1]} voxels; one slice is no volume", path=source)
        grey = _as_int16(image.values)
        plain_about: dict[str, Any] = {
            "format": "image file",
            "modality": None,
            "content_sha256": content_sha256(image.grid, grey),
        }
        return Volume(image.grid, grey, plain_about, tuple(image.warnings))
    with unpacked(source, part(progress, 0.0, 0.2)) as place:
        series = _chosen(survey(place, part(progress, 0.2, 0.4)).series, series_uid, source)
        if series.broken:
            raise series.broken[0]
        plain = tuple(_unscaled(header) for header in series.headers)
        verdict = judge(plain, ct_only=False)
        if verdict.faults:
            raise verdict.faults[0]
        layout = verdict.layout
        assert layout is not None
        slices = read_slices(layout.headers, part(progress, 0.4, 1.0))
        grey = slices if not (layout.is_tilted or layout.is_resampled) else placed(layout, slices, silent)
        about: dict[str, Any] = {
            "format": "DICOM",
            "modality": series.modality or None,
            "slices": len(layout.headers),
            "content_sha256": content_sha256(layout.grid, grey),
        }
        return Volume(layout.grid, grey, about, verdict.warnings)


def _chosen(series: tuple[Series, ...], uid: str | None, source: Path) -> Series:
    stacks = [s for s in series if len([h for h in s.headers if h.position_mm is not None]) > 1]
    chosen = [s for s in (series if uid is not None else stacks) if uid in (None, s.uid)]
    listed = "; ".join(f"{s.uid or '(blank)'} {s.description!r} {s.modality} {len(s.headers)} slices" for s in series)
    if not chosen:
        raise NoScan(f"no stack of slices{f' called {uid!r}' if uid else ''}; there are: {listed}", path=source)
    if len(chosen) > 1:
        raise SeriesChoice(f"{len(chosen)} series; choose one with --series UID: {listed}", path=source)
    return chosen[0]


def _unscaled(header: Header) -> Header:
    """Stored values are compared, not converted: slopes of an MR mean nothing between slices or scans."""
    return replace(header, slope=1.0, intercept=0.0)


def _as_int16(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Grey values as int16; scaled where they are fractions or do not fit."""
    finite = np.where(np.isfinite(values.astype(np.float64)), values, 0.0).astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    if (values.dtype.kind == "f" and high - low < 1000.0) or low < -32768 or high > 32767:
        finite = (finite - low) * (WIDEST / max(high - low, 1e-9))
    return np.ascontiguousarray(np.rint(finite), np.int16)
