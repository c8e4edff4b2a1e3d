"""`osteotwin track` and `osteotwin markers` as a script sees them: keys, exit codes, one clear line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from commands import markers, track
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from tests.bench.tracking_real import bard_camera
from tests.data import shared_data
from tracking.bodies.body import board, save
from tracking.calibration.camera_file import save_camera
from tracking.sources.folder import read_picture

RUNNER = CliRunner()
KEYS = {"frame", "t_ns", "body", "status", "how", "reason", "camera_from_body", "covariance", "rms_px", "corners_px"}


def run(*words: object) -> Result:
    return RUNNER.invoke(track.app, [str(w) for w in words])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_synthetic_stream_gives_a_line_a_body_a_frame(tmp_path: Path) -> None:
    made = RUNNER.invoke(
        markers.app,
        [
            "make",
            str(tmp_path / "b.svg"),
            "--dictionary",
            "DICT_APRILTAG_36h11",
            "--save",
            str(tmp_path / "b.json"),
            "--json",
        ],
    )
    assert made.exit_code == 0
    assert json.loads(made.stdout)["paper_mm"] == [210.0, 297.0]
    result = run("synthetic:frames=3,size=960x540", "--bodies", tmp_path / "b.json", "--json")
    assert result.exit_code == 0
    found = lines(result)
    assert [line["frame"] for line in found] == [0, 1, 2]
    for line in found:
        assert set(line) >= KEYS
        assert (line["status"], line["how"], line["reason"], line["body"]) == ("TRACKED", "EXACT", None, "board")
        assert Rigid[Any, Any].from_json(line["camera_from_body"]).translation_mm[2] > 400
        assert np.shape(line["covariance"]) == (6, 6)
        assert np.shape(line["corners_px"]["0"]) == (4, 2)
    assert "tracked in 3 of 3 pictures" in result.stderr


def test_a_synthetic_stream_shows_its_own_board_when_nothing_is_asked_for() -> None:
    for faults, pictures in (("", 3), (",faults=drop@1", 2)):
        done = run(f"synthetic:frames=3,size=640x480{faults}", "--json")
        assert done.exit_code == 0
        assert [line["body"] for line in lines(done)] == ["board"] * pictures
        assert all(line["status"] == "TRACKED" for line in lines(done))


def test_single_markers_are_bodies_of_their_own() -> None:
    result = run("synthetic:frames=2,size=960x540", "--dictionary", "DICT_APRILTAG_36h11", "--size-mm", 40, "--json")
    assert result.exit_code == 0
    assert [line["body"] for line in lines(result)][:4] == [f"marker:{k}" for k in range(4)]
    poses = {line["body"]: np.array(line["camera_from_body"]["translation_mm"]) for line in lines(result)[:4]}
    assert np.linalg.norm(poses["marker:0"] - poses["marker:1"]) == pytest.approx(60, abs=0.5)


def test_bards_video_from_the_command_line(tmp_path: Path) -> None:
    folder = shared_data("ar_bard_guidance")
    save_camera(tmp_path / "camera.yml", bard_camera(folder))
    for name in ("reference", "pointer"):
        converted = RUNNER.invoke(
            markers.app, ["convert", str(folder / f"{name}.txt"), "--out", str(tmp_path / f"{name}.json")]
        )
        assert converted.exit_code == 0
    result = run(
        folder / "multipattern.avi", "--camera", tmp_path / "camera.yml", "--bodies", tmp_path / "reference.json",
        "--bodies", tmp_path / "pointer.json", "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    board = [line for line in lines(result) if line["body"] == "reference"]
    assert [line["status"] for line in board] == ["TRACKED"] * 10
    assert all(245 <= line["camera_from_body"]["translation_mm"][2] <= 251 for line in board)


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """Two grey pictures of 96 x 64 px and a camera file for them."""
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), np.full((64, 96), 120, dtype=np.uint8))
    save_camera(tmp_path / "c.yml", Pinhole(96, 64, 80, 80, 47.5, 31.5))
    save_camera(tmp_path / "other.yml", Pinhole(640, 480, 600, 600, 320, 240))
    return tmp_path


def test_pictures_without_markers_end_with_one_line(blank: Path) -> None:
    body = ["--bodies", "assets/markers/reference.json"]
    result = run(blank / "pictures", "--camera", blank / "c.yml", *body, "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [line["status"] for line in found[:2]] == ["LOST", "LOST"]
    assert [line["camera_from_body"] for line in found[:2]] == [None, None]
    assert found[0]["reason"] == "0 of 4 markers seen"
    assert found[2]["error"]["kind"] == "NoMarkers"
    assert "DICT_APRILTAG_36h11" in found[2]["error"]["message"]
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("camera", "options", "code", "words"),
    [
        ("other.yml", ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 1, "WrongResolution"),
        ("c.yml", ("--dictionary", "DICT_4X4_5", "--size-mm", "20"), 2, "DICT_4X4_50"),
        ("c.yml", ("--dictionary", "DICT_4X4_50"), 2, "--size-mm"),
        ("c.yml", (), 2, "--bodies"),
        ("absent.yml", ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 1, "no such camera file"),
        (None, ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 2, "--camera"),
    ],
)
def test_wrong_use_and_bad_content(
    blank: Path, camera: str | None, options: tuple[str, ...], code: int, words: str
) -> None:
    lens = () if camera is None else ("--camera", blank / camera)
    result = run(blank / "pictures", *lens, *options)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_bodies_with_a_marker_in_common_are_refused(blank: Path) -> None:
    twin = json.loads(Path("assets/markers/reference.json").read_text()) | {"name": "twin"}
    (blank / "twin.json").write_text(json.dumps(twin))
    result = run(
        blank / "pictures",
        "--camera",
        blank / "c.yml",
        "--bodies",
        "assets/markers/reference.json",
        "--bodies",
        blank / "twin.json",
    )
    assert result.exit_code == 2
    assert "both bear marker 0" in result.stderr


def lined(name: str, markers: range, mirrored: bool = False) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Markers of 60 px side by side on a light page of 600 x 140 px."""
    page = np.full((140, 600), 225, dtype=np.uint8)
    for k, marker in enumerate(markers):
        tag = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name)).generateImageMarker(marker, 60)
        page[40:100, 25 + 110 * k : 85 + 110 * k] = tag
    page = cv2.GaussianBlur(page, (0, 0), 0.7)
    return np.ascontiguousarray(page[:, ::-1]) if mirrored else page


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder of one picture with five markers of DICT_5X5_50, a mirrored one beside it, a camera file for both."""
    for folder, mirrored in (("upright", False), ("mirrored", True)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), lined("DICT_5X5_50", range(3, 8), mirrored))
    save_camera(tmp_path / "c.yml", Pinhole(600, 140, 600, 600, 299.5, 69.5))
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "name", "words"),
    [
        ("upright", "DICT_APRILTAG_36h11", "DICT_5X5_50 would explain 5 squares (ids 3, 4, 5, 6, 7)"),
        ("mirrored", "DICT_5X5_50", "5 squares would be markers of DICT_5X5_50 in a mirror (ids 3, 4, 5, 6, 7)"),
    ],
)
def test_pictures_of_other_markers_say_which(page: Path, folder: str, name: str, words: str) -> None:
    result = run(page / folder, "--camera", page / "c.yml", "--dictionary", name, "--size-mm", 20)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_camera_file_without_a_size_serves_recordings_and_says_so(page: Path) -> None:
    text = (page / "c.yml").read_text()
    (page / "bare.yml").write_text(re.sub("image_(width|height):.*\n", "", text))
    asked = ("--dictionary", "DICT_5X5_50", "--size-mm", 20, "--json")
    bare, whole = (run(page / "upright", "--camera", page / name, *asked) for name in ("bare.yml", "c.yml"))
    assert bare.exit_code == 0
    assert lines(bare) == lines(whole)
    assert "tells no picture size; taken as 600 x 140" in bare.stderr
    assert "picture size" not in whole.stderr
    save_camera(page / "off.yml", Pinhole(600, 140, 600, 600, 399.5, 69.5))
    (page / "bare.yml").write_text(re.sub("image_(width|height):.*\n", "", (page / "off.yml").read_text()))
    far = run(page / "upright", "--camera", page / "bare.yml", *asked)
    assert far.exit_code == 1
    assert "hardly 600 x 140" in far.stderr


def test_a_mirrored_picture_is_named_in_its_own_line(page: Path) -> None:
    cv2.imwrite(str(page / "upright" / "b.png"), cv2.imread(str(page / "mirrored" / "a.png")))
    result = run(page / "upright", "--camera", page / "c.yml", "--dictionary", "DICT_5X5_50", "--size-mm", 20, "--json")
    last = [line for line in lines(result) if line["frame"] == 1]
    assert len(last) == 5
    for line in last:
        assert (line["status"], line["cause"]) == ("LOST", "too few markers")
        assert "is the picture mirrored?" in line["reason"]


def test_a_stray_marker_of_a_short_code_brings_the_better_dictionary(tmp_path: Path) -> None:
    folder = shared_data("ar_opencv_aruco")
    (tmp_path / "p").mkdir()
    picture = cv2.imread(str(folder / "singlemarkersoriginal.jpg"))
    cv2.imwrite(str(tmp_path / "p" / "a.png"), picture)
    camera = folder / "tutorial_camera_charuco.yml"
    result = run(tmp_path / "p", "--camera", camera, "--dictionary", "DICT_4X4_50", "--size-mm", 20, "--json")
    assert [line["body"] for line in lines(result)] == ["marker:17"]  # a wine glass on a dark square
    assert "DICT_6X6_250 would explain 6 squares" in result.stderr


def test_overlays_and_a_file_of_lines_for_every_other_picture(tmp_path: Path) -> None:
    result = run(
        "synthetic:frames=5,size=640x360", "--dictionary", "DICT_APRILTAG_36h11", "--size-mm", 40, "--every", 2,
        "--overlay", tmp_path / "drawn", "--out", tmp_path / "lines.jsonl",
    )  # fmt: skip
    assert result.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["000000.png", "000002.png", "000004.png"]
    kept = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in kept] == [k for k in (0, 2, 4) for _ in range(4)]
    assert set(kept[0]) >= KEYS
    drawn = read_picture(tmp_path / "drawn" / "000000.png")
    (x, y), *_ = kept[0]["corners_px"]["0"]
    red, green, blue = drawn[round(y), round(x)].tolist()
    assert red > 200 > green >= blue  # a red dot marks the first corner


def test_ctrl_c_ends_with_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Any) -> Any:
        for k, frame in enumerate(source):
            if k == 2:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr("tracking.sources.watch.watch", interrupted)
    result = run("synthetic:frames=5,size=640x360", "--dictionary", "DICT_APRILTAG_36h11", "--size-mm", 40)
    assert result.exit_code == 130
    assert "marker:0: tracked in 2 of 2 pictures" in result.stderr
    assert result.stderr.splitlines()[-1] == "Cancelled."


def test_a_recording_of_a_scene_at_rest_is_tracked_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "p" / f"{name}.png"), lined("DICT_5X5_50", range(3, 4)))
    save_camera(tmp_path / "c.yml", Pinhole(600, 140, 600, 600, 299.5, 69.5))
    result = run(
        tmp_path / "p", "--camera", tmp_path / "c.yml", "--dictionary", "DICT_5X5_50", "--size-mm", 20, "--json"
    )
    assert [line["status"] for line in lines(result)] == ["TRACKED", "TRACKED"]
    first, second = (line["reason"] or "" for line in lines(result))
    assert "the picture is the one before again" not in first
    assert "the picture is the one before again" in second
    assert "pictures: 1 the same again" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("faults", "summary", "struck", "words"),
    [
        ("drop@6-9", "pictures: 4 missing", [], ""),
        ("double@6-9", "pictures: 4 the same again", [6, 7, 8, 9], "came before"),
        ("late@6-9", "pictures: 4 out of order", [6, 7, 8, 9], "ms older than one before it"),
        ("freeze@6-9", "pictures: 4 the same again", [6, 7, 8, 9], "last picture again"),
        ("jump:5@6-9", "pictures: the clock jumped 2 x", [6, 10], "the time stamps jump by"),
    ],
)
def test_what_is_wrong_with_the_order_of_pictures_is_counted_and_said(
    faults: str, summary: str, struck: list[int], words: str
) -> None:
    result = run(f"synthetic:frames=14,size=640x480,faults={faults}", "--json")
    assert result.exit_code == 0
    assert summary in result.stderr.splitlines()
    told = [line["frame"] for line in lines(result) if words and words in (line["reason"] or "")]
    assert told == struck
    assert all(line["reason"] is None for line in lines(result) if line["frame"] not in struck)


def test_pictures_in_order_are_not_remarked_upon() -> None:
    for source in ("synthetic:frames=4,size=640x480", "synthetic:frames=4,size=640x480,fps=0.2"):
        result = run(source)
        assert "pictures:" not in result.stderr
        assert "jump" not in result.stdout


def test_a_folder_with_damaged_pictures_is_tracked_without_them(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        page = cv2.add(lined("DICT_5X5_50", range(3, 4)), rng.integers(0, 3, (140, 600), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / "p" / f"{k}.jpg"), page)
    half = (tmp_path / "p" / "1.jpg").read_bytes()
    (tmp_path / "p" / "1.jpg").write_bytes(half[: len(half) // 2])
    (tmp_path / "p" / "2.jpg").write_bytes(b"")
    save_camera(tmp_path / "c.yml", Pinhole(600, 140, 600, 600, 299.5, 69.5))
    asked = ("--camera", tmp_path / "c.yml", "--dictionary", "DICT_5X5_50", "--size-mm", 20, "--json")
    result = run(tmp_path / "p", *asked)
    assert result.exit_code == 0, result.stderr
    assert [line["frame"] for line in lines(result)] == [0, 3]
    assert "2 of 4 pictures are damaged and were not used (1.jpg: cut short" in result.stderr
    assert "missing" not in result.stderr.replace("its end is missing", "")
    for k in (0, 3):
        (tmp_path / "p" / f"{k}.jpg").write_bytes(b"")
    none = run(tmp_path / "p", *asked)
    assert (none.exit_code, lines(none)[-1]["error"]["kind"]) == (1, "NoVideo")
    assert "no picture can be read" in none.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--igtl", 99999), "port 99999; 1 to 65535"),
        (("--igtl", -5), "port -5; 1 to 65535"),
        (("--dictionary", "DICT_APRILTAG_36h11", "--size-mm", 20, "--diamond-mm", 32), "not both"),
        (("--out", "."), "--out names a folder"),
        (("--overlay", "run.py"), "--overlay: a part of its path is a file"),
        (("--out", "run.py/lines"), "--out: a part of its path is a file"),
    ],
)
def test_wrong_options_are_one_line_before_any_picture_is_read(
    options: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracking.sources.synthetic_source.SyntheticSource.__iter__", None)
    result = run("synthetic:frames=2,size=320x240", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_but_dark_pictures_says_so(page: Path) -> None:
    (page / "dark").mkdir()
    cv2.imwrite(str(page / "dark" / "a.png"), np.full((140, 600), 3, dtype=np.uint8))
    save(board("plate", "DICT_5X5_50", range(4), 20.0, 5.0, 2), page / "plate.json")
    result = run(page / "dark", "--camera", page / "c.yml", "--bodies", page / "plate.json")
    assert result.exit_code == 1
    assert "none of the 1 pictures" in result.stderr
    assert "the whole picture is dark" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"name": null, "dictionary": "DICT_5X5_50", "markers": {}}', "name is None"),
    ],
)
def test_hopeless_body_files_are_one_line(page: Path, text: str, words: str) -> None:
    (page / "b.json").write_text(text)
    result = run(page / "upright", "--camera", page / "c.yml", "--bodies", page / "b.json", "--json")
    assert result.exit_code == 1
    assert words in result.stderr
    assert words in json.loads(result.stdout)["error"]["message"]
