"""The facts of a DICOM series that its fitness is judged by, from the headers."""

from __future__ import annotations

from datetime import date

from twin.scan.fitness import Facts
from twin.scan.layout import Layout
from twin.scan.pixel_data import LOSSY


def facts_of(layout: Layout, edge_share: float | None = None) -> Facts:
    """Facts of a layout; `edge_share` from `coverage.bone_at_edge` once the voxels are there."""
    headers = layout.headers
    first = headers[0]
    thick = [h.thickness_mm for h in headers if h.thickness_mm]
    spacing = layout.grid.spacing_mm
    syntax = first.pixels.transfer_syntax if first.pixels is not None else ""
    lossy = next((h.lossy for h in headers if h.lossy), "")
    return Facts(
        slice_mm=max(float(spacing[2]), *layout.gaps_mm) if layout.is_resampled else float(spacing[2]),
        pixel_mm=float(spacing[:2].max()),
        cover_mm=float(spacing[2]) * layout.grid.size[2],
        thickness_mm=max(thick) if len(thick) == len(headers) else None,
        kernel=dict(first.about).get("kernel", ""),
        lossy=lossy or ("ratio unknown" if syntax in LOSSY else ""),
        tilt_deg=layout.tilt_deg if layout.is_tilted else 0.0,
        is_resampled=layout.is_resampled,
        study_date=day(first.study_date),
        is_phantom=all(h.is_phantom for h in headers),
        announced=first.related_instances,
        slices=layout.given or len(headers),
        edge_share=edge_share,
    )


def day(text: str) -> date | None:
    """A DICOM date (YYYYMMDD), None when it is absent or no date."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
