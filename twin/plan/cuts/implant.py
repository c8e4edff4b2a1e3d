"""A plate or a nail that holds an osteotomy: which one of its family, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spatial.faults import Fault, Misuse
from spatial.frames import Instrument, Patient
from spatial.rigid import Rigid

KINDS = ("plate", "nail")


class BadImplant(Misuse):
    """A plate or a nail that can't be: no name, an unknown kind, a size that is not above zero."""


@dataclass(frozen=True, eq=False)
class Implant:
    """`family` names it in the library. A plate lies with its underside on z = 0 (z away from the bone), its length
    along y; a nail has its entry at the origin and runs along y. `width_mm` is a nail's diameter.
    """

    id: str
    kind: str
    family: str
    bone: str
    length_mm: float
    width_mm: float
    patient_from_implant: Rigid[Patient, Instrument]

    def __post_init__(self) -> None:
        """Validate; raises BadImplant."""
        if not self.id or self.kind not in KINDS:
            raise BadImplant(f"implant {self.id!r} of kind {self.kind!r}; it needs a name, and {' or '.join(KINDS)}")
        if not (self.length_mm > 0 and self.width_mm > 0):
            raise BadImplant(f"{self.kind} of {self.length_mm:g} x {self.width_mm:g} mm; both must be above zero")

    def renamed(self, renamed: Mapping[str, str], own: str | None = None) -> Implant:
        """The same implant on the same bone under its new name."""
        return replace(self, id=own or self.id, bone=renamed.get(self.bone, self.bone))

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line and of the plan's document."""
        return {
            "id": self.id,
            "kind": self.kind,
            "family": self.family,
            "bone": self.bone,
            "length_mm": self.length_mm,
            "width_mm": self.width_mm,
            "patient_from_implant": self.patient_from_implant.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Implant:
        """Inverse of `to_json`; other keys are ignored. Raises BadImplant."""
        try:
            return cls(
                id=str(value["id"]),
                kind=str(value["kind"]),
                family=str(value["family"]),
                bone=str(value["bone"]),
                length_mm=float(value["length_mm"]),
                width_mm=float(value["width_mm"]),
                patient_from_implant=Rigid[Patient, Instrument].from_json(value["patient_from_implant"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, Fault) as error:
            raise BadImplant(f"an implant lacks or spoils {error}") from None
