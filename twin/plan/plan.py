"""The plan: screws, osteotomies, rods and implants by name, for one twin. A value; edits make new ones.

One table, NOUNS, says what a plan can hold. The document, its reader, the edits and the renaming of levels go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault
from twin.anatomy.renaming import renamed_words
from twin.journal import canonical_json
from twin.plan.auto.rod import Rod
from twin.plan.cuts.implant import Implant
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.screws.screw import Screw

SCHEMA = 2  # 1: screws and osteotomies only
OLDEST = 1

Item = Screw | Osteotomy | Rod | Implant


class BadPlan(Fault):
    """A plan document that this version can't read, or that belongs to another twin."""


@dataclass(frozen=True)
class Noun:
    """One kind of thing that a plan holds: where the plan and its document keep it, and since which schema."""

    name: str
    plural: str
    made: type[Item]
    read: Callable[[dict[str, Any]], Item]
    since: int


NOUNS: Mapping[str, Noun] = MappingProxyType(
    {
        noun.name: noun
        for noun in (
            Noun("screw", "screws", Screw, Screw.from_json, 1),
            Noun("osteotomy", "osteotomies", Osteotomy, Osteotomy.from_json, 1),
            Noun("rod", "rods", Rod, Rod.from_json, 2),
            Noun("implant", "implants", Implant, Implant.from_json, 2),
        )
    }
)


def noun_of(item: Item) -> Noun:
    """The row of the table that an item belongs to."""
    return next(noun for noun in NOUNS.values() if isinstance(item, noun.made))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is planned, by id. Grades, meshes and alignment are computed from it, never kept in it."""

    name: str
    twin_id: str
    screws: Mapping[str, Screw] = field(default_factory=dict)
    osteotomies: Mapping[str, Osteotomy] = field(default_factory=dict)
    rods: Mapping[str, Rod] = field(default_factory=dict)
    implants: Mapping[str, Implant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze; keys must be the items' ids."""
        for noun in NOUNS.values():
            items = self.of(noun)
            for key, item in items.items():
                if key != item.id:
                    raise BadPlan(f"{item.id!r} is filed as {key!r}")
            object.__setattr__(self, noun.plural, MappingProxyType(dict(items)))

    def __eq__(self, other: object) -> bool:
        """Equal when the documents are the same bytes."""
        return isinstance(other, Plan) and self.document() == other.document()

    def __hash__(self) -> int:
        """By the document."""
        return hash(self.document())

    def of(self, noun: Noun) -> Mapping[str, Item]:
        """All that it holds of one kind, by id."""
        items: Mapping[str, Item] = getattr(self, noun.plural)
        return items

    def items(self) -> tuple[tuple[Noun, Item], ...]:
        """Everything that it holds, each with its kind, in the table's order and then by id."""
        return tuple((noun, item) for noun in NOUNS.values() for _, item in sorted(self.of(noun).items()))

    def plus(self, item: Item) -> Plan:
        """The plan with this item added, or put in the place of the one of its name."""
        noun = noun_of(item)
        return self._with({noun.plural: {**self.of(noun), item.id: item}})

    def without(self, noun: str, item_id: str) -> Plan:
        """The plan without the screw, osteotomy … of this id."""
        row = NOUNS[noun]
        return self._with({row.plural: {key: item for key, item in self.of(row).items() if key != item_id}})

    def renamed_ids(self, renamed: Mapping[str, str]) -> dict[str, str]:
        """The id of each item under new level names; all keep theirs when two would become the same."""
        old = [item.id for _, item in self.items()]
        ids = {one: renamed_words(one, renamed) for one in old}
        return ids if len(set(ids.values())) == len(ids) else {one: one for one in old}

    def renamed(self, renamed: Mapping[str, str]) -> Plan:
        """The same things on the same bones under new level names; ids follow as long as they stay single."""
        ids = self.renamed_ids(renamed)
        after: dict[str, dict[str, Item]] = {noun.plural: {} for noun in NOUNS.values()}
        for noun in NOUNS.values():
            for item in self.of(noun).values():
                moved = _renamed(item, renamed, ids)
                after[noun.plural][moved.id] = moved
        return self._with(after)

    def to_json(self) -> dict[str, Any]:
        """The document; the same plan gives the same bytes whatever the order of its edits."""
        return {"schema": SCHEMA, "name": self.name, "twin_id": self.twin_id, **self.content()}

    def content(self) -> dict[str, Any]:
        """What is planned, without the plan's name and its twin's: `{screws: {id: …}, …}`."""
        return {
            noun.plural: {key: item.to_json() for key, item in sorted(self.of(noun).items())} for noun in NOUNS.values()
        }

    def document(self) -> bytes:
        """Canonical JSON of the plan."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Inverse of `to_json`, for this schema and the older ones; raises BadPlan and what the items' types raise."""
        schema = value.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or not OLDEST <= schema <= SCHEMA:
            raise BadPlan(f"plan schema {schema!r}, this version reads {OLDEST} to {SCHEMA}")
        try:
            content = {noun.plural: value[noun.plural] for noun in NOUNS.values() if noun.since <= schema}
            return cls(str(value["name"]), str(value["twin_id"])).holding(content)
        except KeyError as error:
            raise BadPlan(f"a plan lacks {error}") from None

    def holding(self, content: Mapping[str, Any]) -> Plan:
        """The plan with this content instead of its own; kinds that `content` does not name stay empty."""
        try:
            return self._with(
                {
                    noun.plural: {str(key): noun.read(item) for key, item in dict(content.get(noun.plural, {})).items()}
                    for noun in NOUNS.values()
                }
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise BadPlan(f"a plan's content cannot be read ({error})") from None

    def _with(self, changes: Mapping[str, Any]) -> Plan:
        return replace(self, **changes)


def _renamed(item: Item, bones: Mapping[str, str], ids: Mapping[str, str]) -> Item:
    if isinstance(item, Rod):
        return item.renamed(ids, ids[item.id])
    return replace(item, id=ids[item.id], bone=bones.get(item.bone, item.bone))
