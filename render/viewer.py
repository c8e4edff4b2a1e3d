"""What mouse and keys do to a view of the twin, as pure state: turn, shift, zoom, standard views, layers on and off."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from render.orbit import STANDARD_TURNS, Orbit
from render.orientation import orientation_axes, orientation_labels
from render.scene import Scene, ScreenText, View
from spatial.frames import Patient
from spatial.rigid import Rigid, Similarity

KEYS = (
    "1 anterior   2 left   3 posterior   4 right   5 oblique   6 head\n"
    "B bones   X x-ray   P plan   L labels   R reset   S picture   H help   Esc close"
)
_LAYER_OF_KEY = {"B": "bones", "P": "plan", "L": "labels"}
_RAD_PER_PX = 0.006


@dataclass(frozen=True, slots=True, eq=False)
class ViewerState:
    """Where the eye stands and what is shown; `home` is what R goes back to."""

    orbit: Orbit
    home: Orbit
    hidden: frozenset[str] = field(default_factory=frozenset)
    is_xray: bool = False
    shows_help: bool = True

    @classmethod
    def of(cls, scene: Scene[Any], azimuth_rad: float = -0.5, elevation_rad: float = 0.15) -> ViewerState:
        """The whole scene, seen a little from the side; raises BadScene when there is nothing to see."""
        orbit = Orbit.around(*scene.bounds_mm(), azimuth_rad, elevation_rad)
        return cls(orbit, orbit)

    def keyed(self, key: str) -> ViewerState:
        """After a key; unknown keys change nothing."""
        names = list(STANDARD_TURNS)
        if key in _LAYER_OF_KEY:
            return replace(self, hidden=self.hidden ^ {_LAYER_OF_KEY[key]})
        if key == "X":
            return replace(self, is_xray=not self.is_xray)
        if key == "H":
            return replace(self, shows_help=not self.shows_help)
        if key == "R":
            return replace(self, orbit=self.home)
        if key.isdigit() and 1 <= int(key) <= len(names):
            azimuth_rad, elevation_rad = STANDARD_TURNS[names[int(key) - 1]]
            return replace(self, orbit=replace(self.orbit, azimuth_rad=azimuth_rad, elevation_rad=elevation_rad))
        return self

    def dragged(
        self, button: Literal["left", "middle", "right"], right_px: float, down_px: float, height_px: int
    ) -> ViewerState:
        """After a drag: left turns, middle shifts, right zooms."""
        if button == "left":
            orbit = self.orbit.turned(-right_px * _RAD_PER_PX, down_px * _RAD_PER_PX)
        elif button == "middle":
            orbit = self.orbit.panned(right_px, down_px, height_px)
        else:
            orbit = self.orbit.zoomed(float(np.exp(-3.0 * down_px / height_px)))
        return replace(self, orbit=orbit)

    def scrolled(self, notches: float) -> ViewerState:
        """After the wheel: up is nearer."""
        return replace(self, orbit=self.orbit.zoomed(1.12**notches))

    def dressed(
        self,
        scene: Scene[Any],
        view: View[Any],
        world_from_patient: Rigid[Any, Patient] | Similarity[Any, Patient] | None = None,
    ) -> Scene[Any]:
        """The scene as this state shows it, with the patient's directions at the edges and in the corner."""
        shown = scene.without(*self.hidden)
        if self.is_xray:
            shown = replace(
                shown,
                meshes=tuple(
                    replace(part, material=replace(part.material, mode="xray", opacity=1.0))
                    if part.layer == "bones"
                    else part
                    for part in shown.meshes
                ),
            )
        axes = orientation_axes(view, world_from_patient)
        words = orientation_labels(view, world_from_patient)
        if self.shows_help:
            height_px = float(np.clip(view.width_px / 100, 8.0, 12.0))
            place = (view.width_px - 1 - height_px, view.height_px - 1 - height_px)
            words += (ScreenText(KEYS, place, height_px, (0.72, 0.76, 0.80), "bottom_right"),)
        return shown.plus(axes.meshes, axes.lines, axes.labels, words)
