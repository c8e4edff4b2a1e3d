"""A bone of the twin and the landmarks that were measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points

Side = Literal["left", "right"]


class BadBone(Fault):
    """A bone or a landmark that can't be: an unknown side, a negative spread, a surface that is not closed."""


@dataclass(frozen=True, eq=False)
class Landmark:
    """A named place on a bone: `position` (3,) Patient; `direction` (3,) unit where it has one.

    `pedicle_left|right`: isthmus centre and axis, pointing anteriorly into the body. `endplate_superior|inferior`:
    centre and normal, both normals cranial. `sd_mm` is the one-sigma spread a coordinate, `sd_deg` that of the
    direction (the angle's root mean square); None when it is not known, and then `note` says why. A `note` beside a
    spread says what to mind about this landmark.
    """

    name: str
    bone: str
    side: Side | None
    position: Points[Patient]
    direction: Directions[Patient] | None
    sd_mm: float | None
    sd_deg: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Check side, shapes and spread."""
        if self.side not in (None, "left", "right"):
            raise BadBone(f"side {self.side!r} of {self.name}; left, right or none")
        if self.position.mm.shape != (3,) or (self.direction is not None and self.direction.unit.shape != (3,)):
            raise BadBone(f"landmark {self.name} of {self.bone} must be one point and one direction")
        if self.sd_mm is not None and not self.sd_mm >= 0:
            raise BadBone(f"spread {self.sd_mm} mm of {self.name}; it can't be negative")
        if self.sd_deg is not None and not (self.sd_deg >= 0 and self.direction is not None):
            raise BadBone(f"spread {self.sd_deg} deg of {self.name}; only a direction has one, and none is negative")

    def to_json(self) -> dict[str, Any]:
        """As `twin inspect --json` and landmarks.json print it."""
        value: dict[str, Any] = {
            "name": self.name,
            "bone": self.bone,
            "position_mm": self.position.mm.tolist(),
        }
        if self.side is not None:
            value["side"] = self.side
        if self.direction is not None:
            value["direction"] = self.direction.unit.tolist()
        value["sd_mm"] = self.sd_mm
        if self.direction is not None:
            value["sd_deg"] = self.sd_deg
        if self.note:
            value["note"] = self.note
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Landmark:
        """Inverse of `to_json`; raises BadBone naming what is missing."""
        try:
            direction = value.get("direction")
            return cls(
                name=value["name"],
                bone=value["bone"],
                side=value.get("side"),
                position=Points[Patient](value["position_mm"]),
                direction=None if direction is None else Directions[Patient](direction),
                sd_mm=value.get("sd_mm"),
                sd_deg=value.get("sd_deg"),
                note=value.get("note", ""),
            )
        except (KeyError, TypeError) as error:
            raise BadBone(f"a landmark lacks {error}") from None


@dataclass(frozen=True, eq=False)
class Bone:
    """A closed surface with its name (TotalSegmentator's) and coarser copies of it, finest first."""

    name: str
    surface: TriangleMesh[Patient]
    levels_of_detail: tuple[TriangleMesh[Patient], ...] = ()

    @property
    def volume_ml(self) -> float:
        """Enclosed volume of the finest surface."""
        return self.surface.volume_ml

    @property
    def is_closed(self) -> bool:
        """Whether the finest surface is closed, manifold and oriented."""
        return self.surface.is_closed

    def for_drawing(self, max_triangles: int) -> TriangleMesh[Patient]:
        """The finest copy with at most `max_triangles`; the coarsest when none is small enough."""
        copies = (self.surface, *self.levels_of_detail)
        return next((m for m in copies if len(m.triangles) <= max_triangles), copies[-1])
