"""What was done, by whom, and what was taken back: undo is an event too, so it works author by author.

The state is the fold of the edits that no undo in force names (twin.plan.undoing has the rules).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twin.plan.undoing import UNDO, Undone


@dataclass(frozen=True, slots=True, eq=False)
class Deed:
    """One entry as the journal keeps it: an edit's kind and outcome, or `undo` with `{"undoes": id}`."""

    id: str
    author: str
    t_ns: int
    kind: str
    payload: Mapping[str, Any]

    @property
    def undoes(self) -> str | None:
        """The entry that this one takes back; None for an edit."""
        return str(self.payload.get("undoes")) if self.kind == UNDO else None

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields."""
        return {
            "id": self.id,
            "author": self.author,
            "t_ns": self.t_ns,
            "kind": self.kind,
            "payload": dict(self.payload),
        }


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """All deeds in order; nothing is ever removed."""

    deeds: tuple[Deed, ...] = ()

    def plus(self, deed: Deed) -> History:
        """With one deed more."""
        return History((*self.deeds, deed))

    def has(self, deed_id: str) -> bool:
        """Whether an entry of this id is there."""
        return any(deed.id == deed_id for deed in self.deeds)

    def edits(self) -> tuple[Deed, ...]:
        """The edits that count."""
        return Undone.of(self.deeds).edits()

    def undo_target(self, author: str) -> Deed | None:
        """The author's last edit that still counts."""
        return Undone.of(self.deeds).undo_target(author)

    def redo_target(self, author: str) -> Deed | None:
        """The author's last undo that still counts, unless the author has edited since."""
        return Undone.of(self.deeds).redo_target(author)
