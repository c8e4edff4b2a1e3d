"""Plans beside each other: one that starts as another is, and one thing of a plan put into another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spatial.faults import Misuse
from twin.anatomy.history import live
from twin.journal import Entry
from twin.plan.approval import SAVED, authors, saved_sha256
from twin.plan.edits import EDIT_KINDS, START_VARIANT, Edit, fold
from twin.plan.plan import Item, Plan
from twin.plan.proposals import proposals


class NoVariant(Misuse):
    """A variant under a name that is taken, or of a thing that its plan does not have."""


def names(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Every plan that these entries speak of, in order of their first entry."""
    found: dict[str, None] = {}
    for entry in live(entries):
        if entry.kind == SAVED:
            found[str(entry.payload.get("name"))] = None
        elif entry.kind in EDIT_KINDS and "plan" in entry.payload:
            found[str(entry.payload["plan"])] = None
    return tuple(found)


def started(entries: Sequence[Entry], source: str, name: str, twin_id: str) -> Edit:
    """The first edit of plan `name`: all that plan `source` holds now, with the proposals and who made it.

    Raises NoVariant when the name is taken or the source is not there.
    """
    taken = names(entries)
    if source not in taken:
        raise NoVariant(f"no plan {source!r}; there are: {', '.join(taken) or 'none'}")
    if name in taken:
        raise NoVariant(f"there is a plan {name!r} already; choose another name")
    plan, _ = fold(entries, source, twin_id)
    carried = [one.carried() for one in proposals(entries, source, twin_id)]
    about = {"from": source, "from_sha256": saved_sha256(entries, source), "authors": list(authors(entries, source))}
    return Edit(START_VARIANT, {**about, "content": plan.content(), "proposed": carried})


def source_of(entries: Iterable[Entry], name: str) -> str | None:
    """The plan that this one started from; None for one that started empty."""
    return next(
        (str(e.payload["from"]) for e in live(entries) if e.kind == START_VARIANT and e.payload.get("plan") == name),
        None,
    )


def item_of(plan: Plan, item_id: str) -> Item:
    """One thing of a plan by its id; raises NoVariant, which says what there is."""
    found = [item for _, item in plan.items() if item.id == item_id]
    if len(found) != 1:
        known = ", ".join(item.id for _, item in plan.items()) or "nothing"
        raise NoVariant(f"plan {plan.name!r} has no {item_id!r}; it holds {known}")
    return found[0]


def merged(entries: Sequence[Entry], source: str, item_id: str, into: str, twin_id: str) -> tuple[Edit, Item]:
    """The edit that puts a thing of plan `source` into plan `into`. What a program proposed stays its proposal there.

    Raises NoVariant.
    """
    plan, _ = fold(entries, source, twin_id)
    item = item_of(plan, item_id)
    target, _ = fold(entries, into, twin_id)
    origin: dict[str, object] = {"merged_from": {"plan": source, "plan_sha256": saved_sha256(entries, source)}}
    for proposal in proposals(entries, source, twin_id):
        if proposal.key[1] == item_id and proposal.stands == "as proposed":
            origin["proposed"] = dict(proposal.origin)
    return Edit.placing(target, item, **origin), item
