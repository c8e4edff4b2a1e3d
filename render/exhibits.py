"""What the pictures of a case show: bones and structures by name, in groups, and what is said of their levels.

Values only: nothing of this module knows a twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from render.scene import Rgb
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("skull", ("skull", "mandible")),
    ("spine", ("vertebrae_", "sacrum")),
    ("ribs", ("rib_", "sternum", "costal")),
    ("shoulders", ("scapula", "clavicula", "humerus")),
    ("pelvis", ("sacrum", "hip_")),
    ("legs", ("femur", "patella", "tibia", "fibula", "talus", "calcaneus", "tarsal", "metatarsal", "phalanges")),
)
OTHER = "other"


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A bone or a structure: `mesh` for slices, `coarse` for views, what it is called, where its middle is."""

    name: str
    label: str
    mesh: TriangleMesh[Patient]
    coarse: TriangleMesh[Patient]
    rgb: Rgb
    outline_rgb: Rgb
    middle_mm: Array
    role: Literal["bone", "critical", "target", "context"] = "bone"


@dataclass(frozen=True, slots=True)
class Standing:
    """What each picture says of the level names, and whether that is a warning."""

    words: str
    is_warning: bool


def bones_of(exhibits: Sequence[Exhibit]) -> list[Exhibit]:
    """The bones alone."""
    return [one for one in exhibits if one.role == "bone"]


def groups_of(exhibits: Sequence[Exhibit]) -> dict[str, list[Exhibit]]:
    """The bones by group, those that have any; a bone may stand in two (the sacrum), unknown names in `other`."""
    bones = bones_of(exhibits)
    found = {group: [one for one in bones if one.name.startswith(starts)] for group, starts in GROUPS}
    known = {one.name for own in found.values() for one in own}
    found[OTHER] = [one for one in bones if one.name not in known]
    if len(found["pelvis"]) == 1 and found["spine"]:
        found["pelvis"] = []  # the sacrum alone is shown with the spine
    if [one.name for one in found["spine"]] == ["sacrum"] and found["pelvis"]:
        found["spine"] = []
    return {group: own for group, own in found.items() if own}
