"""What lies beside the bones: canal, cord, roots, vessels, discs, tumours, each with the part it plays in a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh

Role = Literal["critical", "target", "context"]
ROLES: tuple[Role, ...] = get_args(Role)
MEASURED = "bones"  # the source of a structure that the bones' surfaces bound


class BadStructure(Fault):
    """A structure that can't be: an unknown role, an open surface."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A closed surface in Patient coordinates with its role.

    `critical`: no instrument may enter it, and its distance to each one is told. `target`: what the operation is
    for, distances are told. `context`: shown only. `source` says where it came from (`bones`, the labels' hash).
    """

    name: str
    role: Role
    surface: TriangleMesh[Patient]
    source: str

    @property
    def is_measured(self) -> bool:
        """Whether it was measured on the bones' own surfaces, so that it is as sure as they are."""
        return self.source == MEASURED

    def __post_init__(self) -> None:
        """Check the role and that inside and outside are defined."""
        if self.role not in ROLES:
            raise BadStructure(f"role {self.role!r} of {self.name}; there are {', '.join(ROLES)}")
        if not self.surface.is_closed:
            raise BadStructure(f"{self.name}: the surface is not closed, so nothing can be said to be inside it")
