"""A camera that does not exist: pictures by rays through a bent lens, with the truth beside them.

The second renderer of the demo and of the tests. It shares nothing with Painter or the twin: surfaces are hit by rays
that the caller's own `cast` follows (the phantom's analytic surface), markers are area-sampled over the exposure, then
come the optics. The pixels around markers are rendered finely and afresh, the cloth behind them is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid
from spatial.shapes import Cylinder
from tracking.bodies.body import Body
from tracking.frame import Frame
from tracking.synthetic.motion import Gliding, Motion, Swaying, Swinging, looking, orbit
from tracking.synthetic.optics import BadSynthetic, Glare, Optics
from tracking.synthetic.plates import Plate, lay, plates
from tracking.synthetic.surfaces import Surface, draw, ray_grid, rod, truth_mask

__all__ = [
    "BadSynthetic", "Gliding", "Glare", "Optics", "Shot", "Surface", "Swaying", "Swinging", "SyntheticCamera",
    "looking", "orbit", "ray_grid", "truth_mask",
]  # fmt: skip

DRAPE_RGB = (0.12, 0.26, 0.33)
LUMA = (0.299, 0.587, 0.114)
COARSE = 4  # the cloth is smooth: it is computed at every fourth pixel
BACKDROPS = 4  # different noise on the cloth, in turn
MOST_FINE = 3_000_000  # values of a part that is rendered with several samples a pixel; above it memory is dear
KNOTS = 33  # instants at which a moving body's pose is asked for in a frame; linear between them

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture and where everything truly was at the frame's `t_ns`."""

    frame: Frame
    camera_from_patient: Rigid[Camera, Patient]
    camera_from_body: Mapping[str, Rigid[Camera, Any]]


@dataclass(frozen=True, eq=False)
class SyntheticCamera:
    """A lens, its optics, what stands in the room; `shafts` are steel rods in their body's frame.

    A `mono` camera gives grey pictures (h, w) in a third of the time, and with all of `noise_grey`.
    """

    pinhole: Pinhole
    bodies: Sequence[Body[Any]] = ()
    surface: Surface | None = None
    shafts: Mapping[str, Cylinder[Any]] = field(default_factory=lambda: MappingProxyType({}))
    optics: Optics = field(default_factory=Optics)
    fps: float = 30.0
    seed: int = 0
    mono: bool = False

    def shoot(
        self,
        index: int,
        camera_from_patient: Rigid[Camera, Patient] | Motion[Camera, Patient],
        patient_from_body: Mapping[str, Rigid[Patient, Any] | Motion[Patient, Any]],
        t_ns: int | None = None,
    ) -> Shot:
        """Frame `index`, at `t_ns` or when its turn comes; a body without a pose is not in the room.

        What is given as a path moves while the frame is exposed and read out; surface and shafts are drawn where they
        are at `t_ns`. The same arguments give the same picture.
        """
        t_ns = round(index * 1e9 / self.fps) if t_ns is None else t_ns
        span_ns = self.optics.exposure_ns + abs(self.optics.readout_ns)
        camera = camera_from_patient if isinstance(camera_from_patient, Rigid) else camera_from_patient(t_ns)
        poses: dict[str, Rigid[Camera, Any]] = {}
        seen: list[Plate] = []
        bodies = {body.name: body for body in self.bodies}
        for name, patient_from in patient_from_body.items():
            still = isinstance(camera_from_patient, Rigid) and isinstance(patient_from, Rigid)
            poses[name] = camera @ _at(patient_from, t_ns)
            if name not in bodies:
                continue
            if still or span_ns == 0:
                track = [poses[name]]
            else:
                instants = t_ns + np.linspace(-0.5, 0.5, KNOTS) * span_ns
                track = [_at(camera_from_patient, t) @ _at(patient_from, t) for t in instants.tolist()]
            seen += plates(bodies[name], track, self.pinhole)
        seen.sort(key=lambda plate: -plate.far_mm)
        rods = [(rod(shaft), poses[name]) for name, shaft in self.shafts.items() if name in poses]
        picture = self._picture(index, camera, seen, rods)
        picture = self.optics.compress(picture[..., 0] if self.mono else picture)
        frame = Frame(t_ns, picture, index, self.optics.exposure_ns, self.optics.readout_ns)
        return Shot(frame, camera, MappingProxyType(poses))

    def _picture(
        self,
        index: int,
        camera_from_patient: Rigid[Camera, Patient],
        seen: Sequence[Plate],
        rods: Sequence[tuple[Surface, Rigid[Camera, Any]]],
    ) -> NDArray[np.uint8]:
        width, height = self.pinhole.width_px, self.pinhole.height_px
        rng = np.random.default_rng((self.seed, index))
        turn = camera_from_patient.rotation
        scene = _backdrop(self.pinhole, turn.tobytes(), self.mono)
        whole_mm: Array | None = None
        if self.surface is not None or rods:
            scene, whole_mm = scene.copy(), np.full(scene.shape[:2], np.inf)
            for surface, pose in [*([(self.surface, camera_from_patient)] if self.surface else []), *rods]:
                draw(surface, ray_grid(self.pinhole), pose, scene, whole_mm)
            whole = (0, 0, width, height)
            picture = self._part(whole, whole, scene, whole_mm, (), rng, 1)
        else:
            picture = _cloth(self.pinhole, turn.tobytes(), self.mono, self.optics, self.seed, index % BACKDROPS).copy()
        reach = self.optics.reach_px
        for left, top, right, bottom in _joined([plate.box(width, height, reach) for plate in seen]):
            wide = (max(left - reach, 0), max(top - reach, 0), min(right + reach, width), min(bottom + reach, height))
            there = (slice(wide[1], wide[3]), slice(wide[0], wide[2]))
            part = scene[there]
            depth_mm = np.full(part.shape[:2], np.inf) if whole_mm is None else whole_mm[there].copy()
            fine = self.optics.fineness if part.size < MOST_FINE else 1
            part = np.repeat(np.repeat(part, fine, axis=0), fine, axis=1)
            picture[top:bottom, left:right] = self._part(
                (left, top, right, bottom), wide, part, depth_mm, seen, rng, fine
            )
        return picture

    def _part(
        self,
        box: Box,
        wide: Box,
        scene: NDArray[np.float32],
        depth_mm: Array,
        seen: Sequence[Plate],
        rng: np.random.Generator,
        fine: int,
    ) -> NDArray[np.uint8]:
        """The picture in `box`, from reflectances (`fine` a pixel) in the wider box that its light may come from."""
        optics, corner = self.optics, (wide[0], wide[1])
        grid = ray_grid(self.pinhole)
        for plate in seen:
            lay(plate, grid, depth_mm, scene, corner, fine, optics.exposure_ns, optics.readout_ns)
        light = optics.spread(scene, fine)
        light = optics.illuminate(light, wide[0], wide[1], self.pinhole.width_px, self.pinhole.height_px)
        grey = optics.develop(light, rng.standard_normal(light.shape, dtype=np.float32))
        return grey[box[1] - wide[1] : box[3] - wide[1], box[0] - wide[0] : box[2] - wide[0]]


def _at(pose: Rigid[Any, Any] | Motion[Any, Any], t_ns: float) -> Rigid[Any, Any]:
    return pose if isinstance(pose, Rigid) else pose(t_ns)


def _joined(boxes: Sequence[Box | None]) -> list[Box]:
    """The same boxes with those that overlap made one."""
    out: list[Box] = []
    for box in boxes:
        if box is None:
            continue
        grown = box
        while True:
            touching = [b for b in out if b[0] < grown[2] and grown[0] < b[2] and b[1] < grown[3] and grown[1] < b[3]]
            if not touching:
                break
            out = [b for b in out if b not in touching]
            four = np.array([grown, *touching])
            low, high = four[:, :2].min(axis=0).tolist(), four[:, 2:].max(axis=0).tolist()
            grown = (low[0], low[1], high[0], high[1])
        out.append(grown)
    return out


@lru_cache(maxsize=2)
def _backdrop(pinhole: Pinhole, turn: bytes, mono: bool) -> NDArray[np.float32]:
    """A cloth far behind, with folds that stay with the patient: reflectances (h, w, C). Read-only."""
    R = np.frombuffer(turn).reshape(3, 3).astype(np.float32)
    width, height = pinhole.width_px, pinhole.height_px
    # one coarse pixel beyond the picture, so that all of it lies between coarse pixels
    rows, columns = np.arange(0, height + COARSE, COARSE), np.arange(0, width + COARSE, COARSE)
    xy = ray_grid(pinhole)[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)].astype(np.float32)
    a = xy[..., 0] * R[0, 0] + xy[..., 1] * R[1, 0] + R[2, 0]
    b = xy[..., 0] * R[0, 2] + xy[..., 1] * R[1, 2] + R[2, 2]
    folds = 1.0 + 0.18 * np.sin(9 * a + 2 * np.sin(5 * b)) + 0.10 * np.sin(23 * b + 3 * np.sin(7 * a))
    fine = cv2.warpAffine(
        np.asarray(folds, dtype=np.float32), np.array([[1 / COARSE, 0, 0], [0, 1 / COARSE, 0]]), (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    colour = np.array([np.dot(LUMA, DRAPE_RGB)] if mono else DRAPE_RGB, dtype=np.float32)
    cloth = np.asarray(fine, dtype=np.float32)[..., None] * colour
    cloth.flags.writeable = False
    return np.asarray(cloth)


@lru_cache(maxsize=2)
def _grain(height: int, width: int, channels: int, seed: int) -> NDArray[np.float32]:
    """Standard normal noise, with some to spare: the cloth's, taken from another place for each backdrop."""
    return np.random.default_rng((seed, height, width)).standard_normal(
        height * width * channels + 65_536, dtype=np.float32
    )


@lru_cache(maxsize=2 * BACKDROPS)
def _cloth(pinhole: Pinhole, turn: bytes, mono: bool, optics: Optics, seed: int, variant: int) -> NDArray[np.uint8]:
    """The picture (h, w, C) of the cloth alone, with one of several noises. Read-only."""
    scene = _backdrop(pinhole, turn, mono)
    height, width, channels = scene.shape
    start = 15_013 * variant
    noise = _grain(height, width, channels, seed)[start : start + scene.size].reshape(scene.shape)
    light = optics.illuminate(scene, 0, 0, width, height)  # it is smooth: no lens blurs it
    picture = optics.develop(light, noise)
    picture.flags.writeable = False
    return picture
