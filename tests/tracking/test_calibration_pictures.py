"""Boards that were photographed by the second renderer: corners, the whole command, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from osteotwin import app
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp, rotation_log
from tests.data import shared_data
from tests.tracking.calibrating import opencv, placed
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView, NoBoard, find_board
from tracking.calibration.camera_file import load_calibrated, save_camera
from tracking.calibration.collect import Picker
from tracking.frame import Frame
from tracking.sources.source import read_picture
from tracking.synthetic.board_plate import photograph
from tracking.synthetic.optics import Optics

SMALL = Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0, (-0.15, 0.05, 0.0, 0.0))
CHARUCO = Board.parse("charuco:7x5,30,22,DICT_5X5_100")
CHESS = Board.parse("chessboard:8x5,28")


def shoot(board: Board, seed: int, optics: Optics | None = None, **place: float) -> tuple[Any, Array]:
    """A picture and its corners' true places."""
    rng = np.random.default_rng(seed)
    while True:
        R, t = placed(rng, SMALL, board, **{"far": 0.85, "spread": 0.25, **place})
        px = opencv(SMALL, board.points_mm, R, t)
        inside = ((px > 12) & (px < (627, 467))).all(axis=1)
        if inside.all() if board.kind == "chessboard" else inside.sum() > 12:
            return photograph(board, SMALL, Rigid(R, t), optics or Optics(0.7, 2.0, 0.2), seed=seed), px


@pytest.mark.parametrize(
    ("board", "optics", "rms_px"),
    [
        (CHARUCO, Optics(0.7, 2.0, 0.2), 0.025),
        (CHESS, Optics(0.7, 2.0, 0.2), 0.025),
        (CHESS, Optics(0.9, 2.0, 0.3, gamma=2.2, sharpen=0.5), 0.035),  # a half turn leaves the corner where it is
        (Board.parse("charuco:6x8,24,18,DICT_4X4_50,legacy"), Optics(0.7, 2.0, 0.2), 0.03),
    ],
)
def test_corners_lie_where_the_board_is(board: Board, optics: Optics, rms_px: float) -> None:
    errors, squares = [], []
    for seed in range(4):
        picture, truth = shoot(board, seed, optics)
        view = find_board(picture, board)
        assert isinstance(view, BoardView), view
        there = truth[view.ids]
        if np.abs(view.corners_px - there).max() > 5 and board.half_turn_alike:
            there = there[::-1]
        error = view.corners_px - there
        errors.append(error)
        squares.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(view.covariance_px2), error))
    assert np.sqrt((np.concatenate(errors) ** 2).mean()) < rms_px
    assert np.abs(np.concatenate(errors).mean(axis=0)).max() < 0.004  # pixel centres at integers
    assert np.concatenate(squares).mean() / 2 < 2.5


def test_corners_of_opencvs_tutorial_board_agree_with_opencvs() -> None:
    """Its board: 5 x 7 squares of 40 mm, markers of 20 mm (any unit will do), a real photo and one with a hand."""
    folder = shared_data("ar_opencv_aruco")
    board = Board.parse("charuco:5x7,40,20,DICT_6X6_250")
    made = cv2.aruco.CharucoBoard((5, 7), 40.0, 20.0, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_6X6_250))
    for name, least in (("choriginal.jpg", 24), ("chocclusion_original.jpg", 14)):
        picture = read_picture(folder / name)
        view = find_board(picture, board)
        assert isinstance(view, BoardView)
        assert len(view) >= least
        corners, ids, _, _ = cv2.aruco.CharucoDetector(made).detectBoard(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        theirs = dict(zip(np.ravel(ids).tolist(), np.reshape(corners, (-1, 2)), strict=True))
        shared = [k for k, i in enumerate(view.ids.tolist()) if i in theirs]
        off = np.array([view.corners_px[k] - theirs[int(view.ids[k])] for k in shared])
        assert np.median(np.linalg.norm(off, axis=1)) < 0.35
        assert view.marker_share == pytest.approx(0.5, abs=0.02)


def test_pictures_without_a_usable_board_say_why() -> None:
    plain = np.full((480, 640), 90, dtype=np.uint8)
    for board, words in ((CHARUCO, "0 of 17 markers"), (CHESS, "no chessboard of 8 x 5")):
        found = find_board(plain, board, name="a.png")
        assert isinstance(found, NoBoard)
        assert words in found.reason
    picture, _ = shoot(CHARUCO, 1)
    other = find_board(picture, Board.parse("charuco:5x7,30,22,DICT_5X5_100"))
    assert isinstance(other, NoBoard)
    assert "columns and rows swapped" in other.reason


def test_a_stream_is_picked_from() -> None:
    """A board that rests, moves fast, rests again, and rests where it was before."""
    picker = Picker(CHARUCO)
    still, _ = shoot(CHARUCO, 1)
    moved = np.roll(still, 12, axis=1)
    elsewhere, _ = shoot(CHARUCO, 2)
    words = []
    pictures = [still, still, moved, elsewhere, elsewhere, still, still, np.full_like(still, 90)]
    for index, picture in enumerate(pictures):
        offer = picker.offer(Frame(index * 100_000_000, picture, index))
        assert offer is not None
        words.append(offer.words)
    assert [word.split(":")[0] for word in words] == [
        "hold still", "taken (1)", "hold still", "hold still", "taken (2)", "hold still", "seen already",
        "0 of 17 markers seen, 3 are needed",
    ]  # fmt: skip
    assert picker.offer(Frame(len(pictures) * 100_000_000 - 90_000_000, still, 9)) is None
    assert picker.turned_down == {"moving": 4, "seen already": 1, "no board": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen pictures of the ChArUco board."""
    where = tmp_path_factory.mktemp("board")
    for seed in range(14):
        cv2.imwrite(str(where / f"{seed:02d}.png"), shoot(CHARUCO, seed, far=0.75 + 0.05 * (seed % 4))[0])
    return where


def call(*arguments: object) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["calibrate", *map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_the_command_from_pictures_to_a_checked_camera(folder: Path, tmp_path: Path) -> None:
    out, charts = tmp_path / "camera.yml", tmp_path / "charts"
    code, report = call(
        "camera", folder, "--board", CHARUCO, "--out", out, "--limit-mm", 1, "--pictures", charts,
        "--model", "k2", "--board-shape", "flat",
    )  # fmt: skip
    assert code == 0, report
    assert report["good"]
    assert report["rms_px"] < 0.05
    camera = load_calibrated(out)
    assert camera.accepted
    assert camera.board == str(CHARUCO)
    for name, truth in (("fx", 560.0), ("fy", 562.0), ("cx", 322.0), ("cy", 236.0)):
        found = report["parameters"][name]
        assert abs(found["value"] - truth) < 4 * found["sd"] + 0.02
        assert camera.sd(name) == pytest.approx(found["sd"])
    assert {p.name for p in charts.iterdir()} == {"coverage.png", "residuals.png"}
    assert report["coverage"]["share"] > 0.5

    code, checked = call("check", out, folder, "--limit-mm", 1)
    assert code == 0
    assert checked["status"] == "GOOD"
    zoomed = Pinhole(640, 480, 571.0, 573.0, 322.0, 236.0, (-0.15, 0.05, 0.0, 0.0))
    save_camera(tmp_path / "old.yml", zoomed)
    code, checked = call("check", tmp_path / "old.yml", folder, "--limit-mm", 1, "--board", CHARUCO)
    assert code == 1
    assert checked["status"] == "DRIFTED"
    assert checked["focal_change"] == pytest.approx(560 / 571 - 1, abs=0.003)


@pytest.mark.parametrize(
    "board",
    [CHARUCO, CHESS, Board.parse("charuco:6x8,24,18,DICT_4X4_50,legacy"), Board.parse("charuco:9x12,30,20,6X6_250")],
)
def test_a_printed_board_is_the_one_that_is_found(tmp_path: Path, board: Board) -> None:
    """The print itself, seen straight on: every corner where the board has it, to less than a dot of 600 dpi."""
    sheet = tmp_path / "board.png"
    code, report = call("board", sheet, "--board", board)
    assert code == 0
    dots_mm = 300 / 25.4  # of a print at 600 dpi made half as large
    large = cv2.imread(str(sheet), cv2.IMREAD_GRAYSCALE)
    picture = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    view = find_board(picture, board)
    assert isinstance(view, BoardView), view
    assert len(view) == len(board.points_mm)
    mm = (view.corners_px + 0.5) / dots_mm
    there = board.points_mm[view.ids, :2]
    if board.half_turn_alike and mm[0, 0] > mm[-1, 0]:
        there = there[::-1]
    assert np.abs((mm - mm.mean(axis=0)) - (there - there.mean(axis=0))).max() < 0.03
    code, report = call("board", sheet, "--board", "chessboard:20x20,30")
    assert code == 1
    assert "more than A3" in report["error"]["message"]


def _filmed(seconds: float, camera: Pinhole, readout_ns: int, seed: int) -> Any:
    """One picture of a board that is shaken, with its exact velocity."""

    def pose(s: float) -> Rigid[Any, Any]:
        R = rotation_exp([0.3 * np.sin(3 * s), 0.3 * np.cos(4 * s), 0.1 * np.sin(5 * s)])
        t = np.array([40 * np.sin(6 * s), 30 * np.cos(7 * s), 330 + 20 * np.sin(3 * s)])
        return Rigid(R, t - R @ CHARUCO.points_mm.mean(axis=0))

    before, after = pose(seconds - 1e-4), pose(seconds + 1e-4)
    turn = rotation_log(after.rotation @ before.rotation.T)
    twist = np.concatenate([turn, after.translation_mm - before.translation_mm]) / 2e-4
    optics = Optics(0.7, 2.0, 0.2, readout_ns=readout_ns)
    return photograph(CHARUCO, camera, pose(seconds), optics, seed=seed, twist=twist)


@pytest.mark.parametrize("readout_ms", [0, 18])
def test_the_readout_time_is_measured_and_kept_in_the_file(tmp_path: Path, readout_ms: int) -> None:
    save_camera(tmp_path / "c.yml", SMALL)
    film = tmp_path / "film"
    film.mkdir()
    for k in range(14):  # a folder is taken as 30 pictures a second
        cv2.imwrite(str(film / f"{k:02d}.png"), _filmed(k / 30, SMALL, readout_ms * 1_000_000, k))
    arguments = ("readout", tmp_path / "c.yml", film, "--board", CHARUCO, "--out", tmp_path / "new.yml")
    code, report = call(*arguments)
    assert code == 0, report
    assert abs(report["seconds"] - 1e-3 * readout_ms) < 4 * report["sd_s"] < 0.0008
    assert report["rolling"] == (readout_ms > 0)
    assert report["corrected_px"] < 0.03
    kept = load_calibrated(tmp_path / "new.yml")
    assert kept.pinhole == SMALL
    assert kept.readout_ns == report["readout_ns"]
    for k in range(1, 14):  # the same board, lying still
        cv2.imwrite(str(film / f"{k:02d}.png"), _filmed(0.0, SMALL, 0, k))
    code, report = call(*arguments)
    assert code == 1
    assert report["error"]["kind"] == "NoReadout"


def test_the_command_refuses_with_the_reason(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "camera.yml"
    for board, kind, words in (
        ("chessboard:9x6,25", "TooFewPictures", "no chessboard of 9 x 6"),
        ("charuco:7x5,30,26,DICT_5X5_100", "WrongBoard", "of a square's in the pictures"),
        ("charuco:5x7,30,22,DICT_5X5_100", "TooFewPictures", "swapped"),
        ("charuco:7x5,30,22,DICT_4X4_50", "WrongBoard", "5X5"),
        ("charuco:5x5,30,22,DICT_5X5_100", "WrongBoard", "bears 0 to 11"),
    ):
        code, report = call("camera", folder, "--board", board, "--out", out)
        assert code == 1
        assert report["error"]["kind"] == kind
        assert words in report["error"]["message"]
    code, report = call(
        "camera",
        folder,
        "--board",
        CHARUCO,
        "--out",
        out,
        "--limit-mm",
        0.001,
        "--model",
        "k2",
        "--board-shape",
        "flat",
    )
    assert code == 1
    assert "predicted pose error" in report["error"]["message"]
    assert report["advice"]
    assert not out.exists()
    for options, words in (
        (("--volume-mm", "near"), "two distances"),
        (("--volume-mm", "800-400"), "near first"),
        (("--model", "best"), "k2"),
        (("--limit-mm", "0"), "above zero"),
    ):
        code, report = call("camera", folder, "--board", CHARUCO, "--out", out, *options)
        assert code == 2
        assert words in report["error"]["message"]


def test_markers_that_the_rim_cuts_off_stop_nothing() -> None:
    """A board pushed out of the picture row by row: markers whose corners lie beyond the rim are no error."""
    picture, _ = shoot(CHARUCO, 3)
    for shift in range(0, 480, 16):
        cut = np.full_like(picture, 90)
        cut[shift:] = picture[: 480 - shift]
        assert isinstance(find_board(cut, CHARUCO), (BoardView, NoBoard))


def test_a_board_under_a_fisheye_is_the_same_board() -> None:
    """No homography holds across such a picture; which marker is whose neighbour, and how large it is, still does."""
    bent = Pinhole(640, 480, 290.0, 291.0, 322.0, 237.0, (0.03, -0.008, 0.002, -0.0004), "fisheye")
    pose = Rigid[Any, Any](rotation_exp([0.25, -0.3, 0.1]), np.array([-105.0, -60.0, 110.0]))
    truth = opencv(bent, CHARUCO.points_mm, pose.rotation, pose.translation_mm)
    view = find_board(photograph(CHARUCO, bent, pose), CHARUCO)
    assert isinstance(view, BoardView), view
    assert len(view) >= 20
    assert np.abs(view.corners_px - truth[view.ids]).max() < 0.1
    assert view.marker_share == pytest.approx(22 / 30, rel=0.01)


def test_mirrored_pictures_of_the_right_board_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mirrored").mkdir()
    for path in sorted(folder.glob("*.png"))[:8]:
        cv2.imwrite(str(tmp_path / "mirrored" / path.name), cv2.imread(str(path))[:, ::-1])
    code, report = call("camera", tmp_path / "mirrored", "--board", CHARUCO, "--out", tmp_path / "c.yml")
    assert (code, report["error"]["kind"]) == (1, "WrongBoard")
    assert "is the picture mirrored?" in report["error"]["message"]
