"""case.json: what it says of a twin and its files, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from spatial.faults import Fault, Misuse
from twin.anatomy.structure import Role
from twin.anatomy.twin import Levels, SideEvidence, Twin
from twin.durable import sha256_of
from twin.journal import NotJson, canonical_json
from twin.migration import SCHEMA, migrated
from twin.program import program
from twin.scan.fitness import Fitness
from twin.scan.names import is_safe

CASE = "case.json"


class NoCase(Misuse):
    """There is no case here."""


class CaseCorrupt(Fault):
    """A file of the case is missing, changed or does not fit the others."""


def document_of(
    twin: Twin, files: Mapping[str, str], warnings: Sequence[str], steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What case.json says of a twin whose files have these hashes."""
    return {
        "schema": SCHEMA,
        "twin_id": twin.twin_id,
        "program": program(),
        "levels": {
            "confidence": twin.levels.confidence,
            "confirmed_by": twin.levels.confirmed_by,
            "evidence": list(twin.levels.evidence),
            "transitional": twin.levels.transitional,
        },
        "bones": {name: len(bone.levels_of_detail) for name, bone in twin.bones.items()},
        "structures": {name: {"role": one.role, "source": one.source} for name, one in twin.structures.items()},
        "fitness": None if twin.fitness is None else twin.fitness.to_json(),
        "sides": [{"check": one.check, "agrees": one.agrees, "words": one.words} for one in twin.sides],
        "surface_sd_mm": twin.surface_sd_mm,
        "files": dict(files),
        "density": None if twin.density is None else dict(twin.density),
        "warnings": list(warnings),
        "provenance": [dict(step) for step in steps],
    }


def read_document(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """case.json in today's schema, its shape checked, and as it is stored. Raises NoCase, CaseCorrupt, NewerCase."""
    path = folder / CASE
    if not path.is_file():
        raise NoCase("there is no case here (no case.json)", path=folder)
    try:
        stored = json.loads(path.read_bytes())
        value = migrated(stored)
        sound = (
            isinstance(value["twin_id"], str)
            and all(is_inside(name) and len(value["files"][name]) == 64 for name in value["files"])
            and all(is_safe(name) and isinstance(count, int) for name, count in value["bones"].items())
            and all(is_safe(n) and one["role"] in get_args(Role) for n, one in value["structures"].items())
            and isinstance(value["provenance"], list)
            and isinstance(value["surface_sd_mm"], (int, float, type(None)))
            and isinstance(levels_of(value).confidence, (int, float))
        )
        fitness_of(value)
        sides_of(value)
    except Fault as fault:
        fault.path = path
        raise
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise CaseCorrupt(f"case.json cannot be read ({type(error).__name__}: {error})", path=path) from None
    if not sound:
        raise CaseCorrupt("case.json holds values of the wrong kind; was it edited?", path=path)
    return value, dict(stored)


def levels_of(document: Mapping[str, Any]) -> Levels:
    """The levels as the program proposed them, with who confirmed them by case.json. Raises KeyError, TypeError."""
    value = document["levels"]
    transitional = value["transitional"]
    return Levels(
        value["confidence"],
        value.get("confirmed_by"),
        tuple(str(line) for line in value["evidence"]),
        None if transitional is None else str(transitional),
    )


def fitness_of(document: Mapping[str, Any]) -> Fitness | None:
    """What the scan is fit for; None where there was none, or nobody judged it. Raises KeyError, TypeError."""
    value = document["fitness"]
    return None if value is None else Fitness.from_json(value)


def sides_of(document: Mapping[str, Any]) -> tuple[SideEvidence, ...]:
    """The three checks of left and right. Raises KeyError, TypeError."""
    return tuple(SideEvidence(one["check"], one["agrees"], str(one["words"])) for one in document["sides"])


def built_sha256(document: Mapping[str, Any]) -> str | None:
    """The hash of all that was built: case.json without what the journal keeps (who confirmed, what was renamed).

    None when the document holds what no JSON should (NaN): it was edited.
    """
    levels = {key: value for key, value in document["levels"].items() if key not in ("confirmed_by", "renamed")}
    try:
        return sha256_of(canonical_json({**document, "levels": levels}))
    except NotJson:
        return None


def is_inside(name: str) -> bool:
    """Whether a listed file name stays within the case."""
    parts = name.split("/")
    return (
        not name.startswith("/")
        and "\\" not in name
        and ":" not in name
        and all(p not in ("", ".", "..") for p in parts)
    )


def pretty(value: Any) -> bytes:
    """JSON for people: one key a line."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
