"""Mutated scans against the reader: `python -m tests.bench.fuzz_scan --minutes 30 --seed 1 --out FOLDER`.

A sound small scan in one of many forms (transfer syntaxes, archives, image files) is damaged: bytes, header elements,
files dropped, doubled or swapped, archives rewritten. Whatever comes out must be a Fault, or a volume that an
independent reader (pydicom's own parser and decoders slice by slice, SimpleITK for image files) finds in the same
files: the same voxels in the same place. Anything else is kept in FOLDER: a crash, a wrong volume, too long, too big.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

from spatial.faults import Fault
from tests.bench.fuzz_forms import FORMS, make
from tests.bench.fuzz_mutations import mutate
from twin.scan.dicom_seg import fingerprint
from twin.scan.load import load_volume
from twin.scan.volume import Volume

SECONDS = 60  # one load of a scan this small takes a second at most
MEMORY_MB = 2048  # what the process may grow by over the whole run
NEAR_MM = 0.12  # positions may be off by that much and still count as one line of slices


class TooLong(BaseException):
    """A load that did not end."""


def main() -> int:
    """Run until the time is over; print a line of JSON with the tally."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--form", choices=sorted(FORMS))
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"))
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _late)
    tally: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest, began, number = 0.0, time.monotonic(), 0
    base_mb = _peak_mb()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        sound = {name: make(name, Path(folder, "sound", name)) for name in FORMS if given.form in (None, name)}
        names = sorted(sound)
        while time.monotonic() - began < given.minutes * 60 and (not given.rounds or number < given.rounds):
            rng = np.random.default_rng([given.seed, number])
            name = names[int(rng.integers(len(names)))]
            work = Path(folder, "work")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(sound[name], work)
            source, what = mutate(name, work, rng)
            started = time.monotonic()
            outcome, words = _judged(source)
            slowest = max(slowest, time.monotonic() - started)
            tally[outcome] += 1
            said = words.strip().splitlines()[-1][:90] if outcome in ("refused", "not comparable") else ""
            kinds[f"{name}: {outcome} {said}".strip()] += 1
            if outcome not in ("refused", "right", "not comparable"):
                kept = given.out / f"{given.seed}-{number}-{name}-{outcome.replace(' ', '_')}"
                shutil.copytree(work, kept, dirs_exist_ok=True)
                (kept / "what.txt").write_text(f"{what}\n{words}\n")
                print(f"{number} {name} {outcome}: {what}: {words.splitlines()[-1][:200]}", file=sys.stderr, flush=True)
            number += 1
    grown = _peak_mb() - base_mb
    print(
        json.dumps(
            {
                "rounds": number,
                "minutes": round((time.monotonic() - began) / 60, 2),
                "seed": given.seed,
                "outcomes": dict(tally),
                "slowest_s": round(slowest, 2),
                "grown_mb": round(grown),
                "kinds": dict(sorted(kinds.items())),
            }
        )
    )
    return int(any(k not in ("refused", "right", "not comparable") for k in tally) or grown > MEMORY_MB)


def _late(*_: object) -> None:
    raise TooLong


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _judged(source: Path) -> tuple[str, str]:
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            volume = load_volume(source)
    except Fault as fault:
        return "refused", fault.kind
    except TooLong:
        return "too long", f"over {SECONDS} s"
    except BaseException:
        return "crash", traceback.format_exc()
    finally:
        signal.alarm(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wrong = _difference(volume, source)
        except NoOpinion as none:
            return "not comparable", str(none)
        except Exception:
            return "not comparable", traceback.format_exc()
    return ("wrong volume", wrong) if wrong else ("right", "")


class NoOpinion(Exception):
    """The independent reader cannot read what the reader under test has read."""


def _difference(volume: Volume, source: Path) -> str:
    """What an independent reading of the same files finds otherwise; empty when it agrees."""
    if source.suffix in (".nii", ".gz", ".nrrd", ".nhdr", ".mha", ".mhd") and "tar" not in source.name:
        return _against_itk(volume, source)
    if source.is_file() and source.suffix in (".zip", ".gz", ".xz", ".tar"):
        with tempfile.TemporaryDirectory() as folder:
            shutil.unpack_archive(source, folder, filter="data") if source.suffix != ".zip" else shutil.unpack_archive(
                source, folder
            )
            return _against_pydicom(volume, Path(folder))
    return _against_pydicom(volume, source if source.is_dir() else source.parent)


def _against_itk(volume: Volume, source: Path) -> str:
    try:
        image = SimpleITK.ReadImage(str(source))
    except RuntimeError as error:
        raise NoOpinion(str(error)[-200:]) from None
    if any("sform and qform disagree" in note for note in volume.warnings):
        raise NoOpinion("sform and qform differ by a shift, which is said")
    values = SimpleITK.GetArrayFromImage(image)
    if values.ndim != 3:
        raise NoOpinion(f"{values.ndim} dimensions")
    generator = np.random.default_rng(0)
    kji = np.stack([generator.integers(0, n, 400) for n in values.shape], -1)
    worst = 0.0
    for k, j, i in kji:
        place = np.array(image.TransformContinuousIndexToPhysicalPoint((float(i), float(j), float(k))))
        at = ((place - volume.grid.origin_mm) @ volume.grid.axes) / volume.grid.spacing_mm
        near = np.rint(at).astype(int)
        if (near < 0).any() or (near >= volume.grid.size).any():
            return f"voxel {k, j, i} lies outside"
        worst = max(worst, float((np.abs(at - near) * volume.grid.spacing_mm).max()))
        ours, theirs = float(volume.hu[near[2], near[1], near[0]]), float(values[k, j, i])
        if abs(ours - theirs) > 0.51 and np.isfinite(theirs):
            return f"voxel {k, j, i}: {ours} HU, {theirs} expected"
    return f"voxels {worst:.3f} mm off" if worst > NEAR_MM else ""


def _against_pydicom(volume: Volume, folder: Path) -> str:
    """Every slice that pydicom finds in the folder must be in the volume, at its place, with its values."""
    seen: set[int] = set()
    about = dict(volume.about)
    is_said = any("other series in the folder left aside" in note for note in volume.warnings)
    tilted, resampled = about["gantry_tilt_corrected_deg"], about["resampled_from_mm"]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            data = pydicom.dcmread(path, force=True)
        except Exception:
            continue
        is_ct = (data.get("Modality") or "CT") == "CT" and "Rows" in data
        if is_said and fingerprint(str(data.get("SeriesInstanceUID"))) != about["series_fingerprint"]:
            continue  # damage put it into a series of its own; those that stand next in line were refused
        if not is_ct or "LOCALIZER" in (data.get("ImageType") or []):
            continue
        try:
            stored = data.pixel_array.astype(np.float64)
        except Exception as error:
            return f"{path.name} cannot be decoded ({error}), but the series was loaded"
        frames = [(data, stored)] if stored.ndim == 2 else list(_frames(data, stored))
        for described, plane in frames:
            values = plane * float(described.RescaleSlope) + float(described.RescaleIntercept)
            place = np.array([float(x) for x in described.ImagePositionPatient])
            row, column = np.array([float(x) for x in described.ImageOrientationPatient]).reshape(2, 3)
            at = ((place - volume.grid.origin_mm) @ volume.grid.axes) / volume.grid.spacing_mm
            k = round(float(at[2]))
            if not 0 <= k < volume.grid.size[2]:
                return f"{path.name} lies at slice {at[2]:.2f}"
            seen.add(k)
            if tilted or resampled:
                continue
            off = np.abs(at - [0, 0, k]) * volume.grid.spacing_mm
            if off.max() > NEAR_MM:
                return f"{path.name} lies {off.max():.3f} mm off"
            far = place + row * float(described.PixelSpacing[1]) * (values.shape[1] - 1)
            far = far + column * float(described.PixelSpacing[0]) * (values.shape[0] - 1)
            corner = volume.grid.patient_from_index(np.array([values.shape[1] - 1, values.shape[0] - 1, k])).mm
            if np.linalg.norm(far - corner) > 2 * NEAR_MM:
                return f"{path.name}: the far corner lies {np.linalg.norm(far - corner):.3f} mm off"
            ours = volume.hu[k].astype(np.float64)
            if ours.shape != values.shape or np.abs(ours - values).max() > 0.51:
                return f"{path.name}: other values"
    if len(seen) != volume.grid.size[2] and not resampled:
        return f"{len(seen)} slices in the files, {volume.grid.size[2]} in the volume"
    return ""


def _frames(data: pydicom.Dataset, stored: np.ndarray) -> list[tuple[pydicom.Dataset, np.ndarray]]:
    """The frames of an Enhanced CT as plain slices."""
    out = []
    for own, plane in zip(data.PerFrameFunctionalGroupsSequence, stored, strict=True):
        flat = pydicom.Dataset()
        for group in (data.SharedFunctionalGroupsSequence[0], own):
            for macro in group:
                if macro.VR == "SQ" and macro.value:
                    flat.update(macro.value[0])
        out.append((flat, plane))
    return out


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
