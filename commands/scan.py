"""`osteotwin scan`: what is in a folder, before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import command, emit, progress_bar, tell
from spatial.progress import Progress, part

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def scan() -> None:
    """Look at scans: the series in a folder and what is wrong with each."""


@app.command("list")
@command
def list_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A DICOM folder or file, DICOMDIR, zip or tar of one; or NIfTI, NRRD, MetaImage."
        ),
    ],
    thumbnails: Annotated[
        Path | None, typer.Option("--thumbnails", metavar="DIR", help="Write a PNG of each series there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List the series under PATH: what stands against using each, and what it is fit for."""
    from twin.scan.containers import unpacked

    with progress_bar("scan") as progress, unpacked(path, part(progress, 0.0, 0.5)) as place:
        if thumbnails is not None:
            thumbnails.mkdir(parents=True, exist_ok=True)
        found = _found(place, thumbnails, part(progress, 0.5, 1.0))
        if place != path:  # names inside an archive, not of the folder that is gone afterwards
            for series in found["series"]:
                series["problems"] = [text.replace(str(place), str(path)) for text in series["problems"]]
    if as_json:
        emit(found)
        return
    for series in found["series"]:
        _tell(series)


def _found(path: Path, thumbnails: Path | None, progress: Progress) -> dict[str, Any]:
    from twin.scan.images import describe_image, is_image_file
    from twin.scan.series import survey

    if path.is_file() and is_image_file(path):
        return {"series": [describe_image(path, None if thumbnails is None else thumbnails / "series_01.png")]}
    listing = survey(path, part(progress, 0.0, 0.6 if thumbnails else 1.0))
    entries = []
    for number, series in enumerate(listing.series, 1):
        entry = series.to_json()
        if thumbnails is not None:
            from twin.scan.thumbnails import draw_thumbnail

            progress("drawing thumbnails", 0.6 + 0.4 * number / len(listing.series))
            picture = thumbnails / f"series_{number:02}.png"  # a UID is never a file's name
            entry["thumbnail"] = str(picture) if draw_thumbnail(series, picture) else None
        entries.append(entry)
    return {"series": entries, "ignored": {"not_dicom": listing.not_dicom, "not_images": listing.not_images}}


def _tell(series: dict[str, Any]) -> None:
    size = " x ".join(str(n) for n in series["size"]) if series["size"] else "size unknown"
    spacing = " x ".join(f"{s:.3g}" for s in series["spacing_mm"] or [])
    tell(
        f"{series['modality']:<4} {size:<18} {spacing + ' mm' if spacing else '':<22} {series['description']}",
        f"     {series['uid'] or '(no UID)'}",
    )
    tell(*(f"     - {problem}" for problem in series["problems"]))
    for use, judged in (series["fitness"] or {}).items():
        state = "fit" if judged["fit"] else "NOT FIT"
        tell(f"     {use}: {state}" + (f" ({'; '.join(judged['reasons'])})" if judged["reasons"] else ""))
    if series.get("thumbnail"):
        tell(f"     picture: {series['thumbnail']}")
