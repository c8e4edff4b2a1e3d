"""The journal of a case gone through: is the chain whole, were the rules of approval kept, and who decided what.

What a journal says is believed up to its first break and not beyond. The rules are held against each approval once
more, as the journal stood before it: another program could have written it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatial.faults import Fault
from twin.anatomy.history import CORRECTED, UNCORRECTED
from twin.anatomy.renaming import RENAMED, composed, renamed_id
from twin.case_document import read_document
from twin.case_files import CONFIRMED, plan_problem
from twin.case_journal import HEAD, JOURNAL, head_note
from twin.chain import Chain, read_chain
from twin.journal import Entry, JournalBroken
from twin.plan.approval import REVIEWED, SAVED, WITHDRAWN, authors, objections_to, standing
from twin.plan.edits import APPROVED, EDIT_KINDS, START_VARIANT, edit_of, fold
from twin.plan.places import places
from twin.plan.proposals import DECIDED, REQUESTED, proposals
from twin.plan.undoing import UNDO
from twin.plan.variants import names

MALFORMED = (KeyError, TypeError, AttributeError, ValueError)
OF_PLANS = (*EDIT_KINDS, UNDO, REQUESTED, DECIDED, REVIEWED, APPROVED, WITHDRAWN)


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found. `problems` are a line each; `is_sound` when there are none and the chain holds."""

    chain: Chain
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    twin_id: str

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against this journal."""
        return self.chain.broken is None and not self.problems

    def to_json(self) -> dict[str, Any]:
        """For `osteotwin audit verify --json`."""
        entries, broken = self.chain.entries, self.chain.broken
        return {
            "sound": self.is_sound,
            "entries": len(entries),
            "head_sha256": entries[-1].sha256 if entries else None,
            "broken": None if broken is None else broken.to_json(),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "plans": [
                {"plan": name, "status": standing(entries, name).to_json(), "events": told(entries, name)}
                for name in _ever_named(entries)
            ],
            "case": [_told(entry, entries) for entry in entries if not _is_of_plan(entry) and entry.kind != SAVED],
        }


def audit(folder: Path, expected_sha256: Sequence[str] = ()) -> Audit:
    """Go through the journal of a case; `expected_sha256`: hashes of its end, kept elsewhere. Raises NoCase."""
    document, _ = read_document(folder)
    notes, problems = [], []
    head = None
    try:
        head = head_note(folder)
        if head is None:
            notes.append(f"{HEAD} is missing: whether the journal lacks its end is not known")
    except JournalBroken as fault:
        problems.append(fault.message)
    chain = read_chain(folder / JOURNAL, head)
    if chain.torn_bytes:
        notes.append("the last line was never finished (power loss?); it is moved aside at the next change")
    entries = chain.entries
    problems += [
        f"no entry has the hash {sha256[:16]}…, which was kept elsewhere: the journal was written anew or cut off"
        for sha256 in expected_sha256
        if not chain.holds(sha256)
    ]
    twin_id = renamed_id(document["twin_id"], composed(entries))
    if chain.broken is None:
        for name in names(entries):
            path = folder / "plans" / f"{name}.json"
            problem = plan_problem(path, entries, twin_id) if path.is_file() else f"plan {name} is missing"
            problems += [problem] if problem else []
    for entry in entries:
        if entry.kind == APPROVED:
            problems += against_rules(entry, entries[: entry.seq])
    return Audit(chain, tuple(problems), tuple(notes), twin_id)


def told(entries: Sequence[Entry], name: str) -> list[dict[str, Any]]:
    """What happened to one plan, in the order of the journal, each in words."""
    return [_told(entry, entries) for entry in entries if _is_of_plan(entry) and entry.payload.get("plan") == name]


def _ever_named(entries: Sequence[Entry]) -> list[str]:
    """Every plan that the journal speaks of, those on bones that were corrected since included."""
    return list(dict.fromkeys(str(e.payload["plan"]) for e in entries if _is_of_plan(e) and "plan" in e.payload))


def _is_of_plan(entry: Entry) -> bool:
    return entry.kind in OF_PLANS


def against_rules(approval: Entry, before: Sequence[Entry]) -> list[str]:
    """What of the rules an approval does not keep, by the entries before it."""
    name = str(approval.payload.get("plan"))
    try:
        found = _broken_rules(approval, name, before)
    except MALFORMED:
        found = ["it lacks what belongs in an approval"]
    return [f"line {approval.seq + 1}: {name} was approved against the rules: {line}" for line in found]


def _broken_rules(approval: Entry, name: str, before: Sequence[Entry]) -> list[str]:
    said = approval.payload
    twin_id = str(said.get("twin_id"))
    found = objections_to(approval.author, str(said.get("role")), authors(before, name), approving=True)
    if standing(before, name).state != "reviewed":
        found.append("nobody had reviewed it as it was")
    plan, _ = fold(before, name, twin_id)
    if list(places(plan)) != said.get("confirmed"):
        found.append("the places that were typed are not the plan's")
    undecided = [one.key[1] for one in proposals(before, name, twin_id) if one.decision is None]
    if undecided:
        found.append(f"nobody had decided on {', '.join(undecided)}")
    if not all(str(one.get("reason", "")).strip() for one in said.get("overrides", ())):
        found.append("an override has no reason")
    return found


def _told(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    reasons = [entry.payload.get("reason"), entry.payload.get("comment")]
    return {
        "line": entry.seq + 1,
        "t_ns": entry.t_ns,
        "by": entry.author,
        "role": entry.payload.get("role"),
        "kind": entry.kind,
        "words": _words_of(entry, entries),
        "reason": next((str(one) for one in reasons if one), None),
    }


def _words_of(entry: Entry, entries: Sequence[Entry]) -> str:
    """In words; an entry that another program wrote without what belongs in it says so."""
    try:
        return _words(entry, entries)
    except MALFORMED:
        return f"{entry.kind.replace('_', ' ')}, which lacks what belongs in it"


def _words(entry: Entry, entries: Sequence[Entry]) -> str:
    said = entry.payload
    if entry.kind == UNDO:
        target = next((e for e in entries if e.id == said.get("undoes")), None)
        if target is None:
            return "took back something that is not there"
        again = target.kind == UNDO
        return f"{'brought back what line' if again else 'took back line'} {target.seq + 1}" + " took back" * again
    if entry.kind in EDIT_KINDS:
        return _edit_words(entry)
    if entry.kind == DECIDED:
        return f"{said['decision']} the proposal of {said['noun']} {said['id']}"
    if entry.kind == REQUESTED:
        return f"asked the program for a {said['request']['procedure'].replace('_', ' ')}"
    if entry.kind == REVIEWED:
        return "reviewed the plan"
    if entry.kind == APPROVED:
        over = [f"{one['key']} ({one['reason']})" for one in said.get("overrides", ())]
        overruled = f"; overrode {', '.join(over)}" if over else ""
        return f"approved the plan for {', '.join(said.get('confirmed', ()))}{overruled}"
    if entry.kind == WITHDRAWN:
        return "took the approval back"
    if entry.kind == CONFIRMED:
        return f"confirmed the levels {', '.join(said.get('levels', ()))}"
    if entry.kind == RENAMED:
        return "renamed " + ", ".join(f"{old} to {new}" for old, new in sorted(said["renamed"].items()))
    if entry.kind == CORRECTED:
        return "corrected the bones"
    if entry.kind == UNCORRECTED:
        return "took a correction of the bones back"
    return entry.kind.replace("_", " ")


def _edit_words(entry: Entry) -> str:
    try:
        edit = edit_of(entry)
    except Fault as fault:
        return f"{entry.kind.replace('_', ' ')}, which can't be read: {fault.message}"
    if edit.kind == START_VARIANT:
        return f"started the plan as {edit.outcome.get('from')} was"
    verb = {"place": "placed", "move": "changed", "remove": "removed"}[edit.verb]
    origin = ""
    if "proposed" in edit.outcome:
        origin = f", proposed by {edit.outcome['proposed'].get('by', 'a program')}"
    if "merged_from" in edit.outcome:
        origin += f", from plan {edit.outcome['merged_from'].get('plan')}"
    return f"{verb} {edit.noun} {edit.item_id}{origin}"
