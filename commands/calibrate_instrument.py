"""`osteotwin calibrate instrument`: where a tool's tip is, and which way its shaft points."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands.calibrate_input import recorded, write_json
from commands.console import command, emit, say, tell
from commands.place import prepare
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from spatial.rigid import Array
    from tracking.bodies.body import Body
    from tracking.calibration.recording import Recording, Sample
    from tracking.calibration.spin import Spin

OFFSET_MAX_MM = 2.0
DRAWN_MM, DRAWN_DEG = 2.0, 1.5  # what a file's tip and shaft are taken to be good for where it does not say


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
    body: Annotated[
        Path | None, typer.Option(help="The instrument's marker body file; a recording can do without, by --name.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What a recording calls the instrument; the body's name.")] = None,
    kind: Annotated[
        Literal["pivot", "spin"], typer.Option(help="pivot: tip in a divot, sway; spin: shaft in a block, turn.")
    ] = "pivot",
    camera: Annotated[Path | None, typer.Option(help="Camera file, for pictures.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Body file of the reference beside the divot; without it the camera must stand still."),
    ] = None,
    reference_name: Annotated[str | None, typer.Option(help="What a recording calls the reference.")] = None,
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
    if check is not None and kind == "spin":
        raise Misuse("--check belongs to --kind pivot")
    tool = None if body is None else load(body)
    still = None if reference is None else load(reference)
    called = name or (tool.name if tool else None)
    beside = reference_name or (still.name if still else None)
    if called is None:
        raise Misuse("--body FILE is needed, or for a recording --name NAME: which instrument is it?")
    prepare(out)
    bodies = [one for one in (tool, still) if one is not None]
    taken = recorded(source, camera, bodies, seconds)
    samples = taken.relative(called, beside)
    if taken.assumed:
        say("the recording tells no covariance: 0.15 mm and 0.15 degrees are assumed, the residuals rescale them")
    if beside is None:
        say("no --reference: this is right only if neither the camera nor the divot moved")
    counted = _counted(taken, called, beside, len(samples))
    if kind == "pivot":
        measured, told = _pivot(tool, samples, limit_mm)
        if check is not None:
            second = recorded(check, camera, bodies, seconds)
            told["check_rms_mm"] = _check(measured["tip_mm"], second.relative(called, beside), told, limit_mm, check)
    else:
        measured, told = _spin(tool, samples, limit_deg)
    if tool is not None:
        save(replace(tool, **measured), out)
    else:
        write_json(out, {"name": called, **{key: value.tolist() for key, value in measured.items()}})
    if as_json:
        emit({"kind": kind, "body": called, "out": str(out), **counted, **told})
    else:
        tell(*_words(kind, told), f"{out}: {called} with its {'tip' if kind == 'pivot' else 'shaft'}")


def _counted(taken: Recording, body: str, beside: str | None, poses: int) -> dict[str, Any]:
    """How much there is to work with; said aloud, with the most common reason, where half of it is lost."""
    samples = taken.track(body)
    if 2 * poses < len(samples):
        lost = [sample.reason for sample in samples if sample.pose is None]
        reasons = Counter(reason for reason in lost if reason)
        most = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        if beside is not None and len(samples) - len(lost) - poses > len(lost):
            most = f"; most often {beside}, the reference, was lost or not recorded at the same instant"
        say(f"{body} has a pose in {poses} of {len(samples)} pictures{most}")
    return {"pictures": len(samples), "tracked": poses}


def _pivot(
    tool: Body[Any] | None, samples: tuple[Sample, ...], limit_mm: float
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    import numpy as np

    from tracking.calibration.instrument import RADIUS95, pivot

    found = pivot(samples, limit_mm=limit_mm)
    told = found.to_json()
    told["moved_from_file_mm"] = None
    if tool is not None and tool.tip_mm is not None:
        moved = told["moved_from_file_mm"] = float(np.linalg.norm(found.tip_mm - tool.tip_mm))
        spread = tool.tip_covariance_mm2
        known = DRAWN_MM if spread is None else RADIUS95 * float(np.linalg.eigvalsh(spread)[2]) ** 0.5
        if moved > 2 * (found.radius95_mm + known):
            say(
                f"the tip is {moved:.1f} mm from where --body has it, though both are known to "
                f"{found.radius95_mm:.2f} and {known:.2f} mm (95 %): another tool's file, or was the tip exchanged?"
            )
    return {"tip_mm": found.tip_mm, "tip_covariance_mm2": found.covariance_mm2}, told


def _check(
    tip_mm: Array, samples: tuple[Sample, ...], told: dict[str, Any], limit_mm: float, source: str
) -> float:  # fmt: skip
    from tracking.calibration.instrument import check_tip

    rms_mm = check_tip(samples, tip_mm)
    limit = max(limit_mm, 2.0 * told["rms_mm"])
    if rms_mm > limit:
        raise CheckFailed(
            f"in the second recording the tip strays by {rms_mm:.2f} mm RMS, limit {limit:.2f} "
            f"(the first gave {told['rms_mm']:.2f}); did the tip leave its seat there, or is the first one wrong?",
            path=source,
        )
    return rms_mm


def _spin(
    tool: Body[Any] | None, samples: tuple[Sample, ...], limit_deg: float
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    from tracking.calibration.spin import spin

    tip_mm = None if tool is None else tool.tip_mm
    found = spin(samples, toward_mm=tip_mm, limit_deg=limit_deg)
    told = found.to_json()
    told["tip_offset_mm"] = told["tip_offset_sd_mm"] = None
    told |= _turned_from_file(tool, found)
    if tip_mm is None:
        say("no tip is known: the shaft's sign is arbitrary; run --kind pivot first")
    else:
        offset, sd = found.offset(tip_mm)
        told["tip_offset_mm"], told["tip_offset_sd_mm"] = offset, sd
        if offset > OFFSET_MAX_MM + 2 * sd:
            raise BentInstrument(
                f"the shaft's line passes the tip at {offset:.1f} mm (sd {sd:.1f}), limit {OFFSET_MAX_MM:g}; "
                "is the instrument bent, or the tip another one's?"
            )
    return {"axis": found.axis, "axis_covariance": found.covariance}, told


def _turned_from_file(tool: Body[Any] | None, found: Spin) -> dict[str, Any]:
    """How far the shaft is from the file's, as an angle and at the tip; said aloud where that is more than chance."""
    import numpy as np

    from tracking.calibration.instrument import RADIUS95

    if tool is None or tool.axis is None:
        return {"turned_from_file_deg": None, "moved_from_file_mm": None}
    apart = float(np.linalg.norm(np.cross(found.axis, tool.axis)))
    turned = math.degrees(math.atan2(apart, float(found.axis @ tool.axis)))
    spread = tool.axis_covariance
    known = DRAWN_DEG if spread is None else math.degrees(RADIUS95 * float(np.linalg.eigvalsh(spread)[2]) ** 0.5)
    if turned > 2 * (found.angle95_deg + known):
        say(
            f"the shaft is turned by {turned:.1f} degrees from where --body has it, though both are known to "
            f"{found.angle95_deg:.2f} and {known:.2f} degrees (95 %): another tool's file, or is it bent?"
        )
    length = None if tool.tip_mm is None else float(np.linalg.norm(tool.tip_mm))
    moved = None if length is None else 2 * length * math.sin(math.radians(turned) / 2)
    return {"turned_from_file_deg": turned, "moved_from_file_mm": moved}


def _words(kind: str, told: dict[str, Any]) -> tuple[str, ...]:
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
        if told["turned_from_file_deg"] is not None:
            at_tip = told["moved_from_file_mm"]
            words.append(
                f"{told['turned_from_file_deg']:.2f} degrees from the shaft that the file had"
                + ("" if at_tip is None else f", {at_tip:.2f} mm at the tip")
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
    if told["moved_from_file_mm"] is not None:
        words.append(f"{told['moved_from_file_mm']:.2f} mm from the tip that the file had")
    if told.get("check_rms_mm") is not None:
        words.append(f"second recording: {told['check_rms_mm']:.2f} mm RMS")
    return tuple(words)
