"""How a plan stands: draft, reviewed, approved or withdrawn; and what has to be true before somebody may approve it.

Review and approval are entries of the journal that name the plan's bytes (`plan_sha256`), the twin, the CT and the
program. A review ends with the next edit. An approved plan stays as it is; its approval ends when levels get other
names or the approver takes it back, and a new draft is a variant of it. Names are as people type them: the program
does not know who sits in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from spatial.faults import Fault, Misuse
from twin.anatomy.history import live
from twin.anatomy.renaming import RENAMED
from twin.journal import Entry
from twin.plan.edits import APPROVED, EDIT_KINDS, START_VARIANT, counted
from twin.plan.undoing import UNDO

REVIEWED, WITHDRAWN, SAVED = "plan_reviewed", "plan_withdrawn", "plan_saved"
State = Literal["draft", "reviewed", "approved", "withdrawn"]
STATES: dict[str, State] = {REVIEWED: "reviewed", APPROVED: "approved", WITHDRAWN: "withdrawn"}
ROLES = ("surgeon", "assistant", "radiologist", "engineer", "planner")
MAY_APPROVE = ("surgeon",)
PROGRAMS = ("planner", "osteotwin", "demo", "guide", "request")  # authors that are no persons


class NotApprovable(Fault):
    """What stands between a plan and its approval, all of it."""


class NoPerson(Misuse):
    """A name that is no person's, or a role that is not known."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a plan stands: the entry that put it there, or why an earlier one no longer holds."""

    state: State = "draft"
    entry: Entry | None = None
    lapsed: str | None = None

    @property
    def words(self) -> str:
        """In a line: `approved by Ann Lee (surgeon), 2026-03-01 10:22 UTC`."""
        if self.entry is None:
            return self.state if self.lapsed is None else f"{self.state} ({self.lapsed})"
        return f"{self.state} by {_signed(self.entry)}"

    def to_json(self) -> dict[str, Any]:
        """`{state, by, role, t_ns, entry, lapsed}`."""
        entry = self.entry
        return {
            "state": self.state,
            "by": None if entry is None else entry.author,
            "role": None if entry is None else entry.payload.get("role"),
            "t_ns": None if entry is None else entry.t_ns,
            "entry": None if entry is None else entry.id,
            "lapsed": self.lapsed,
        }


def standing(entries: Iterable[Entry], name: str) -> Standing:
    """How the plan called `name` stands by these entries."""
    found = Standing()
    saved: str | None = None
    for entry in live(entries):
        if entry.kind == RENAMED and found.entry is not None:
            found = Standing(lapsed=f"{_was(found)}, before levels were given other names")
        elif entry.kind == SAVED and entry.payload.get("name") == name:
            saved = entry.payload.get("sha256")
        elif entry.payload.get("plan") != name:
            continue
        elif entry.kind in STATES:
            found = Standing(STATES[entry.kind], entry)
        elif found.state == "reviewed" and (entry.kind == UNDO or entry.kind in EDIT_KINDS):
            found = Standing(lapsed=f"{_was(found)}, edited since")
    holds = found.entry is None or found.state == "withdrawn" or found.entry.payload.get("plan_sha256") == saved
    return found if holds else Standing(lapsed=f"{_was(found)}, saved since with other content")


def saved_sha256(entries: Iterable[Entry], name: str) -> str | None:
    """The hash of the plan's file as it was last saved; None for a plan that never was."""
    shas = [e.payload.get("sha256") for e in live(entries) if e.kind == SAVED and e.payload.get("name") == name]
    return None if not shas else str(shas[-1])


def authors(entries: Sequence[Entry], name: str) -> tuple[str, ...]:
    """Everybody whose edits (or undos) made the plan what it is, those of the plan that it started from included."""
    counting = {entry.id for entry in counted(entries, name)}
    found: dict[str, None] = {}
    for entry in live(entries):
        if entry.id in counting or (entry.kind == UNDO and entry.payload.get("plan") == name):
            found[entry.author] = None
            if entry.kind == START_VARIANT:
                before = entry.payload.get("authors")
                found |= dict.fromkeys(str(one) for one in (before if isinstance(before, list) else ()))
    return tuple(found)


def same_person(one: str, other: str) -> bool:
    """Whether two typed names are the same but for case, points and blanks."""
    return _plain(one) == _plain(other)


def ensure_person(by: str, role: str) -> None:
    """Raise NoPerson for a program's name, no name, or an unknown role."""
    if not _plain(by) or any(same_person(by, one) for one in PROGRAMS):
        raise NoPerson(f"--by {by!r}; a person's name is needed")
    if role not in ROLES:
        raise NoPerson(f"role {role!r}; there are {', '.join(ROLES)}")


def objections_to(by: str, role: str, made_by: Sequence[str], *, approving: bool) -> list[str]:
    """Why this person may not review or approve what these people made; a line each."""
    verb = "approve" if approving else "review"
    found = [f"{by} edited this plan, so somebody else has to {verb} it"] * any(same_person(by, one) for one in made_by)
    if approving and role not in MAY_APPROVE:
        found.append(f"a {role} can't approve a plan; {', '.join(MAY_APPROVE)} can")
    return found


def _was(found: Standing) -> str:
    assert found.entry is not None
    return f"was {found.state} by {_signed(found.entry)}"


def _signed(entry: Entry) -> str:
    when = datetime.fromtimestamp(entry.t_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{entry.author} ({entry.payload.get('role') or 'no role'}), {when}"


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[^\w]+", " ", name.casefold()).split())
