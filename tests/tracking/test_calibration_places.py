"""Where results will lie is looked at before anything is measured, and nothing half written stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commands import calibrate
from spatial.pinhole import Pinhole
from tracking.bodies.body import board, save
from tracking.calibration.camera_file import BadCalibration, save_camera
from tracking.part_file import part_file

BOARD = "charuco:7x5,30,22,DICT_5X5_100"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Files that the commands want, and a folder without any picture."""
    save_camera(tmp_path / "c.yml", Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0))
    save_camera(tmp_path / "d.yml", Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0))
    save(board("b", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2), tmp_path / "b.json")
    (tmp_path / "none").mkdir()
    return tmp_path


COMMANDS = {
    "board": "OUT --board BOARD",
    "camera": "none --board BOARD --out OUT",
    "convert": "c.yml --out OUT",
    "stereo": "none none --cameras c.yml --cameras d.yml --board BOARD --out OUT",
    "readout": "c.yml none --board BOARD --out OUT",
    "body": "none --body b.json --camera c.yml --out OUT",
    "instrument": "none --body b.json --camera c.yml --out OUT",
    "hand-eye": "none --body b.json --hand h.jsonl --camera c.yml --out OUT",
    "latency": "none --log l.jsonl --out OUT",
}


def run(bench: Path, command: str, out: Path) -> Result:
    names = {"OUT": str(out), "BOARD": BOARD}
    files = ("none", "c.yml", "d.yml", "b.json", "h.jsonl", "l.jsonl")
    words = [names.get(word, str(bench / word) if word in files else word) for word in COMMANDS[command].split()]
    return CliRunner().invoke(calibrate.app, [command, *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_result_that_could_not_be_kept_is_refused_before_it_is_measured(bench: Path, command: str) -> None:
    (bench / "folder.json").mkdir()
    result = run(bench, command, bench / "folder.json")
    assert result.exit_code == 2, result.stderr
    assert "names a folder, a file is needed" in result.stderr
    result = run(bench, command, bench / "b.json" / "out.json")
    assert result.exit_code == 2, result.stderr
    assert "a part of its path is a file" in result.stderr
    assert not list(bench.glob(".*part*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_folder_of_a_result_is_made_first(bench: Path, command: str) -> None:
    out = bench / "new" / "deep" / ("out.pdf" if command == "board" else "out.json")
    run(bench, command, out)
    assert out.parent.is_dir()


def test_pictures_and_logs_have_a_place_too(bench: Path) -> None:
    words = ["camera", bench / "none", "--board", BOARD, "--out", bench / "o.yml", "--pictures", bench / "b.json"]
    result = CliRunner().invoke(calibrate.app, [*map(str, words)])
    assert (result.exit_code, "--pictures" in result.stderr) == (2, True)
    result = CliRunner().invoke(calibrate.app, ["latency", "camera:0", "--save-log", str(bench / "none")])
    assert (result.exit_code, "--save-log names a folder" in result.stderr) == (2, True)


@pytest.mark.parametrize("most", [0, -3])
def test_no_pictures_at_all_are_wrong_use(bench: Path, most: int) -> None:
    words = {
        "camera": ["camera", bench / "none", "--board", BOARD, "--out", bench / "o.yml"],
        "check": ["check", bench / "c.yml", bench / "none", "--board", BOARD],
    }
    for given in words.values():
        result = CliRunner().invoke(calibrate.app, [*map(str, given), "--most", str(most)])
        assert (result.exit_code, "--most" in result.stderr) == (2, True)


def test_what_can_not_take_its_place_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.mkdir()
    with pytest.raises(OSError, match=r"x\.json") as caught, part_file(target) as part:
        part.write_text("{}")
    assert caught.value.filename == str(target)
    with pytest.raises(UnicodeEncodeError), part_file(tmp_path / "y.json") as part:
        part.write_text("half \u00e4", encoding="ascii")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    with pytest.raises(BadCalibration, match="no such folder"):
        save_camera(tmp_path / "none" / "c.yml", Pinhole(640, 480, 560.0, 562.0, 322.0, 236.0))
