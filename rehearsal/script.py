"""Scripts of a rehearsal: files of events, one JSON object a line. A recorded stream is a script too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rehearsal.events import BadEvent, Event, event_from_json
from spatial.faults import Fault
from twin.journal import canonical_json


class BadScript(Fault):
    """A script with a line that can't be read, or whose clock runs back; the message names the line."""


def read_script(path: Path) -> Iterator[Event]:
    """The events of a file, one by one; empty lines are passed over. Raises BadScript."""
    previous_ns = 0
    for number, line in _lines(path):
        event = _event(path, number, line)
        if event.t_ns < previous_ns:
            raise BadScript(
                f"line {number} has t_ns {event.t_ns}, the line before {previous_ns}; the clock must not run back",
                path=path,
            )
        previous_ns = event.t_ns
        yield event


def read_stream(path: Path, *, was_ended: bool) -> Iterator[Event]:
    """The events of a recorded session, as they came. Raises BadScript.

    A headset's clock may run back (the session then stood still, and does so again); the last line of a session that
    was never ended may be torn, and is left out.
    """
    for number, line in _lines(path):
        if was_ended or line.endswith(b"\n"):
            yield _event(path, number, line)


def write_script(path: Path, events: Iterable[Event]) -> int:
    """Write events, one a line; returns how many."""
    count = 0
    with path.open("wb") as file:
        for event in events:
            file.write(line_of(event))
            count += 1
    return count


def line_of(event: Event) -> bytes:
    """One line with its end."""
    return canonical_json(event.to_json()) + b"\n"


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        return event_from_json(json.loads(line))
    except ValueError as error:
        raise BadScript(f"line {number} is no JSON ({error}); was the file cut off?", path=path) from None
    except BadEvent as fault:
        raise BadScript(f"line {number}: {fault.message}", path=path) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadScript(f"the script cannot be read ({error.strerror})", path=path) from None
