"""The session's step, over a whole rehearsal."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.model import Model
from rehearsal.session import play, start, state_sha256
from rehearsal.state import State
from rehearsal.surgeon import Surgeon
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import plan, twin


def jobs() -> Iterator[Job]:
    """Four screws drilled, one taken back, a wedge sawn and closed, on the phantom's spine."""
    model = Model(twin(), plan())
    surgeon = Surgeon(model, 1)
    surgeon.turn_model()
    for screw in plan().screws.values():
        surgeon.place(screw)
    surgeon.undo_and_redo()
    for cut in plan().osteotomies.values():
        surgeon.cut(cut)
        surgeon.close_cut()
    performed = state_sha256(surgeon.state)
    first = start(model, "script-1")

    def judge(ours: State, _: None) -> Judgement:
        same = state_sha256(ours) == performed
        return Judgement(same, f"the replayed state is {'the same bytes' if same else 'ANOTHER'} as the performed one")

    yield Job(
        "rehearsal", f"step through {len(surgeon.events)} events (30 a second in a headset)",
        Side("rehearsal.session.play", lambda: play(first, surgeon.events)), None, judge,
        no_peer="the session is our own",
    )  # fmt: skip
