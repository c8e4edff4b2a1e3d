"""Which entries of the journal speak of the twin as it is built now: a correction builds it anew, an undo goes back."""

from __future__ import annotations

from collections.abc import Iterable

from twin.journal import Entry

CORRECTED = "twin_corrected"
UNCORRECTED = "correction_undone"


def live(entries: Iterable[Entry]) -> list[Entry]:
    """The entries since the last correction that stands, it first; those of an undone correction are left out.

    A correction bakes in the names that people had given until then; what it undoes comes back with those names.
    """
    now: list[Entry] = []
    before: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == CORRECTED:
            before[entry.id] = now
            now = [entry]
        elif entry.kind == UNCORRECTED:
            now = [*before.get(str(entry.payload.get("undoes")), [])]
        else:
            now.append(entry)
    return now


def standing(entries: Iterable[Entry]) -> list[Entry]:
    """The corrections that have not been undone, in order."""
    found: list[Entry] = []
    for entry in entries:
        if entry.kind == CORRECTED:
            found.append(entry)
        elif entry.kind == UNCORRECTED:
            found = [one for one in found if one.id != entry.payload.get("undoes")]
    return found
