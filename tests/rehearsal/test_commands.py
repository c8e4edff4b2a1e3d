"""`osteotwin rehearse` and `osteotwin replay` as a script calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rehearsal.model import Model
from rehearsal.script import write_script
from rehearsal.surgeon import Surgeon
from tests.data import ROOT
from tests.rehearsal.boxes import planned, twin_of_boxes
from twin.case import Case


def osteotwin(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "osteotwin", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case") / "case"
    case = Case.create(folder, twin_of_boxes(), None, None)
    case.save_plan("fixation", planned(case.twin).to_json())
    case.journal.close()
    return case


def test_a_script_is_played_recorded_and_replayed(case: Case, tmp_path: Path) -> None:
    surgeon = Surgeon(Model(case.twin, planned(case.twin)), seed=4)
    surgeon.place(planned(case.twin).screws["L2_left"])
    write_script(tmp_path / "events.jsonl", surgeon.events)
    log = tmp_path / "log.jsonl"
    done = osteotwin(
        "rehearse", case.folder, "--offscreen", tmp_path / "out", "--script", tmp_path / "events.jsonl", "--log", log,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["events"] == len(surgeon.events)
    assert [line["id"] for line in value["screws"]] == ["L2_left"]
    assert value["missing"] == ["L2_right", "L3-PSO", "L4_left", "L4_right"]
    for name in ("eye_left.png", "eye_right.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (1280, 960)
    assert (tmp_path / "out" / "rehearsal.mp4").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "report.json").read_text())["screws"] == value["screws"]
    assert Case.open(case.folder).check() == []
    again = osteotwin("replay", log, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["same"] is True
    assert json.loads(again.stdout)["sha256"] == value["sha256"]
    # a log is not written over
    twice = osteotwin("rehearse", case.folder, "--offscreen", tmp_path / "out", "--log", log, "--json")
    assert twice.returncode == 2
    assert json.loads(twice.stdout)["error"]["kind"] == "LogExists"


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ((), 2, "OneWay"),
        (("--window", "--headset"), 2, "OneWay"),
        (("--window", "--script", "x.jsonl"), 2, "OneWay"),
        (("--offscreen", "{out}", "--plan", "other"), 2, "NoPlan"),
        (("--offscreen", "{out}", "--script", "{out}.jsonl"), 1, "BadScript"),
    ],
)
def test_wrong_use_is_one_line(case: Case, tmp_path: Path, words: tuple[str, ...], code: int, kind: str) -> None:
    out = tmp_path / "out"
    done = osteotwin("rehearse", case.folder, *(word.format(out=out) for word in words), "--json")
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == kind
    assert "Traceback" not in done.stderr
    assert not out.exists(), "nothing half-written"
    assert not (case.folder / "rehearsals").exists()


def test_a_replay_of_nothing_is_one_line(tmp_path: Path) -> None:
    done = osteotwin("replay", tmp_path / "none.jsonl", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "NoLog"
