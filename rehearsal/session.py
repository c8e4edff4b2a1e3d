"""The rehearsal itself: `step(state, event) -> state`. No clock, no file, no window, no thread; replay is a fold.

Each sample is worked off in one order: hands are read (an untracked hand holds still: neither its pose nor its buttons
change anything), then tool and undo buttons, then who holds the model or a fragment, then each hand's tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from rehearsal import closing as closings
from rehearsal import grab
from rehearsal.events import SIDES, TOOLS, Command, ControllerSample, Event, HandInput, RemoteEdit, Side, Tool
from rehearsal.execution import CLOSE, fold, open_cut, poses_of
from rehearsal.history import Deed
from rehearsal.model import Poses
from rehearsal.state import Hand, Pulse, State, document, start, state_sha256
from rehearsal.strokes import DROPPED, drill_stroke, saw_stroke
from spatial.frames import Patient, Stage
from spatial.rigid import Points, rotation_log
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.undoing import UNDO

PRESSED, RELEASED = 0.6, 0.4  # a button is down above the one and up below the other
STICK_AWAY = 0.6
IDLE_MM_S, IDLE_RAD_S = 10.0, 0.1  # slower than both is idle

__all__ = ["State", "document", "play", "start", "state_sha256", "step"]


def step(state: State, event: Event) -> State:
    """The state after one event. Raises nothing for what a hand can do; what can't be done is said in `note`."""
    t_ns = max(event.t_ns, state.t_ns)  # a clock that runs back stands still
    before_ns = state.t_ns if state.started_t_ns is not None else t_ns
    state = replace(
        state,
        seq=state.seq + 1,
        t_ns=t_ns,
        started_t_ns=t_ns if state.started_t_ns is None else state.started_t_ns,
        pulses=(),
        note="",
    )
    if isinstance(event, ControllerSample):
        return _sample(state, event, t_ns - before_ns)
    if isinstance(event, Command):
        return _command(state, event)
    return _remote(state, event)


def play(state: State, events: Iterable[Event]) -> State:
    """The state after all of them."""
    return reduce(step, events, state)


def poses(state: State) -> Poses:
    """Where the moved bones are displayed, the fragment in the hand included."""
    closing = state.closing
    moving = None if closing is None else (closing.osteotomy_id, closing.angle_rad)
    return poses_of(state.model, state.execution, moving)


# --- deeds ---


def done(state: State, author: str, kind: str, payload: Mapping[str, Any], deed_id: str | None = None) -> State:
    """With one deed more in the history, and the execution folded anew."""
    name = deed_id or f"{state.session_id}-{len(state.history.deeds)}"
    history = state.history.plus(Deed(name, author, state.t_ns, kind, payload))
    execution, skipped = fold(state.model, history)
    # a fragment in the hand whose cut has just been undone is let go
    closing = state.closing
    if closing is not None and closing.osteotomy_id not in execution.plan.osteotomies:
        closing = None
    return replace(state, history=history, execution=execution, skipped=skipped, closing=closing)


def _undo(state: State, author: str) -> State:
    target = state.history.undo_target(author)
    if target is None:
        return replace(state, note="nothing to undo")
    state = done(state, author, UNDO, {"plan": state.execution.plan.name, "undoes": target.id})
    return replace(state, note=f"undone: {_words(target)}")


def _redo(state: State, author: str) -> State:
    target = state.history.redo_target(author)
    if target is None:
        return replace(state, note="nothing to redo")
    state = done(state, author, UNDO, {"plan": state.execution.plan.name, "undoes": target.id})
    edit = next(deed for deed in state.history.deeds if deed.id == target.undoes)
    return replace(state, note=f"done again: {_words(edit)}")


def _words(deed: Deed) -> str:
    return f"{deed.kind.replace('_', ' ')} by {deed.author}"


def _command(state: State, event: Command) -> State:
    if event.kind == "undo":
        return _undo(state, event.author)
    if event.kind == "redo":
        return _redo(state, event.author)
    if event.kind == "reset_view":
        return replace(state, stage_from_patient=state.model.start, hold=None)
    if event.hand is None or event.tool is None:  # refused by Command's own check
        return state
    return _with_hand(state, event.hand, _taking(state.hand(event.hand), event.tool))


def _remote(state: State, event: RemoteEdit) -> State:
    if state.history.has(event.id):  # the wire may deliver twice
        return state
    return done(state, event.author, event.edit, event.payload, event.id)


# --- hands ---


def _sample(state: State, sample: ControllerSample, dt_ns: int) -> State:
    earlier = {side: state.hand(side) for side in SIDES}
    if sample.head is not None:
        state = replace(state, head=sample.head)
    for side in SIDES:
        state = _with_hand(state, side, _read(state.hand(side), sample.hand(side), dt_ns))
    for side in SIDES:
        state = _buttons(state, side, earlier[side], sample.hand(side))
    state = _grabs(state, earlier)
    shown = poses(state)
    for side in SIDES:
        hand = state.hand(side)
        if not hand.is_tracked:
            continue
        stroke = {"drill": drill_stroke, "saw": saw_stroke}.get(hand.tool)
        if stroke is None:
            continue
        outcome = stroke(state, side, earlier[side], shown)
        state = _with_hand(state, side, outcome.hand)
        state = replace(state, pulses=state.pulses + outcome.pulses, note=outcome.note or state.note)
        if outcome.edit is not None:
            state = done(state, state.author, outcome.edit.kind, outcome.edit.payload(state.execution.plan.name))
    return state


def _with_hand(state: State, side: Side, hand: Hand) -> State:
    return replace(state, left=hand) if side == "left" else replace(state, right=hand)


def _read(hand: Hand, seen: HandInput, dt_ns: int) -> Hand:
    """The hand as it is now; untracked, it keeps everything but the knowledge that it is lost."""
    grip, aim = seen.stage_from_grip, seen.stage_from_aim
    if grip is None or aim is None:
        drilling, sawing = hand.drilling, hand.sawing
        return replace(
            hand,
            is_tracked=False,
            drilling=None if drilling is None else replace(drilling, lost_tracking=True),
            sawing=None if sawing is None else replace(sawing, lost_tracking=True),
        )
    path_mm, turn_rad, idle_ns = hand.path_mm, hand.turn_rad, hand.idle_ns
    if hand.is_tracked and hand.stage_from_grip is not None:  # a gap in tracking is no way travelled
        way_mm = float(np.linalg.norm(grip.translation_mm - hand.stage_from_grip.translation_mm))
        turned = float(np.linalg.norm(rotation_log(hand.stage_from_grip.rotation.T @ grip.rotation)))
        path_mm, turn_rad = path_mm + way_mm, turn_rad + turned
        seconds = dt_ns / 1e9
        if way_mm < IDLE_MM_S * seconds and turned < IDLE_RAD_S * seconds:
            idle_ns += dt_ns
    return replace(
        hand,
        stage_from_grip=grip,
        stage_from_aim=aim,
        is_tracked=True,
        grabs=_pressed(hand.grabs, seen.grab),
        triggers=_pressed(hand.triggers, seen.trigger),
        undo_down=seen.undo,
        tool_down=seen.tool,
        path_mm=path_mm,
        turn_rad=turn_rad,
        idle_ns=idle_ns,
    )


def _pressed(was_down: bool, value: float) -> bool:
    return value > RELEASED if was_down else value >= PRESSED


def _taking(hand: Hand, tool: Tool) -> Hand:
    """With another tool in it; what the old one had begun is dropped."""
    return replace(hand, tool=tool, drilling=None, sawing=None)


def _buttons(state: State, side: Side, earlier: Hand, seen: HandInput) -> State:
    hand = state.hand(side)
    if not hand.is_tracked:
        return state
    if hand.tool_down and not earlier.tool_down:
        tool = TOOLS[(TOOLS.index(hand.tool) + 1) % len(TOOLS)]
        state = replace(_with_hand(state, side, _taking(hand, tool)), note=f"{side} hand: {tool}")
    if hand.undo_down and not earlier.undo_down:
        redo = seen.stick[0] > STICK_AWAY
        state = _redo(state, state.author) if redo else _undo(state, state.author)
    return state


# --- holding ---


def _grabs(state: State, earlier: Mapping[Side, Hand]) -> State:
    """Who holds what: a hand that closes on an open fragment turns it, any other carries the model."""
    for side in SIDES:
        hand = state.hand(side)
        if hand.is_tracked and hand.grabs and not earlier[side].grabs:
            state = _take_fragment(state, side)
    state = _turn_fragment(state)
    in_fragment = None if state.closing is None else state.closing.side
    grips = {
        side: grip
        for side in SIDES
        if (hand := state.hand(side)).is_tracked
        and hand.grabs
        and side != in_fragment
        and (grip := hand.stage_from_grip) is not None
    }
    if state.hold is None or state.hold.sides != tuple(sorted(grips)):
        return replace(state, hold=grab.take(grips, state.stage_from_patient))
    return replace(state, stage_from_patient=grab.carried(state.hold, grips))


def _place(state: State, side: Side) -> Points[Patient] | None:
    grip = state.hand(side).stage_from_grip
    return None if grip is None else state.stage_from_patient.inverse() @ Points[Stage](grip.translation_mm)


def _at_hinge(state: State, cut: Osteotomy, place: Points[Patient]) -> Points[Patient]:
    """A displayed place as seen from the cut's hinge, which a more caudal cut may have moved."""
    moved = poses(state).get(cut.bone)
    return place if moved is None else moved.inverse() @ place


def _take_fragment(state: State, side: Side) -> State:
    cut, place = open_cut(state.execution), _place(state, side)
    if cut is None or place is None or state.closing is not None:
        return state
    reach_mm = closings.TOUCH_MM / state.stage_from_patient.scale
    if not state.model.fragment_near(cut, place, reach_mm, poses(state)):
        return state
    place = _at_hinge(state, cut, place)
    angle = state.execution.angle_rad(cut.id)
    return replace(state, closing=closings.begin(side, cut.id, cut.hinge, place, angle, state.t_ns))


def _turn_fragment(state: State) -> State:
    closing = state.closing
    if closing is None:
        return state
    hand, place = state.hand(closing.side), _place(state, closing.side)
    if not hand.is_tracked or place is None:
        return replace(state, closing=replace(closing, lost_tracking=True))
    cut = state.execution.plan.osteotomies[closing.osteotomy_id]
    place = _at_hinge(state, cut, place)
    if hand.grabs:
        if closing.lost_tracking:
            closing = closings.found_again(closing, cut.hinge, place)
        moved = closings.turned(closing, cut.hinge, place, cut.angle_rad)
        reached = moved.angle_rad == cut.angle_rad != closing.angle_rad
        pulses = (Pulse(closing.side, 0.8, 0.08, "closed to the planned angle"),) if reached else ()
        return replace(state, closing=moved, pulses=state.pulses + pulses)
    state = replace(state, closing=None)
    if closing.lost_tracking:
        return replace(state, note=DROPPED)
    if closing.angle_rad == closing.from_rad:
        return state
    payload = {
        "plan": state.execution.plan.name,
        "osteotomy": closing.osteotomy_id,
        "angle_rad": closing.angle_rad,
        "planned_rad": cut.angle_rad,
        "seconds": (state.t_ns - closing.started_t_ns) / 1e9,
    }
    state = done(state, state.author, CLOSE, payload)
    return replace(state, note=f"closed by {np.rad2deg(closing.angle_rad):.1f} deg")
