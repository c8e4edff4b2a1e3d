"""Events survive their file bit for bit; a bad line is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.events import BadEvent, Command, ControllerSample, HandInput, RemoteEdit, event_from_json
from rehearsal.script import BadScript, line_of, read_script, write_script
from spatial.rigid import Rigid

numbers = st.floats(-3.0, 3.0, allow_nan=False)
poses = st.builds(
    lambda w, t: Rigid.exp(np.array(w), 1000.0 * np.array(t)), *[st.tuples(numbers, numbers, numbers)] * 2
)
hands = st.builds(
    HandInput, st.none() | poses, st.none() | poses, st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans(),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)  # fmt: skip
samples = st.builds(ControllerSample, st.integers(0, 2**62), st.none() | poses, hands, hands)


@given(samples)
def test_a_sample_reads_back_as_the_same_bytes(sample: ControllerSample) -> None:
    line = line_of(sample)
    again = event_from_json(json.loads(line))
    assert line_of(again) == line
    assert isinstance(again, ControllerSample)
    if sample.head is not None and again.head is not None:
        assert np.array_equal(again.head.rotation, sample.head.rotation)


def test_the_other_events_read_back_too() -> None:
    for event in (
        Command(1, "ann", "undo"),
        Command(2, "ann", "select_tool", "left", "saw"),
        RemoteEdit(3, "bob", "x1", "remove_screw", {"plan": "p", "id": "L2_left"}),
    ):
        assert line_of(event_from_json(json.loads(line_of(event)))) == line_of(event)


def test_a_sample_may_leave_out_what_is_at_rest() -> None:
    event = event_from_json({"t_ns": 5})
    assert isinstance(event, ControllerSample)
    assert event.head is None
    assert not event.left.is_tracked


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "JSON object"),
        ({"t_ns": -1}, "t_ns"),
        ({"t_ns": 1.5}, "t_ns"),
        ({"t_ns": 1, "kind": "dance"}, "dance"),
        ({"t_ns": 1, "hands": {"middle": {}}}, "left and right"),
        ({"t_ns": 1, "hands": {"left": {"trigger": 1.5}}}, "trigger"),
        ({"t_ns": 1, "hands": {"left": {"trigger": True}}}, "trigger"),
        ({"t_ns": 1, "hands": {"left": {"squeeze": 1.0}}}, "squeeze"),
        ({"t_ns": 1, "head": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "translation_mm": [0, 0, 0]}}, "head"),
        ({"t_ns": 1, "kind": "command", "author": "a", "command": "jump"}, "jump"),
        ({"t_ns": 1, "kind": "command", "author": "a", "command": "select_tool"}, "select_tool"),
    ],
)
def test_what_is_wrong_is_named(value: object, words: str) -> None:
    with pytest.raises(BadEvent, match=words):
        event_from_json(value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"t_ns": 1}', "{oops"], "line 2 is no JSON"),
        (['{"t_ns": 1}', "", '{"t_ns": 2, "kind": "dance"}'], "line 3: event kind"),
        (['{"t_ns": 5}', '{"t_ns": 4}'], "line 2 has t_ns 4"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, lines: list[str], words: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadScript, match=words):
        list(read_script(path))


def test_a_script_reads_back(tmp_path: Path) -> None:
    events = [ControllerSample(1), Command(1, "a", "redo"), ControllerSample(2)]
    assert write_script(tmp_path / "s.jsonl", events) == 3
    assert [line_of(e) for e in read_script(tmp_path / "s.jsonl")] == [line_of(e) for e in events]


def test_a_missing_script_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadScript, match="cannot be read"):
        list(read_script(tmp_path / "none.jsonl"))
