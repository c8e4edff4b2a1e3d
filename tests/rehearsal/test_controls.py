"""Devices to events: a headset's frame, mouse and keys as virtual hands; the window under a virtual display."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rehearsal.controls import FOV_Y_RAD, Desktop, Mouse, key_event, sample_of
from rehearsal.drill import REACH_MM
from rehearsal.events import Command
from rehearsal.eyes import projection
from rehearsal.model import TABLE_MM, Model
from rehearsal.session import play, start
from rehearsal.stance import HEAD_MM, looking
from render.scene import View
from spatial.frames import Stage
from spatial.rigid import Points
from tests.data import ROOT
from tests.rehearsal.acting import at

SIZE_PX = (800, 600)

WINDOW = """
import sys
from pathlib import Path
from rehearsal.log import Recording, replay
from rehearsal.session import start
from rehearsal.window import rehearse
from render.window import Window, save_png
from tests.rehearsal.boxes import model_of_boxes, twin_of_boxes

folder = Path(sys.argv[1])
state = start(model_of_boxes(), "w")
with Recording(folder / "log.jsonl", state) as recording:
    with Window(400, 300, "test") as window:
        window.keys.extend("3U")
        state = rehearse(window, state, recording, frames=4)
        save_png(folder / "screen.png", window.on_screen())
        assert window.context.error == "GL_NO_ERROR"
    recording.end()
assert state.right.tool == "saw", state.right.tool
found = replay(folder / "log.jsonl", lambda _: twin_of_boxes())
assert found.same
assert found.events == 6, found.events
"""


def frame(**hands: object) -> object:
    return SimpleNamespace(t_display_ns=123, head=looking(HEAD_MM, TABLE_MM), hands=hands)


def headset_hand(pose: object, **values: object) -> object:
    rest = {"grab": 0.0, "trigger": 0.0, "undo": False, "tool": False, "stick": (0.0, 0.0)}
    return SimpleNamespace(stage_from_grip=pose, stage_from_aim=pose, **(rest | values))


def test_a_headset_frame_becomes_a_sample() -> None:
    pose = at([1.0, 2.0, 3.0])
    left = headset_hand(pose, grab=1.0000001, stick=(-1.0000001, 0.5), undo=True)
    sample = sample_of(frame(left=left, right=headset_hand(None, trigger=0.7)))  # type: ignore[arg-type]  # its shape
    assert sample.t_ns == 123
    assert sample.left.stage_from_aim is pose
    assert (sample.left.grab, sample.left.stick, sample.left.undo) == (1.0, (-1.0, 0.5), True)
    assert not sample.right.is_tracked
    assert sample.right.trigger == 0.7


def test_the_tool_is_under_the_mouse() -> None:
    desktop = Desktop().moved(Mouse(250.0, 410.0))
    aim = desktop.sample(1, SIZE_PX).right.stage_from_aim
    assert aim is not None
    tip = aim.translation_mm - REACH_MM * aim.rotation[:, 2]
    view = View[Stage](desktop.head.inverse(), projection(*SIZE_PX, FOV_Y_RAD), *SIZE_PX)
    assert np.allclose(view.pixels(Points[Stage](tip)), [250.0, 410.0], atol=1e-6)
    assert np.linalg.norm(tip - desktop.head.translation_mm) == pytest.approx(desktop.tip_mm)
    nearer = desktop.moved(Mouse(250.0, 410.0, scrolled=-3.0))
    assert nearer.tip_mm == pytest.approx(desktop.tip_mm - 6.0)


def test_a_right_drag_turns_the_model_about_its_middle(model: Model) -> None:
    desktop = Desktop()
    samples = []
    for t_ns, mouse in enumerate([Mouse(400, 300), Mouse(400, 300, right=True), Mouse(460, 330, right=True)], start=1):
        desktop = desktop.moved(mouse)
        samples.append(desktop.sample(t_ns, SIZE_PX))
    state = play(start(model, "d"), samples)
    assert not np.allclose(state.stage_from_patient.rotation, model.start.rotation, atol=0.05)
    assert np.allclose((state.stage_from_patient @ Points(model.centre_mm)).mm, TABLE_MM, atol=1e-6)


def test_keys_mean_commands() -> None:
    assert key_event("u", 5, "ann") == Command(5, "ann", "undo")
    assert key_event("Y", 5, "ann") == Command(5, "ann", "redo")
    assert key_event("R", 5, "ann") == Command(5, "ann", "reset_view")
    assert key_event("2", 5, "ann") == Command(5, "ann", "select_tool", "right", "drill")
    assert key_event("Q", 5, "ann") is None


def test_a_session_in_a_window_is_recorded_and_replays(display: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOW, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log.events.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [
        "sample",
        "command",
        "command",
        "sample",
        "sample",
        "sample",
    ]
    with Image.open(tmp_path / "screen.png") as picture:
        shown = np.asarray(picture).astype(int)
    assert shown.shape == (300, 400, 3)
    assert shown.std() > 8
