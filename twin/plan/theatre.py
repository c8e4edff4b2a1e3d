"""What an operating theatre brings to a plan: instruments, camera places, steps with their minutes. A TOML file.

The built-in file is `assets/theatre.toml`; a hospital edits a copy. None of its numbers was measured here, and what is
computed from them says so.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from spatial.faults import Fault, Misuse
from spatial.rigid import Array

BUILT_IN = Path(__file__).parents[2] / "assets" / "theatre.toml"
Per = Literal["case", "level", "screw", "rod", "osteotomy", "implant"]
MOST_MM, MOST_MINUTES, MOST_SPARES = 3000.0, 1000.0, 20


class BadTheatre(Fault):
    """A theatre file with a key that nobody knows or a value that can't be."""


@dataclass(frozen=True)
class Instrument:
    """What stands on a screw's axis while it is driven; lengths from the bone's surface outward."""

    name: str
    sleeve_mm: float
    reach_mm: float
    marker_mm: float


@dataclass(frozen=True)
class Step:
    """A step of the operation: once a `per`, [shortest, usual, longest] minutes, and what it needs."""

    name: str
    per: Per
    minutes: tuple[float, float, float]
    instruments: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Theatre:
    """`instruments` by kind of screw, `cameras_mm` (x left, y posterior, z cranial of the field's middle) by name."""

    source: str
    instruments: Mapping[str, Instrument]
    cameras_mm: Mapping[str, Array]
    most_incidence_deg: float
    steps: tuple[Step, ...]
    spares: int
    sha256: str

    def instrument(self, kind: str) -> Instrument:
        """What drives a screw of this kind. Raises BadTheatre when the file has none."""
        found = self.instruments.get(kind)
        if found is None:
            raise BadTheatre(f"no instrument for {kind!r} screws; the file has {', '.join(sorted(self.instruments))}")
        return found

    def minutes(self, counts: Mapping[str, int]) -> tuple[float, float, float]:
        """Sums over all steps for so many screws, levels, …: if all goes fast, as usual, slowly."""
        sums = np.zeros(3)
        for step in self.steps:
            sums += np.array(step.minutes) * counts.get(step.per, 0)
        return float(sums[0]), float(sums[1]), float(sums[2])

    def needed(self, counts: Mapping[str, int]) -> tuple[str, ...]:
        """Instruments of the steps that occur, each once, in the order of the steps."""
        return tuple(dict.fromkeys(tool for s in self.steps if counts.get(s.per, 0) for tool in s.instruments))


def load_theatre(path: Path | None = None) -> Theatre:
    """The built-in file, or a hospital's own. Raises Misuse (no such file), BadTheatre (unknown keys, bad values)."""
    path = BUILT_IN if path is None else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Misuse(f"the theatre file can't be read: {error.strerror}", path=path) from None
    try:
        return _theatre(tomllib.loads(data.decode("utf-8")), hashlib.sha256(data).hexdigest())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadTheatre(f"no TOML: {error}", path=path) from None
    except BadTheatre as fault:
        raise BadTheatre(fault.message, path=path) from None


def _theatre(found: Mapping[str, Any], sha256: str) -> Theatre:
    _known("the file", found, ("source", "spares", "instruments", "camera", "steps"))
    camera = _table("camera", found["camera"])
    _known("[camera]", camera, ("most_incidence_deg", "positions"))
    spares = found["spares"]
    if isinstance(spares, bool) or not isinstance(spares, int) or not 0 <= spares <= MOST_SPARES:
        raise BadTheatre(f"spares {spares!r}; a whole number from 0 to {MOST_SPARES}")
    return Theatre(
        source=_text("source", found["source"]),
        instruments=MappingProxyType(
            {kind: _instrument(kind, t) for kind, t in _table("instruments", found["instruments"]).items()}
        ),
        cameras_mm=MappingProxyType(
            {name: _position(name, t) for name, t in _table("camera.positions", camera["positions"]).items()}
        ),
        most_incidence_deg=_number("camera.most_incidence_deg", camera["most_incidence_deg"], 10.0, 85.0),
        steps=tuple(_step(n, s) for n, s in enumerate(_list("steps", found["steps"]), 1)),
        spares=spares,
        sha256=sha256,
    )


def _instrument(kind: str, value: Any) -> Instrument:
    where = f"instruments.{kind}"
    table = _table(where, value)
    _known(f"[{where}]", table, ("name", "sleeve_mm", "reach_mm", "marker_mm"))
    sizes = {key: _number(f"{where}.{key}", table[key], 1.0, MOST_MM) for key in ("sleeve_mm", "reach_mm", "marker_mm")}
    return Instrument(_text(f"{where}.name", table["name"]), **sizes)


def _position(name: str, value: Any) -> Array:
    where = f"camera.positions.{name}"
    table = _table(where, value)
    keys = ("left_mm", "posterior_mm", "cranial_mm")
    _known(f"[{where}]", table, keys)
    return np.array([_number(f"{where}.{key}", table[key], -MOST_MM, MOST_MM) for key in keys])


def _step(number: int, value: Any) -> Step:
    where = f"steps {number}"
    table = _table(where, value)
    _known(where, table, ("name", "per", "minutes", "instruments"))
    if table["per"] not in get_args(Per):
        raise BadTheatre(f"{where}: per {table['per']!r}; one of {', '.join(get_args(Per))}")
    minutes = [_number(f"{where}.minutes", v, 0.0, MOST_MINUTES) for v in _list(f"{where}.minutes", table["minutes"])]
    if len(minutes) != 3 or sorted(minutes) != minutes:
        raise BadTheatre(f"{where}: minutes {minutes}; three numbers that rise: shortest, usual, longest")
    tools = tuple(_text(f"{where}.instruments", tool) for tool in _list(f"{where}.instruments", table["instruments"]))
    return Step(_text(f"{where}.name", table["name"]), table["per"], (minutes[0], minutes[1], minutes[2]), tools)


def _known(where: str, found: Mapping[str, Any], keys: Sequence[str]) -> None:
    unknown, missing = sorted(found.keys() - set(keys)), [key for key in keys if key not in found]
    if unknown:
        raise BadTheatre(f"{where} has {', '.join(map(repr, unknown))}; known are {', '.join(keys)}")
    if missing:
        raise BadTheatre(f"{where} lacks {', '.join(missing)}")


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadTheatre(f"{where} is {value!r}; it must be a table")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadTheatre(f"{where} is {value!r}; it must be a list")
    return value


def _number(where: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadTheatre(f"{where} is {value!r}; it must be a number")
    if not low <= value <= high:
        raise BadTheatre(f"{where} is {value:g}; limits {low:g} to {high:g}")
    return float(value)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadTheatre(f"{where} is {value!r}; it must be a text")
    return value.strip()
