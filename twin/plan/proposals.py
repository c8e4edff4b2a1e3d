"""What a program proposed for a plan, and what a person made of each proposal: accepted, changed or refused, and why.

An edit with `proposed` in its outcome is a proposal. A decision is an entry of its own, `proposal_decided` with `{plan,
noun, id, proposal, decision, reason, item_sha256}`, and holds for the item as it was then: a later edit, a new
proposal or other level names end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from spatial.faults import Fault, Misuse
from twin.anatomy.history import live
from twin.anatomy.renaming import RENAMED
from twin.durable import sha256_of
from twin.journal import Entry, canonical_json
from twin.plan.edits import START_VARIANT, counted, edit_of, fold
from twin.plan.plan import NOUNS, Item, Plan, noun_of

DECIDED = "proposal_decided"
REQUESTED = "plan_requested"  # what was asked for, before the proposals that answer it
Verdict = Literal["accepted", "changed", "refused"]
Stand = Literal["as proposed", "changed", "removed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FITTING: Mapping[Stand, Verdict] = {"as proposed": "accepted", "changed": "changed", "removed": "refused"}
LEAST_REASON = 5  # letters: "ok" is no reason


class NotAProposal(Misuse):
    """A decision about something that no program proposed, or that does not fit how the item stands now."""


class NoReason(Misuse):
    """A decision or an override without a written reason."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """One proposal of a program: the item as proposed and as it stands in the plan now, and who decided on it."""

    entry_id: str
    origin: Mapping[str, Any]
    proposed: Item
    now: Item | None
    decision: Mapping[str, Any] | None

    @property
    def key(self) -> tuple[str, str]:
        """The kind and the id."""
        return noun_of(self.proposed).name, self.proposed.id

    @property
    def stands(self) -> Stand:
        """What became of it in the plan."""
        if self.now is None:
            return "removed"
        return "as proposed" if item_sha256(self.now) == item_sha256(self.proposed) else "changed"

    def to_json(self) -> dict[str, Any]:
        """For reports; `decision` is None while nobody decided."""
        noun, item_id = self.key
        return {
            "noun": noun,
            "id": item_id,
            "proposal": self.entry_id,
            "proposed": dict(self.origin),
            "stands": self.stands,
            "decision": None if self.decision is None else dict(self.decision),
        }

    def carried(self) -> dict[str, Any]:
        """What a variant keeps of it in its first edit."""
        return {
            "noun": self.key[0],
            "item": self.proposed.to_json(),
            "origin": dict(self.origin),
            "decision": None if self.decision is None else dict(self.decision),
        }


def item_sha256(item: Item | None) -> str | None:
    """The hash of an item's document; None for one that is not in the plan."""
    return None if item is None else sha256_of(canonical_json(item.to_json()))


def proposals(entries: Iterable[Entry], name: str, twin_id: str) -> tuple[Proposal, ...]:
    """Every proposal in force of a plan, by kind and id."""
    entries = live(entries)
    plan, _ = fold(entries, name, twin_id)
    in_force = {entry.id for entry in counted(entries, name)}
    held = Plan(name, twin_id)
    about: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    decided: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in entries:
        if entry.kind == RENAMED:
            ids = held.renamed_ids(entry.payload["renamed"])
            held = held.renamed(entry.payload["renamed"])
            about = {(noun, ids[one]): value for (noun, one), value in about.items()}
            decided.clear()
        elif entry.kind == DECIDED and entry.payload.get("plan") == name:
            decided[str(entry.payload.get("noun")), str(entry.payload.get("id"))] = decision_of(entry)
        elif entry.id in in_force:
            for item, origin, decision in _proposed_by(entry):
                key = noun_of(item).name, item.id
                held, about[key] = held.plus(item), (entry.id, origin)
                decided.pop(key, None)
                if decision is not None:
                    decided[key] = {**decision, "proposal": entry.id}
    found = []
    for noun, item in held.items():
        key = noun.name, item.id
        now = plan.of(noun).get(item.id)
        decision = decided.get(key)
        if decision is not None and (
            decision["proposal"] != about[key][0] or decision.get("item_sha256") != item_sha256(now)
        ):
            decision = None
        found.append(Proposal(*about[key], item, now, decision))
    return tuple(found)


def decision_of(entry: Entry) -> dict[str, Any]:
    """What a `proposal_decided` entry says, with who and when."""
    kept = ("proposal", "decision", "reason", "item_sha256")
    return {**{key: entry.payload.get(key) for key in kept}, "by": entry.author, "t_ns": entry.t_ns}


def one_of(every: Sequence[Proposal], item_id: str) -> Proposal:
    """The proposal of this id; raises NotAProposal."""
    own = [one for one in every if one.key[1] == item_id]
    if len(own) != 1:
        names = ", ".join(one.key[1] for one in every) or "none"
        raise NotAProposal(f"no program proposed {item_id!r} for this plan; proposals are: {names}")
    return own[0]


def verdict_of(text: str) -> Verdict:
    """`accepted`, `changed` or `refused`; raises NotAProposal."""
    for known in VERDICTS:
        if text == known:
            return known
    raise NotAProposal(f"verdict {text!r}; it is {', '.join(VERDICTS)}")


def ensure_fits(proposal: Proposal, verdict: Verdict) -> None:
    """Raise NotAProposal when the item does not stand as the verdict says."""
    fitting = FITTING[proposal.stands]
    if verdict != fitting and not (verdict == "refused" and proposal.now is not None):
        words = {
            "as proposed": "stands as it was proposed: move it first to change it, or refuse it",
            "changed": "was changed since it was proposed: say `changed`, or refuse it",
            "removed": "is not in the plan any more: say `refused`",
        }[proposal.stands]
        raise NotAProposal(f"{' '.join(proposal.key)} {words}")


def ensure_reason(reason: str, what: str) -> str:
    """The reason without blanks around it; raises NoReason for one that says nothing."""
    words = " ".join(reason.split())
    if sum(letter.isalpha() for letter in words) < LEAST_REASON:
        raise NoReason(f"{what} needs a reason in words, not {words!r}")
    return words


def _proposed_by(entry: Entry) -> list[tuple[Item, Mapping[str, Any], Mapping[str, Any] | None]]:
    """Item, origin and decision of each proposal in an edit; none of one that can't be read, which the fold reports."""
    try:
        edit = edit_of(entry)
        if edit.kind == START_VARIANT:
            return [
                (NOUNS[one["noun"]].read(dict(one["item"])), dict(one["origin"]), _carried(one["decision"]))
                for one in edit.outcome.get("proposed", ())
            ]
        if "proposed" in edit.outcome and edit.verb != "remove":
            return [(NOUNS[edit.noun].read(dict(edit.outcome[edit.noun])), dict(edit.outcome["proposed"]), None)]
    except (Fault, KeyError, TypeError, ValueError, AttributeError):
        return []
    return []


def _carried(decision: Any) -> dict[str, Any] | None:
    return None if decision is None else dict(decision)
