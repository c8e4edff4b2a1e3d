"""Edits of a plan as events: each stores its outcome in numbers, and undo is an event too.

An entry of the journal is an edit when its kind is one of EDIT_KINDS: `place_`, `move_` or `remove_` and a noun of the
plan, with the payload `{plan, screw}`, `{plan, osteotomy}` … or `{plan, id}`; `start_variant` with `{plan, from,
content}` is the first edit of a plan that begins as another one is. More keys say where an edit comes from
(`proposed`: a program's proposal; `merged_from`: another plan). `{plan, undoes: entry id}` of kind `undo` takes back an
edit, or an undo (that is redo).

The plan is the fold of all edits that are not undone, under the level names that people gave since; one that no longer
applies is skipped and reported. An approval closes the plan: what comes after it changes nothing, until other level
names end the approval.
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
from twin.plan.plan import NOUNS, Item, Plan, noun_of
from twin.plan.undoing import UNDO, Undone

START_VARIANT = "start_variant"
EDIT_KINDS = (*(f"{verb}_{noun}" for noun in NOUNS for verb in ("place", "move", "remove")), START_VARIANT)
APPROVED = "plan_approved"


class EditDoesNotApply(Fault):
    """An edit of something that is not in the plan (any more), or that is there already."""


class PlanClosed(Fault):
    """An edit of a plan that was approved: it stays as it was approved."""


@dataclass(frozen=True, eq=False)
class Edit:
    """What was done to a plan: the kind, and the outcome as JSON-able numbers."""

    kind: str
    outcome: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the kind and what it needs; raises EditDoesNotApply."""
        if self.kind not in EDIT_KINDS:
            raise EditDoesNotApply(f"edit {self.kind!r} is not known; there are {', '.join(EDIT_KINDS)}")
        needed = "content" if self.kind == START_VARIANT else "id" if self.verb == "remove" else self.noun
        if needed not in self.outcome or not (needed == "id" or isinstance(self.outcome[needed], Mapping)):
            raise EditDoesNotApply(f"{self.kind} needs {needed!r}")
        object.__setattr__(self, "outcome", MappingProxyType(dict(self.outcome)))

    @classmethod
    def placing(cls, plan: Plan, item: Item, **origin: Any) -> Edit:
        """Place this item, or move the one of the same name; `origin` is kept with it (`proposed`, `merged_from`)."""
        noun = noun_of(item)
        verb = "move" if item.id in plan.of(noun) else "place"
        return cls(f"{verb}_{noun.name}", {noun.name: item.to_json(), **origin})

    @property
    def verb(self) -> str:
        """`place`, `move`, `remove` or `start`."""
        return self.kind.partition("_")[0]

    @property
    def noun(self) -> str:
        """What of the plan it is about: `screw`, `osteotomy` …"""
        return self.kind.partition("_")[2]

    @property
    def item_id(self) -> str:
        """The name of what it is about; raises EditDoesNotApply for an edit of the whole plan."""
        if self.kind == START_VARIANT:
            raise EditDoesNotApply(f"{self.kind} is about a whole plan")
        return str(self.outcome["id"] if self.verb == "remove" else self.outcome[self.noun].get("id"))

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
    """The plan after an edit; raises EditDoesNotApply, and what the item's type raises (BadScrew …)."""
    if edit.kind == START_VARIANT:
        if plan.items():
            raise EditDoesNotApply("a variant can only start in an empty plan")
        return plan.holding(edit.outcome["content"])
    noun = NOUNS[edit.noun]
    items = plan.of(noun)
    if edit.verb == "place" and edit.item_id in items:
        raise EditDoesNotApply(f"{noun.name} {edit.item_id!r} is in the plan already")
    if edit.verb != "place" and edit.item_id not in items:
        raise EditDoesNotApply(f"no {noun.name} {edit.item_id!r} in the plan")
    if edit.verb == "remove":
        return plan.without(noun.name, edit.item_id)
    return plan.plus(noun.read(dict(edit.outcome[noun.name])))


def fold(entries: Iterable[Entry], name: str, twin_id: str) -> tuple[Plan, tuple[Skipped, ...]]:
    """The plan called `name` as these entries leave it, and the entries that changed nothing."""
    entries = live(entries)  # edits on bones that were corrected since stay with those bones
    own, late = row(entries, name)
    undone = Undone.of(own)
    skipped = [Skipped(e.id, e.kind, "the plan was approved before; make a new draft") for e in late]
    skipped += [Skipped(e.id, e.kind, why) for e, why in undone.idle]
    counting = {e.id for e in undone.edits()}
    plan = Plan(name, twin_id)
    for entry in entries:
        if entry.kind == RENAMED:  # a person corrected the level names: what is planned stays on its bones
            plan = plan.renamed(entry.payload["renamed"])
        if entry.id not in counting:
            continue
        try:
            plan = apply(plan, edit_of(entry))
        except Fault as fault:
            skipped.append(Skipped(entry.id, entry.kind, fault.message))
    order = {e.id: n for n, e in enumerate(entries)}
    return plan, tuple(sorted(skipped, key=lambda s: order[s.entry_id]))


def edit_of(entry: Entry) -> Edit:
    """The edit in a journal entry; raises EditDoesNotApply."""
    return Edit(entry.kind, {key: value for key, value in entry.payload.items() if key != "plan"})


def undoable(entries: Iterable[Entry], name: str, author: str | None = None) -> Entry | None:
    """The last edit that is in force (of this author, when one is given); None when there is nothing to undo."""
    return Undone.of(row(live(entries), name)[0]).undo_target(author)


def redoable(entries: Iterable[Entry], name: str, author: str | None = None) -> Entry | None:
    """The last undo that is in force, as long as no edit came after it (both of this author, when one is given)."""
    return Undone.of(row(live(entries), name)[0]).redo_target(author)


def counted(entries: Iterable[Entry], name: str) -> tuple[Entry, ...]:
    """The edits of a plan that count: not undone, and not after its approval."""
    return Undone.of(row(live(entries), name)[0]).edits()


def ensure_open(entries: Iterable[Entry], name: str) -> None:
    """Raise PlanClosed when the plan was approved."""
    is_open = True
    for entry in live(entries):
        is_open = entry.kind == RENAMED or (is_open and not _approves(entry, name))
    if not is_open:
        raise PlanClosed(
            f"plan {name!r} was approved and stays as it is; make a new draft of it: "
            f"osteotwin plan variant new CASE NAME --from {name}"
        )


def _approves(entry: Entry, name: str) -> bool:
    return entry.kind == APPROVED and entry.payload.get("plan") == name


def row(entries: Iterable[Entry], name: str) -> tuple[list[Entry], list[Entry]]:
    """Of live entries the edits and undos of a plan: those while it was open, and those after an approval closed it."""
    own: list[Entry] = []
    late: list[Entry] = []
    is_open = True
    for entry in entries:
        if entry.kind == RENAMED:
            is_open = True
        if _approves(entry, name):
            is_open = False
        elif entry.payload.get("plan") == name and (entry.kind == UNDO or entry.kind in EDIT_KINDS):
            (own if is_open else late).append(entry)
    return own, late
