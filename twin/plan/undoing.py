"""Undo as an event, author by author: which of a row of deeds count, and what undo and redo would take back.

An undo names the deed that it takes back (`{"undoes": id}`); a redo is an undo of an undo. The latest undo decides
first, so one that was itself taken back has no effect. Plans and rehearsals both go by these rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

UNDO = "undo"


class Deed(Protocol):
    """What undo needs to know of an entry: the journal's entries and a rehearsal's deeds both have it."""

    @property
    def id(self) -> str:
        """Its own name, never used twice."""

    @property
    def author(self) -> str:
        """Who did it."""

    @property
    def kind(self) -> str:
        """`undo`, or what was done."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """An undo's has `undoes`."""


D = TypeVar("D", bound=Deed)


@dataclass(frozen=True)
class Undone(Generic[D]):
    """A row of deeds with what was taken back in it.

    `idle`: undos that took nothing back, and why: of nothing, of something later, of something undone already.
    """

    deeds: tuple[D, ...]
    ids: frozenset[str]
    idle: tuple[tuple[D, str], ...]

    @classmethod
    def of(cls, deeds: Iterable[D]) -> Undone[D]:
        """Decide, latest undo first."""
        row: Sequence[D] = tuple(deeds)
        place = {deed.id: n for n, deed in enumerate(row)}
        ids: set[str] = set()
        idle = []
        for n in range(len(row) - 1, -1, -1):
            deed = row[n]
            if deed.kind != UNDO or deed.id in ids:
                continue
            target = str(deed.payload.get("undoes"))
            if place.get(target, n) >= n:
                idle.append((deed, f"no earlier edit {target!r} of this plan"))
            elif target in ids:
                idle.append((deed, f"{target!r} is undone already"))
            else:
                ids.add(target)
        return cls(tuple(row), frozenset(ids), tuple(idle))

    def edits(self) -> tuple[D, ...]:
        """The deeds that count, without the undos."""
        return tuple(deed for deed in self.deeds if deed.kind != UNDO and deed.id not in self.ids)

    def undo_target(self, author: str | None = None) -> D | None:
        """The last edit that counts (of this author, when one is given)."""
        return next((deed for deed in reversed(self.edits()) if author in (None, deed.author)), None)

    def redo_target(self, author: str | None = None) -> D | None:
        """The last undo of an edit that counts, unless an edit came after it (both of this author, when given)."""
        kinds = {deed.id: deed.kind for deed in self.deeds}
        for deed in reversed(self.deeds):
            if author not in (None, deed.author):
                continue
            if deed.kind != UNDO:
                return None
            if deed.id not in self.ids and kinds.get(str(deed.payload.get("undoes")), UNDO) != UNDO:
                return deed
        return None
