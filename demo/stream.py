"""The demo's operating room: the phantom's spine under a moving camera, a marker body on the patient, a tracked drill.

Pictures come from the second renderer (rays on the analytic surface); the touches for the registration carry a stated
error. Nothing here sees the twin's meshes but the touched landmarks, which a person would have picked on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from demo.standin import Hits, Standin
from guidance.registration import Pair
from spatial.frames import Camera, Instrument, Patient, Reference
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp
from spatial.shapes import Cylinder
from tracking.bodies.body import Body
from tracking.frame import Frame
from tracking.sources.source import Closing
from tracking.synthetic.camera import Optics, Shot, Surface, SyntheticCamera, orbit, truth_mask
from twin.anatomy.twin import Twin
from twin.plan.screws.screw import Screw

EXPOSED = ("vertebrae_T12", "vertebrae_L1", "vertebrae_L2", "vertebrae_L3", "vertebrae_L4", "vertebrae_L5", "sacrum")
TOUCH_SD_MM = 0.15
LENS = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
HIDDEN = range(4, 9)  # frames in which the reference is covered: predicted first, then stale
POSTERIOR, CRANIAL, RIGHT = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([-1.0, 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class Theatre:
    """Everything that stands in the room, with its truth."""

    body: Standin
    exposed: tuple[str, ...]
    camera: SyntheticCamera
    surface: Surface
    path: tuple[Rigid[Camera, Patient], ...]
    patient_from_reference: Rigid[Patient, Reference]
    patient_from_drill: tuple[Rigid[Patient, Instrument], ...]

    @property
    def name(self) -> str:
        """For messages."""
        return "the demo's camera"

    def shots(self) -> Iterator[Shot]:
        """Every frame with the truth beside it."""
        for index, camera_from_patient in enumerate(self.path):
            places: dict[str, Rigid[Patient, Any]] = {"drill": self.patient_from_drill[index]}
            if index not in HIDDEN:
                places["reference"] = self.patient_from_reference
            yield self.camera.shoot(index, camera_from_patient, places)

    def silhouette(self, index: int) -> NDArray[np.bool_]:
        """The exposed bones' true outline in the ideal picture of frame `index`, by rays."""
        return truth_mask(self.surface, self.camera.pinhole.undistorted(), self.path[index])


@dataclass(frozen=True)
class Recording(Closing):
    """Frames that were shot already, as a source."""

    frames: tuple[Frame, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return "recording"

    def __iter__(self) -> Iterator[Frame]:
        """In order."""
        return iter(self.frames)


def theatre(body: Standin, reference: Body[Any], drill: Body[Any], screw: Screw, frames: int) -> Theatre:
    """The room: the camera sways over the back, the reference stands beside T12, the drill nears `screw`'s entry."""
    exposed = tuple(bone for bone in EXPOSED if bone in body.bones) or body.bones
    low, high = body.bounds(exposed)
    centre = np.array([(low[0] + high[0]) / 2, high[1] - 20.0, (low[2] + high[2]) / 2 + 10.0])

    def cast(origins_mm: Array, directions: Array, t_max_mm: float) -> Hits:
        return body.cast(origins_mm, directions, t_max_mm, exposed)

    surface = Surface(cast, low, high)
    tilt = rotation_exp(np.array([0.25, 0.15, 0.0]))
    facing = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # the body's z out of the back, its y cranial
    place = np.array([centre[0] - 85.0, high[1] + 20.0, high[2] - 60.0])
    tip = np.asarray(drill.tip_mm)
    shaft = Cylinder[Any](tip * 0.12, tip, float(np.linalg.norm(tip)) * 0.88, 2.0)
    camera = SyntheticCamera(LENS, (reference, drill), surface, {drill.name: shaft}, Optics())
    path = orbit(centre, POSTERIOR, RIGHT, 500.0, frames, swing_rad=0.28)  # the surgeon stands at the left side
    approach = tuple(drill_pose(drill, screw, 28.0 * (1 - n / max(frames - 1, 1)) + 0.6) for n in range(frames))
    return Theatre(body, exposed, camera, surface, tuple(path), Rigid(tilt @ facing, place), approach)


def drill_pose(drill: Body[Any], screw: Screw, away_mm: float) -> Rigid[Patient, Instrument]:
    """The drill on its way: 1.5 degrees off the planned axis, `away_mm` short of the entry and 0.8 mm beside it."""
    inward = screw.axis.direction
    side = np.cross(inward, CRANIAL) / np.linalg.norm(np.cross(inward, CRANIAL))
    aim = rotation_exp(np.radians(1.5) * side) @ inward
    y = -aim  # the drill's markers stand behind its tip along +y
    z = POSTERIOR - (POSTERIOR @ y) * y  # their faces toward the camera, as far as the shaft allows
    z /= np.linalg.norm(z)
    R = np.stack([np.cross(y, z), y, z], axis=1)
    tip_at = screw.entry.mm - away_mm * inward + 0.8 * side
    return Rigid(R, tip_at - R @ np.asarray(drill.tip_mm))


def touches(theatre: Theatre, twin: Twin, rng: np.random.Generator) -> list[Pair]:
    """Nine landmarks: picked on the twin's surface, touched on the true bone with TOUCH_SD_MM a coordinate.

    They lie on the first, the middle and the last exposed bone but the sacrum, on its back and to both sides.
    """
    reference_from_patient = theatre.patient_from_reference.inverse()
    pairs = []
    vertebrae = [bone for bone in theatre.exposed if bone != "sacrum" and bone in twin.bones] or list(theatre.exposed)
    for bone in dict.fromkeys((vertebrae[1 % len(vertebrae)], vertebrae[len(vertebrae) // 2], vertebrae[-1])):
        low, high = theatre.body.bounds((bone,))
        middle = (low + high) / 2
        tree = cKDTree(twin.bone(bone).surface.vertices_mm)
        for name, offset in (("spinous", 0.0), ("left", 0.26), ("right", -0.26)):
            above = np.array(
                [middle[0] + offset * (high[0] - low[0]), high[1] + 50.0, middle[2] + 0.05 * (high - low)[2]]
            )
            t, index, _ = theatre.body.cast(above[None], -POSTERIOR[None], 400.0, (bone,))
            if index[0] < 0:
                continue
            true = above - t[0] * POSTERIOR
            picked = nearest_on(twin.bone(bone).surface.vertices_mm, tree, true)
            touched = reference_from_patient.rotation @ (true + rng.normal(0, TOUCH_SD_MM, 3))
            touched = touched + reference_from_patient.translation_mm
            a, b = picked.tolist(), touched.tolist()
            pairs.append(Pair(f"{bone} {name}", (a[0], a[1], a[2]), (b[0], b[1], b[2])))
    return pairs


def nearest_on(vertices: Array, tree: cKDTree[Any], point: Array) -> Array:
    """Foot of a point on the local tangent plane of a finely meshed surface."""
    _, rows = tree.query(point, k=12)
    near = vertices[rows]
    centre = near.mean(axis=0)
    normal = np.linalg.svd(near - centre)[2][2]
    return np.asarray(point - ((point - centre) @ normal) * normal)


def shoot_all(theatre: Theatre, keep: Path | None = None) -> Iterator[Shot]:
    """Render every frame; where `keep` is given, the raw pictures stay there as a folder source."""
    from PIL import Image

    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    for shot in theatre.shots():
        if keep is not None:
            Image.fromarray(shot.frame.picture).save(keep / f"frame_{shot.frame.index:04d}.png", compress_level=1)
        yield shot
