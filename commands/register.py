"""`osteotwin register`: fit the twin to the patient's reference body and predict the error at every target."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, tell
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from guidance.registration import Direction, Registration
    from spatial.frames import Patient
    from spatial.rigid import Points
    from twin.case import Case

app = typer.Typer(add_completion=False)
DIRECTIONS: tuple[Direction, ...] = ("reference-from-patient", "patient-from-reference")


class NotWritten(Fault):
    """The registration's file can't be written where it was asked for."""


def targets_of(case: Case) -> Mapping[str, Points[Patient]]:
    """Where the error matters: each planned screw's entry and tip, every pedicle's isthmus; else each bone's middle."""
    from spatial.rigid import Points
    from twin.plan.plan import Plan

    targets = {
        f"{m.bone} {m.name}": m.position for m in case.twin.landmarks if m.name in ("pedicle_left", "pedicle_right")
    }
    for name in case.plan_names:
        for screw in Plan.from_json(case.load_plan(name)).screws.values():
            targets[f"{name} {screw.id} entry"] = screw.entry
            targets[f"{name} {screw.id} tip"] = screw.tip
    return targets or {f"{b.name} middle": Points(b.surface.centroid_mm) for b in case.twin.bones.values()}


@app.command()
@command
def register(
    case_folder: Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")],
    body_file: Annotated[Path, typer.Option("--body", help="The reference body's geometry file.")],
    out: Annotated[Path, typer.Option("--out", help="Where the registration is written.")],
    pairs_file: Annotated[Path | None, typer.Option("--pairs", help="[{name, patient_mm, reference_mm}, …]")] = None,
    fle_mm: Annotated[
        float | None, typer.Option(min=1e-3, help="RMS error of one touch, if it was measured for this pointer.")
    ] = None,
    matrix: Annotated[Path | None, typer.Option(help="Instead of pairs: a 4 x 4 text file of another program.")] = None,
    direction: Annotated[str | None, typer.Option(help=f"… what it maps: {' or '.join(DIRECTIONS)}.")] = None,
    sd_mm: Annotated[
        float | None, typer.Option(help="… its stated spread a coordinate (1 sd) at the middle of the bones.")
    ] = None,
    sd_deg: Annotated[float | None, typer.Option(help="… and an axis of rotation (1 sd).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit reference_from_patient to touched landmarks; says how far off each target may be (95 %).

    Or take over another program's matrix, with the spread that you state for it.
    """
    if (pairs_file is None) == (matrix is None):
        raise Misuse("give either --pairs FILE or --matrix FILE with --direction, --sd-mm and --sd-deg")
    stated = (direction, sd_mm, sd_deg)
    if matrix is None and any(v is not None for v in stated):
        raise Misuse("--direction, --sd-mm and --sd-deg belong to --matrix; pairs bring their own spread")
    if matrix is not None and fle_mm is not None:
        raise Misuse("--fle-mm is the error of a touch and belongs to --pairs")

    from guidance.registration import load_pairs
    from guidance.registration import register as fit
    from tracking.bodies.body import load as load_body
    from twin.case import Case

    case = Case.open(case_folder)
    body = load_body(body_file)
    if pairs_file is not None:
        found = fit(load_pairs(pairs_file), body=body.name, twin_id=case.twin.twin_id, fle_mm=fle_mm)
    else:
        assert matrix is not None  # one of the two, checked above; for mypy
        found = _taken_over(case, body.name, matrix, direction, sd_mm, sd_deg)
    value = found.to_json(targets_of(case))
    _keep(case, value, out)
    if as_json:
        emit(value)
        return
    if found.fle_mm is not None:
        tell(
            f"Registered by {len(found.residuals_mm)} pairs; a touch errs by {found.fle_mm:.2f} mm, {found.fle_source}."
        )
    else:
        tell("Registered by a given matrix; nothing was measured here.")
    tell(*(f"  {name}: within {r:.2f} mm (95 %, predicted)" for name, r in value["predicted_tre95_mm"].items()))
    tell(*found.warnings)


def _taken_over(
    case: Case, body: str, matrix: Path, direction: str | None, sd_mm: float | None, sd_deg: float | None
) -> Registration:
    from guidance.registration import given, load_matrix
    from guidance.session import middle_of

    way = next((d for d in DIRECTIONS if d == direction), None)
    if way is None or sd_mm is None or sd_deg is None:
        raise Misuse(f"--matrix needs --direction ({' or '.join(DIRECTIONS)}), --sd-mm and --sd-deg")
    pose = load_matrix(matrix, way)
    twin = case.twin
    return given(pose, middle_of(twin), sd_mm=sd_mm, sd_rad=math.radians(sd_deg), body=body, twin_id=twin.twin_id)


def _keep(case: Case, value: dict[str, Any], out: Path) -> None:
    """The file and the journal's entry, both or neither."""
    aside = out.with_name(f".{out.name}.part")
    kept = ("body", "reference_from_patient", "covariance", "residuals_mm", "fle_mm", "fle_source", "dof")
    try:
        aside.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with case.journal:
            case.journal.append("register", "registered", {key: value[key] for key in kept})
        os.replace(aside, out)
    except OSError as error:
        raise NotWritten(f"the registration can't be written ({error.strerror})", path=out) from None
    finally:
        aside.unlink(missing_ok=True)
