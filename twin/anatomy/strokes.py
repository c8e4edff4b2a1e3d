"""What a person draws to correct bones: strokes in Patient mm, each saying whose the bone under it is.

The file is JSON (docs/strokes.schema.json): unknown fields are refused, so that a misspelt one is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.scan.names import is_safe
from twin.scan.numbering import bone_named
from twin.scan.volume import Grid

NOTHING = "none"
RADII_MM = (0.2, 50.0)
MOST_POINTS = 20_000


class BadStrokes(Misuse):
    """A file of strokes that says something else than it may, or strokes that can't be meant for this twin."""


@dataclass(frozen=True, eq=False)
class Stroke:
    """A path (n, 3) with a round brush; what it covers belongs to `bone` (None: to no bone).

    `only_bright`: where nothing is labelled yet, only what is as bright as bone is taken.
    """

    bone: str | None
    points: Points[Patient]
    radius_mm: float
    only_bright: bool = True

    def covers(self, grid: Grid) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]] | None:
        """The voxels whose centre lies within the brush: a block (k, j, i) of the grid and a mask; None outside it."""
        at = grid.index_from_patient(self.points)
        reach = self.radius_mm / grid.spacing_mm
        limit = np.array(grid.size)
        low = np.maximum(np.ceil(at.min(axis=0) - reach).astype(int), 0)
        high = np.minimum(np.floor(at.max(axis=0) + reach).astype(int) + 1, limit)
        if (low >= high).any():
            return None
        mask = np.zeros(tuple((high - low)[::-1]), np.bool_)
        for start, end in zip(at, at[1:] if len(at) > 1 else at, strict=False):
            first = np.maximum(np.ceil(np.minimum(start, end) - reach).astype(int), low)
            last = np.minimum(np.floor(np.maximum(start, end) + reach).astype(int) + 1, high)
            if (first >= last).any():
                continue
            axes = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
            i, j, k = np.meshgrid(*axes, indexing="ij")
            apart = (np.stack([i, j, k], axis=-1) - start) * grid.spacing_mm
            along = (end - start) * grid.spacing_mm
            length2 = float(along @ along)
            share = np.clip(apart @ along / length2, 0.0, 1.0) if length2 > 0 else np.zeros(i.shape)
            near = np.linalg.norm(apart - share[..., None] * along, axis=-1) <= self.radius_mm
            box = tuple(slice(a - o, b - o) for a, b, o in zip(first, last, low, strict=True))
            mask[box[::-1]] |= near.transpose(2, 1, 0)
        if not mask.any():
            return None
        return (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0])), mask

    def distance_mm(self, points_mm: Array) -> Array:
        """Distance (n,) of points (n, 3) from the path."""
        path = self.points.mm
        found = np.full(len(points_mm), np.inf)
        for start, end in zip(path, path[1:] if len(path) > 1 else path, strict=False):
            along = end - start
            length2 = float(along @ along)
            share = np.clip((points_mm - start) @ along / length2, 0.0, 1.0) if length2 > 0 else np.zeros(len(found))
            found = np.minimum(found, np.linalg.norm(points_mm - start - share[:, None] * along, axis=1))
        return found

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        value = {
            "bone": self.bone or NOTHING,
            "points_mm": self.points.mm.tolist(),
            "radius_mm": self.radius_mm,
        }
        return value if self.only_bright else {**value, "only_bright": False}


@dataclass(frozen=True, eq=False)
class Strokes:
    """A correction as a person drew it; `joins` are pairs (bone, into): the one becomes part of the other."""

    strokes: tuple[Stroke, ...]
    joins: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the file has it, and the journal."""
        joins = [{"bone": bone, "into": into} for bone, into in self.joins]
        return {"strokes": [stroke.to_json() for stroke in self.strokes], **({"joins": joins} if joins else {})}

    @classmethod
    def from_json(cls, value: Any) -> Strokes:
        """Inverse of `to_json`; a bare list is a list of strokes. Raises BadStrokes that names the place."""
        document = {"strokes": value} if isinstance(value, list) else value
        _fields(document, "the file", {"strokes"}, {"joins"})
        if not isinstance(document["strokes"], list) or not isinstance(document.get("joins", []), list):
            raise BadStrokes("`strokes` and `joins` are lists")
        strokes = tuple(_stroke(one, f"stroke {n}") for n, one in enumerate(document["strokes"], 1))
        joins = tuple(_join(one, f"join {n}") for n, one in enumerate(document.get("joins", []), 1))
        if not strokes and not joins:
            raise BadStrokes("there is no stroke and no join, so nothing to correct")
        return cls(strokes, joins)

    @classmethod
    def load(cls, path: Path) -> Strokes:
        """Read a file. Raises BadStrokes."""
        try:
            value = json.loads(path.read_bytes())
        except OSError as error:
            raise BadStrokes(f"the strokes cannot be read ({error.strerror})", path=path) from None
        except (ValueError, RecursionError) as error:
            raise BadStrokes(f"the strokes are no JSON ({error})", path=path) from None
        try:
            return cls.from_json(value)
        except BadStrokes as fault:
            raise BadStrokes(fault.message, path=path) from None


def _stroke(value: Any, where: str) -> Stroke:
    _fields(value, where, {"bone", "points_mm", "radius_mm"}, {"only_bright"})
    radius = value["radius_mm"]
    if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not RADII_MM[0] <= radius <= RADII_MM[1]:
        raise BadStrokes(f"{where}: radius_mm is {radius!r}; {RADII_MM[0]} to {RADII_MM[1]} mm can be")
    try:
        points = np.array(value["points_mm"], float)
    except (ValueError, TypeError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1:] != (3,) or not 1 <= len(points) <= MOST_POINTS:
        raise BadStrokes(f"{where}: points_mm is a list of 1 to {MOST_POINTS} places [x, y, z]")
    if not np.isfinite(points).all():
        raise BadStrokes(f"{where}: a place is not finite")
    bright = value.get("only_bright", True)
    if not isinstance(bright, bool):
        raise BadStrokes(f"{where}: only_bright is true or false")
    name = None if value["bone"] == NOTHING else _name(value["bone"], where)
    return Stroke(name, Points[Patient](points), float(radius), bright)


def _join(value: Any, where: str) -> tuple[str, str]:
    _fields(value, where, {"bone", "into"}, set())
    bone, into = _name(value["bone"], where), _name(value["into"], where)
    if bone == into:
        raise BadStrokes(f"{where}: {bone} can't be joined to itself")
    return bone, into


def _name(text: Any, where: str) -> str:
    """A bone's name, in our words where it is one that we know."""
    name = bone_named(text) or text if isinstance(text, str) else text
    if name == "vertebrae_S1":
        name = "sacrum"
    if not isinstance(name, str) or not is_safe(name):
        raise BadStrokes(f"{where}: {text!r} can't be a bone's name; letters, digits, _ - . are allowed")
    return name


def _fields(value: Any, where: str, needed: set[str], possible: set[str]) -> None:
    if not isinstance(value, Mapping):
        raise BadStrokes(f"{where} is no JSON object")
    missing, strange = sorted(needed - set(value)), sorted(set(map(str, value)) - needed - possible)
    if missing:
        raise BadStrokes(f"{where} lacks {', '.join(missing)}")
    if strange:
        allowed = ", ".join(sorted(needed | possible))
        raise BadStrokes(f"{where} has {', '.join(strange)}, which nobody knows; {allowed} can be")
