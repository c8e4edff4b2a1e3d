"""Writing a phantom's folder: `dicom/*.dcm`, `labels.nii.gz`, `truth.json`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Misuse
from spatial.progress import Progress, part, silent
from twin.scan.phantom.dicom_series import upright, write_nifti, write_series
from twin.scan.phantom.kernels import STANDARD, Kernel
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.truth import options_of, truth
from twin.scan.phantom.voxels import Scan, scan_grid, synthesise

BODY_PARTS = {
    "lumbar": "LSPINE", "thoracic": "TSPINE", "spine": "SPINE", "pelvis": "PELVIS", "femur": "EXTREMITY",
    "tibia": "EXTREMITY", "leg": "EXTREMITY",
}  # fmt: skip


def check_free(folder: Path, *, force: bool = False) -> None:
    """Refuse a folder that holds anything, unless a phantom there may be replaced; `write` spares what is none."""
    if force or not folder.exists():
        return
    if not folder.is_dir():
        raise Misuse("this is a file; a folder is needed", path=folder)
    held = sorted(f.name for f in folder.iterdir())
    if held:
        raise Misuse(f"the folder holds {', '.join(held[:4])}; --force replaces a phantom that is there", path=folder)


def write(
    phantom: Phantom, folder: Path, *, slice_mm: float = 0.8, pixel_mm: float = 0.74, tilt_deg: float = 0.0,
    noise_hu: float | None = None, kernel: Kernel = STANDARD, scan: Scan | None = None, progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """Scan the phantom (or take a finished `scan`) and write everything; return the truth document.

    The series is written aside and moved into place when complete; an older phantom there is replaced, anything else in
    `folder/dicom` is refused.
    """
    target = folder / "dicom"
    if target.exists() and any(not f.name.startswith("slice_") or f.suffix != ".dcm" for f in target.iterdir()):
        raise Misuse("dicom/ holds files that no phantom wrote; choose another folder", path=folder)
    if scan is None:
        grid = scan_grid(phantom, slice_mm=slice_mm, pixel_mm=pixel_mm, tilt_deg=tilt_deg)
        scan = synthesise(phantom, grid, noise_hu=noise_hu, kernel=kernel, progress=part(progress, 0.0, 0.6))
    grid, kernel, person = scan.grid, scan.kernel, phantom.anatomy
    options: dict[str, Any] = {
        "slice_mm": grid.slice_mm, "pixel_mm": grid.pixel_mm, "tilt_deg": grid.tilt_deg,
        "noise_hu": kernel.noise_hu if noise_hu is None else noise_hu,
    }  # fmt: skip
    if kernel is not STANDARD:
        options["kernel"] = kernel.name
    unusual = {k: v for k, v in options_of(person).items() if k not in ("anatomy", "osteoporosis")}
    if person.region != "lumbar":
        unusual["anatomy"] = person.region
    identity = json.dumps(
        [person.seed, person.osteoporosis, options, list(grid.size), grid.origin_mm.tolist()]
        + ([unusual] if unusual else [])
    )
    labelled = grid if grid.tilt_deg == 0.0 else upright(grid)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".dicom-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        words = f"{person.region} phantom" + (", osteoporotic" if person.osteoporosis else "")
        series = write_series(
            scan,
            aside,
            seed=phantom.anatomy.seed,
            description=words,
            identity=identity,
            body_part=BODY_PARTS[person.region],
            laterality=person.sides[0][0].upper() if len(person.sides) == 1 else None,
            progress=part(progress, 0.6, 0.85),
        )
        progress("writing labels", 0.86)
        still = scan if labelled is grid else synthesise(phantom, labelled, noise_hu=0.0)
        write_nifti(still.labels, labelled, aside / "labels.nii.gz")
        if still.metal is not None:
            write_nifti(still.metal.astype(np.uint8), labelled, aside / "metal.nii.gz")
        progress("measuring the truth", 0.92)
        document = truth(phantom, options)
        document["series_uid"] = series
        document["grid"] = {
            "size": list(grid.size), "origin_mm": grid.origin_mm.tolist(), "row": grid.row.tolist(),
            "column": grid.column.tolist(), "step_mm": grid.step_mm.tolist(),
        }  # fmt: skip
        (aside / "truth.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / "metal.nii.gz").unlink(missing_ok=True)
        for name in ("labels.nii.gz", "metal.nii.gz", "truth.json"):
            if (aside / name).exists():
                (aside / name).replace(folder / name)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    progress("done", 1.0)
    return document
