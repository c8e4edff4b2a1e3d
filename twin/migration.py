"""Older case.json documents, step by step to the schema of today; a newer one is refused.

Built files never change: a step only says in the new words what an older program wrote down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spatial.faults import Fault

SCHEMA = 2


class NewerCase(Fault):
    """A case that a newer version of this program wrote."""


class UnknownSchema(Fault):
    """A case.json whose schema number no version of this program has written."""


def migrated(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in today's schema; what it is already stays as it is. Raises NewerCase, UnknownSchema, KeyError."""
    schema = document["schema"]
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise UnknownSchema(f"schema {schema!r}; schemas are numbered from 1 to {SCHEMA}")
    if schema > SCHEMA:
        raise NewerCase(
            f"schema {schema}, this program reads up to {SCHEMA}: a newer version made it; update osteotwin"
        )
    value = dict(document)
    while value["schema"] < SCHEMA:
        value = _STEPS[value["schema"]](value)
    return value


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 adds evidence for the levels, structures, sides, fitness, the surfaces' spread and the program.

    What schema 1 did not measure is not known: nothing is judged anew here, a rebuild does that.
    """
    return {
        **old,
        "schema": 2,
        "program": None,
        "levels": {"evidence": [], "transitional": None, **old["levels"]},
        "structures": {},
        "fitness": None,
        "sides": [],
        "surface_sd_mm": None,
        "warnings": [
            *old.get("warnings", ()),
            "the case was built by an older version, which judged no fitness, sides or structures; a rebuild does",
        ],
    }


_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
