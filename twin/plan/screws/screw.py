"""A screw: a cylinder of the outer thread diameter from its entry on the bone toward a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Points
from spatial.shapes import Cylinder, Line
from twin.anatomy.bone import Side
from twin.plan.screws.implants import KINDS, USUAL, Kind

DIAMETER_MM = (3.0, 12.0)
LENGTH_MM = (10.0, 120.0)
LAG_DIAMETER_MM = (1.5, 16.0)
LAG_LENGTH_MM = (6.0, 200.0)


class BadScrew(Misuse):
    """A screw that can't be: no axis, a size outside what is made, an unknown side."""


@dataclass(frozen=True, eq=False)
class Screw:
    """`entry`: where the axis meets the outer bone; the tip lies `length_mm` from it toward `target`.

    `family` names the implant library's family (empty: the usual one of the kind), `thread_mm` the threaded part from
    the tip (None: all of it). In a bone of the middle `side` is the side that the screw enters on.
    """

    id: str
    bone: str
    side: Side
    entry: Points[Patient]
    target: Points[Patient]
    diameter_mm: float
    length_mm: float
    kind: Kind = "pedicle"
    family: str = ""
    thread_mm: float | None = None

    def __post_init__(self) -> None:
        """Validate; raises BadScrew."""
        if self.side not in ("left", "right"):
            raise BadScrew(f"side {self.side!r}; left or right")
        if not self.id or self.entry.mm.shape != (3,) or self.target.mm.shape != (3,):
            raise BadScrew("a screw needs a name, one entry and one target")
        if float(np.linalg.norm(self.target.mm - self.entry.mm)) < 0.1:
            raise BadScrew("entry and target are the same point, so the screw has no axis; give the target in the body")
        if self.kind not in KINDS:
            raise BadScrew(f"kind {self.kind!r}; there are {', '.join(KINDS)}")
        lag = self.kind == "lag"
        for what, value, (low, high) in (
            ("diameter", self.diameter_mm, LAG_DIAMETER_MM if lag else DIAMETER_MM),
            ("length", self.length_mm, LAG_LENGTH_MM if lag else LENGTH_MM),
        ):
            if not low <= value <= high:
                raise BadScrew(f"{what} {value:g} mm; {self.kind} screws have {low:g} to {high:g} mm")
        if self.thread_mm is not None and not 0.0 < self.thread_mm <= self.length_mm:
            raise BadScrew(f"thread of {self.thread_mm:g} mm on a screw of {self.length_mm:g} mm")

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

    @property
    def family_name(self) -> str:
        """The family that it is of, the kind's usual one where none was named."""
        return self.family or USUAL[self.kind]

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line; `kind`, `family`, `thread_mm` only where they are not a pedicle screw's usual
        ones, so that a plan written before there were others keeps its bytes.
        """
        value: dict[str, Any] = {
            "id": self.id,
            "bone": self.bone,
            "side": self.side,
            "entry_mm": self.entry.mm.tolist(),
            "target_mm": self.target.mm.tolist(),
            "diameter_mm": self.diameter_mm,
            "length_mm": self.length_mm,
        }
        if self.kind != "pedicle":
            value["kind"] = self.kind
        if self.family:
            value["family"] = self.family
        if self.thread_mm is not None:
            value["thread_mm"] = self.thread_mm
        return value

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
                kind=value.get("kind", "pedicle"),
                family=str(value.get("family", "")),
                thread_mm=None if value.get("thread_mm") is None else float(value["thread_mm"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadScrew(f"a screw lacks or spoils {error}") from None
