"""A case as messages: bones as POLYDATA, the CT as IMAGE, a plan's screws as TRAJ; trajectories as candidate screws.

What comes in from another program is a candidate: it is matched to a bone and handed back, and never becomes a part of
a plan here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interop.axes import SIGNS, Axes, into, out
from interop.openigtlink.fields import shortened
from interop.openigtlink.image import Image
from interop.openigtlink.message import Message
from interop.openigtlink.shapes import PolyData, Trajectories, Trajectory
from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.rigid import Points
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.screws.screw import Screw
from twin.scan.volume import Volume

STATIONS = 40
CT = "CT"


def bones(twin: Twin, axes: Axes = "RAS", max_triangles: int | None = None) -> list[Message]:
    """A POLYDATA a bone, named as the twin names it; the finest surface, or the finest with so many triangles."""
    messages = []
    for name, bone in twin.bones.items():
        mesh = bone.surface if max_triangles is None else bone.for_drawing(max_triangles)
        surface = PolyData.of_mesh(out(mesh.vertices_mm, axes), mesh.triangles)
        messages.append(Message(shortened(name), surface))
    return messages


def ct(volume: Volume, axes: Axes = "RAS") -> Message:
    """The CT in Hounsfield units, where it lies in the patient."""
    grid = volume.grid
    steps = grid.axes * grid.spacing_mm
    turned = steps * SIGNS[:, None] if axes == "RAS" else steps
    return Message(CT, Image.placed(volume.hu, turned, out(grid.origin_mm, axes), axes))


def trajectories(plan: str, screws: Mapping[str, Screw], axes: Axes = "RAS") -> Message:
    """A TRAJ with a line a screw, from its entry to its tip, with the thread's outer diameter."""
    lines = []
    for name, screw in screws.items():
        along = screw.target.mm - screw.entry.mm
        tip = screw.entry.mm + screw.length_mm * along / np.linalg.norm(along)
        lines.append(
            Trajectory(shortened(name, 64), out(screw.entry.mm, axes), out(tip, axes), screw.diameter_mm, "Screw", CT)
        )
    return Message(shortened(f"Plan {plan}"), Trajectories(tuple(lines)))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trajectory that somebody sent, as a screw could lie: in which bone and on which side, or why in none.

    `sent_diameter_mm` is shown and not used: programs disagree on whether the number is a radius.
    """

    name: str
    entry: Points[Patient] | None
    target: Points[Patient] | None
    bone: str | None
    side: Side | None
    length_mm: float | None
    sent_diameter_mm: float
    why: str | None = None


def candidates(sent: Sequence[Trajectory], twin: Twin, axes: Axes = "RAS") -> list[Candidate]:
    """Each trajectory with the bone that holds the largest part of it."""
    found = []
    for one in sent:
        entry = None if one.entry_mm is None else into(one.entry_mm, axes)
        target = None if one.target_mm is None else into(one.target_mm, axes)
        if entry is None or target is None:
            given = "entry" if target is None else "target"
            why = f"only its {given} was sent; a screw needs both ends"
            found.append(Candidate(one.name, entry, target, None, None, None, one.diameter_mm, why))
            continue
        length_mm = float(np.linalg.norm(target.mm - entry.mm))
        bone, share = _bone_along(twin, entry, target)
        if bone is None:
            mirrored = _bone_along(twin, Points[Patient](entry.mm * SIGNS), Points[Patient](target.mm * SIGNS))[0]
            other = "LPS" if axes == "RAS" else "RAS"
            hint = f"; read as {other} it would lie in {mirrored}" if mirrored else ""
            why = f"it lies in no bone of this twin{hint}"
            found.append(Candidate(one.name, entry, target, None, None, length_mm, one.diameter_mm, why))
            continue
        doubt = None if share > 0.5 else f"only {share:.0%} of it lies in {bone}"
        side = _side(twin, bone, entry)
        found.append(Candidate(one.name, entry, target, bone, side, length_mm, one.diameter_mm, doubt))
    return found


def _bone_along(twin: Twin, entry: Points[Patient], target: Points[Patient]) -> tuple[str | None, float]:
    """The bone in which most of a line lies, and how much of it."""
    along = np.linspace(0.0, 1.0, STATIONS)[:, None]
    line = Points[Patient](entry.mm + along * (target.mm - entry.mm))
    best: tuple[str | None, float] = (None, 0.0)
    for name, bone in twin.bones.items():
        low, high = bone.surface.vertices_mm.min(axis=0), bone.surface.vertices_mm.max(axis=0)
        near = ((line.mm >= low) & (line.mm <= high)).all(axis=1)
        if not near.any():
            continue
        depth = DistanceGrid[Patient].of(bone.surface).distance_mm(Points[Patient](line.mm[near]))
        share = float((depth < 0).sum()) / STATIONS
        if share > best[1]:
            best = (name, share)
    return best


def _side(twin: Twin, bone: str, entry: Points[Patient]) -> Side:
    """By the bone's own axes where they are known (x to the right), else by the patient's."""
    try:
        right_mm = float((bone_frame(twin, bone).inverse() @ entry).mm[0])
    except NoLandmark:
        right_mm = float(twin.bone(bone).surface.centroid_mm[0] - entry.mm[0])
    return "right" if right_mm > 0 else "left"
