"""`osteotwin calibrate instrument`: where a tool's tip is, and which way its shaft points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands.calibrate_input import recorded
from commands.console import command, emit, say, tell
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from tracking.bodies.body import Body
    from tracking.calibration.recording import Recording, Sample

OFFSET_MAX_MM = 2.0


class BentInstrument(Fault):
    """A shaft whose line misses the tip."""


class CheckFailed(Fault):
    """A second recording that the new tip does not explain."""


@command
def instrument(
    source: Annotated[
        str, typer.Argument(help="Pictures (video, folder, camera:N, synthetic:SPEC) or poses (.jsonl, .mha).")
    ],
    out: Annotated[Path, typer.Option(help="Marker body file to write: --body with what was measured.")],
    body: Annotated[Path, typer.Option(help="The instrument's marker body file.")],
    kind: Annotated[
        Literal["pivot", "spin"], typer.Option(help="pivot: tip in a divot, sway; spin: shaft in a block, turn.")
    ] = "pivot",
    camera: Annotated[Path | None, typer.Option(help="Camera file, for pictures.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Body file of the reference beside the divot; without it the camera must stand still."),
    ] = None,
    limit_mm: Annotated[float, typer.Option(help="Pivot: what the tip's 95 % radius may be.")] = 0.5,
    limit_deg: Annotated[float, typer.Option(help="Spin: what the shaft's 95 % angle may be.")] = 0.5,
    check: Annotated[
        str | None, typer.Option(help="Pivot: a second recording in any divot, that the new tip has to explain.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long (a live camera).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure an instrument's tip (pivot) or its shaft's direction (spin); refused unless the result will do."""
    from tracking.bodies.body import load, save

    if not (limit_mm > 0 and limit_deg > 0):
        raise Misuse(f"limits of {limit_mm} mm and {limit_deg} degrees; they must be above zero")
    tool = load(body)
    still = None if reference is None else load(reference)
    bodies = [tool] if still is None else [tool, still]
    if check is not None and kind == "spin":
        raise Misuse("--check belongs to --kind pivot")
    taken = recorded(source, camera, bodies, seconds)
    samples = taken.relative(tool.name, None if still is None else still.name)
    if taken.assumed:
        say("the recording tells no covariance: 0.15 mm and 0.15 degrees are assumed, the residuals rescale them")
    if still is None:
        say("no --reference: this is right only if neither the camera nor the divot moved")
    if kind == "pivot":
        made, told = _pivot(tool, samples, limit_mm)
        if check is not None:
            second = recorded(check, camera, bodies, seconds)
            told["check_rms_mm"] = _check(made, second, still, told, limit_mm)
    else:
        made, told = _spin(tool, samples, limit_deg)
    save(made, out)
    if as_json:
        emit({"kind": kind, "body": tool.name, "out": str(out), **_why_few(taken, tool.name), **told})
    else:
        tell(*_words(kind, made, told), f"{out}: {made.name} with its {'tip' if kind == 'pivot' else 'shaft'}")


def _pivot(tool: Body[Any], samples: tuple[Sample, ...], limit_mm: float) -> tuple[Body[Any], dict[str, Any]]:
    import numpy as np

    from tracking.calibration.instrument import pivot

    found = pivot(samples, limit_mm=limit_mm)
    told = found.to_json()
    told["moved_from_file_mm"] = None if tool.tip_mm is None else float(np.linalg.norm(found.tip_mm - tool.tip_mm))
    return replace(tool, tip_mm=found.tip_mm, tip_covariance_mm2=found.covariance_mm2), told


def _check(made: Body[Any], second: Recording, still: Body[Any] | None, told: dict[str, Any], limit_mm: float) -> float:
    from tracking.calibration.instrument import check_tip

    assert made.tip_mm is not None  # just measured; for mypy
    rms_mm = check_tip(second.relative(made.name, None if still is None else still.name), made.tip_mm)
    limit = max(limit_mm, 2.0 * told["rms_mm"])
    if rms_mm > limit:
        raise CheckFailed(
            f"in the second recording the tip strays by {rms_mm:.2f} mm RMS, limit {limit:.2f} "
            f"(the first gave {told['rms_mm']:.2f}); did the tip leave its seat there, or is the first one wrong?",
            path=second.name,
        )
    return rms_mm


def _spin(tool: Body[Any], samples: tuple[Sample, ...], limit_deg: float) -> tuple[Body[Any], dict[str, Any]]:
    from tracking.calibration.spin import spin

    found = spin(samples, toward_mm=tool.tip_mm, limit_deg=limit_deg)
    told = found.to_json()
    told["tip_offset_mm"] = told["tip_offset_sd_mm"] = None
    if tool.tip_mm is None:
        say("the body has no tip: the shaft's sign is arbitrary; run --kind pivot first")
    else:
        offset, sd = found.offset(tool.tip_mm)
        told["tip_offset_mm"], told["tip_offset_sd_mm"] = offset, sd
        if offset > OFFSET_MAX_MM + 2 * sd:
            raise BentInstrument(
                f"the shaft's line passes the tip at {offset:.1f} mm (sd {sd:.1f}), limit {OFFSET_MAX_MM:g}; "
                "is the instrument bent, or the tip another one's?"
            )
    return replace(tool, axis=found.axis, axis_covariance=found.covariance), told


def _why_few(taken: Recording, body: str) -> dict[str, Any]:
    samples = taken.track(body)
    return {"pictures": len(samples), "tracked": sum(sample.pose is not None for sample in samples)}


def _words(kind: str, made: Body[Any], told: dict[str, Any]) -> tuple[str, ...]:
    if kind == "spin":
        x, y, z = told["axis"]
        words = [
            f"shaft ({x:.4f}, {y:.4f}, {z:.4f}), right within {told['axis_angle95_deg']:.2f} degrees (95 %)",
            f"turned by {told['turn_deg']:.0f} degrees, wobble {told['wobble_deg']:.2f}, "
            f"held-out poses {told['held_out_deg']:.2f}",
        ]
        if told["tip_offset_mm"] is not None:
            words.append(
                f"its line passes the tip at {told['tip_offset_mm']:.2f} mm (sd {told['tip_offset_sd_mm']:.2f})"
            )
        return tuple(words)
    x, y, z = told["tip_mm"]
    wide, narrow = told["cone_deg"]
    words = [
        f"tip ({x:.2f}, {y:.2f}, {z:.2f}) mm, right within {told['tip_radius95_mm']:.2f} mm (95 %)",
        f"{told['poses_kept']} of {told['poses']} poses, swing {wide:.0f} x {narrow:.0f} degrees, "
        f"RMS {told['rms_mm']:.2f} mm, blocks left out {told['held_out_rms_mm']:.2f} mm",
        f"the halves of the swing differ by {told['halves_differ_mm']:.2f} mm "
        f"(expected {told['halves_expected_sd_mm']:.2f}), drift {told['drift_mm']:.2f} mm",
    ]
    if told.get("check_rms_mm") is not None:
        words.append(f"second recording: {told['check_rms_mm']:.2f} mm RMS")
    return tuple(words)
