"""`osteotwin scan`: what is in a folder, before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import command, emit, progress_bar, tell

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def scan() -> None:
    """Look at scans: the series in a folder and what is wrong with each."""


@app.command("list")
@command
def list_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A DICOM folder or file, or a NIfTI, NRRD or MHA file.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List the series under PATH, each with everything that stands against using it; reads headers only."""
    from twin.scan.images import describe_image, is_image_file
    from twin.scan.series import survey

    if path.is_file() and is_image_file(path):
        found: dict[str, Any] = {"series": [describe_image(path)]}
    else:
        with progress_bar("scan") as progress:
            listing = survey(path, progress)
        found = {
            "series": [series.to_json() for series in listing.series],
            "ignored": {"not_dicom": listing.not_dicom, "not_images": listing.not_images},
        }
    if as_json:
        emit(found)
        return
    for series in found["series"]:
        size = " x ".join(str(n) for n in series["size"]) if series["size"] else "size unknown"
        spacing = " x ".join(f"{s:.3g}" for s in series["spacing_mm"] or [])
        tell(
            f"{series['modality']:<4} {size:<18} {spacing + ' mm' if spacing else '':<22} {series['description']}",
            f"     {series['uid'] or '(no UID)'}",
        )
        tell(*(f"     - {problem}" for problem in series["problems"]))
