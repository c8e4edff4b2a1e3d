"""The plan: screws and osteotomies by name, for one twin. A value; edits make new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault
from twin.anatomy.renaming import renamed_words
from twin.journal import canonical_json
from twin.plan.osteotomy import Osteotomy
from twin.plan.screw import Screw

SCHEMA = 1


class BadPlan(Fault):
    """A plan document that this version can't read, or that belongs to another twin."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Screws and osteotomies by id. Grades, meshes and alignment are computed from it, never kept in it."""

    name: str
    twin_id: str
    screws: Mapping[str, Screw] = field(default_factory=dict)
    osteotomies: Mapping[str, Osteotomy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze; keys must be the items' ids."""
        for items in (self.screws, self.osteotomies):
            for key, item in items.items():
                if key != item.id:
                    raise BadPlan(f"{item.id!r} is filed as {key!r}")
        object.__setattr__(self, "screws", MappingProxyType(dict(self.screws)))
        object.__setattr__(self, "osteotomies", MappingProxyType(dict(self.osteotomies)))

    def __eq__(self, other: object) -> bool:
        """Equal when the documents are the same bytes."""
        return isinstance(other, Plan) and self.document() == other.document()

    def __hash__(self) -> int:
        """By the document."""
        return hash(self.document())

    def with_screw(self, screw: Screw) -> Plan:
        """The plan with this screw added or replaced."""
        return replace(self, screws={**self.screws, screw.id: screw})

    def with_osteotomy(self, osteotomy: Osteotomy) -> Plan:
        """The plan with this osteotomy added or replaced."""
        return replace(self, osteotomies={**self.osteotomies, osteotomy.id: osteotomy})

    def without(self, item_id: str) -> Plan:
        """The plan without a screw or osteotomy."""
        return replace(
            self,
            screws={key: item for key, item in self.screws.items() if key != item_id},
            osteotomies={key: item for key, item in self.osteotomies.items() if key != item_id},
        )

    def renamed(self, renamed: Mapping[str, str]) -> Plan:
        """The same screws and cuts on the same bones under new level names; ids follow as long as they stay single."""
        ids = {one: renamed_words(one, renamed) for one in (*self.screws, *self.osteotomies)}
        if len(set(ids.values())) < len(ids):
            ids = {old: old for old in ids}
        screws = [replace(s, id=ids[s.id], bone=renamed.get(s.bone, s.bone)) for s in self.screws.values()]
        cuts = [replace(o, id=ids[o.id], bone=renamed.get(o.bone, o.bone)) for o in self.osteotomies.values()]
        return replace(self, screws={s.id: s for s in screws}, osteotomies={o.id: o for o in cuts})

    def to_json(self) -> dict[str, Any]:
        """The document; the same plan gives the same bytes whatever the order of its edits."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "twin_id": self.twin_id,
            "screws": {key: self.screws[key].to_json() for key in sorted(self.screws)},
            "osteotomies": {key: self.osteotomies[key].to_json() for key in sorted(self.osteotomies)},
        }

    def document(self) -> bytes:
        """Canonical JSON of the plan."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Inverse of `to_json`; raises BadPlan, BadScrew, BadOsteotomy."""
        if value.get("schema") != SCHEMA:
            raise BadPlan(f"plan schema {value.get('schema')!r}, this version reads {SCHEMA}")
        try:
            return cls(
                name=str(value["name"]),
                twin_id=str(value["twin_id"]),
                screws={key: Screw.from_json(item) for key, item in value["screws"].items()},
                osteotomies={key: Osteotomy.from_json(item) for key, item in value["osteotomies"].items()},
            )
        except (KeyError, AttributeError) as error:
            raise BadPlan(f"a plan lacks {error}") from None
