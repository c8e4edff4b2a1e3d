"""A process under the runtime: `python -m tests.openxr.rehearsal_trial main|mirrored OUT`, hands over a wire.

The scripted client moves head and hands through the runtime's input port; the product sees them as it sees a real
headset. What the client was told to do is computed here with plain numpy, from the boxes' own numbers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rehearsal.headset import rehearse
from rehearsal.log import Recording
from rehearsal.session import document, start, state_sha256
from render.headset import Headset
from tests.openxr.remote import Hand, Pose, Quaternion, Remote
from tests.rehearsal.boxes import CENTRES_MM, HALF_MM, PEDICLE_X_MM, model_of_boxes

PORT = int(os.environ["OSTEOTWIN_REMOTE_PORT"])
FRAMES = 300
DRILLED_MM = 40.0
SCREW = "L4_left"
TIP_MM = 100.0  # the drill's tip before the hand
# prone on the table: patient left toward the surgeon (+z), back up (+y), head to the left (-x)
STAGE_FROM_PATIENT = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
DOWN: Quaternion = tuple(Rotation.from_euler("x", -90, degrees=True).as_quat())  # -z of the hand points down
TABLE_MM = np.array([0.0, 1050.0, -450.0])


def middle_mm() -> np.ndarray:
    """The middle of the plan's entries and hinge in the patient, by hand."""
    x, y = CENTRES_MM["sacrum"][:2]
    entries = [
        CENTRES_MM[name] + [s * PEDICLE_X_MM, HALF_MM[1], 0.0]
        for name in ("vertebrae_L2", "vertebrae_L4")
        for s in (1, -1)
    ]
    hinge = np.array([x, y - HALF_MM[1], CENTRES_MM["vertebrae_L3"][2]])
    places = np.array([*entries, hinge])
    return (places.min(axis=0) + places.max(axis=0)) / 2.0


def hand_above(depth_mm: float) -> Pose:
    """The right hand when the tip is so deep in the left pedicle of L4, drilling straight down."""
    entry = CENTRES_MM["vertebrae_L4"] + [PEDICLE_X_MM, HALF_MM[1], 0.0]
    place = TABLE_MM + STAGE_FROM_PATIENT @ (entry - middle_mm()) + [0.0, TIP_MM - depth_mm, 0.0]
    return Pose(tuple(place / 1000.0), DOWN)


def main(out: Path) -> None:
    """Three hundred frames: rest, drill with the right hand, lose the left, turn the model, let go."""
    state = start(model_of_boxes(), "headset")
    state.model.warm()
    visible = [0]
    felt: list[str] = []
    pictures: dict[str, np.ndarray] = {}

    def act(remote: Remote, step: int) -> None:
        right = Hand(hand_above(-40.0))
        left = Hand(Pose((-0.25, 1.1, -0.3)))
        if 20 <= step < 40:
            right = Hand(hand_above(-10.0))
        elif 40 <= step < 140:
            depth_mm = min(-10.0 + (step - 40) * 0.75, DRILLED_MM)
            right = Hand(hand_above(depth_mm), trigger=1.0, trigger_click=True)
        elif 140 <= step < 160:
            right = Hand(hand_above(DRILLED_MM))
        if 170 <= step < 180:
            left = Hand(left.pose, active=False, squeeze=1.0)
        if 200 <= step < 240:
            moved = Pose((-0.25 + 0.002 * (step - 200), 1.1, -0.3))
            left = Hand(moved, squeeze=1.0)
        elif step >= 240:
            left = Hand(Pose((-0.25 + 0.002 * 39, 1.1, -0.3)))
        # looking down at the table
        remote.become(head=Pose((0.0, 1.62, 0.06), tuple(Rotation.from_euler("x", -48, degrees=True).as_quat())))
        remote.become(left=left, right=right)

    def watch(frame: Any, now: Any, drawn: Any) -> None:
        felt.extend(f"{pulse.side}: {pulse.reason}" for pulse in now.pulses)
        if drawn is not None:
            pictures[f"left_{visible[0]}"], pictures[f"right_{visible[0]}"] = drawn
        if frame.should_render:
            visible[0] += 1
            act(wire, visible[0])

    with (
        Headset("rehearsal trial", eye_size_px=(320, 240), samples=1) as headset,
        Remote(PORT) as wire,
        Recording(out / "log.jsonl", state) as recording,
    ):
        act(wire, 0)
        state = rehearse(headset, state, recording, frames=FRAMES, capture_every=60, watch=watch)
        recording.end()
        error = headset.context.error
    np.savez_compressed(out / "pictures.npz", **pictures)  # type: ignore[arg-type]  # names are ours
    (out / "state.json").write_text(json.dumps(document(state)))
    report = {"frames": visible[0], "felt": felt, "sha256": state_sha256(state), "gl_error": error}
    (out / "report.json").write_text(json.dumps(report))


def mirrored(out: Path) -> None:
    """Forty frames that the desktop's window shows too; a key in the window is a command."""
    from render.window import Window, save_png

    state = start(model_of_boxes(), "mirrored")
    with (
        Window(640, 480, "mirror") as window,
        Headset("mirror trial", context=window.context, eye_size_px=(320, 240), samples=1) as headset,
        Recording(out / "log.jsonl", state) as recording,
    ):
        with Remote(PORT) as wire:
            wire.become(head=Pose((0.0, 1.62, 0.06), tuple(Rotation.from_euler("x", -48, degrees=True).as_quat())))
        window.keys.append("3")
        state = rehearse(headset, state, recording, frames=40, window=window)
        save_png(out / "window.png", window.on_screen())
        recording.end()
        (out / "report.json").write_text(json.dumps({"tool": state.right.tool, "gl_error": window.context.error}))


if __name__ == "__main__":
    {"main": main, "mirrored": mirrored}[sys.argv[1]](Path(sys.argv[2]))
