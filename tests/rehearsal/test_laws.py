"""Laws of the session under any sequence of events."""

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.events import Command, ControllerSample, HandInput, RemoteEdit, event_from_json
from rehearsal.grab import SCALE_LIMITS
from rehearsal.model import Model
from rehearsal.script import line_of
from rehearsal.session import document, play, start, state_sha256, step
from rehearsal.stance import pointing
from spatial.frames import Instrument, Stage
from spatial.rigid import Rigid
from tests.rehearsal.acting import TICK_NS, Player, at, hand

AUTHORS = ("surgeon", "fellow")
near = st.floats(-250.0, 250.0)
directions = st.tuples(st.floats(-0.3, 0.3), st.floats(-1.0, -0.5), st.floats(-0.3, 0.3))


def pose(place: tuple[float, float, float], forward: tuple[float, float, float]) -> Rigid[Stage, Instrument]:
    """Above the table, pointing down more or less."""
    return pointing(np.array([0.0, 1150.0, -450.0]) + place, np.array(forward))


poses = st.builds(pose, st.tuples(near, st.floats(-80.0, 120.0), near), directions)
pressed = st.sampled_from([0.0, 0.5, 1.0])


def one_pose(tracked: Rigid[Stage, Instrument] | None, **buttons: Any) -> HandInput:
    return HandInput(tracked, tracked, **buttons)


hands = st.builds(
    one_pose, st.none() | poses, grab=pressed, trigger=pressed, undo=st.booleans(), tool=st.booleans(),
    stick=st.sampled_from([(0.0, 0.0), (1.0, 0.0)]),
)  # fmt: skip
samples = st.builds(lambda left, right: ControllerSample(0, None, left, right), hands, hands)
commands = st.builds(
    lambda author, kind: Command(0, author, kind),
    st.sampled_from(AUTHORS),
    st.sampled_from(["undo", "redo", "reset_view"]),
) | st.builds(
    lambda side, tool: Command(0, "surgeon", "select_tool", side, tool),
    st.sampled_from(["left", "right"]),
    st.sampled_from(["hand", "drill", "saw"]),
)
drillings = st.tuples(st.sampled_from(["L2_left", "L2_right", "L4_left", "L4_right"]), st.floats(20.0, 70.0))
removals = st.sampled_from(["L2_left", "L4_right", "nothing"])


def perform(player: Player, word: Any, number: int) -> None:
    """One word of a random story."""
    if isinstance(word, ControllerSample | Command):
        value = word.to_json() | {"t_ns": player.t_ns}
        player.play(event_from_json(value))
        player.t_ns += TICK_NS
    elif isinstance(word, tuple):
        player.play(Command(player.t_ns, "surgeon", "select_tool", "right", "drill"))
        player.drill(player.first.model.planned.screws[word[0]].axis, word[1], steps=4)
    else:
        player.play(RemoteEdit(player.t_ns, "fellow", f"r{number}", "remove_screw", {"plan": "p", "id": word}))


stories = st.lists(samples | commands | drillings | removals, max_size=25)


@settings(max_examples=40)
@given(story=stories)
def test_a_replay_from_the_written_lines_gives_the_same_bytes(model: Model, story: list[Any]) -> None:
    player = Player(model)
    for number, word in enumerate(story):
        perform(player, word, number)
    lines = [line_of(event) for event in player.events]
    again = play(start(model, "test"), (event_from_json(json.loads(line)) for line in lines))
    assert state_sha256(again) == state_sha256(player.state)
    assert document(again) == document(player.state)
    low, high = SCALE_LIMITS
    assert low <= player.state.stage_from_patient.scale <= high


@settings(max_examples=25)
@given(story=stories, author=st.sampled_from(AUTHORS))
def test_undo_then_redo_leaves_the_plan_as_it_was(model: Model, story: list[Any], author: str) -> None:
    player = Player(model)
    for number, word in enumerate(story):
        perform(player, word, number)
    before = player.state
    had_something = before.history.undo_target(author) is not None
    after = play(before, [Command(player.t_ns, author, "undo"), Command(player.t_ns, author, "redo")])
    if had_something:
        assert after.execution.plan.document() == before.execution.plan.document()
        assert after.execution.closed_rad == before.execution.closed_rad
        assert [d.id for d in after.history.edits()] == [d.id for d in before.history.edits()]
        assert len(after.history.deeds) == len(before.history.deeds) + 2


@settings(max_examples=40)
@given(story=stories, hidden=st.lists(hands, max_size=15))
def test_hands_that_are_not_tracked_change_nothing(model: Model, story: list[Any], hidden: list[HandInput]) -> None:
    player = Player(model)
    for number, word in enumerate(story):
        perform(player, word, number)
    before = player.state
    state = before
    for seen in hidden:
        lost = HandInput(None, None, seen.grab, seen.trigger, seen.undo, seen.tool, seen.stick)
        state = step(state, ControllerSample(player.t_ns, None, lost, lost))
        assert not state.pulses
    assert [d.id for d in state.history.deeds] == [d.id for d in before.history.deeds]
    assert state.execution.plan.document() == before.execution.plan.document()
    assert np.array_equal(state.stage_from_patient.matrix(), before.stage_from_patient.matrix())
    for side in ("left", "right"):
        now, then = state.hand(side), before.hand(side)  # type: ignore[arg-type]  # the two sides
        assert now.stage_from_grip is then.stage_from_grip
        assert (now.tool, now.path_mm) == (then.tool, then.path_mm)


def test_a_held_model_does_not_jump_when_the_hand_is_lost_and_found(model: Model) -> None:
    player = Player(model)
    player.now(left=hand(at([0.0, 1100.0, -300.0]), grab=1.0))
    player.now(left=hand(at([20.0, 1100.0, -300.0]), grab=1.0))
    before = player.state.stage_from_patient.matrix()
    player.now(left=hand(None, grab=1.0))
    state = player.now(left=hand(at([400.0, 1500.0, 100.0]), grab=1.0))
    assert np.array_equal(state.stage_from_patient.matrix(), before)
    state = player.now(left=hand(at([401.0, 1500.0, 100.0]), grab=1.0))
    assert np.allclose(state.stage_from_patient.matrix()[:3, 3] - before[:3, 3], [1.0, 0.0, 0.0])


def test_a_drill_that_was_lost_at_release_places_nothing(model: Model) -> None:
    player = Player(model)
    axis = model.planned.screws["L2_left"].axis
    player.now(right=hand(player.tip_at(axis, -10.0)))
    for along_mm in (-10.0, 5.0, 40.0):
        player.now(right=hand(player.tip_at(axis, along_mm), trigger=1.0))
    player.now(right=hand(None))
    state = player.now(right=hand(player.tip_at(axis, 40.0)))
    assert not state.history.deeds
    assert "tracking was lost" in state.note


def test_a_drill_that_comes_back_pulling_goes_on(model: Model) -> None:
    player = Player(model)
    axis = model.planned.screws["L2_left"].axis
    player.now(right=hand(player.tip_at(axis, -10.0)))
    for along_mm in (-10.0, 5.0, 30.0):
        player.now(right=hand(player.tip_at(axis, along_mm), trigger=1.0))
    player.now(right=hand(None, trigger=0.0))
    player.now(right=hand(player.tip_at(axis, 40.0), trigger=1.0))
    state = player.now(right=hand(player.tip_at(axis, 40.0)))
    assert list(state.execution.plan.screws) == ["L2_left"]


def test_undo_is_per_author(model: Model) -> None:
    player = Player(model)
    player.drill(model.planned.screws["L2_left"].axis, 40.0)
    screw = model.planned.screws["L4_left"].to_json()
    player.play(RemoteEdit(player.t_ns, "fellow", "f1", "place_screw", {"plan": "p", "screw": screw}))
    player.play(RemoteEdit(player.t_ns, "fellow", "f1", "place_screw", {"plan": "p", "screw": screw}))  # twice
    assert list(player.state.execution.plan.screws) == ["L2_left", "L4_left"]
    state = player.play(Command(player.t_ns, "surgeon", "undo"))
    assert list(state.execution.plan.screws) == ["L4_left"]
    state = player.play(Command(player.t_ns, "fellow", "undo"))
    assert not state.execution.plan.screws
    state = player.play(Command(player.t_ns, "surgeon", "redo"))
    assert list(state.execution.plan.screws) == ["L2_left"]


def test_buttons_undo_redo_and_change_the_tool(model: Model) -> None:
    player = Player(model)
    player.drill(model.planned.screws["L2_left"].axis, 40.0)
    there = at([300.0, 1200.0, 0.0])
    player.now(right=hand(there))
    assert not player.now(right=hand(there, undo=True)).execution.plan.screws
    assert not player.now(right=hand(there, undo=True)).execution.plan.screws, "held down it counts once"
    player.now(right=hand(there))
    assert player.now(right=hand(there, undo=True, stick=(1.0, 0.0))).execution.plan.screws
    player.now(right=hand(there))
    tools = [player.now(right=hand(there, tool=down)).right.tool for down in (True, False, True, False, True)]
    assert tools == ["saw", "saw", "hand", "hand", "drill"]


def test_a_clock_that_runs_back_stands_still(model: Model) -> None:
    state = play(start(model, "x"), [ControllerSample(100), ControllerSample(50)])
    assert state.t_ns == 100
