"""`osteotwin phantom`: a synthetic CT of known anatomy, with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, progress_bar, tell
from spatial.faults import Misuse

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def phantom() -> None:
    """The digital phantom: a patient whose every surface is known."""


@app.command()
@command
def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where dicom/, labels.nii.gz and truth.json go.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same patient.")] = 1,
    anatomy: Annotated[str, typer.Option(help="Region; this version has lumbar (T10 to the hips).")] = "lumbar",
    slice_mm: Annotated[float, typer.Option(help="Distance between slices, 0.2 to 5 mm.")] = 0.8,
    osteoporosis: Annotated[
        bool, typer.Option("--osteoporosis", help="Low density and thin cortex, same shape.")
    ] = False,
    tilt_deg: Annotated[float, typer.Option(help="Gantry tilt, up to 30 degrees either way.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a synthetic CT series of a patient whose every surface is known, its labels and its truth."""
    if anatomy != "lumbar":
        raise Misuse(f"no anatomy '{anatomy}'; this version has: lumbar")
    from twin.scan.phantom.folder import write as write_folder
    from twin.scan.phantom.patient import Phantom

    with progress_bar("phantom") as progress:
        progress("growing the bones", 0.0)
        document = write_folder(
            Phantom.make(seed, osteoporosis=osteoporosis),
            folder,
            slice_mm=slice_mm,
            tilt_deg=tilt_deg,
            progress=progress,
        )
    found = {
        "folder": str(folder),
        "series_uid": document["series_uid"],
        "slices": document["grid"]["size"][2],
        "bones": {name: bone["volume_ml"] for name, bone in document["bones"].items()},
        "alignment": document["alignment"],
        "seed": seed,
        "options": document["options"],
    }
    if as_json:
        emit(found)
    else:
        a = document["alignment"]
        angles = f"PI {a['PI_deg']:.1f} = PT {a['PT_deg']:.1f} + SS {a['SS_deg']:.1f} deg"
        tell(
            f"Wrote {found['slices']} slices, {len(found['bones'])} bones to {folder}.",
            f"L1-S1 lordosis {a['LL_deg']:.1f} deg, {angles}.",
        )
