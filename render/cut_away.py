"""What a cut takes out of a part where it is drawn: the shader leaves it away, so no mesh is cut for a preview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from render.view import BadScene
from spatial.rigid import Array
from spatial.shapes import Plane

Shown = Literal["rest", "taken"]
CUT_BONE = (0.80, 0.47, 0.40)
MOST_PLANES = 8  # as in shaders/cut.glsl


@dataclass(frozen=True, eq=False)
class CutAway:
    """A room that is taken out of a part where it is drawn, without cutting its mesh: positive of all `planes`.

    One to eight planes in the mesh's own frame, so that they go where the part goes. `shows` the `rest` of the part, or
    the surface of what is `taken`, for a see-through ghost. Through the cut a closed solid mesh is seen to be full: a
    face of `face_rgb` in the plane of the cut. Against other parts that face has the depth of the wall behind it, so
    what lies within the solid shows.
    """

    planes: tuple[Plane[Any], ...]
    shows: Shown = "rest"
    face_rgb: tuple[float, float, float] = CUT_BONE

    def __post_init__(self) -> None:
        """Check the number of planes and the colour."""
        object.__setattr__(self, "planes", tuple(self.planes))
        if not 1 <= len(self.planes) <= MOST_PLANES:
            raise BadScene(f"a cut by {len(self.planes)} planes; one to {MOST_PLANES} can be drawn")
        if self.shows not in ("rest", "taken"):
            raise BadScene(f"a cut that shows {self.shows!r}; rest or taken")
        if not all(0.0 <= c <= 1.0 for c in self.face_rgb):
            raise BadScene(f"a cut face's colour is {self.face_rgb}; three numbers from 0 to 1 are needed")

    def rows_in_eye(self, eye_from_mesh: Array) -> Array:
        """The planes as rows (8, 4) for a homogeneous pose (4, 4): n . x + d mm is positive within; repeated to 8."""
        own = np.array([[*plane.normal, -float(plane.normal @ plane.point_mm)] for plane in self.planes])
        rows = own @ np.linalg.inv(eye_from_mesh)
        rows /= np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
        return np.asarray(rows[np.arange(MOST_PLANES) % len(rows)])

    def cells(self) -> Array:
        """The convex parts that are drawn, as rows (K, 8) over the planes: 1 within, -1 beyond, 0 either."""
        count = len(self.planes)
        if self.shows == "taken":
            return np.array([[1.0] * count + [0.0] * (MOST_PLANES - count)])
        return np.asarray(np.tri(count, MOST_PLANES, -1) - np.eye(count, MOST_PLANES))

    def far_cells(self, rows_in_eye: Array, is_parallel: bool) -> Array:
        """Where walls can be seen through the cut, as `cells`: behind a plane facing the eye, within those that don't.

        The eye's ray must enter by each of the others and leave by that plane, so nothing else needs to be drawn.
        """
        count = len(self.planes)
        faces_eye = rows_in_eye[:count, 2 if is_parallel else 3] > 0
        cells = [np.where(faces_eye, 0.0, 1.0) - np.eye(count)[number] for number in np.flatnonzero(faces_eye)]
        return np.pad(np.reshape(cells, (-1, count)), ((0, 0), (0, MOST_PLANES - count)))
