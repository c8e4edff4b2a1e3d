"""A rig's places against the truth, their covariance against chi-square, and what is refused."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from osteotwin import app
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, rotation_exp, rotation_log
from tests.tracking.calibrating import CHARUCO, WEBCAM, opencv, views_of
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_file import Calibrated, save_camera
from tracking.calibration.camera_fit import fit_camera
from tracking.calibration.lens_model import MODELS
from tracking.calibration.pairing import NotTogether, pair_up
from tracking.calibration.rig_file import BadRig, load_rig
from tracking.calibration.stereo import PoorRig, RigCalibration, TooFewShots, calibrate_rig
from tracking.sources.closing import CameraSilent
from tracking.sources.live import LiveSource, Shutter
from tracking.synthetic.board_plate import photograph

RIGHT = replace(WEBCAM, fx_px=1010.0, fy_px=1012.0, cx_px=630.0)
CAMERA_FROM_RIG = Rigid(rotation_exp([0.02, -0.25, 0.01]), np.array([-150.0, 4.0, 20.0]))
NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")


def board_pose(seconds: float, board: Board) -> Rigid:
    """A board that is waved about."""
    s = seconds
    R = rotation_exp([0.5 * np.sin(1.5 * s), 0.5 * np.cos(1.9 * s), 0.1 * np.sin(2 * s)])
    t = np.array([40 * np.sin(1.1 * s), 25 * np.cos(2.3 * s), 430 + 60 * np.sin(0.9 * s)])
    return Rigid(R, t - R @ board.points_mm.mean(axis=0))


def shots(
    seed: int,
    board: Board = CHARUCO,
    count: int = 16,
    late_s: float = 0.0,
    truth: tuple[Pinhole, Pinhole] | None = None,
) -> list[dict[int, BoardView]]:
    rng = np.random.default_rng(seed)
    out: list[dict[int, BoardView]] = []
    step = -1
    while len(out) < count:
        step += 1
        views = {}
        for c, (camera, place) in enumerate(
            zip(truth or (WEBCAM, RIGHT), (Rigid.identity(), CAMERA_FROM_RIG), strict=True)
        ):
            pose = place @ board_pose(0.1 * step - (late_s if c else 0.0), board)
            px = opencv(camera, board.points_mm, pose.rotation, pose.translation_mm)
            inside = ((px > 3) & (px < (1276, 716))).all(axis=1)
            if inside.sum() < 12 or (board.kind == "chessboard" and not inside.all()):
                continue
            ids = np.flatnonzero(inside)
            seen = px[inside] + 0.05 * rng.standard_normal((len(ids), 2))
            covariance = np.tile(0.0025 * np.eye(2), (len(ids), 1, 1))
            if board.half_turn_alike and (step + c) % 3 == 0:  # OpenCV counts from either end
                ids, seen = ids, seen[::-1].copy()
            views[c] = BoardView(f"{c}_{step}.png", ids, seen, covariance, (1280, 720), step * 100_000_000, 0.8)
        if len(views) == 2:
            out.append(views)
    return out


def cameras(known_px: float = 1e-6) -> list[Calibrated]:
    sds = np.array([known_px] * 4 + [known_px * 1e-3] * 2 + [known_px * 1e-4] * 2)
    return [Calibrated(lens, NAMES, np.diag(sds**2)) for lens in (WEBCAM, RIGHT)]


def miss(done: RigCalibration) -> Array:
    truth, found = CAMERA_FROM_RIG.inverse(), done.rig_from_camera[1].pose
    return np.concatenate(
        [rotation_log(truth.rotation @ found.rotation.T), truth.translation_mm - found.translation_mm]
    )


def test_places_come_back_within_their_covariance() -> None:
    squares = []
    for seed in range(4):
        done = calibrate_rig(shots(seed), cameras(), CHARUCO)
        error = miss(done)
        squares.append(float(error @ np.linalg.solve(done.rig_from_camera[1].covariance, error)))
        assert abs(done.late_ms[1]) < 4 * done.late_sd_ms[1] < 1.0
        assert done.held_out_px == pytest.approx(0.0707, rel=0.1)
        assert done.epipolar_px == pytest.approx(0.0707, rel=0.15)
        assert np.linalg.norm(error[3:]) < 3 * done.predicted_mm + 0.02
    assert 6 - 4 * np.sqrt(12 / 4) < np.mean(squares) < 6 + 4 * np.sqrt(12 / 4)


def _off(lens: Pinhole, by_px: Array) -> Pinhole:
    fx, fy, cx, cy = by_px.tolist()
    return replace(lens, fx_px=lens.fx_px + fx, fy_px=lens.fy_px + fy, cx_px=lens.cx_px + cx, cy_px=lens.cy_px + cy)


def test_uncertain_lenses_make_uncertain_places() -> None:
    """Lenses drawn from their files' covariance: the places' errors still follow theirs."""
    rng = np.random.default_rng(0)
    squares = []
    for seed in range(4):
        true = tuple(_off(lens, 0.5 * rng.standard_normal(4)) for lens in (WEBCAM, RIGHT))
        known = [
            Calibrated(lens, NAMES, np.diag([0.25, 0.25, 0.25, 0.25, 1e-16, 1e-16, 1e-16, 1e-16]))
            for lens in (WEBCAM, RIGHT)
        ]
        done = calibrate_rig(shots(seed, truth=true), known, CHARUCO, limit_mm=5)  # type: ignore[arg-type]
        error = miss(done)
        squares.append(float(error @ np.linalg.solve(done.rig_from_camera[1].covariance, error)))
    assert 1.5 < np.mean(squares) < 14


def test_a_board_that_looks_alike_upside_down() -> None:
    board = Board.parse("chessboard:8x6,25")
    assert board.half_turn_alike
    done = calibrate_rig(shots(3, board), cameras(), board)
    assert np.abs(miss(done)[3:]).max() < 0.3


def test_late_loose_and_few_are_refused() -> None:
    with pytest.raises(PoorRig, match=r"camera 2 is \+(19|20)\.\d ms .* not of the same instants"):
        calibrate_rig(shots(1, late_s=0.02), cameras(), CHARUCO)
    with pytest.raises(TooFewShots, match=r"5 instants .* 6 are needed"):
        calibrate_rig(shots(1, count=5), cameras(), CHARUCO)
    with pytest.raises(PoorRig, match=r"predicted error between the cameras .* limit 0.001 mm"):
        calibrate_rig(shots(1), cameras(), CHARUCO, limit_mm=0.001)
    bumped = shots(1)
    turn = rotation_exp([-0.004, 0.006, 0.0])
    for shot in bumped[8:]:  # somebody touches the second camera half way
        rays = np.pad(RIGHT.normalised(shot[1].corners_px), ((0, 0), (0, 1)), constant_values=1.0)
        shot[1] = replace(shot[1], corners_px=RIGHT.project(Points[Camera](rays @ turn.T)))
    with pytest.raises(PoorRig, match="rig or the board bend"):
        calibrate_rig(bumped, cameras(), CHARUCO)


def _focal(camera: Calibrated, factor: float) -> Calibrated:
    lens = camera.pinhole
    return replace(camera, pinhole=replace(lens, fx_px=lens.fx_px * factor, fy_px=lens.fy_px * factor))


@pytest.mark.parametrize("told", [True, False], ids=["covariance", "none"])
def test_a_lens_that_its_own_pictures_contradict_is_refused(told: bool) -> None:
    left, right = cameras() if told else [Calibrated(camera.pinhole) for camera in cameras()]
    for seed in range(2):
        seen = shots(seed)
        with pytest.raises(PoorRig, match=r"camera 2: .* focal length is -(1.[89]|2.0).% \(sd .*another camera"):
            calibrate_rig(seen, [left, _focal(right, 1.02)], CHARUCO)
        with pytest.raises(PoorRig, match=r"camera 1: .* focal length is .*limit 0.3"):
            calibrate_rig(seen, [right, left], CHARUCO)  # the files exchanged
        calibrate_rig(seen, [left, _focal(right, 1.0003)], CHARUCO)  # 0.2 mm: below the limit
        calibrate_rig(seen, [left, _focal(right, 1.004)], CHARUCO, limit_mm=3.0)


def test_lenses_as_calibrations_make_them_are_believed() -> None:
    own, bare = [], []
    for lens in (WEBCAM, RIGHT):
        views = views_of(np.random.default_rng(50), lens, count=15)
        fit = fit_camera(views, CHARUCO.points_mm, MODELS["k2+tangential"], (1280, 720))
        own.append(Calibrated(fit.pinhole, fit.names, fit.covariance, rms_px=fit.rms_px))
        bare.append(Calibrated(fit.pinhole))
    for files in (own, bare):
        done = calibrate_rig(shots(5), files, CHARUCO, limit_mm=1.0)
        assert np.linalg.norm(miss(done)[3:]) < 0.3


def test_a_bent_board_is_not_taken_for_another_lens() -> None:
    mm = CHARUCO.points_mm.copy()
    across = mm[:, 0] - mm[:, 0].mean()
    mm[:, 2] = 0.3 * (1 - (across / across.max()) ** 2)
    bent = cast(Board, SimpleNamespace(points_mm=mm, kind="charuco", half_turn_alike=False))
    done = calibrate_rig(shots(1, bent), cameras(), CHARUCO, limit_mm=1.0)
    assert np.linalg.norm(miss(done)[3:]) < 1.0
    assert re.search(r"camera 1: either the board is bent .* or its focal length is \+1\.", " ".join(done.doubts))


def test_a_lens_that_is_a_little_off_is_doubted_aloud() -> None:
    left, right = cameras()
    done = calibrate_rig(shots(1), [_focal(left, 1.005), right], CHARUCO)
    assert [doubt[:26] for doubt in done.doubts] == ["camera 1: either the board"]
    assert calibrate_rig(shots(1), [left, right], CHARUCO).doubts == ()


def test_one_source_named_twice_is_refused() -> None:
    twice = [{0: shot[0], 1: shot[0]} for shot in shots(1)]
    with pytest.raises(PoorRig, match="16 of 16 instants: the two sources show the very same pictures"):
        calibrate_rig(twice, [cameras()[0]] * 2, CHARUCO)


def test_pictures_are_paired_by_number_or_by_time() -> None:
    views = [shot[c] for shot in shots(1, count=3) for c in (0, 1)]
    left, right = views[::2], views[1::2]
    assert [sorted(shot) for shot in pair_up([left, right[1:]], by_name=True)] == [[0, 1], [0, 1]]
    late = [replace(v, t_ns=v.t_ns + 4_000_000) for v in right]
    assert len(pair_up([left, late], by_name=False)) == 3
    with pytest.raises(NotTogether, match="12 ms"):
        pair_up([left, [replace(v, t_ns=v.t_ns + 40_000_000) for v in right]], by_name=False)
    with pytest.raises(NotTogether, match="no number"):
        pair_up([[replace(left[0], name="a.png")], right], by_name=True)


def test_the_command_from_two_folders_to_a_rig(tmp_path: Path) -> None:
    small = [Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0), Pinhole(640, 480, 570.0, 571.0, 315.0, 241.0)]
    board = Board.parse("charuco:7x5,30,22,DICT_5X5_100")
    for c, (lens, place) in enumerate(zip(small, (Rigid.identity(), CAMERA_FROM_RIG), strict=True)):
        save_camera(tmp_path / f"cam{c}.yml", lens)
        (tmp_path / f"side{c}").mkdir()
        for k in range(11):
            pose = place @ board_pose(0.7 * k, board)
            cv2.imwrite(str(tmp_path / f"side{c}" / f"cam{c}_{k:02d}.png"), photograph(board, lens, pose, seed=k))
    arguments = [
        "calibrate", "stereo", str(tmp_path / "side0"), str(tmp_path / "side1"), "--board", str(board), "--cameras",
        str(tmp_path / "cam0.yml"), "--cameras", str(tmp_path / "cam1.yml"), "--out", str(tmp_path / "rig.json"),
        "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stdout
    report = json.loads(done.stdout)
    assert 6 <= report["shots"] <= 11
    first, second = load_rig(tmp_path / "rig.json")
    assert (first.name, second.name) == ("cam0", "cam1")
    assert second.calibrated.pinhole == small[1]
    off = CAMERA_FROM_RIG.inverse().translation_mm - second.rig_from_camera.pose.translation_mm
    assert np.linalg.norm(off) < 0.3
    assert CliRunner().invoke(app, [*arguments[:3], *arguments[4:]]).exit_code == 2  # one source, two cameras
    (tmp_path / "bad.json").write_text('{"cameras": [{"name": "a"}]}')
    with pytest.raises(BadRig, match="camera 1 lacks"):
        load_rig(tmp_path / "bad.json")


class Watched:
    """A live camera before a board that somebody holds still for three pictures, in one place after another."""

    clock_steps = 0

    def __init__(self, pictures: list[np.ndarray], begun_ns: int) -> None:
        self.left = [(k, picture) for k, picture in enumerate(p for p in pictures for _ in range(3))]
        self.begun_ns = begun_ns

    def read(self) -> Shutter | None:
        if not self.left:
            return None
        k, picture = self.left.pop(0)
        stamp_ns = self.begun_ns + k * 70_000_000
        time.sleep(max(0.0, (stamp_ns - time.monotonic_ns()) * 1e-9))
        noisy = picture.copy()
        noisy[0, k] ^= 1  # a sensor never gives the same picture twice
        return Shutter(stamp_ns, noisy)

    def close(self) -> None:
        return None


def test_the_command_from_two_live_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0), Pinhole(640, 480, 570.0, 571.0, 315.0, 241.0)]
    board = Board.parse("charuco:7x5,30,22,DICT_5X5_100")
    rng = np.random.default_rng(3)
    held = []
    for _ in range(14):
        R = rotation_exp(rng.uniform(-0.6, 0.6, 3))
        t = rng.uniform((-50, -35, 420), (50, 35, 560))
        held.append(Rigid(R, t - R @ board.points_mm.mean(axis=0)))
    pictures = [
        [photograph(board, lens, place @ pose, seed=k) for k, pose in enumerate(held)]
        for lens, place in zip(small, (Rigid.identity(), CAMERA_FROM_RIG), strict=True)
    ]
    begun_ns = time.monotonic_ns() + 1_000_000_000

    def opened(spec: str) -> LiveSource:
        devices = [Watched(pictures[int(spec[-1])], begun_ns)]

        def connect() -> Watched:
            if not devices:
                raise CameraSilent("gone")
            return devices.pop()

        return LiveSource(spec, connect, give_up_s=0.0)

    monkeypatch.setattr("tracking.sources.source.open_source", opened)
    for c, lens in enumerate(small):
        save_camera(tmp_path / f"cam{c}.yml", lens)
    arguments = [
        "calibrate", "stereo", "camera:0", "camera:1", "--board", str(board), "--cameras", str(tmp_path / "cam0.yml"),
        "--cameras", str(tmp_path / "cam1.yml"), "--out", str(tmp_path / "rig.json"), "--json", "--most", "8",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["shots"] == 8
    assert "taken (8), seen by 2 cameras" in done.stderr
    _, second = load_rig(tmp_path / "rig.json")
    off = CAMERA_FROM_RIG.inverse().translation_mm - second.rig_from_camera.pose.translation_mm
    assert np.linalg.norm(off) < 0.4
    mixed = CliRunner().invoke(app, [*arguments[:3], str(tmp_path), *arguments[4:]])
    assert mixed.exit_code == 2
    assert "one kind" in mixed.stderr
