"""Pictures of a body for its calibration: gathered, made into rays, and posed again to check what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Camera
from spatial.pinhole import BadLens, Pinhole
from spatial.progress import Progress, silent
from spatial.rigid import Array, Points
from tracking.bodies.body import Body
from tracking.calibration.body_bundle import Corners
from tracking.calibration.camera_file import require_resolution
from tracking.detection.hints import explain
from tracking.detection.markers import Detections, detect, grey
from tracking.frame import Frame
from tracking.pose.pose import track_body

ASKED_ABOUT = 3  # so many pictures without any of the markers are asked what else they show


@dataclass(frozen=True, eq=False)
class Gathered:
    """Markers in each picture that shows any; how many `pictures` were looked at; what the others show `instead`."""

    views: list[Detections]
    pictures: int
    instead: str | None


def gather(
    frames: Iterable[Frame], pinhole: Pinhole, dictionary: str, ids: Sequence[int], progress: Progress = silent
) -> Gathered:
    """Markers with one of the ids in each picture that shows any. Raises WrongResolution, UnknownDictionary."""
    views: list[Detections] = []
    hints: list[str | None] = []
    pictures = 0
    for count, frame in enumerate(frames):
        require_resolution(frame.picture, pinhole)
        if frame.repeated:
            continue
        pictures += 1
        seen = detect(frame.picture, dictionary, pinhole)
        once = np.array([int(i) in ids for i in seen.ids], dtype=bool)
        if once.any():
            views.append(seen.where(once))
        elif len(hints) < ASKED_ABOUT:
            hint = explain(grey(frame.picture), {dictionary: ids})
            hints.append(None if hint is None else hint.words)
        if count % 20 == 19:
            progress(f"{count + 1} pictures", 0.0)
    return Gathered(views, pictures, next((words for words in hints if words), None))


def observations(views: Sequence[Detections], pinhole: Pinhole, ids: Sequence[int]) -> Corners:
    """Every marker that a picture shows once beside another one, as rays with the whitening of their errors."""
    place = {marker: k for k, marker in enumerate(ids)}
    view, marker, rays, whitening = [], [], [], []
    for number, seen in enumerate(views):
        rows = [(m, row) for m, row in seen.by_id().items() if m in place]
        if len(rows) < 2:
            continue
        for m, row in rows:
            try:
                straight = pinhole.normalised(seen.corners_px[row])
            except BadLens:
                continue
            view.append(number)
            marker.append(place[m])
            rays.append(straight)
            whitening.append(seen.whitening[row] @ _slopes(pinhole, straight))
    return Corners(
        np.array(view, dtype=np.int64), np.array(marker, dtype=np.int64), np.array(rays).reshape(-1, 4, 2),
        np.array(whitening).reshape(-1, 8, 8),
    )  # fmt: skip


def _slopes(pinhole: Pinhole, rays: Array) -> Array:
    """d pixels / d rays (8, 8) of four corners."""
    out = np.zeros((8, 8))
    step = 1e-5
    for axis in range(2):
        shift = step * np.eye(2)[axis]
        change = (pixels(pinhole, rays + shift) - pixels(pinhole, rays - shift)) / (2 * step)
        for corner in range(4):
            out[2 * corner : 2 * corner + 2, 2 * corner + axis] = change[corner]
    return out


def pixels(pinhole: Pinhole, rays: Array) -> Array:
    """Raw pixels (..., 2) of rays (..., 2)."""
    return pinhole.project(Points[Camera](np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1)))


def renumbered(corners: Corners, used: NDArray[np.int64]) -> Corners:
    """Only those of some pictures, which are counted from 0."""
    keep = np.isin(corners.view, used)
    part = corners.part(keep)
    return replace(part, view=np.searchsorted(used, part.view))


def nudged(pinhole: Pinhole, step: Array) -> Pinhole:
    """The lens with its numbers moved by a step (12,): fx fy cx cy and the distortion in its own order."""
    bent = np.zeros(8)
    bent[: len(pinhole.distortion)] = pinhole.distortion
    length = len(pinhole.distortion)
    return replace(
        pinhole, fx_px=pinhole.fx_px + step[0], fy_px=pinhole.fy_px + step[1], cx_px=pinhole.cx_px + step[2],
        cy_px=pinhole.cy_px + step[3], distortion=tuple(float(k) for k in (bent + step[4:12])[:length]),
    )  # fmt: skip


def posed_rms_px(views: Sequence[Detections], body: Body[Any], pinhole: Pinhole, dropped: float) -> float | None:
    """RMS a coordinate over the markers of pictures that are posed one by one, less the worst share of them."""
    squares: list[float] = []
    for seen in views:
        sighting = track_body(seen, body, pinhole)
        if sighting.camera_from_body is None:
            if sighting.rms_px is not None and math.isfinite(sighting.rms_px):
                squares += [sighting.rms_px**2] * len(sighting.corners_px)
            continue
        for marker, px in sighting.corners_px.items():
            off = pinhole.project(sighting.camera_from_body.pose @ Points(body.corners_mm[marker])) - px
            squares.append(float((off**2).mean()))
    kept = sorted(squares)[: math.ceil(len(squares) * (1 - dropped))]
    return math.sqrt(float(np.mean(kept))) if kept else None
