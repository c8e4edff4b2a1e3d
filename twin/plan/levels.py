"""The order of the spine: which level is cranial of which, and which bones ride on a level."""

from __future__ import annotations

import re

from spatial.faults import Misuse

SPINE = (
    *(f"C{n}" for n in range(1, 8)),
    *(f"T{n}" for n in range(1, 14)),
    *(f"L{n}" for n in range(1, 7)),
    "S1",
)
RARE = ("T13", "L6")  # few people have them: a range passes over them where the twin has none
HEAD_AND_ARMS = ("skull", "scapula", "clavicula", "humerus", "sternum", "costal", "brain")


class UnknownLevel(Misuse):
    """A level or a range of levels that is not written as L3 or L1-S1."""


def bone_of(level: str) -> str:
    """The bone that carries a level's screws: `vertebrae_L3`; S1 belongs to the `sacrum`. Raises UnknownLevel."""
    name = level.strip().upper()
    if name not in SPINE:
        raise UnknownLevel(f"level {level!r} is not known; levels are C1-C7, T1-T13, L1-L6, S1")
    return "sacrum" if name == "S1" else f"vertebrae_{name}"


def level_of(bone: str) -> str | None:
    """The level of a spinal bone; None for any other bone."""
    if bone == "sacrum":
        return "S1"
    level = bone.removeprefix("vertebrae_")
    return level if level in SPINE and level != bone else None


def levels_between(text: str) -> tuple[str, ...]:
    """`L1-S1`, `L4,L5,S1`, or one level: the levels asked for, cranial first. Raises UnknownLevel."""
    found: list[str] = []
    for part in text.split(","):
        ends = [p.strip().upper() for p in part.split("-")]
        for end in ends:
            bone_of(end)
        if len(ends) > 2:
            raise UnknownLevel(f"levels {text!r}; write L1-S1 or L4,L5,S1")
        first, last = sorted((SPINE.index(ends[0]), SPINE.index(ends[-1])))
        found += [level for level in SPINE[first : last + 1] if level not in found]
    return tuple(sorted(found, key=SPINE.index))


def rank(bone: str) -> int | None:
    """Place of a bone from the head (0) downward: ribs count with their vertebra, the pelvis and legs after S1."""
    level = level_of(bone)
    if level is not None:
        return SPINE.index(level)
    rib = re.fullmatch(r"rib_(?:left|right)_(\d+)", bone)
    if rib:
        return SPINE.index(f"T{min(max(int(rib[1]), 1), 13)}")
    if bone.startswith(HEAD_AND_ARMS):
        return 0
    if bone.startswith(("hip", "femur", "patella", "tibia", "fibula", "tarsal", "metatarsal")):
        return len(SPINE)
    return None
