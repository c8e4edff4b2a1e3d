"""A pedicle screw: a cylinder of the outer thread diameter from its entry on the bone toward a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Points
from spatial.shapes import Cylinder, Line
from twin.anatomy.bone import Side

DIAMETER_MM = (3.0, 12.0)
LENGTH_MM = (10.0, 120.0)


class BadScrew(Misuse):
    """A screw that can't be: no axis, a size outside what is made, an unknown side."""


@dataclass(frozen=True, eq=False)
class Screw:
    """`entry`: where the axis meets the outer bone; the tip lies `length_mm` from it toward `target`."""

    id: str
    bone: str
    side: Side
    entry: Points[Patient]
    target: Points[Patient]
    diameter_mm: float
    length_mm: float

    def __post_init__(self) -> None:
        """Validate; raises BadScrew."""
        if self.side not in ("left", "right"):
            raise BadScrew(f"side {self.side!r}; left or right")
        if not self.id or self.entry.mm.shape != (3,) or self.target.mm.shape != (3,):
            raise BadScrew("a screw needs a name, one entry and one target")
        if float(np.linalg.norm(self.target.mm - self.entry.mm)) < 0.1:
            raise BadScrew("entry and target are the same point, so the screw has no axis; give the target in the body")
        for what, value, (low, high) in (
            ("diameter", self.diameter_mm, DIAMETER_MM),
            ("length", self.length_mm, LENGTH_MM),
        ):
            if not low <= value <= high:
                raise BadScrew(f"{what} {value:g} mm; pedicle screws have {low:g} to {high:g} mm")

    @property
    def axis(self) -> Line[Patient]:
        """From the entry toward the target."""
        return Line[Patient](self.entry.mm, self.target.mm - self.entry.mm)

    @property
    def tip(self) -> Points[Patient]:
        """The end of the screw."""
        return self.axis.at(self.length_mm)

    @property
    def cylinder(self) -> Cylinder[Patient]:
        """The solid of the outer thread."""
        return Cylinder[Patient](self.entry.mm, self.axis.direction, self.length_mm, self.diameter_mm / 2)

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "id": self.id,
            "bone": self.bone,
            "side": self.side,
            "entry_mm": self.entry.mm.tolist(),
            "target_mm": self.target.mm.tolist(),
            "diameter_mm": self.diameter_mm,
            "length_mm": self.length_mm,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Screw:
        """Inverse of `to_json`; other keys are ignored. Raises BadScrew."""
        try:
            return cls(
                id=str(value["id"]),
                bone=str(value["bone"]),
                side=value["side"],
                entry=Points[Patient](value["entry_mm"]),
                target=Points[Patient](value["target_mm"]),
                diameter_mm=float(value["diameter_mm"]),
                length_mm=float(value["length_mm"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadScrew(f"a screw lacks or spoils {error}") from None
