"""`osteotwin register`: fit the twin to the patient's reference body and predict the error at every target."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, tell

if TYPE_CHECKING:
    from twin.case import Case

    from spatial.frames import Patient
    from spatial.rigid import Points

app = typer.Typer(add_completion=False)


def targets_of(case: Case) -> Mapping[str, Points[Patient]]:
    """Where the error matters: each planned screw's entry and tip, and every pedicle's isthmus."""
    from twin.plan.plan import Plan

    targets = {
        f"{m.bone} {m.name}": m.position for m in case.twin.landmarks if m.name in ("pedicle_left", "pedicle_right")
    }
    for name in case.plan_names:
        for screw in Plan.from_json(case.load_plan(name)).screws.values():
            targets[f"{name} {screw.id} entry"] = screw.entry
            targets[f"{name} {screw.id} tip"] = screw.tip
    return targets


@app.command()
@command
def register(
    case_folder: Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")],
    pairs_file: Annotated[Path, typer.Option("--pairs", help="[{name, patient_mm, reference_mm}, …]")],
    body_file: Annotated[Path, typer.Option("--body", help="The reference body's geometry file.")],
    out: Annotated[Path, typer.Option("--out", help="Where the registration is written.")],
    fle_mm: Annotated[
        float | None, typer.Option(min=1e-3, help="RMS error of one touch, if it was measured for this pointer.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit reference_from_patient to touched landmarks; says how far off each target may be (95 %)."""
    from twin.case import Case

    from guidance.registration import load_pairs
    from guidance.registration import register as fit
    from tracking.body import Body

    case = Case.open(case_folder)
    body = Body.load(body_file)
    found = fit(load_pairs(pairs_file), body=body.name, twin_id=case.twin.twin_id, fle_mm=fle_mm)
    value = found.to_json(targets_of(case))
    aside = out.with_name(out.name + ".part")
    aside.write_text(json.dumps(value, indent=1))
    os.replace(aside, out)
    case.journal.append(
        "register",
        "registered",
        {k: value[k] for k in ("body", "reference_from_patient", "covariance", "residuals_mm")},
    )
    if as_json:
        emit(value)
        return
    tell(
        f"Registered by {len(found.residuals_mm)} pairs; a touch errs by {found.fle_mm:.2f} mm ({value['fle_source']})."
    )
    tell(*(f"  {name}: within {r:.2f} mm (95 %, predicted)" for name, r in value["predicted_tre95_mm"].items()))
    tell(*found.warnings)
