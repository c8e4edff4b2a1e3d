"""A picture with what tracking found drawn over: outlines and ids of markers, the axes and the tip of each body."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid
from tracking.bodies.body import Body
from tracking.pose.sighting import Sighting

GREEN, AMBER, RED, BLUE = (60, 220, 90), (255, 176, 40), (255, 80, 70), (90, 150, 255)
WHITE, DARK = (255, 255, 255), (18, 22, 28)
SUB = 4  # bits of a pixel's fraction that OpenCV draws with


class NotDrawn(Fault):
    """A picture that can't be written."""


def drawn(
    picture: NDArray[np.uint8], sightings: Sequence[Sighting[Any]], bodies: Sequence[Body[Any]], pinhole: Pinhole
) -> NDArray[np.uint8]:
    """The raw picture as RGB (h, w, 3) with every sighting drawn over it; LOST ones in words only."""
    canvas = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3].copy()
    canvas = np.ascontiguousarray(canvas)
    height, width = canvas.shape[:2]
    scale = max(0.8, min(width, height) / 1000)
    thick = max(1, round(1.6 * scale))
    labels: list[tuple[str, Array, tuple[int, int, int]]] = []
    by_name = {body.name: body for body in bodies}
    for sighting in sightings:
        colour = GREEN if sighting.status == "TRACKED" else AMBER
        for marker, corners in sighting.corners_px.items():
            _lines(canvas, np.vstack([corners, corners[:1]]), colour, thick)
            _dot(canvas, corners[0], RED, 2.5 * scale + 1)
            if np.ptp(corners, axis=0).max() > 20 * scale:
                name = sighting.body.partition(":")[2] or str(marker)  # of a marker or a diamond on its own
                labels.append((name, corners[corners[:, 1].argmax()] + (0, 12 * scale), colour))
        found = sighting.camera_from_body
        body = by_name.get(sighting.body)
        if found is not None and body is not None:
            _axes(canvas, found.pose, body, pinhole, thick + 1, scale)
    for text, at, colour in labels:
        _words(canvas, text, at, 0.45 * scale, colour, centred=True)
    single = len(sightings) > 6  # many single markers: their lines would cover the picture
    row = 22 * scale
    for sighting in () if single else sightings:
        _words(canvas, headline(sighting), np.array([10 * scale, row]), 0.6 * scale, _tint(sighting))
        row += 26 * scale
    if single:
        tracked = sum(sighting.status == "TRACKED" for sighting in sightings)
        words = f"{tracked} of {len(sightings)} bodies tracked"
        _words(canvas, words, np.array([10 * scale, row]), 0.6 * scale, GREEN if tracked else AMBER)
    return canvas


def headline(sighting: Sighting[Any]) -> str:
    """One line about a sighting, in ASCII."""
    found = sighting.camera_from_body
    if found is None:
        return f"{sighting.body}: LOST, {sighting.reason}".encode("ascii", "replace").decode()
    x, y, z = found.pose.translation_mm
    sd_mm = float(np.sqrt(found.covariance[5, 5]))
    return f"{sighting.body}: {x:.1f} {y:.1f} {z:.1f} mm (sd {sd_mm:.2f})".encode("ascii", "replace").decode()


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture; the kind by its suffix. Raises NotDrawn."""
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise NotDrawn("this picture can't be written; is the disk full, or the folder read-only?", path=path)


def _tint(sighting: Sighting[Any]) -> tuple[int, int, int]:
    return GREEN if sighting.status == "TRACKED" else AMBER


def _axes(
    canvas: NDArray[np.uint8], pose: Rigid[Camera, Any], body: Body[Any], pinhole: Pinhole, thick: int, scale: float
) -> None:
    """Red x, green y, blue z from the body's origin, as long as its markers are; a ring at the tip of a tool."""
    sizes = [np.linalg.norm(mm[1] - mm[0]) for mm in body.corners_mm.values()]
    length = float(np.median(sizes))
    steps = np.linspace(0, length, 9)[:, None]
    for axis, colour in enumerate((RED, GREEN, BLUE)):
        px = _visible(pose, steps * np.eye(3)[axis], pinhole)
        if px is not None:
            _lines(canvas, px, colour, thick)
    if body.tip_mm is not None:
        px = _visible(pose, body.tip_mm[None], pinhole)
        if px is not None:
            _dot(canvas, px[0], RED, 5 * scale + 1)
            _dot(canvas, px[0], WHITE, 2 * scale + 1)


def _visible(pose: Rigid[Camera, Any], mm: Array, pinhole: Pinhole) -> Array | None:
    """Pixels of body points; None where one lies behind the camera or far outside the picture."""
    points = (pose @ Points(mm)).mm
    if points[:, 2].min() < 1.0:
        return None
    size = np.array([pinhole.width_px, pinhole.height_px])
    straight = points[:, :2] / points[:, 2:] * (pinhole.fx_px, pinhole.fy_px) + (pinhole.cx_px, pinhole.cy_px)
    if (np.abs(straight - size / 2) > size).any():
        return None
    return pinhole.project(Points[Camera](points))


def _lines(canvas: NDArray[np.uint8], px: Array, colour: tuple[int, int, int], thick: int) -> None:
    at = np.rint(px * 2**SUB).astype(np.int32).reshape(1, -1, 2)
    cv2.polylines(canvas, at, False, colour, thick, cv2.LINE_AA, SUB)


def _dot(canvas: NDArray[np.uint8], px: Array, colour: tuple[int, int, int], radius: float) -> None:
    x, y = (int(v) for v in np.rint(px * 2**SUB))
    cv2.circle(canvas, (x, y), round(radius * 2**SUB), colour, -1, cv2.LINE_AA, SUB)


def _words(
    canvas: NDArray[np.uint8], text: str, px: Array, size: float, colour: tuple[int, int, int], centred: bool = False
) -> None:
    """Text on a dark plate, its lower left at `px` (or its middle), kept inside the picture."""
    face, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.6 * size))
    (wide, high), below = cv2.getTextSize(text, face, size, thick)
    x, y = (px[0] - wide / 2, px[1] + high / 2) if centred else (px[0], px[1])
    x, y = round(float(x)), round(float(y))
    x, y = max(2, min(x, canvas.shape[1] - wide - 3)), max(high + 3, min(y, canvas.shape[0] - below - 3))
    cv2.rectangle(canvas, (x - 3, y - high - 3), (x + wide + 3, y + below + 1), DARK, -1)
    cv2.putText(canvas, text, (x, y), face, size, colour, thick, cv2.LINE_AA)
