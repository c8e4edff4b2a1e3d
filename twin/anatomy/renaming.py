"""When a person knows better which vertebra is which: new level names for a twin that is built already.

The built files keep their names and hashes. Each correction is an event with the map from the names before it to the
names after it; the names of today are the fold of these events over the built ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from spatial.faults import Misuse
from twin.anatomy.history import live
from twin.anatomy.twin import Levels, Twin
from twin.journal import Entry, canonical_json
from twin.scan.names import NUMBERS
from twin.scan.volume import LabelMap

RENAMED = "levels_renamed"
CRANIAL_FIRST = tuple(
    f"vertebrae_{region}{n}" for region, count in (("C", 7), ("T", 13), ("L", 6)) for n in range(1, count + 1)
)
RARE = ("vertebrae_T13", "vertebrae_L6")


class BadLevelNames(Misuse):
    """Level names that can't be: unknown, doubled, or out of order along the spine."""


def composed(entries: Iterable[Entry]) -> dict[str, str]:
    """The names of today by the built ones, of those that changed."""
    found: dict[str, str] = {}
    for entry in live(entries):
        if entry.kind == RENAMED:
            step = {str(old): str(new) for old, new in entry.payload["renamed"].items()}
            found = {old: step.get(new, new) for old, new in found.items()} | {
                old: new for old, new in step.items() if old not in found.values() and old not in found
            }
    return {old: new for old, new in found.items() if old != new}


def shifted(names: Iterable[str], by: int) -> dict[str, str]:
    """A new name a vertebra, each `by` levels more caudal (+) or cranial (-), ribs with their vertebrae.

    T13 and L6 are left out of the count: few people have them, so they are named one by one. Raises BadLevelNames.
    """
    usual = [name for name in CRANIAL_FIRST if name not in RARE]
    found: dict[str, str] = {}
    for name in names:
        rib = re.fullmatch(r"(rib_(?:left|right)_)(\d+)", name)
        if name in RARE:
            raise BadLevelNames(f"{name} has no place in the usual count; name each level: --set {name[10:]}=...")
        if name in usual:
            at = usual.index(name) + by
            if not 0 <= at < len(usual):
                raise BadLevelNames(f"{name} has no level {by:+d} from it; name each level: --set {name[10:]}=...")
            found[name] = usual[at]
        elif rib:
            number = int(rib[2]) + by
            if not 1 <= number <= 12:
                raise BadLevelNames(f"{name} has no neighbour {by:+d}; name each level and rib: --set {name}=...")
            found[name] = f"{rib[1]}{number}"
    if not any(name.startswith("vertebrae_") for name in found):
        raise BadLevelNames("this twin has no vertebra, so there is nothing to shift")
    return found


def ensure_sound(twin: Twin, renamed: Mapping[str, str]) -> None:
    """Raise BadLevelNames unless the new names are known, single, of the same kind and in order along the spine."""
    for old, new in renamed.items():
        twin.bone(old)
        if new not in NUMBERS or _kind(old) != _kind(new) or _kind(old) not in ("vertebrae", "rib_left", "rib_right"):
            raise BadLevelNames(f"{old} can't become {new!r}; a vertebra takes a vertebra's name, a rib a rib's")
    after = [renamed.get(name, name) for name in twin.bones]
    doubled = sorted({name for name in after if after.count(name) > 1})
    if doubled:
        raise BadLevelNames(f"{', '.join(doubled)} would be there twice; name the others too (--set OLD=NEW, repeated)")
    heights = {renamed.get(n, n): bone.for_drawing(0).centroid_mm[2] for n, bone in twin.bones.items()}
    chain = [name for name in CRANIAL_FIRST if name in heights]
    for upper, lower in pairwise(chain):
        if heights[upper] <= heights[lower]:
            raise BadLevelNames(f"{upper} would lie below {lower}; the names must run down the spine in order")


def renamed_twin(twin: Twin, renamed: Mapping[str, str], by: str) -> Twin:
    """The built twin under the names that `by` gave; another `twin_id`, so nothing made for the old names fits.

    The program's proposal was that the names are others, so its confidence in these is at most what it left over.
    """
    if not renamed:
        return twin
    bones = {renamed.get(name, name): replace(b, name=renamed.get(name, name)) for name, b in twin.bones.items()}
    moved = ", ".join(f"{_short(old)} -> {_short(new)}" for old, new in sorted(renamed.items()))
    levels = twin.levels
    evidence = (
        f"named by {by}: {moved}",
        *(f"the program's own names ({levels.confidence:.0%}) rested on: {line}" for line in levels.evidence),
    )
    rare = next((name for name in RARE if name in bones), None)
    structures = {renamed_words(name, renamed): one for name, one in twin.structures.items()}
    return replace(
        twin,
        twin_id=renamed_id(twin.twin_id, renamed),
        bones=bones,
        landmarks=tuple(
            replace(mark, bone=renamed.get(mark.bone, mark.bone), name=renamed_words(mark.name, renamed))
            for mark in twin.landmarks
        ),
        levels=Levels(min(levels.confidence, 1.0 - levels.confidence), levels.confirmed_by, evidence, rare),
        density=None if twin.density is None else _renamed_keys(twin.density, renamed),
        warnings=tuple(renamed_words(warning, renamed) for warning in twin.warnings),
        structures={name: replace(one, name=name) for name, one in structures.items()},
    )


def renamed_id(twin_id: str, renamed: Mapping[str, str]) -> str:
    """The id of a built twin under other names; the built names have the built id."""
    return hashlib.sha256(canonical_json([twin_id, dict(renamed)])).hexdigest()[:32] if renamed else twin_id


def renamed_labels(labels: LabelMap, renamed: Mapping[str, str]) -> LabelMap:
    """The label map with the same voxels under the new names."""
    return replace(labels, names={number: renamed.get(name, name) for number, name in labels.names.items()})


def renamed_words(text: str, renamed: Mapping[str, str]) -> str:
    """Each bone's name and each level (`L4-left`, `disc_L4_L5`) in a text, all at once."""
    table = {old: new for old, new in renamed.items()} | {_short(old): _short(new) for old, new in renamed.items()}
    if not table:
        return text
    words = "|".join(re.escape(old) for old in sorted(table, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", lambda found: table[found[0]], text)


def _renamed_keys(value: Any, renamed: Mapping[str, str]) -> Any:
    """A document whose keys, and texts that are a bone's name, follow the new names."""
    if isinstance(value, Mapping):
        return {renamed.get(str(key), key): _renamed_keys(item, renamed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed_keys(item, renamed) for item in value]
    return renamed_words(value, renamed) if isinstance(value, str) else value


def _kind(name: str) -> str:
    return "vertebrae" if name.startswith("vertebrae_") else name.rpartition("_")[0]


def _short(name: str) -> str:
    return name.removeprefix("vertebrae_")
