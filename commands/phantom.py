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
    anatomy: Annotated[
        str,
        typer.Option(help="lumbar (T10 to the hips), thoracic (C7 to L1), spine (both), pelvis, femur, tibia or leg."),
    ] = "lumbar",
    slice_mm: Annotated[float, typer.Option(help="Distance between slices, 0.2 to 5 mm.")] = 0.8,
    scoliosis_deg: Annotated[float, typer.Option(help="Cobb angle, up to 40; the seed draws the convex side.")] = 0.0,
    transitional: Annotated[
        str | None, typer.Option(help="L6 or T13 (a vertebra more), L4 (only four lumbar vertebrae).")
    ] = None,
    metal: Annotated[bool, typer.Option("--metal", help="Implants and their streaks; --implants says which.")] = False,
    implants: Annotated[str, typer.Option(help="screws (with rods), hip or both.")] = "screws",
    contrast: Annotated[bool, typer.Option("--contrast", help="Contrast-filled vessels and kidneys.")] = False,
    osteoporosis: Annotated[
        bool, typer.Option("--osteoporosis", help="Low density and thin cortex, same shape.")
    ] = False,
    side: Annotated[str, typer.Option(help="Of femur, tibia and leg: left, right or both.")] = "both",
    kernel: Annotated[str, typer.Option(help="standard, soft or sharp: two scanners' reconstructions.")] = "standard",
    tilt_deg: Annotated[float, typer.Option(help="Gantry tilt, up to 30 degrees either way.")] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Replace the phantom that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a synthetic CT series of a patient whose every surface is known, its labels and its truth."""
    from twin.scan.phantom.folder import check_free
    from twin.scan.phantom.folder import write as write_folder
    from twin.scan.phantom.kernels import kernel_named
    from twin.scan.phantom.patient import Phantom

    if side not in ("left", "right", "both"):
        raise Misuse(f"no side '{side}'; left, right or both")
    chosen = kernel_named(kernel)
    check_free(folder, force=force)
    with progress_bar("phantom") as progress:
        progress("growing the bones", 0.0)
        document = write_folder(
            Phantom.make(
                seed, anatomy=anatomy, osteoporosis=osteoporosis, scoliosis_deg=scoliosis_deg,
                transitional=transitional, metal=implants if metal else None, contrast=contrast,
                sides=("left", "right") if side == "both" else (side,),
            ),
            folder,
            slice_mm=slice_mm,
            tilt_deg=tilt_deg,
            kernel=chosen,
            progress=progress,
        )  # fmt: skip
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
        return
    a = document["alignment"]
    words = [f"Wrote {found['slices']} slices, {len(found['bones'])} bones to {folder}."]
    if "LL_deg" in a and "PI_deg" in a:
        angles = f"PI {a['PI_deg']:.1f} = PT {a['PT_deg']:.1f} + SS {a['SS_deg']:.1f} deg"
        words.append(f"L1-S1 lordosis {a['LL_deg']:.1f} deg, {angles}.")
    if "cobb_deg" in a:
        curve = document["scoliosis"]
        words.append(f"Cobb {a['cobb_deg']:.1f} deg, {curve['upper']} to {curve['lower']}, convex {curve['convex']}.")
    if "metal" in document:
        words.append(f"{len(document['metal'])} implants.")
    tell(*words)
