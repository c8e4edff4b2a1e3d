"""The rehearsal's headset against a real runtime: scripted head and hands in, poses, buttons and pictures out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.openxr.conftest import Trial
from tests.openxr.remote import Hand, Pose, Pretence
from tests.openxr.script import (
    BLOCKS,
    EYE_SIZE_PX,
    FRAMES_PER_BLOCK,
    LIGHTS_MM,
    PICTURED,
    VIEWS,
    pretences,
)

pytestmark = pytest.mark.openxr

LIMIT_MM = 0.1
LIMIT_DEG = 0.01
LIMIT_PX = 1.0


@dataclass(frozen=True)
class Long:
    """What the long trial left behind."""

    report: dict[str, Any]
    pictures: dict[str, np.ndarray]
    stderr: str


@pytest.fixture(scope="module")
def long(run_trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Long:
    out = tmp_path_factory.mktemp("long")
    done = run_trial("long", out)
    assert done.returncode == 0, done.stderr
    with np.load(out / "pictures.npz") as pictures:
        return Long(json.loads((out / "report.json").read_text()), dict(pictures), done.stderr)


def matrix_of(pose: Pose) -> np.ndarray:
    """Homogeneous, mm; scipy's quaternions, nothing of ours."""
    M = np.eye(4)
    M[:3, :3] = Rotation.from_quat(pose.orientation).as_matrix()
    M[:3, 3] = np.multiply(pose.position_m, 1000.0)
    return M


def assert_pose(found: dict[str, Any] | None, expected: np.ndarray, what: str) -> None:
    assert found is not None, what
    off_mm = np.linalg.norm(np.array(found["translation_mm"]) - expected[:3, 3])
    turn = np.array(found["rotation"]) @ expected[:3, :3].T
    off_deg = np.degrees(Rotation.from_matrix(turn).magnitude())
    assert off_mm < LIMIT_MM, f"{what}: {off_mm} mm"
    assert off_deg < LIMIT_DEG, f"{what}: {off_deg} deg"


def expected_px(pretence: Pretence, eye: int, light_mm: tuple[float, float, float]) -> np.ndarray:
    """Where a light stands in an eye's picture (x right, y down, pixel centres at integers), by tangents."""
    stage_from_eye = matrix_of(pretence.head) @ matrix_of(VIEWS[eye].pose)
    x, y, z, _ = np.linalg.inv(stage_from_eye) @ (*light_mm, 1.0)
    left, right, up, down = np.tan(VIEWS[eye].fov_rad)
    width, height = EYE_SIZE_PX
    across = (x / -z - left) / (right - left) * width
    from_top = (up - y / -z) / (up - down) * height
    return np.array([across - 0.5, from_top - 0.5], dtype=np.float64)


def found_px(picture: np.ndarray, channel: int) -> np.ndarray:
    """The centroid of one light."""
    light = picture[..., channel].astype(float) - picture[..., (channel + 1) % 3].astype(float)
    light[light < 8] = 0.0
    assert light.sum() > 0, "the light is not in the picture"
    rows, columns = np.indices(light.shape)
    return np.array([(columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()])


def test_three_hundred_frames_are_drawn(long: Long) -> None:
    assert long.report["frames"] == BLOCKS * FRAMES_PER_BLOCK == 300
    assert "Monado" in long.report["runtime"]
    assert long.report["has_stage"]
    assert long.report["gl_error"] == "GL_NO_ERROR"


def test_display_times_are_on_the_monotonic_clock(long: Long) -> None:
    assert (np.diff(long.report["t_display_ns"]) > 0).all()
    assert np.abs(np.median(long.report["due_ms"])) < 200.0  # another clock would be off by hours


def test_the_head_and_the_eyes_stand_where_the_script_says(long: Long) -> None:
    for number, (pretence, block) in enumerate(zip(pretences(), long.report["blocks"], strict=True)):
        head = matrix_of(pretence.head)
        assert_pose(block["head"], head, f"head in block {number}")
        for eye in range(2):
            assert_pose(block["eyes"][eye], head @ matrix_of(VIEWS[eye].pose), f"eye {eye} in block {number}")
            assert tuple(block["sizes_px"][eye]) == EYE_SIZE_PX


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_comes_back_as_scripted(long: Long, side: str) -> None:
    lost = 0
    for number, (pretence, block) in enumerate(zip(pretences(), long.report["blocks"], strict=True)):
        scripted: Hand = getattr(pretence, side)
        hand = block["hands"][side]
        if not scripted.active:
            lost += 1
            nothing = {"grab": 0.0, "trigger": 0.0, "undo": False, "tool": False, "stick": [0.0, 0.0]}
            assert hand == {"grip": None, "aim": None, **nothing}
            continue
        for pose in ("grip", "aim"):
            assert_pose(hand[pose], matrix_of(scripted.pose), f"{side} {pose} in block {number}")
        assert hand["grab"] == pytest.approx(scripted.squeeze, abs=1e-6)
        assert hand["trigger"] == pytest.approx(scripted.trigger, abs=1e-6)
        assert hand["stick"] == pytest.approx(scripted.stick, abs=1e-6)
        assert (hand["undo"], hand["tool"]) == (scripted.b, scripted.a)
    assert lost > 0, "the script must lose each hand at times"


def test_every_button_is_both_up_and_down_in_the_script() -> None:
    for side in ("left", "right"):
        hands = [hand for p in pretences() if (hand := getattr(p, side)).active]
        for name in ("a", "b"):
            assert {getattr(hand, name) for hand in hands} == {True, False}
        assert len({hand.trigger for hand in hands}) == len({hand.squeeze for hand in hands}) == 3


def test_the_controller_is_known_and_feels_the_pulse(long: Long) -> None:
    assert long.report["controllers"] == ["valve/index_controller"] * 2
    assert long.report["pulses"] == BLOCKS


def test_both_eyes_see(long: Long) -> None:
    assert len(long.pictures) == 2 * len(PICTURED)
    for name, picture in long.pictures.items():
        assert picture.shape == (EYE_SIZE_PX[1], EYE_SIZE_PX[0], 3)
        assert picture.min() > 40, f"{name} has black pixels"
        assert picture.max() == 255, f"{name} has no light"


@pytest.mark.parametrize("light", range(len(LIGHTS_MM)))
def test_a_known_point_stands_where_it_must_in_both_eyes(long: Long, light: int) -> None:
    script = pretences()
    disparities = []
    for block in PICTURED:
        expected = [expected_px(script[block], eye, LIGHTS_MM[light]) for eye in range(2)]
        found = [found_px(long.pictures[f"{side}_{block}"], light) for side in ("left", "right")]
        for eye in range(2):
            assert np.abs(found[eye] - expected[eye]).max() < LIMIT_PX
        disparities.append(found[0] - found[1])
        assert np.abs(disparities[-1] - (expected[0] - expected[1])).max() < LIMIT_PX
    assert np.linalg.norm(disparities, axis=1).min() > 3 * LIMIT_PX, "eyes that coincide would pass"


def test_the_input_port_listens_on_loopback_only(long: Long) -> None:
    assert long.report["listeners"] == ["0100007F"]  # 127.0.0.1, as /proc/net/tcp writes it


def test_sessions_come_and_go_in_one_process(run_trial: Trial, tmp_path: Path) -> None:
    done = run_trial("twice", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["ended"] == [
        "stopped",
        "left",
        "thrown ArithmeticError",
        "lost HeadsetLost",
        "again",
    ]
    assert "Exception ignored" not in done.stderr


def test_a_window_context_is_taken_and_mirrored(
    run_trial: Trial, display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    done = run_trial("window", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["eyes"] == [[255, 0, 0], [0, 0, 255]]
    assert all(pixel == [255, 0, 0] for pixel in report["middle"]), "the left eye, whole"
    assert all(pixel == [0, 0, 0] for pixel in report["border"])
    assert report["still_usable"]
