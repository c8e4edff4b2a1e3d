"""Another scan of the same patient beside the twin: where it lies, as a whole and for each bone by itself.

A spine is no rigid body: between two scans each vertebra has moved a little of its own. So the whole scan is placed
first, and each bone is then followed from there, as far as the other scan shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from spatial.faults import Fault
from spatial.frames import Patient, Series
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, part, silent
from spatial.rigid import Array, Points, Rigid
from twin.anatomy.surface import bounding_boxes
from twin.anatomy.twin import Twin
from twin.scan.matching import FINE_MM, Matched, NotMatched, Pair, at_step, match, refined
from twin.scan.volume import LabelMap, Volume

AROUND_MM = 7.0  # of a bone: its edge, and the muscle, disc or fat that it stands out from
RIGID = ("vertebrae", "sacrum", "hip", "femur", "tibia", "fibula", "skull")  # ribs move with each breath
POINTS = 6000
MOST_OWN_MM = 15.0  # more than that a bone has not moved against its neighbours


class NothingToRegister(Fault):
    """A twin without a CT, or without a bone that could lead."""


@dataclass(frozen=True, eq=False)
class Companion:
    """Another scan and how it lies: all of it, each bone by name, and why a bone was left with the whole."""

    name: str
    modality: str
    whole: Matched
    bones: Mapping[str, Matched]
    left: Mapping[str, str]

    def patient_from_series(self, bone: str | None = None) -> Rigid[Patient, Series]:
        """For a bone by its own registration where there is one, else by the whole scan's."""
        own = self.bones.get(bone or "")
        return (self.whole if own is None else own).patient_from_series

    def to_json(self) -> dict[str, Any]:
        """As `series/NAME.json` keeps it."""
        return {
            "name": self.name,
            "modality": self.modality,
            "whole": self.whole.to_json(),
            "bones": {name: one.to_json() for name, one in self.bones.items()},
            "left_with_the_whole": dict(self.left),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Companion:
        """Inverse of `to_json`; raises KeyError on a value of another shape."""
        bones = {name: Matched.from_json(one) for name, one in value["bones"].items()}
        left = dict(value["left_with_the_whole"])
        return cls(value["name"], value["modality"], Matched.from_json(value["whole"]), bones, left)


def register_series(
    twin: Twin, volume: Volume, labels: LabelMap, moving: Volume, name: str, progress: Progress = silent
) -> Companion:
    """Place a scan on the twin. Raises NothingToRegister, NotMatched (the evidence is weak)."""
    numbers = {n: number for number, n in labels.names.items() if n.startswith(RIGID) and n in twin.bones}
    if not numbers:
        raise NothingToRegister("this twin has no spine, pelvis, leg or skull that another scan could be placed by")
    whole_mask = np.zeros(labels.grid.shape, dtype=bool)
    boxes = bounding_boxes(labels.labels)
    masks: dict[str, tuple[tuple[slice, ...], NDArray[np.bool_]]] = {}
    for bone, number in numbers.items():
        if number in boxes:
            box, near = _around(labels, number, boxes[number])
            whole_mask[box] |= near
            masks[bone] = (box, near)
    points, normals = _spread([twin.bones[bone].surface for bone in masks])
    found = match(volume, whole_mask, points, normals, moving, progress=part(progress, 0.0, 0.6))
    prepared = at_step(moving, FINE_MM)
    bones: dict[str, Matched] = {}
    left: dict[str, str] = {}
    for n, (bone, (box, near)) in enumerate(masks.items()):
        progress(f"following {bone}", 0.6 + 0.4 * n / len(masks))
        if _is_cut(boxes[numbers[bone]], labels.grid.shape):
            left[bone] = "the CT cuts it: what stands out at the cut is the scan's edge, not the bone's"
            continue
        own_mask = np.zeros(labels.grid.shape, dtype=bool)
        own_mask[box] = near
        own_points, _ = _spread([twin.bones[bone].surface])
        try:
            pair = Pair.of(volume, own_mask, moving, own_points, FINE_MM, prepared)
            one = refined(pair, found.patient_from_series.inverse(), None)
        except NotMatched as fault:
            left[bone] = fault.message
            continue
        moved = _moved_mm(found, one, own_points)
        if moved > MOST_OWN_MM:
            left[bone] = f"it came out {moved:.0f} mm from where the whole scan puts it"
        else:
            bones[bone] = one
    modality = str(moving.about.get("modality") or "unknown")
    return Companion(name, modality, found, bones, left)


def _around(
    labels: LabelMap, number: int, box: tuple[slice, slice, slice]
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The box of a bone and its surroundings, and which of its voxels lie within AROUND_MM of the bone."""
    step = labels.grid.spacing_mm[::-1]
    wide = tuple(
        slice(max(0, s.start - int(np.ceil(AROUND_MM / d))), min(n, s.stop + int(np.ceil(AROUND_MM / d))))
        for s, d, n in zip(box, step, labels.grid.shape, strict=True)
    )
    far = distance_transform_edt(labels.labels[wide] != number, sampling=step)
    return wide, np.asarray(np.asarray(far) <= AROUND_MM)


def _is_cut(box: tuple[slice, slice, slice], shape: tuple[int, int, int]) -> bool:
    """Whether a bone reaches the edge of the scan."""
    return any(s.start == 0 or s.stop == n for s, n in zip(box, shape, strict=True))


def _spread(surfaces: list[TriangleMesh[Patient]]) -> tuple[Points[Patient], Array]:
    """Some thousand points and their normals, evenly over the vertices of all surfaces."""
    count = sum(len(s.vertices_mm) for s in surfaces)
    step = max(1, count // POINTS)
    at = np.vstack([s.vertices_mm[::step] for s in surfaces])
    return Points[Patient](at), np.vstack([s.vertex_normals[::step] for s in surfaces])


def _moved_mm(whole: Matched, own: Matched, points: Points[Patient]) -> float:
    """How far a bone's own registration puts it from where the whole scan's does (mean over its surface)."""
    series = whole.patient_from_series.inverse() @ points
    return float(np.linalg.norm((own.patient_from_series @ series).mm - points.mm, axis=1).mean())
