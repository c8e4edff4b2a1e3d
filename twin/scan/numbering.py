"""Which bone a number means: TotalSegmentator v2 and v1, VerSe; and what a free text calls a bone.

The three tables contradict one another (25 is the sacrum, T10, L6), so a map of numbers without names is read only
where one table alone fits: all its numbers are known there, and its vertebrae stand in order from head to foot.
Sources: wasserth/TotalSegmentator, totalsegmentator/map_to_binary.py; Sekuboyina et al. 2021, Med Image Anal 73:102166.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from spatial.faults import Misuse
from twin.scan.names import BONES, NUMBERS, OTHERS

SIDES = ("left", "right")
LEAST_ROW = 3  # vertebrae in order that tell them from organs
CLEAR_ROW = 5  # and that outweigh a table that reads half as many: 1 in 120 by chance
LARGEST_VERTEBRA_ML = 130.0  # L5 of a large man is about 90 ml; a sacrum has 150 to 300


class NumberingChoice(Misuse):
    """Numbers that fit several tables, or none of the tables by that name."""


def _listed(first: int, names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), first))


def _v1() -> dict[int, str]:
    spine = ("L", range(5, 0, -1)), ("T", range(12, 0, -1)), ("C", range(7, 0, -1))
    muscles = ("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas")
    return {
        **_listed(
            1,
            "spleen kidney_right kidney_left gallbladder liver stomach aorta inferior_vena_cava "
            "portal_vein_and_splenic_vein pancreas adrenal_gland_right adrenal_gland_left lung_upper_lobe_left "
            "lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right",
        ),
        **dict(enumerate((f"vertebrae_{part}{n}" for part, counted in spine for n in counted), 18)),
        **_listed(
            42,
            "esophagus trachea heart_myocardium heart_atrium_left heart_ventricle_left heart_atrium_right "
            "heart_ventricle_right pulmonary_artery brain iliac_artery_left iliac_artery_right iliac_vena_left "
            "iliac_vena_right small_bowel duodenum colon",
        ),
        **{57 + n: f"rib_left_{n}" for n in range(1, 13)},
        **{69 + n: f"rib_right_{n}" for n in range(1, 13)},
        **_paired(82, "humerus", "scapula", "clavicula", "femur", "hip"),
        92: "sacrum",
        93: "face",
        **_paired(94, *muscles),
        104: "urinary_bladder",
    }


def _paired(first: int, *names: str) -> dict[int, str]:
    return dict(enumerate((f"{name}_{side}" for name in names for side in SIDES), first))


def _verse() -> dict[int, str]:
    levels = [f"C{n}" for n in range(1, 8)] + [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 7)]
    table = {n: f"vertebrae_{level}" for n, level in enumerate(levels, 1)}
    return table | {26: "sacrum", 27: "coccyx", 28: "vertebrae_T13"}


NUMBERINGS: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {"totalsegmentator": {**OTHERS, **BONES}, "totalsegmentator_v1": _v1(), "verse": _verse()}
)
"""Tables by the name that `--numbering` takes."""

_LIMBS = (
    "patella tibia fibula talus calcaneus tarsal metatarsal phalanges_feet ulna radius carpal metacarpal "
    "phalanges_hand femur hip humerus scapula clavicula"
)
MORE_BONES = frozenset({"coccyx"} | {name + side for name in _LIMBS.split() for side in ("", "_left", "_right")})
"""Bones that TotalSegmentator's main table has no number for."""

CRANIAL_FIRST = tuple(
    [f"vertebrae_C{n}" for n in range(1, 8)]
    + [f"vertebrae_T{n}" for n in range(1, 14)]
    + [f"vertebrae_L{n}" for n in range(1, 7)]
    + ["vertebrae_S1", "sacrum", "coccyx"]
)


@dataclass(frozen=True)
class Extent:
    """What is known of a number in a map: height of its centroid (Patient z), and volume."""

    z_mm: float
    ml: float


def is_bone(name: str) -> bool:
    """Whether a name is a bone's; all other names are of structures beside the bones."""
    return name in NUMBERS or name in MORE_BONES


def table_of(numbering: str) -> Mapping[int, str]:
    """The table by its name; raises NumberingChoice."""
    if numbering not in NUMBERINGS:
        raise NumberingChoice(f"no numbering {numbering!r}; there are {', '.join(NUMBERINGS)}")
    return NUMBERINGS[numbering]


def recognised(found: Mapping[int, Extent]) -> tuple[str, str]:
    """The numbering of a map without names, and why it was taken; raises NumberingChoice when it is not sure.

    An empty name says that no table knows all the numbers.
    """
    known = [name for name, table in NUMBERINGS.items() if set(found) <= set(table)]
    names = {name: {NUMBERINGS[name][n]: extent for n, extent in found.items()} for name in known}
    sound = [name for name in known if any(is_bone(bone) for bone in names[name]) and not disorder(names[name])]
    rows = {name: sum(bone in CRANIAL_FIRST for bone in names[name]) for name in sound}
    clear = [n for n in sound if rows[n] >= CLEAR_ROW and all(2 * rows[o] <= rows[n] for o in sound if o != n)]
    sound = clear or sound
    if "totalsegmentator" in sound:
        sound = [name for name in sound if name != "totalsegmentator_v1"]  # nothing writes v1 any more but by request
        sound = [name for name in sound if name != "verse" or set(found) - {26, 27}]  # a sacrum needs a vertebra
    else:  # numbers of organs: only a row of vertebrae in order speaks for another table
        sound = [name for name in sound if sum(bone in CRANIAL_FIRST for bone in names[name]) >= LEAST_ROW]
    if len(sound) > 1:
        first = min(found)
        meanings = ", ".join(f"{name}: {first} is {NUMBERINGS[name][first]}" for name in sound)
        raise NumberingChoice(
            f"the numbers fit several tables ({meanings}); say which with --numbering {'|'.join(sound)}"
        )
    if not sound:
        return ("totalsegmentator" if "totalsegmentator" in known else (known or [""])[0]), ""
    return sound[0], "" if sound[0] == "totalsegmentator" else "the only table in which the vertebrae stand in order"


def disorder(found: Mapping[str, Extent]) -> str | None:
    """What speaks against these names: a vertebra above one that should be higher, or one as large as a sacrum."""
    chain = [name for name in CRANIAL_FIRST if name in found]
    for upper, lower in pairwise(chain):
        if found[upper].z_mm <= found[lower].z_mm:
            return f"{upper} lies below {lower}"
    for name in chain:
        if name.startswith("vertebrae") and found[name].ml > LARGEST_VERTEBRA_ML:
            return f"{name} has {found[name].ml:.0f} ml, a vertebra has less than {LARGEST_VERTEBRA_ML:.0f} ml"
    return None


_LEVEL = re.compile(r"(?:vertebrae?|vert|vb)?_?([ctls])_?0?(\d{1,2})(?:_vertebrae?)?")
_OLD_NAMES = {
    "os_sacrum": "sacrum", "os_coxae": "hip", "hip_bone": "hip", "pelvis": "hip", "innominate": "hip",
    "clavicle": "clavicula", "os_coccygis": "coccyx", "cranium": "skull",
}  # fmt: skip


def bone_named(text: str) -> str | None:
    """The bone that a free text names (`L3`, `L3 vertebra`, `Left hip`, `rib right 12`), in our words; else None."""
    words = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    as_is = re.sub(r"_(c|t|l|s)(\d+)$", lambda m: f"_{m[1].upper()}{m[2]}", words)
    if is_bone(as_is):
        return as_is
    if level := _LEVEL.fullmatch(words):
        name = f"vertebrae_{level[1].upper()}{int(level[2])}"
        return name if name in NUMBERS else None
    side = next((s for s in SIDES if s in words.split("_")), None)
    rest = "_".join(w for w in words.split("_") if w not in (*SIDES, "bone"))
    rest = _OLD_NAMES.get(rest, rest)
    if rib := re.fullmatch(r"rib_?0?(\d{1,2})", rest):
        name = f"rib_{side}_{int(rib[1])}"
    else:
        name = rest if side is None else f"{rest}_{side}"
    return name if is_bone(name) else None


def safe_name(text: str) -> str:
    """A free text as the name of a structure: letters, digits and underscores, never empty."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text.strip()).strip("_").lower()[:60] or "unnamed"
