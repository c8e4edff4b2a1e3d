"""`osteotwin calibrate hand-eye`: where a camera sits on the head, the endoscope or the robot that carries it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.calibrate_input import recorded, write_json
from commands.console import command, emit, say, tell
from commands.place import prepare
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.calibration.hand_eye import HandEye
    from tracking.calibration.recording import Recording


@command
def hand_eye(
    source: Annotated[str, typer.Argument(help="The camera's pictures of the target, or its poses (.jsonl).")],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    body: Annotated[Path, typer.Option(help="The target's marker body file.")],
    hand: Annotated[Path, typer.Option(help="Poses of the hand on the same clock: .jsonl (world_from_body) or .mha.")],
    camera: Annotated[Path | None, typer.Option(help="Camera file, for pictures.")] = None,
    hand_name: Annotated[str | None, typer.Option(help="Which body of --hand; needed where it has several.")] = None,
    camera_fixed: Annotated[
        bool, typer.Option("--camera-fixed", help="The camera stands still, the target is on the hand.")
    ] = False,
    limit_mm: Annotated[float, typer.Option(help="What the camera's 95 % radius may be.")] = 1.0,
    limit_deg: Annotated[float, typer.Option(help="What its 95 % angle may be.")] = 0.3,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long (a live camera).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure hand_from_camera and world_from_target together; refused where the motion leaves them open."""
    from tracking.bodies.body import load
    from tracking.calibration.hand_eye import hand_eye as solve
    from tracking.calibration.hand_eye import pair_up, turned_round
    from tracking.calibration.recording import load_recording

    if not (limit_mm > 0 and limit_deg > 0):
        raise Misuse(f"limits of {limit_mm} mm and {limit_deg} degrees; they must be above zero")
    target = load(body)
    prepare(out)
    moved = load_recording(hand)
    name = _which(moved, hand_name)
    seen = recorded(source, camera, [target], seconds)
    for which, taken in (("--hand", moved), ("the camera's poses", seen)):
        if taken.assumed:
            say(f"{which}: no covariance is told; 0.15 mm and 0.15 degrees are assumed, the residuals rescale them")
    pairs = pair_up(moved.track(name), seen.track(target.name))
    found = solve(turned_round(pairs) if camera_fixed else pairs, limit_mm=limit_mm, limit_deg=limit_deg)
    value = _value(found, camera_fixed, target.name, name)
    write_json(out, value)
    if as_json:
        emit({"out": str(out), **value})
    else:
        tell(*_words(found, camera_fixed), f"{out}: {'world' if camera_fixed else 'hand'}_from_camera")


def _which(moved: Recording, name: str | None) -> str:
    if name is not None:
        return name
    if len(moved.tracks) > 1:
        raise Misuse(f"--hand-name is needed: the recording has {', '.join(sorted(moved.tracks))}", path=moved.name)
    return next(iter(moved.tracks))


def _value(found: HandEye, camera_fixed: bool, target: str, hand: str) -> dict[str, Any]:
    x, z = ("world_from_camera", "hand_from_target") if camera_fixed else ("hand_from_camera", "world_from_target")
    return {
        "kind": "hand-eye",
        "hand": hand,
        "target": target,
        x: found.x.pose.to_json(),
        "covariance": found.x.covariance.tolist(),
        z: found.z.pose.to_json(),
        "target_covariance": found.z.covariance.tolist(),
        **found.to_json(),
    }


def _words(found: HandEye, camera_fixed: bool) -> tuple[str, ...]:
    x, y, z = found.x.pose.translation_mm
    return (
        f"camera at ({x:.2f}, {y:.2f}, {z:.2f}) mm {'in the world' if camera_fixed else 'on the hand'}, right within "
        f"{found.radius95_mm:.2f} mm and {found.angle95_deg:.2f} degrees (95 %)",
        f"{found.kept} of {found.poses} poses, turned by {found.turn_deg:.0f} degrees, {found.across_deg:.0f} across",
        f"residual {found.residual_mm:.2f} mm, {found.residual_deg:.2f} degrees; poses left out are predicted to "
        f"{found.held_out_mm:.2f} mm, {found.held_out_deg:.2f} degrees",
        f"residuals are {found.excess:.1f} times what the poses' covariances claim",
    )
