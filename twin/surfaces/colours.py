"""Colours of bones and structures for other programs: neighbours apart from one another, sides alike."""

from __future__ import annotations

import re
from collections.abc import Mapping

Rgba = tuple[float, float, float, float]

_CYCLE: tuple[tuple[float, float, float], ...] = (
    (0.89, 0.78, 0.60),
    (0.66, 0.79, 0.86),
    (0.80, 0.86, 0.66),
    (0.87, 0.71, 0.76),
    (0.77, 0.74, 0.88),
    (0.90, 0.85, 0.64),
)
_ROLES: Mapping[str, Rgba] = {
    "critical": (0.93, 0.72, 0.20, 0.6),
    "target": (0.80, 0.36, 0.62, 0.6),
    "context": (0.55, 0.68, 0.72, 0.4),
}
_FIRST = {"C": 0, "T": 7, "L": 19}


def bone_rgba(name: str) -> Rgba:
    """A bone's colour: by its place in the spine, by its number for ribs, by its name without its side for others."""
    level = re.fullmatch(r"vertebrae_([CTL])(\d+)", name)
    rib = re.fullmatch(r"rib_(?:left|right)_(\d+)", name)
    if level:
        number = _FIRST[level[1]] + int(level[2])
    elif rib:
        number = int(rib[1])
    else:
        number = sum(map(ord, re.sub(r"_(left|right)", "", name)))
    return (*_CYCLE[number % len(_CYCLE)], 1.0)


def role_rgba(role: str) -> Rgba:
    """A structure's colour, to be seen through."""
    return _ROLES[role]
