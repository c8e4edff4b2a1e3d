"""Own plan first: proposals that are kept sealed until the surgeon's own screw is there, then held against it.

A proposal that is seen first is seldom judged freely (automation bias). So it can be made, hashed and put into the
journal unread: packed, not secret, and its hash stands for what was proposed before the surgeon planned. The seals of a
plan are the fold of `proposals_sealed` and `proposal_revealed` since the last correction or renaming of the twin; what
was sealed under other level names is void. A seal opens when the pedicle has a screw that a person placed or
moved last.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spatial.faults import Fault
from spatial.frames import Bone, Patient
from spatial.rigid import Rigid
from spatial.shapes import Line
from twin.anatomy.history import live
from twin.anatomy.renaming import RENAMED
from twin.journal import Entry, canonical_json
from twin.plan.auto.autoplan import Proposal, screw_id
from twin.plan.deviation import ScrewDeviation, screw_deviation
from twin.plan.edits import counted
from twin.plan.screws.screw import Screw

SEALED = "proposals_sealed"
REVEALED = "proposal_revealed"
ORIGIN = "proposed"  # what an edit that a program thought up carries


class BrokenSeal(Fault):
    """A sealed proposal whose content is not what its hash says."""


@dataclass(frozen=True)
class Seal:
    """A proposal in the journal: its hash, its packed content, and whether it has been opened."""

    screw: str
    sha256: str
    content: str
    is_open: bool = False

    def read(self) -> dict[str, Any]:
        """What was proposed: `{screw, grade, ...}` or `{reason, instead, ...}`. Raises BrokenSeal."""
        try:
            data = zlib.decompress(base64.b64decode(self.content, validate=True))
        except (binascii.Error, ValueError, zlib.error):
            data = b""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise BrokenSeal(f"the sealed proposal of {self.screw} is not what was sealed; was the journal changed?")
        value: dict[str, Any] = json.loads(data)
        return value


def sealing(plan: str, proposals: Iterable[Proposal]) -> dict[str, Any]:
    """The payload of a `proposals_sealed` entry: a hash and the packed content a pedicle."""
    seals = {}
    for proposal in proposals:
        if proposal.screw is not None and proposal.grade is not None:
            told = {"screw": proposal.screw.to_json(), "grade": proposal.grade.to_json(), **proposal.reasons()}
        else:
            told = {"screw": None, **proposal.refusal()}
        data = canonical_json(told)
        seals[screw_id(proposal.bone, proposal.side)] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "content": base64.b64encode(zlib.compress(data, 9)).decode("ascii"),
        }
    return {"plan": plan, "seals": seals}


def seals(entries: Iterable[Entry], plan: str) -> dict[str, Seal]:
    """The seals of a plan that stand, by screw; the latest of each."""
    found: dict[str, Seal] = {}
    for entry in live(entries):
        if entry.kind == RENAMED:
            found = {}
        elif entry.kind == SEALED and entry.payload.get("plan") == plan:
            for name, one in entry.payload["seals"].items():
                found[name] = Seal(name, one["sha256"], one["content"])
        elif entry.kind == REVEALED and entry.payload.get("plan") == plan and entry.payload.get("id") in found:
            seal = found[entry.payload["id"]]
            found[seal.screw] = Seal(seal.screw, seal.sha256, seal.content, is_open=True)
    return found


def own_screws(entries: Iterable[Entry], plan: str, screws: Mapping[str, Screw]) -> dict[str, Screw]:
    """The plan's screws that a person placed or moved last, not a program."""
    found: dict[str, Screw] = {}
    for entry in counted(entries, plan):
        item = entry.payload.get("screw")
        name = str(item.get("id")) if isinstance(item, Mapping) else ""
        if name in screws:
            found[name] = screws[name]
            if ORIGIN in entry.payload:
                del found[name]
    return found


def against(proposed: Screw, own: Screw, patient_from_bone: Rigid[Patient, Bone] | None) -> ScrewDeviation:
    """How far the surgeon's own screw is from the proposal. Raises NoDeviation."""
    return screw_deviation(proposed, Line[Patient](own.tip.mm, own.axis.direction), patient_from_bone)
