"""The patient twin: labelled closed bones, landmarks, levels with who confirmed them, density, and how it all came
about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from spatial.faults import Fault, Misuse
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.anatomy.bone import Bone, Landmark, Side
from twin.anatomy.structure import Structure
from twin.scan.fitness import Fitness


class NoBone(Misuse):
    """A bone that this twin does not have."""


class NoLandmark(Fault):
    """A landmark that could not be measured on this twin."""


@dataclass(frozen=True)
class Levels:
    """How sure the absolute level names are (0 to 1), and who confirmed them; None: nobody yet.

    `evidence`: a line each for what the names rest on (the sacrum, the last ribs, the count). `transitional` names a
    vertebra beyond the usual count (`vertebrae_L6`, `vertebrae_T13`) when the anatomy seems to have one.
    """

    confidence: float
    confirmed_by: str | None = None
    evidence: tuple[str, ...] = ()
    transitional: str | None = None


@dataclass(frozen=True)
class SideEvidence:
    """One of the three checks of left and right: `laterality` (the scan's own words), `chirality` (a bone's shape),
    `order` (which side each named bone lies on).

    `agrees` is None when the check had nothing to go by.
    """

    check: Literal["laterality", "chirality", "order"]
    agrees: bool | None
    words: str


@dataclass(frozen=True, eq=False)
class Twin:
    """Bones by name in Patient coordinates, with what was measured on them and where each came from.

    `density` and `fitness` are None for a twin that was made from meshes alone. `provenance` is a list of steps, each
    with its settings, versions and the sha256 of its inputs. `structures` are what the bones lie next to: the canal,
    and what label maps added. `surface_sd_mm`: one sigma of the surfaces along their normal, from the scan's resolution
    (None: not known).
    """

    twin_id: str
    bones: Mapping[str, Bone]
    landmarks: tuple[Landmark, ...]
    levels: Levels
    density: Mapping[str, Any] | None = None
    provenance: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = field(default=())
    structures: Mapping[str, Structure] = field(default_factory=dict)
    fitness: Fitness | None = None
    sides: tuple[SideEvidence, ...] = ()
    surface_sd_mm: float | None = None

    def __post_init__(self) -> None:
        """Freeze the mappings; keys must be the bones' and structures' names."""
        if any(name != bone.name for name, bone in self.bones.items()):
            raise NoBone("a bone is filed under another name than its own")
        if any(name != structure.name for name, structure in self.structures.items()):
            raise NoBone("a structure is filed under another name than its own")
        object.__setattr__(self, "bones", MappingProxyType(dict(self.bones)))
        object.__setattr__(self, "structures", MappingProxyType(dict(self.structures)))

    def bone(self, name: str) -> Bone:
        """The bone called `name`; raises NoBone that lists the names that would have been valid."""
        try:
            return self.bones[name]
        except KeyError:
            raise NoBone(f"no bone {name!r} in this twin; it has {', '.join(sorted(self.bones))}") from None

    def landmark(self, name: str, bone: str, side: Side | None = None) -> Landmark:
        """The landmark; raises NoLandmark when it was not measured on this bone."""
        for landmark in self.landmarks:
            if landmark.name == name and landmark.bone == bone and (side is None or landmark.side == side):
                return landmark
        self.bone(bone)
        raise NoLandmark(f"{name} of {bone} could not be measured; is the bone cut by the edge of the scan?")

    def surfaces(self) -> Mapping[str, TriangleMesh[Patient]]:
        """The finest surface a bone, by name."""
        return {name: bone.surface for name, bone in self.bones.items()}
