"""Corners as a camera would see them, without a picture: bodies, random views, noise along the sides, moving bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, UncertainRigid, rotation_exp, rotation_log
from tracking.bodies.body import Body
from tracking.detection.markers import Detections
from tracking.pose.motion import Motion

FACING = np.diag([1.0, -1.0, -1.0])


def cube(size_mm: float = 40.0, edge_mm: float = 50.0) -> Body[Any]:
    """A marker on each of six faces."""
    h = size_mm / 2
    square = np.array([[-h, h, edge_mm / 2], [h, h, edge_mm / 2], [h, -h, edge_mm / 2], [-h, -h, edge_mm / 2]])
    turns = [[0, 0, 0], [0, 90, 0], [0, 180, 0], [0, 270, 0], [90, 0, 0], [-90, 0, 0]]
    corners = {k: square @ rotation_exp(np.radians(turn)).T for k, turn in enumerate(turns)}
    return Body("cube", "DICT_APRILTAG_36h11", corners)


def view(
    pinhole: Pinhole,
    rng: np.random.Generator,
    distance_mm: tuple[float, float] = (350.0, 700.0),
    tilt_deg: tuple[float, float] = (0.0, 55.0),
) -> Rigid[Camera, Any]:
    """A pose somewhere in the picture, tilted about any axis in it and rolled."""
    z, azimuth = rng.uniform(*distance_mm), rng.uniform(0, 2 * np.pi)
    tilt = np.radians(rng.uniform(*tilt_deg)) * np.array([np.cos(azimuth), np.sin(azimuth), 0])
    R = rotation_exp(tilt) @ rotation_exp([0, 0, rng.uniform(0, 2 * np.pi)]) @ FACING
    reach = np.array([0.28 * pinhole.width_px / pinhole.fx_px, 0.25 * pinhole.height_px / pinhole.fy_px])
    return Rigid[Camera, Any](R, np.array([*(rng.uniform(-1, 1, 2) * reach * z), z]))


def facing(body: Body[Any], pose: Rigid[Camera, Any]) -> list[int]:
    """Markers that the camera sees less than 72 degrees off their normal."""
    out = []
    for marker, corners_mm in body.corners_mm.items():
        mm = (pose @ Points(corners_mm)).mm
        normal = np.cross(mm[1] - mm[0], mm[0] - mm[3])
        sight = mm.mean(axis=0)
        if normal @ sight < -0.3 * np.linalg.norm(normal) * np.linalg.norm(sight):
            out.append(marker)
    return out


def seen(
    body: Body[Any],
    pose: Rigid[Camera, Any],
    pinhole: Pinhole,
    rng: np.random.Generator,
    *,
    sd_px: float = 0.03,
    ids: Sequence[int] | None = None,
    truth_mm: Mapping[int, Array] | None = None,
    speed: Array | None = None,
    readout_ns: int = 0,
) -> Detections:
    """Detections with noise of the sides' ends; `speed` (turn rad/s, mm/s) moves the body while the rows are read."""
    ids = facing(body, pose) if ids is None else ids
    corners = []
    for marker in ids:
        mm = (truth_mm or body.corners_mm)[marker]
        px = pinhole.project(pose @ Points(mm))
        for _ in range(4 if speed is not None else 0):
            assert speed is not None
            late_s = (px[:, 1] / (pinhole.height_px - 1) - 0.5) * readout_ns * 1e-9
            moved = [
                rotation_exp(speed[:3] * s) @ pose.rotation @ p + pose.translation_mm + speed[3:] * s
                for p, s in zip(mm, late_s, strict=True)
            ]
            px = pinhole.project(Points[Camera](np.array(moved)))
        corners.append(px)
    px = np.array(corners).reshape(-1, 4, 2)
    whitening = whitened_sides(px, sd_px)
    noise = np.linalg.solve(whitening, rng.standard_normal((len(px), 8, 1))).reshape(-1, 4, 2)
    return Detections(body.dictionary, np.array(ids, dtype=np.int64), px + noise, whitening, ("EDGES",) * len(px))


def whitened_sides(px: Array, sd_px: float) -> Array:
    """Whitening (n, 8, 8) of corners that are crossings of sides, whose ends are off by `sd_px` and anticorrelated."""
    ends = np.linalg.inv(np.linalg.cholesky(sd_px**2 * np.array([[1.0, -0.4], [-0.4, 1.0]])))
    along = np.roll(px, -1, axis=1) - px
    normal = np.stack([along[..., 1], -along[..., 0]], axis=-1) / np.linalg.norm(along, axis=-1, keepdims=True)
    out = np.zeros((len(px), 8, 8))
    for side in range(4):
        first, second = 2 * side, 2 * ((side + 1) % 4)
        out[:, first : first + 2, first : first + 2] += ends[:, :1] * normal[:, None, side]
        out[:, first : first + 2, second : second + 2] += ends[:, 1:] * normal[:, None, side]
    return out


def guessed(speed: Array, rng: np.random.Generator) -> Motion:
    """What a history would say of a speed: 0.2 rad/s and 20 mm/s off."""
    covariance = np.diag([0.2**2] * 3 + [20.0**2] * 3)
    said = rng.multivariate_normal(speed, covariance)
    return Motion(said[:3], said[3:], covariance)


def distance(found: UncertainRigid[Any, Any], truth: Rigid[Any, Any]) -> float:
    """Squared Mahalanobis distance of the truth, by the contract's (w, v)."""
    error = difference(found.pose, truth)
    return float(error @ np.linalg.solve(found.covariance, error))


def difference(pose: Rigid[Any, Any], truth: Rigid[Any, Any]) -> Array:
    """(w, v): what turns and shifts the pose into the truth."""
    return np.concatenate([rotation_log(truth.rotation @ pose.rotation.T), truth.translation_mm - pose.translation_mm])


def inside(distances: Sequence[float]) -> float:
    """The share of truths that the 95 % ellipsoid holds."""
    return float(np.mean(np.array(distances) < stats.chi2.ppf(0.95, 6)))
