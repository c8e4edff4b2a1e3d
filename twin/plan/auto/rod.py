"""A rod: its centre line through the heads of the screws it joins, as it is to be bent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Array, NotFinite, Points
from twin.anatomy.bone import Side

DIAMETER_MM = (3.0, 8.0)
LEAST_STEP_MM = 0.01


class BadRod(Misuse):
    """A rod that can't be: fewer than two screws, no centre line, a size outside what is made."""


@dataclass(frozen=True, eq=False)
class Rod:
    """`screws`: ids of the screws it joins, cranial first; `centreline`: (N, 3), cranial end first, to be joined by
    straight pieces (they are a millimetre or two long, so the bend is in the points).
    """

    id: str
    side: Side
    screws: tuple[str, ...]
    diameter_mm: float
    material: str
    centreline: Points[Patient]

    def __post_init__(self) -> None:
        """Validate; raises BadRod."""
        if not self.id or self.side not in ("left", "right"):
            raise BadRod(f"rod {self.id!r} on side {self.side!r}; a rod needs a name, and left or right")
        object.__setattr__(self, "screws", tuple(self.screws))
        if len(self.screws) < 2 or len(set(self.screws)) < len(self.screws):
            raise BadRod(f"a rod joins two or more different screws, not {', '.join(self.screws) or 'none'}")
        if not DIAMETER_MM[0] <= self.diameter_mm <= DIAMETER_MM[1]:
            raise BadRod(f"rod diameter {self.diameter_mm:g} mm; rods have {DIAMETER_MM[0]:g} to {DIAMETER_MM[1]:g} mm")
        if not self.material.strip():
            raise BadRod("a rod needs a material, as the implant library names it")
        line = self.centreline.mm
        if line.ndim != 2 or len(line) < 2 or not np.isfinite(line).all():
            raise BadRod("a rod's centre line needs two or more points (N, 3)")
        if float(self._steps_mm.min()) < LEAST_STEP_MM:
            raise BadRod("two neighbouring points of the rod's centre line are the same")

    @property
    def _steps_mm(self) -> Array:
        return np.asarray(np.linalg.norm(np.diff(self.centreline.mm, axis=0), axis=1))

    @property
    def length_mm(self) -> float:
        """Along the centre line."""
        return float(self._steps_mm.sum())

    @property
    def radius_mm(self) -> float:
        """The tightest bend: the smallest circle through three neighbouring points; inf when it is straight."""
        return bend_radius_mm(self.centreline.mm)

    def renamed(self, ids: Mapping[str, str], own: str | None = None) -> Rod:
        """The same rod on the same screws under their new ids."""
        return replace(self, id=own or self.id, screws=tuple(ids.get(one, one) for one in self.screws))

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line and of the plan's document."""
        return {
            "id": self.id,
            "side": self.side,
            "screws": list(self.screws),
            "diameter_mm": self.diameter_mm,
            "material": self.material,
            "centreline_mm": self.centreline.mm.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rod:
        """Inverse of `to_json`; other keys are ignored. Raises BadRod."""
        try:
            return cls(
                id=str(value["id"]),
                side=value["side"],
                screws=tuple(str(one) for one in value["screws"]),
                diameter_mm=float(value["diameter_mm"]),
                material=str(value["material"]),
                centreline=Points[Patient](value["centreline_mm"]),
            )
        except (KeyError, TypeError, ValueError, NotFinite) as error:
            raise BadRod(f"a rod lacks or spoils {error}") from None


def bend_radius_mm(line: Array) -> float:
    """The smallest circle (mm) through three neighbouring points of (N, 3); inf where all lie on a line."""
    a, b = np.diff(line, axis=0)[:-1], np.diff(line, axis=0)[1:]
    area = np.linalg.norm(np.cross(a, b), axis=1)  # twice the triangle's
    sides = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) * np.linalg.norm(a + b, axis=1)
    bent = area > 1e-9 * sides
    return float((sides[bent] / (2.0 * area[bent])).min()) if bent.any() else float("inf")
