"""The patient twin: labelled closed bones, landmarks, levels with who confirmed them, density, and how it all came
about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault, Misuse
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.anatomy.bone import Bone, Landmark, Side


class NoBone(Misuse):
    """A bone that this twin does not have."""


class NoLandmark(Fault):
    """A landmark that could not be measured on this twin."""


@dataclass(frozen=True)
class Levels:
    """How sure the absolute level names are (0 to 1), and who confirmed them; None: nobody yet."""

    confidence: float
    confirmed_by: str | None = None


@dataclass(frozen=True, eq=False)
class Twin:
    """Bones by name in Patient coordinates, with what was measured on them and where each came from.

    `density` is None for a twin that was made from meshes alone. `provenance` is a list of steps, each with its
    settings, versions and the sha256 of its inputs.
    """

    twin_id: str
    bones: Mapping[str, Bone]
    landmarks: tuple[Landmark, ...]
    levels: Levels
    density: Mapping[str, Any] | None = None
    provenance: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Freeze the mapping; keys must be the bones' names."""
        if any(name != bone.name for name, bone in self.bones.items()):
            raise NoBone("a bone is filed under another name than its own")
        object.__setattr__(self, "bones", MappingProxyType(dict(self.bones)))

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
