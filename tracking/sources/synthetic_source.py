"""`synthetic:SPEC` as a source: a camera that does not exist over marker bodies, for trials without a camera.

SPEC is KEY=VALUE pairs joined by commas.
What is seen: body (a marker body file; may be repeated; a board of four 36h11 tags when left out), frames (60),
fps (30), size (1280x720), grey (1: one channel), seed (0).
Lens: f (focal length px, 0.75 of the width), bend (k1, -0.1), blur (sd px, 0.7), defocus (radius of a disc px, 0).
Light: gain (1; above it white saturates), gradient (0.25), glare (U:V:RADIUS:STRENGTH px, a lamp's reflection).
Sensor: noise (sd grey, 2), shot (sd grey at white, 0), exposure and readout (ms, 0: an instant, a global shutter).
Picture: gamma (1), tone (S-curve 0 to 1, 0), sharpen (0), mjpeg (quality 1 to 100; 0: not coded).
Path: path (sway: a hand-held camera; still; swing: the bodies go to and fro), distance (mm, 600), tilt (deg, 25, of
still and swing), speed (mm/s, to the right in the picture at the middle of the swing, 100), spin (deg/s, 0).
faults: what goes wrong and when (tracking/sources/faults.py), as faults=drop@10-12+glare@30-40.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from tracking.bodies.body import Body, board, load
from tracking.frame import Frame, FrameSource
from tracking.sources.closing import Closing
from tracking.sources.faults import FaultySource, plan
from tracking.synthetic.camera import BadSynthetic, Glare, Optics, Shot, SyntheticCamera
from tracking.synthetic.motion import Motion, Swaying, Swinging

PATHS = ("sway", "still", "swing")
NUMBERS: dict[str, tuple[float, float, float]] = {  # key: default, least, most
    "frames": (60, 1, 1e9), "fps": (30, 0.01, 10_000), "seed": (0, 0, 2**31), "grey": (0, 0, 1),
    "f": (0, 0, 1e6), "bend": (-0.1, -1, 1), "blur": (0.7, 0, 60), "defocus": (0, 0, 60),
    "gain": (1, 0, 100), "gradient": (0.25, -1, 1), "noise": (2, 0, 128), "shot": (0, 0, 128),
    "exposure": (0, 0, 10_000), "readout": (0, -10_000, 10_000),
    "gamma": (1, 0.2, 5), "tone": (0, 0, 1), "sharpen": (0, 0, 10), "mjpeg": (0, 0, 100),
    "distance": (600, 20, 1e5), "tilt": (25, -85, 85), "speed": (100, -1e5, 1e5), "spin": (0, -1e5, 1e5),
}  # fmt: skip
WHOLE = ("frames", "seed", "grey", "mjpeg")


class SyntheticSource(Closing):
    """Rendered pictures of marker bodies; `shots` gives the truth beside them, `camera_from_body` at any time."""

    def __init__(self, spec: str) -> None:
        """Read SPEC. Raises BadSynthetic, BadBody."""
        self.spec = spec
        words, files = _pairs(spec)
        numbers = _numbers(words)
        width, height = _size(words.get("size", "1280x720"))
        self.frames, self.fps = int(numbers["frames"]), numbers["fps"]
        focal = numbers["f"] or 0.75 * width
        bend = (numbers["bend"], 0.0, 0.0, 0.0) if numbers["bend"] else ()
        self.pinhole = Pinhole(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, bend)
        optics = Optics(
            blur_px=numbers["blur"], noise_grey=numbers["noise"], gradient=numbers["gradient"],
            gain=255 * numbers["gain"], defocus_px=numbers["defocus"], gamma=numbers["gamma"], tone=numbers["tone"],
            sharpen=numbers["sharpen"], mjpeg=int(numbers["mjpeg"]), exposure_ns=round(numbers["exposure"] * 1e6),
            readout_ns=round(numbers["readout"] * 1e6), shot_grey=numbers["shot"], glare=_glare(words.get("glare")),
        )  # fmt: skip
        self.path = words.get("path", "swing" if {"speed", "spin"} & set(words) else "sway")
        if self.path not in PATHS:
            raise BadSynthetic(f"path {self.path} is unknown; known: {', '.join(PATHS)}")
        self._numbers = numbers
        self.bodies: tuple[Body[Any], ...] = tuple(load(Path(file)) for file in files) or (tag_board(),)
        self._camera = SyntheticCamera(
            self.pinhole, self.bodies, optics=optics, fps=self.fps, seed=int(numbers["seed"]), mono=numbers["grey"] > 0
        )

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"synthetic:{self.spec}"

    @property
    def optics(self) -> Optics:
        """What the pictures suffer."""
        return self._camera.optics

    @cached_property
    def patient_from_body(self) -> dict[str, Rigid[Patient, Any]]:
        """Bodies side by side, 30 mm apart, faces toward the camera (the patient's back, +y), where they start from."""
        facing = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]) @ np.diag([-1.0, 1, 1])
        out: dict[str, Rigid[Patient, Any]] = {}
        edge = 0.0
        for body in self.bodies:
            mm = np.concatenate(list(body.corners_mm.values()))
            low, high = mm.min(axis=0), mm.max(axis=0)
            width = float(high[0] - low[0])
            R = facing
            shift = np.array([-(edge + width / 2), 0.0, 0.0])
            out[body.name] = Rigid[Patient, Any](R, shift - R @ ((low + high) / 2))
            edge += width + 30.0
        return out

    @cached_property
    def _camera_path(self) -> Motion[Camera, Patient]:
        centre = np.mean([pose.translation_mm for pose in self.patient_from_body.values()], axis=0)
        back, head = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])
        if self.path == "sway":
            return Swaying(centre, back, head, self._numbers["distance"])
        tilt = math.radians(self._numbers["tilt"])
        still = Swaying(centre, math.cos(tilt) * back - math.sin(tilt) * head, head, self._numbers["distance"], 0.0)
        pose = still(-1.1 / (2 * math.pi) * 8e9)  # where the sway passes through its own distance
        return lambda t_ns: pose

    def _body_path(self, name: str) -> Motion[Patient, Any]:
        pose = self.patient_from_body[name]
        if self.path != "swing":
            return lambda t_ns: pose
        right = self._camera_path(0).rotation[0]
        spin = math.radians(self._numbers["spin"])
        return Swinging(pose, self._numbers["speed"] * right, spin * np.array([0.0, 1.0, 0.0]))

    def camera_from_body(self, name: str) -> Motion[Camera, Any]:
        """Where body `name` truly is at any instant (ns)."""
        camera, body = self._camera_path, self._body_path(name)
        return lambda t_ns: camera(t_ns) @ body(t_ns)

    def shots(self) -> Iterator[Shot]:
        """Every frame with the truth beside it."""
        places: dict[str, Rigid[Patient, Any] | Motion[Patient, Any]] = {
            name: self._body_path(name) if self.path == "swing" else pose
            for name, pose in self.patient_from_body.items()
        }
        camera = self._camera_path(0) if self.path != "sway" else self._camera_path
        for index in range(self.frames):
            yield self._camera.shoot(index, camera, places)

    def __iter__(self) -> Iterator[Frame]:
        """The pictures alone."""
        for shot in self.shots():
            yield shot.frame


def synthetic_source(spec: str) -> FrameSource:
    """Read SPEC, with its faults. Raises BadSynthetic, BadPlan, BadBody."""
    rest = [pair for pair in spec.split(",") if not pair.startswith("faults=")]
    plans = [pair.partition("=")[2] for pair in spec.split(",") if pair.startswith("faults=")]
    source = SyntheticSource(",".join(rest))
    if not plans:
        return source
    return FaultySource(source, plan("+".join(plans)), source.bodies[0].dictionary)


def tag_board() -> Body[Any]:
    """Four 40 mm tags (36h11, 0 to 3) in a flat 2 x 2 board, 60 mm apart."""
    return board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)


def _pairs(spec: str) -> tuple[dict[str, str], list[str]]:
    known = ("size", "glare", "path", *NUMBERS)
    words: dict[str, str] = {}
    files: list[str] = []
    for pair in filter(None, spec.split(",")):
        key, equals, value = pair.partition("=")
        if key == "body" and value:
            files.append(value)
        elif key not in known:
            raise BadSynthetic(f"{key} is unknown; known: {', '.join(known)}, body, faults")
        elif not equals or not value:
            raise BadSynthetic(f"{key} has no value; pairs are KEY=VALUE, joined by commas")
        elif key in words:
            raise BadSynthetic(f"{key} is there twice")
        else:
            words[key] = value
    return words, files


def _numbers(words: dict[str, str]) -> dict[str, float]:
    out = {key: default for key, (default, _, _) in NUMBERS.items()}
    for key in set(words) & set(NUMBERS):
        least, most = NUMBERS[key][1:]
        out[key] = _number(key, words[key], whole=key in WHOLE)
        if not least <= out[key] <= most:
            raise BadSynthetic(f"{key}={words[key]}: {least:g} to {most:g} can be made")
    return out


def _number(key: str, text: str, *, whole: bool = False) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise BadSynthetic(f"{key}={text}: {'whole numbers' if whole else 'numbers'} are needed") from None


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise BadSynthetic(f"size={text}: sizes are as 1280x720")
    if not 16 <= int(width) <= 8192 or not 16 <= int(height) <= 8192:
        raise BadSynthetic(f"size={text}: 16 to 8192 px can be made")
    return int(width), int(height)


def _glare(text: str | None) -> Glare | None:
    if text is None:
        return None
    values = [_number("glare", word) for word in text.split(":")]
    if len(values) not in (3, 4):
        raise BadSynthetic(f"glare={text}: U:V:RADIUS or U:V:RADIUS:STRENGTH is needed, in px")
    return Glare(*values)
