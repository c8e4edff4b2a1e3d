"""The whole line on one patient: CT, twin, plan, rehearsal, guidance, report; every error held against the truth.

With a real CT the same stages run, and errors that need a truth are null.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.guiding import guide_patient
from demo.measure import measure_guidance, measure_plan, measure_twin
from demo.planning import plan_procedure
from demo.present import write_report
from demo.rehearsing import rehearse_plan
from demo.standin import PhantomStandin, TwinStandin
from spatial.faults import Misuse
from spatial.progress import Progress, part, silent
from twin.anatomy.build import build_twin
from twin.case import Case
from twin.plan.plan import Plan
from twin.scan.load import load_labels, load_volume
from twin.scan.phantom.folder import write as write_phantom
from twin.scan.phantom.patient import Phantom

SEED = 1


class OutNotEmpty(Misuse):
    """The output folder holds something that is not an earlier demo."""


@dataclass
class Run:
    """One run of the line: where it writes, and what each stage took."""

    out: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def run_line(
    out: Path,
    ct: Path | None = None,
    labels: Path | None = None,
    series_uid: str | None = None,
    seed: int = SEED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run everything into `out`; returns the content of summary.json. Raises the faults of the rooms."""
    clear(out)
    try:
        return _run(Run(out), ct, labels, series_uid, seed, progress)
    finally:
        if out.is_dir() and not any(out.iterdir()):  # refused before anything was made
            out.rmdir()


def _run(
    run: Run, ct: Path | None, labels: Path | None, series_uid: str | None, seed: int, progress: Progress
) -> dict[str, Any]:
    out = run.out
    phantom: Phantom | None = None
    source = ct
    if source is None:
        with run.stage("phantom"):
            phantom = Phantom.make(seed)
            write_phantom(phantom, out / "phantom", progress=part(progress, 0.0, 0.2))
            source = out / "phantom" / "dicom"
    with run.stage("twin"):
        progress("reading the CT", 0.2)
        volume = load_volume(source, series_uid=series_uid, progress=part(progress, 0.2, 0.25))
        given = None if labels is None else load_labels(labels, volume.grid)
        twin, label_map = build_twin(volume, given, progress=part(progress, 0.25, 0.5))
        case = Case.create(out / "case", twin, volume, label_map)
    with run.stage("plan"):
        progress("planning", 0.52)
        with case:  # the journal is free again for the replay in another process
            plan, planning = plan_procedure(case, volume)
    with run.stage("rehearsal"):
        rehearsal = rehearse_plan(case, plan, out, part(progress, 0.55, 0.7))
    guidance = None
    with run.stage("guidance"):
        if plan.screws:
            body = TwinStandin(twin) if phantom is None else PhantomStandin(phantom)
            guidance = guide_patient(body, case, plan, out, part(progress, 0.7, 0.92))
    with run.stage("measure"):
        progress("measuring against the truth", 0.92)
        measured = measure(phantom, out, case, plan, guidance)
    summary: dict[str, Any] = {
        "source": "phantom" if phantom is not None else "ct",
        "seed": seed if phantom is not None else None,
        **measured,
        "twin": {
            "bones": {name: round(bone.volume_ml, 3) for name, bone in sorted(twin.bones.items())},
            "closed": all(bone.is_closed for bone in twin.bones.values()),
            "levels": {"confidence": twin.levels.confidence, "confirmed_by": twin.levels.confirmed_by},
            "density": None if twin.density is None else dict(twin.density),
            "warnings": [*volume.warnings, *twin.warnings],
        },
        "plan": planning,
        "rehearsal": rehearsal,
        "guidance": None if guidance is None else guidance.numbers,
        "seconds": run.seconds,
    }
    progress("writing the report", 0.95)
    with run.stage("report"):
        write_report(out, case, volume, plan, summary)
    summary["seconds"] = run.seconds
    aside = out / "summary.json.part"
    aside.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    os.replace(aside, out / "summary.json")
    progress("done", 1.0)
    return summary


def measure(phantom: Phantom | None, out: Path, case: Case, plan: Plan, guidance: Any) -> dict[str, Any]:
    """Every error against the truth; null where there is none."""
    if phantom is None:
        nothing: dict[str, Any] = dict.fromkeys(
            (
                "mesh_error_mean_mm",
                "screw_grades",
                "osteotomy_error_deg",
                "hinge_error_mm",
                "overlay_error_px",
                "overlay_error_mm",
            )
        )
        return nothing
    truth = json.loads((out / "phantom" / "truth.json").read_text())
    return {
        **measure_twin(phantom, truth, case.twin),
        **measure_plan(phantom, truth, case.twin, plan),
        **(measure_guidance(guidance) if guidance is not None else {"overlay_error_px": None}),
    }


def clear(out: Path) -> None:
    """Make the folder; an earlier demo in it goes, anything else is refused."""
    ours = {"phantom", "case", "rehearsal", "guidance", "summary.json", "report.html", "pictures"}
    if out.exists() and not out.is_dir():
        raise OutNotEmpty("a file stands where the demo's folder should go; choose another --out", path=out)
    if out.exists():
        names = {p.name for p in out.iterdir()}
        strange = {
            n for n in names if n not in ours and not n.startswith(("eye_", "overlay_")) and not n.endswith(".mp4")
        }
        if strange:
            raise OutNotEmpty(
                f"the folder holds {sorted(strange)[0]!r}, which no demo wrote; choose another --out", path=out
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
