"""The whole of a rehearsal at one instant, as a value, and the document that stands for it.

`document` holds everything that decides what happens next, and nothing that follows from it (meshes, pictures): two
states are the same when their documents have the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from rehearsal.closing import Closing
from rehearsal.drill import Drilling
from rehearsal.events import Side, Tool, pose_json
from rehearsal.execution import Execution
from rehearsal.grab import Hold, similarity_json
from rehearsal.history import History
from rehearsal.model import Model
from rehearsal.saw import Sawing
from spatial.frames import Eye, Instrument, Patient, Stage
from spatial.rigid import Rigid, Similarity
from twin.journal import canonical_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a hand shall feel in answer to the last event: strength 0 to 1, how long, and why."""

    side: Side
    amplitude: float
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """One hand: where it was last seen, what it holds down, its tool and the tool's preview."""

    tool: Tool = "hand"
    stage_from_grip: Rigid[Stage, Instrument] | None = None
    stage_from_aim: Rigid[Stage, Instrument] | None = None
    is_tracked: bool = False
    grabs: bool = False
    triggers: bool = False
    undo_down: bool = False
    tool_down: bool = False
    drilling: Drilling | None = None
    sawing: Sawing | None = None
    path_mm: float = 0.0
    turn_rad: float = 0.0
    idle_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        """For the state document."""
        return {
            "tool": self.tool,
            "stage_from_grip": pose_json(self.stage_from_grip),
            "stage_from_aim": pose_json(self.stage_from_aim),
            "is_tracked": self.is_tracked,
            "grabs": self.grabs,
            "triggers": self.triggers,
            "undo_down": self.undo_down,
            "tool_down": self.tool_down,
            "drilling": None if self.drilling is None else self.drilling.to_json(),
            "sawing": None if self.sawing is None else self.sawing.to_json(),
            "path_mm": self.path_mm,
            "turn_rad": self.turn_rad,
            "idle_ns": self.idle_ns,
        }


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A rehearsal after `seq` events. `pulses` and `note` answer the last event only."""

    session_id: str
    author: str
    model: Model
    stage_from_patient: Similarity[Stage, Patient]
    execution: Execution
    seq: int = 0
    started_t_ns: int | None = None
    t_ns: int = 0
    head: Rigid[Stage, Eye] | None = None
    left: Hand = field(default_factory=Hand)
    right: Hand = field(default_factory=lambda: Hand(tool="drill"))
    hold: Hold | None = None
    closing: Closing | None = None
    history: History = field(default_factory=History)
    skipped: tuple[str, ...] = ()
    pulses: tuple[Pulse, ...] = ()
    note: str = ""

    def hand(self, side: Side) -> Hand:
        """One of the two."""
        return self.left if side == "left" else self.right

    @property
    def elapsed_s(self) -> float:
        """From the first event to the last."""
        return 0.0 if self.started_t_ns is None else (self.t_ns - self.started_t_ns) / 1e9


def start(model: Model, session_id: str, author: str = "surgeon") -> State:
    """Before the first event: the model on the table, empty left hand, drill in the right."""
    return State(session_id, author, model, model.start, Execution.nothing(model))


def document(state: State) -> dict[str, Any]:
    """The state as JSON: equal bytes (`state_sha256`) mean equal states."""
    return {
        "schema": SCHEMA,
        "session_id": state.session_id,
        "author": state.author,
        "twin_id": state.model.twin.twin_id,
        "planned": state.model.planned.name,
        "model_sha256": state.model.sha256,
        "seq": state.seq,
        "started_t_ns": state.started_t_ns,
        "t_ns": state.t_ns,
        "stage_from_patient": similarity_json(state.stage_from_patient),
        "head": pose_json(state.head),
        "hands": {"left": state.left.to_json(), "right": state.right.to_json()},
        "hold": None if state.hold is None else state.hold.to_json(),
        "closing": None if state.closing is None else state.closing.to_json(),
        "history": [deed.to_json() for deed in state.history.deeds],
        "execution": state.execution.to_json(),
        "skipped": list(state.skipped),
        "pulses": [[p.side, p.amplitude, p.seconds, p.reason] for p in state.pulses],
        "note": state.note,
    }


def state_sha256(state: State) -> str:
    """The hash of the document's canonical bytes."""
    return hashlib.sha256(canonical_json(document(state))).hexdigest()
