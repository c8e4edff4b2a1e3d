"""`synthetic:SPEC` as a source: a swaying camera over marker bodies, for trials without a camera.

SPEC is KEY=VALUE pairs joined by commas: frames (60), size (1280x720), f (focal length px, 0.75 of the width), body
(a marker body file; may be repeated; a board of four 36h11 tags when left out), distance (mm, 600), noise (grey, 2),
blur (px, 0.7), bend (k1, -0.1), seed (0), fps (30).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spatial.frames import Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from tracking.bodies.body import Body, board, load
from tracking.frame import Frame
from tracking.sources.source import Closing
from tracking.synthetic.camera import BadSynthetic, Optics, Shot, SyntheticCamera, orbit


class SyntheticSource(Closing):
    """Rendered pictures of marker bodies; `shots` gives them with the truth."""

    def __init__(self, spec: str) -> None:
        """Read SPEC. Raises BadSynthetic."""
        self.spec = spec
        values: dict[str, str] = {}
        files: list[str] = []
        known = ("frames", "size", "f", "distance", "noise", "blur", "bend", "seed", "fps")
        for pair in filter(None, spec.split(",")):
            key, _, value = pair.partition("=")
            if key == "body":
                files.append(value)
            elif key in known:
                values[key] = value
            else:
                raise BadSynthetic(f"{key} is unknown; known: {', '.join(known)}, body")
        try:
            width, height = (int(n) for n in values.get("size", "1280x720").split("x"))
            focal = float(values.get("f", 0.75 * width))
            self.frames = int(values.get("frames", 60))
            self.distance_mm = float(values.get("distance", 600))
            self.fps = float(values.get("fps", 30))
            optics = Optics(float(values.get("blur", 0.7)), float(values.get("noise", 2.0)))
            seed, bend = int(values.get("seed", 0)), float(values.get("bend", -0.1))
        except ValueError as error:
            raise BadSynthetic(f"{spec}: {error}; sizes are as 1280x720, the rest are numbers") from None
        if self.frames < 1 or not 16 <= width <= 8192 or not 16 <= height <= 8192 or self.fps <= 0:
            raise BadSynthetic(f"{spec}: at least one frame, 16 to 8192 px and a rate above zero are needed")
        self.pinhole = Pinhole(
            width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, (bend, 0.0, 0.0, 0.0) if bend else ()
        )
        self.bodies: tuple[Body[Any], ...] = tuple(load(Path(file)) for file in files) or (tag_board(),)
        self._camera = SyntheticCamera(self.pinhole, self.bodies, optics=optics, fps=self.fps, seed=seed)

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"synthetic:{self.spec}"

    @cached_property
    def patient_from_body(self) -> dict[str, Rigid[Patient, Any]]:
        """Bodies side by side, 30 mm apart, faces toward the camera (the patient's back, +y)."""
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

    def shots(self) -> Iterator[Shot]:
        """Every frame with the truth beside it."""
        places = self.patient_from_body
        centre = np.mean([pose.translation_mm for pose in places.values()], axis=0)
        path = orbit(centre, np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), self.distance_mm, self.frames, fps=self.fps)
        for index, camera_from_patient in enumerate(path):
            yield self._camera.shoot(index, camera_from_patient, places)

    def __iter__(self) -> Iterator[Frame]:
        """The pictures alone."""
        for shot in self.shots():
            yield shot.frame


def tag_board() -> Body[Any]:
    """Four 40 mm tags (36h11, 0 to 3) in a flat 2 x 2 board, 60 mm apart."""
    return board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
