"""Writing a phantom's folder: `dicom/*.dcm`, `labels.nii.gz`, `truth.json`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from spatial.faults import Misuse
from spatial.progress import Progress, part, silent
from twin.scan.phantom.dicom_series import write_nifti, write_series
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.truth import truth
from twin.scan.phantom.voxels import Scan, scan_grid, synthesise


def write(
    phantom: Phantom, folder: Path, *, slice_mm: float = 0.8, pixel_mm: float = 0.74, tilt_deg: float = 0.0,
    noise_hu: float = 20.0, scan: Scan | None = None, progress: Progress = silent,
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
        scan = synthesise(phantom, grid, noise_hu=noise_hu, progress=part(progress, 0.0, 0.6))
    grid = scan.grid
    options = {"slice_mm": grid.slice_mm, "pixel_mm": grid.pixel_mm, "tilt_deg": grid.tilt_deg, "noise_hu": noise_hu}
    identity = json.dumps(
        [phantom.anatomy.seed, phantom.anatomy.osteoporosis, options, list(grid.size), grid.origin_mm.tolist()]
    )
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".dicom-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        words = "lumbar phantom, osteoporotic" if phantom.anatomy.osteoporosis else "lumbar phantom"
        series = write_series(
            scan,
            aside,
            seed=phantom.anatomy.seed,
            description=words,
            identity=identity,
            progress=part(progress, 0.6, 0.85),
        )
        progress("writing labels", 0.86)
        write_nifti(scan.labels, grid, aside / "labels.nii.gz")
        progress("measuring the truth", 0.92)
        document = truth(phantom, options)
        document["series_uid"] = series
        document["grid"] = {
            "size": list(grid.size), "origin_mm": grid.origin_mm.tolist(), "row": grid.row.tolist(),
            "column": grid.column.tolist(), "step_mm": grid.step_mm.tolist(),
        }  # fmt: skip
        (aside / "truth.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (aside / "labels.nii.gz").replace(folder / "labels.nii.gz")
        (aside / "truth.json").replace(folder / "truth.json")
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    progress("done", 1.0)
    return document
