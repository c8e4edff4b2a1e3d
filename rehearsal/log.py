"""The record of a rehearsal: a journal of what was done, and beside it the stream of all that the hands did.

`NAME.jsonl` is a journal (`rehearsal_started`, an entry a deed, `rehearsal_ended` with the hash of the final state's
document); `NAME.events.jsonl` holds every event in order and is itself a script. `replay` folds the stream anew and
compares: the same bytes, or it says what differs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rehearsal.events import Event
from rehearsal.model import Model
from rehearsal.script import line_of, read_stream
from rehearsal.session import step
from rehearsal.state import State, start, state_sha256
from spatial.faults import Fault, Misuse
from twin.anatomy.twin import Twin
from twin.journal import Entry, Journal, canonical_json
from twin.plan.plan import Plan

STARTED, ENDED = "rehearsal_started", "rehearsal_ended"
SCHEMA = 1


class LogExists(Misuse):
    """A log is never written over."""


class NoLog(Fault):
    """A file that is no rehearsal's log, or whose stream is missing or was changed."""


class OtherModel(Fault):
    """The case is no longer the one that was rehearsed on."""


def stream_path(log: Path) -> Path:
    """Where the events of a log lie."""
    return log.with_suffix(".events.jsonl")


def ensure_new(log: Path) -> None:
    """Raise LogExists when there is a log of this name."""
    if os.path.lexists(log) or os.path.lexists(stream_path(log)):
        raise LogExists("there is a log already; choose another name", path=log)


class Recording:
    """Writes one session as it happens. `take` each event with the state that it led to; `end` it, or leave it open."""

    def __init__(self, log: Path, state: State, case_folder: Path | None = None) -> None:
        """Begin; raises LogExists. The case is kept relative to the log, so both can be moved together."""
        ensure_new(log)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._journal = Journal(log)
        self._stream = stream_path(log).open("xb")
        self._digest = hashlib.sha256()
        self._events = 0
        self._deeds = len(state.history.deeds)
        self._state = state
        case = None if case_folder is None else os.path.relpath(case_folder.resolve(), log.parent.resolve())
        self._journal.append(
            state.author,
            STARTED,
            {
                "schema": SCHEMA,
                "session_id": state.session_id,
                "twin_id": state.model.twin.twin_id,
                "model_sha256": state.model.sha256,
                "planned": state.model.planned.to_json(),
                "case": None if case is None else Path(case).as_posix(),
                "stream": stream_path(log).name,
            },
        )

    def take(self, event: Event, state: State) -> None:
        """Note an event; each new deed goes to the disk before this returns."""
        line = line_of(event)
        self._stream.write(line)
        self._digest.update(line)
        self._events += 1
        self._state = state
        for deed in state.history.deeds[self._deeds :]:
            self._stream.flush()
            self._journal.append(deed.author, deed.kind, dict(deed.payload), deed.t_ns, deed.id)
        self._deeds = len(state.history.deeds)

    @property
    def state(self) -> State:
        """The state after the last event."""
        return self._state

    def end(self) -> str:
        """Close with the hash of the final state's document, which is returned."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        sha256 = state_sha256(self._state)
        self._journal.append(
            self._state.author,
            ENDED,
            {"state_sha256": sha256, "events": self._events, "stream_sha256": self._digest.hexdigest()},
        )
        self.close()
        return sha256

    def close(self) -> None:
        """Let go of the files; twice does no harm."""
        self._stream.close()
        self._journal.close()

    def __enter__(self) -> Recording:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; a session that was not ended stays readable without its end, one that never began leaves nothing."""
        self.close()
        if kind is not None and self._events == 0:
            self.log.unlink()
            stream_path(self.log).unlink()


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A session recomputed. `recorded_sha256` is None when it was never ended (then the deeds alone decide)."""

    state: State
    sha256: str
    recorded_sha256: str | None
    events: int
    deeds_same: bool

    @property
    def same(self) -> bool:
        """Whether everything that was recorded came out again."""
        return self.deeds_same and self.recorded_sha256 in (None, self.sha256)

    def to_json(self) -> dict[str, Any]:
        """What `osteotwin replay` prints."""
        return {
            "same": self.same,
            "sha256": self.sha256,
            "recorded_sha256": self.recorded_sha256,
            "ended": self.recorded_sha256 is not None,
            "events": self.events,
            "deeds": len(self.state.history.deeds),
            "deeds_same": self.deeds_same,
        }


def replay(log: Path, twin_of: Callable[[Path | None], Twin]) -> Replay:
    """Recompute a session; `twin_of(case folder or None)` gives the twin. Raises NoLog, OtherModel, JournalBroken."""
    if not log.is_file():
        raise NoLog("there is no such log", path=log)
    entries = Journal(log).entries()
    if not entries or entries[0].kind != STARTED:
        raise NoLog("this journal does not begin with a rehearsal", path=log)
    started = entries[0].payload
    stream = log.parent / str(started["stream"])
    case = started.get("case")
    twin = twin_of(None if case is None else log.parent / case)
    model = Model(twin, Plan.from_json(started["planned"]))
    if model.sha256 != started["model_sha256"]:
        raise OtherModel(
            "the twin's bones or landmarks are not those of the rehearsal; was the case built anew?", path=log
        )
    ended = next((e.payload for e in entries if e.kind == ENDED), None)
    _check_stream(stream, ended)
    state = start(model, str(started["session_id"]), entries[0].author)
    count = 0
    for event in read_stream(stream, was_ended=ended is not None):
        state = step(state, event)
        count += 1
    recorded = None if ended is None else str(ended["state_sha256"])
    return Replay(state, state_sha256(state), recorded, count, _deeds(entries) == _deeds_of(state))


def _check_stream(stream: Path, ended: dict[str, Any] | None) -> None:
    if not stream.is_file():
        raise NoLog("the stream of events that belongs to this log is missing", path=stream)
    if ended is not None and hashlib.sha256(stream.read_bytes()).hexdigest() != ended["stream_sha256"]:
        raise NoLog("the stream of events is not the recorded one (checksum)", path=stream)


def _deeds(entries: tuple[Entry, ...]) -> list[bytes]:
    return [
        canonical_json([e.id, e.author, e.t_ns, e.kind, e.payload]) for e in entries if e.kind not in (STARTED, ENDED)
    ]


def _deeds_of(state: State) -> list[bytes]:
    return [canonical_json([d.id, d.author, d.t_ns, d.kind, dict(d.payload)]) for d in state.history.deeds]
