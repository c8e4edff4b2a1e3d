"""Edits of a plan as events: each stores its outcome in numbers, and undo is an event too.

An entry of the journal is an edit when its kind is one of EDIT_KINDS, and its payload is `{plan, ...}`: `{plan,
screw}`, `{plan, osteotomy}` or `{plan, id}`. `{plan, undoes: entry id}` of kind `undo` takes back an edit, or an undo
(that is redo). The plan is the fold of all edits that are not undone, under the level names that people gave since; one
that no longer applies is skipped and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault
from twin.anatomy.history import live
from twin.anatomy.renaming import RENAMED
from twin.journal import Entry
from twin.plan.osteotomy import Osteotomy
from twin.plan.plan import Plan
from twin.plan.screw import Screw

UNDO = "undo"
EDIT_KINDS = (
    "place_screw",
    "move_screw",
    "remove_screw",
    "place_osteotomy",
    "move_osteotomy",
    "remove_osteotomy",
)


class EditDoesNotApply(Fault):
    """An edit of something that is not in the plan (any more), or that is there already."""


@dataclass(frozen=True, eq=False)
class Edit:
    """What was done to a plan: the kind, and the outcome as JSON-able numbers."""

    kind: str
    outcome: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the kind and what it needs; raises EditDoesNotApply."""
        if self.kind not in EDIT_KINDS:
            raise EditDoesNotApply(f"edit {self.kind!r} is not known; there are {', '.join(EDIT_KINDS)}")
        needed = "id" if self.kind.startswith("remove") else self.kind.partition("_")[2]
        if needed not in self.outcome or not (needed == "id" or isinstance(self.outcome[needed], Mapping)):
            raise EditDoesNotApply(f"{self.kind} needs {needed!r}")
        object.__setattr__(self, "outcome", MappingProxyType(dict(self.outcome)))

    @classmethod
    def screw(cls, plan: Plan, screw: Screw) -> Edit:
        """Place this screw, or move the one of the same name."""
        return cls("move_screw" if screw.id in plan.screws else "place_screw", {"screw": screw.to_json()})

    @classmethod
    def osteotomy(cls, plan: Plan, osteotomy: Osteotomy) -> Edit:
        """Place this osteotomy, or change the one of the same name."""
        kind = "move_osteotomy" if osteotomy.id in plan.osteotomies else "place_osteotomy"
        return cls(kind, {"osteotomy": osteotomy.to_json()})

    def payload(self, plan_name: str) -> dict[str, Any]:
        """What the journal keeps."""
        return {"plan": plan_name, **self.outcome}


@dataclass(frozen=True)
class Skipped:
    """An entry that changed nothing, and why."""

    entry_id: str
    kind: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Its fields."""
        return {"entry": self.entry_id, "kind": self.kind, "reason": self.reason}


def apply(plan: Plan, edit: Edit) -> Plan:
    """The plan after an edit; raises EditDoesNotApply, BadScrew, BadOsteotomy."""
    verb, _, noun = edit.kind.partition("_")
    items: Mapping[str, object] = plan.screws if noun == "screw" else plan.osteotomies
    item_id = edit.outcome["id"] if verb == "remove" else edit.outcome[noun].get("id")
    if verb == "place" and item_id in items:
        raise EditDoesNotApply(f"{noun} {item_id!r} is in the plan already")
    if verb != "place" and item_id not in items:
        raise EditDoesNotApply(f"no {noun} {item_id!r} in the plan")
    if verb == "remove":
        return plan.without(str(item_id))
    if noun == "screw":
        return plan.with_screw(Screw.from_json(edit.outcome["screw"]))
    return plan.with_osteotomy(Osteotomy.from_json(edit.outcome["osteotomy"]))


def fold(entries: Iterable[Entry], name: str, twin_id: str) -> tuple[Plan, tuple[Skipped, ...]]:
    """The plan called `name` as these entries leave it, and the entries that changed nothing."""
    entries = live(entries)  # edits on bones that were corrected since stay with those bones
    own = [e for e in entries if _concerns(e, name)]
    undone, skipped = _undone(own)
    plan = Plan(name, twin_id)
    for entry in entries:
        if entry.kind == RENAMED:  # a person corrected the level names: what is planned stays on its bones
            plan = plan.renamed(entry.payload["renamed"])
        if not _concerns(entry, name) or entry.kind == UNDO or entry.id in undone:
            continue
        try:
            plan = apply(plan, edit_of(entry))
        except Fault as fault:
            skipped.append(Skipped(entry.id, entry.kind, fault.message))
    order = {e.id: n for n, e in enumerate(own)}
    return plan, tuple(sorted(skipped, key=lambda s: order[s.entry_id]))


def edit_of(entry: Entry) -> Edit:
    """The edit in a journal entry; raises EditDoesNotApply."""
    return Edit(entry.kind, {key: value for key, value in entry.payload.items() if key != "plan"})


def undoable(entries: Iterable[Entry], name: str, author: str | None = None) -> Entry | None:
    """The last edit that is in force (of this author, when one is given); None when there is nothing to undo."""
    own = [e for e in live(entries) if _concerns(e, name)]
    undone, _ = _undone(own)
    alive = [e for e in own if e.kind != UNDO and e.id not in undone and author in (None, e.author)]
    return alive[-1] if alive else None


def redoable(entries: Iterable[Entry], name: str, author: str | None = None) -> Entry | None:
    """The last undo that is in force, as long as no edit came after it (both of this author, when one is given)."""
    own = [e for e in live(entries) if _concerns(e, name)]
    undone, _ = _undone(own)
    for entry in reversed(own):
        if author not in (None, entry.author):
            continue
        if entry.kind != UNDO:
            return None
        target = next((e for e in own if e.id == entry.payload.get("undoes")), None)
        if entry.id not in undone and target is not None and target.kind != UNDO:
            return entry
    return None


def _concerns(entry: Entry, name: str) -> bool:
    return (entry.kind == UNDO or entry.kind in EDIT_KINDS) and entry.payload.get("plan") == name


def _undone(own: list[Entry]) -> tuple[set[str], list[Skipped]]:
    """Ids that an undo in force takes back (latest first, so an undone undo has no effect), and undos of nothing."""
    place = {e.id: n for n, e in enumerate(own)}
    undone: set[str] = set()
    skipped = []
    for n in range(len(own) - 1, -1, -1):
        entry = own[n]
        if entry.kind != UNDO or entry.id in undone:
            continue
        target = entry.payload.get("undoes")
        if place.get(str(target), n) >= n:
            skipped.append(Skipped(entry.id, entry.kind, f"no earlier edit {target!r} of this plan"))
        elif target in undone:
            skipped.append(Skipped(entry.id, entry.kind, f"{target!r} is undone already"))
        else:
            undone.add(str(target))
    return undone, skipped
