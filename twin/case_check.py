"""Everything of a case folder that can be checked: a line a problem, none when the case is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from spatial.faults import Fault
from twin import case_series, case_structures
from twin.anatomy.history import live
from twin.anatomy.renaming import composed, renamed_id
from twin.case_document import NoCase, built_sha256, read_document
from twin.case_files import confirmed_by, files_sha256, plan_problem
from twin.case_journal import HEAD, JOURNAL, end_problem
from twin.durable import file_sha256
from twin.journal import Entry, read
from twin.migration import SCHEMA

CHANGED = "case.json has changed since the case was built (checksum)"


def check_case(folder: Path) -> list[str]:
    """Check schema, every checksum, the journal's chain, plans and stray files; a line a problem. Raises NoCase."""
    try:
        document, stored = read_document(folder)
    except NoCase:
        raise
    except Fault as fault:
        return [fault.message]
    problems: list[str] = []
    entries: list[Entry] = []
    readable = False
    try:
        entries, good = read(folder / JOURNAL)
        readable = True
        if good < (folder / JOURNAL).stat().st_size:
            problems.append("the journal's last line is torn (it is moved aside at the next change)")
    except (Fault, OSError) as error:
        problems.append(error.message if isinstance(error, Fault) else f"{JOURNAL} cannot be read ({error.strerror})")
    for name, sha256 in document["files"].items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != sha256:
            problems.append(f"{name} has changed since the case was built (checksum)")
    if readable:
        end = end_problem(folder, entries)
        if end is None and stored["schema"] > 1 and not (folder / HEAD).is_file():
            end = f"{HEAD} is missing: whether the journal lacks its end is not known"
        problems += [end] if end else []
        if not problems:
            problems += _against_journal(document, stored, entries)
        confirmed = confirmed_by(entries)
        if confirmed != document["levels"].get("confirmed_by"):
            problems.append(
                f"levels confirmed by {document['levels'].get('confirmed_by')} in case.json, "
                f"by {confirmed} in the journal"
            )
        names = composed(entries)
        if names != document["levels"].get("renamed", {}):
            problems.append("case.json and the journal give the levels different names; confirm the levels again")
    problems += _plan_problems(folder, entries, renamed_id(document["twin_id"], composed(entries)))
    problems += case_structures.problems(folder, entries) + case_series.problems(folder, entries)
    later = case_structures.added(entries)
    for part in ("bones", "structures"):
        problems += [
            f"{part}/{path.name} does not belong to the case"
            for path in sorted((folder / part).glob("*"))
            if f"{part}/{path.name}" not in (*document["files"], *map(case_structures.file_of, later))
        ]
    return problems


def document_state(document: Mapping[str, Any], entries: Sequence[Entry]) -> Literal["sound", "older", "changed"]:
    """Whether case.json is what the journal's last change made of it, or an earlier one did; schema 1 can't tell."""
    noted = [str(e.payload["built_sha256"]) for e in entries if "built_sha256" in e.payload]
    now = built_sha256(document)
    if not noted or now == noted[-1]:
        return "sound"
    return "older" if now in noted else "changed"


def _against_journal(document: Mapping[str, Any], stored: Mapping[str, Any], entries: Sequence[Entry]) -> list[str]:
    """Whether case.json is what the journal says was built."""
    noted = next((e.payload for e in reversed(entries) if "files_sha256" in e.payload), {})
    if noted.get("files_sha256") != files_sha256(document["files"]) or noted.get("twin_id") != document["twin_id"]:
        return ["case.json lists other files than the journal says were built"]
    state = document_state(document, entries) if stored["schema"] == SCHEMA else "sound"
    if state == "older":
        return ["case.json is older than its last change in the journal (was a program stopped?); do that change again"]
    return [CHANGED] if state == "changed" else []


def _plan_problems(folder: Path, entries: Sequence[Entry], twin_id: str) -> list[str]:
    problems = []
    for path in sorted((folder / "plans").glob("*.json")):
        problem = None if path.name.startswith(".") else plan_problem(path, entries, twin_id)
        if problem:
            problems.append(problem)
    saved = {e.payload.get("name") for e in live(entries) if e.kind == "plan_saved"}
    return problems + [
        f"plan {n} is missing" for n in sorted(map(str, saved)) if not (folder / "plans" / f"{n}.json").is_file()
    ]
