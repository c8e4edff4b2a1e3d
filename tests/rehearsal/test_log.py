"""What is recorded computes again, in a fresh process, to the same bytes; what was changed is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rehearsal.events import ControllerSample
from rehearsal.log import LogExists, NoLog, OtherModel, Recording, Replay, replay, stream_path
from rehearsal.model import Model
from rehearsal.script import BadScript, read_script
from rehearsal.session import start, state_sha256, step
from rehearsal.surgeon import rehearse_plan
from spatial.rigid import Points
from tests.data import ROOT
from tests.rehearsal.boxes import model_of_boxes, twin_of_boxes
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.case import Case
from twin.journal import Journal, JournalBroken
from twin.plan import edits


def record(model: Model, log: Path, case: Path | None = None, end: bool = True) -> str:
    events = rehearse_plan(model, seed=3, rate_hz=20)
    state = start(model, "s1")
    with Recording(log, state, case) as recording:
        for event in events:
            state = step(state, event)
            recording.take(event, state)
        if end:
            recording.end()
    return state_sha256(state)


def again(log: Path) -> Replay:
    return replay(log, lambda _: twin_of_boxes())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "session.jsonl"
    record(model_of_boxes(), path)
    return path


def test_the_log_is_a_journal_whose_fold_is_the_placed_hardware(log: Path) -> None:
    entries = Journal(log).entries()
    assert (entries[0].kind, entries[-1].kind) == ("rehearsal_started", "rehearsal_ended")
    found = again(log)
    assert found.same
    name = found.state.execution.plan.name
    plan, skipped = edits.fold(entries, name, "boxes")
    assert plan.document() == found.state.execution.plan.document()
    assert not skipped
    assert not any("stage_from_grip" in json.dumps(entry.payload) for entry in entries), "poses go to the stream"
    assert sum(1 for e in entries if e.kind == "undo") == 2  # one undo, one redo


def test_a_fresh_process_comes_to_the_same_state(tmp_path: Path) -> None:
    twin = twin_of_boxes()
    case = Case.create(tmp_path / "case", twin, None, None, [{"step": "made by a test"}])
    case.journal.close()
    model = Model(case.twin, model_of_boxes().planned)
    sha256 = record(model, tmp_path / "logs" / "one.jsonl", case.folder)
    tmp_path.joinpath("moved").mkdir()
    for name in ("case", "logs"):  # both together, somewhere else
        (tmp_path / name).rename(tmp_path / "moved" / name)
    command = [sys.executable, "-m", "osteotwin", "replay", str(tmp_path / "moved" / "logs" / "one.jsonl"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["same"] is True
    assert value["sha256"] == value["recorded_sha256"] == sha256
    assert value["events"] > 300


def test_a_log_is_never_written_over(log: Path) -> None:
    model = model_of_boxes()
    with pytest.raises(LogExists):
        Recording(log, start(model, "x"))


def test_a_session_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError), Recording(tmp_path / "s.jsonl", start(model_of_boxes(), "x")):
        raise ArithmeticError("no headset")
    assert not list(tmp_path.iterdir())


def test_a_session_that_was_not_ended_is_compared_by_its_deeds(tmp_path: Path) -> None:
    record(model_of_boxes(), tmp_path / "s.jsonl", end=False)
    found = again(tmp_path / "s.jsonl")
    assert found.same
    assert found.recorded_sha256 is None


def test_a_session_that_was_cut_off_in_the_middle_of_a_line_is_still_replayed(tmp_path: Path) -> None:
    record(model_of_boxes(), tmp_path / "s.jsonl", end=False)
    stream = stream_path(tmp_path / "s.jsonl")
    events = again(tmp_path / "s.jsonl").events
    stream.write_bytes(stream.read_bytes() + b'{"kind": "sam')
    assert again(tmp_path / "s.jsonl").same
    assert again(tmp_path / "s.jsonl").events == events


def test_a_clock_that_ran_back_is_replayed_as_it_was(tmp_path: Path) -> None:
    """A headset may predict an earlier display time than before; as a script such a file is refused."""
    state = start(model_of_boxes(), "s")
    with Recording(tmp_path / "s.jsonl", state) as recording:
        for t_ns in (2_000, 3_000, 2_500, 4_000):
            event = ControllerSample(t_ns)
            state = step(state, event)
            recording.take(event, state)
        recording.end()
    assert again(tmp_path / "s.jsonl").same
    with pytest.raises(BadScript, match="run back"):
        list(read_script(stream_path(tmp_path / "s.jsonl")))


def copy(log: Path, folder: Path) -> Path:
    for path in (log, stream_path(log)):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / log.name


def test_a_changed_stream_is_refused(log: Path, tmp_path: Path) -> None:
    path = copy(log, tmp_path)
    lines = stream_path(path).read_bytes().splitlines(keepends=True)
    stream_path(path).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(NoLog, match="checksum"):
        again(path)
    stream_path(path).unlink()
    with pytest.raises(NoLog, match="missing"):
        again(path)


def test_another_state_than_recorded_is_told(tmp_path: Path) -> None:
    """An unended session whose stream lost an event that mattered: the deeds differ."""
    path = tmp_path / "s.jsonl"
    record(model_of_boxes(), path, end=False)
    lines = stream_path(path).read_bytes().splitlines(keepends=True)
    stream_path(path).write_bytes(b"".join(lines[: len(lines) // 2]))
    assert not again(path).same


def test_a_changed_journal_is_refused(log: Path, tmp_path: Path) -> None:
    path = copy(log, tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"diameter_mm":6.0', b'"diameter_mm":7.0', 1))
    with pytest.raises(JournalBroken):
        again(path)


def test_another_anatomy_is_refused(log: Path) -> None:
    twin = twin_of_boxes()
    moved = tuple(
        Landmark(m.name, m.bone, m.side, Points(m.position.mm + np.array([0.0, 0.0, 0.1])), m.direction, m.sd_mm)
        for m in twin.landmarks
    )
    other = Twin(twin.twin_id, twin.bones, moved, twin.levels)
    with pytest.raises(OtherModel):
        replay(log, lambda _: other)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoLog, match="no such"):
        again(tmp_path / "none.jsonl")
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("a", "plan_saved", {})
    with pytest.raises(NoLog, match="does not begin"):
        again(tmp_path / "j.jsonl")
