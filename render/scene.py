"""What is to be seen, as a value: meshes, lines, words, light and backdrop in one world frame W.

W is Patient for a planning picture and for the overlay, Stage for the rehearsal. Nothing here knows of a GPU.
Colours are sRGB as a display shows them, 0 to 1. Pixels count from the picture's top-left, centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Generic, Literal

import numpy as np
from numpy.typing import NDArray

from render.cut_away import CutAway
from render.view import BadScene as BadScene
from render.view import View as View
from render.view import W as W
from spatial.frames import Eye
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Rigid, Similarity, readonly

Rgb = tuple[float, float, float]
Mode = Literal["lit", "translucent", "xray"]
Anchor = Literal["centre", "left", "right", "top", "bottom", "top_left", "top_right", "bottom_left", "bottom_right"]

WHITE: Rgb = (1.0, 1.0, 1.0)
BLACK: Rgb = (0.0, 0.0, 0.0)


def _check_rgb(rgb: Rgb, what: str) -> None:
    if not all(0.0 <= c <= 1.0 for c in rgb):
        raise BadScene(f"{what} is {rgb}; three numbers from 0 to 1 are needed (were they 0 to 255?)")


def _check_unit(value: float, what: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise BadScene(f"{what} is {value}; it lies between 0 and 1")


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface looks.

    `lit`: solid. `translucent`: seen through by `opacity`, in any order. `xray`: clear where it faces the eye and
    bright at its outline, so that what stands inside shows. `shine` is the strength of the highlight, `metal` tints it
    with the colour of the surface; `two_sided` also draws faces that look away (open shells and planes).
    """

    rgb: Rgb = (0.89, 0.85, 0.76)
    opacity: float = 1.0
    mode: Mode = "lit"
    shine: float = 0.25
    metal: float = 0.0
    two_sided: bool = False

    def __post_init__(self) -> None:
        """Check the scales."""
        _check_rgb(self.rgb, "a material's colour")
        for value, what in ((self.opacity, "opacity"), (self.shine, "shine"), (self.metal, "metal")):
            _check_unit(value, what)
        if self.mode not in ("lit", "translucent", "xray"):
            raise BadScene(f"mode {self.mode!r}; lit, translucent or xray")


@dataclass(frozen=True, eq=False)
class MeshPart(Generic[W]):
    """A mesh where it stands in the world; None as `world_from_mesh`: its coordinates are the world's.

    Keep the same `mesh` object from frame to frame: the painter uploads each object once. A `layer` ("bones", "plan")
    groups parts that are switched on and off together. A `cut_away` may change every frame: nothing is uploaded for it.
    """

    name: str
    mesh: TriangleMesh[Any]
    world_from_mesh: Rigid[W, Any] | Similarity[W, Any] | None = None
    material: Material = Material()
    layer: str = ""
    cut_away: CutAway | None = None

    def matrix(self) -> Array:
        """World from mesh, homogeneous (4, 4)."""
        return np.eye(4) if self.world_from_mesh is None else self.world_from_mesh.matrix()


@dataclass(frozen=True, eq=False)
class LinePart(Generic[W]):
    """Line segments (N, 2, 3) mm in the world, or a polyline (N, 3); `on_top` draws them through what hides them."""

    points_mm: Array
    rgb: Rgb = WHITE
    width_px: float = 2.0
    opacity: float = 1.0
    on_top: bool = False
    layer: str = ""

    def __post_init__(self) -> None:
        """A polyline becomes its segments; frozen."""
        points = readonly(self.points_mm, None, "LinePart.points_mm")
        if points.ndim == 2:
            points = readonly(np.stack([points[:-1], points[1:]], axis=1), None, "LinePart.points_mm")
        if points.ndim != 3 or points.shape[1] != 2:
            raise BadScene(f"line points of shape {points.shape}; (N, 2, 3) or (N, 3) is needed")
        object.__setattr__(self, "points_mm", points)
        _check_rgb(self.rgb, "a line's colour")
        _check_unit(self.opacity, "opacity")
        if not self.width_px > 0:
            raise BadScene(f"line width {self.width_px} px; it must be above zero")


@dataclass(frozen=True, eq=False)
class TextPart(Generic[W]):
    """Words at a place in the world, upright in the picture; the height is the font's size, in px or (if given) mm.

    `anchor` is the point of the words that stands at the place: `left`, the words begin there. `on_top`: never hidden.
    The outline is dark round light words and light round dark ones, unless it is given; None: no outline.
    """

    text: str
    position_mm: Array
    height_px: float = 14.0
    height_mm: float | None = None
    rgb: Rgb = WHITE
    anchor: Anchor = "centre"
    outline_rgb: Rgb | Literal["contrast"] | None = "contrast"
    on_top: bool = True
    layer: str = ""

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "position_mm", readonly(self.position_mm, (3,), "TextPart.position_mm"))
        _check_rgb(self.rgb, "a label's colour")
        if not (self.height_px > 0 and (self.height_mm is None or self.height_mm > 0)):
            raise BadScene(f"label {self.text!r} has no height")


@dataclass(frozen=True, slots=True)
class ScreenText:
    """Words on the picture itself: `position_px` (x, y) from the top-left, `anchor` as in TextPart.

    `panel_opacity` above zero lays a dark panel behind, for words over a camera's picture. Lines break at newlines.
    """

    text: str
    position_px: tuple[float, float]
    height_px: float = 14.0
    rgb: Rgb = WHITE
    anchor: Anchor = "centre"
    outline_rgb: Rgb | Literal["contrast"] | None = "contrast"
    panel_opacity: float = 0.0

    def __post_init__(self) -> None:
        """Check the scales."""
        _check_rgb(self.rgb, "a text's colour")
        _check_unit(self.panel_opacity, "panel opacity")
        if not self.height_px > 0:
            raise BadScene(f"text {self.text!r} has no height")


@dataclass(frozen=True, eq=False)
class Light:
    """A key light that travels with the eye, and the sky's and the ground's ambient light.

    `toward_key` (3,) points from the scene to the key light, in Eye: x right, y up, z toward the viewer. `occlusion`
    is how much crevices darken, within `occlusion_mm`, where the painter does that.
    """

    toward_key: Array = field(default_factory=lambda: np.array([-0.45, 0.62, 0.65]))
    key: float = 0.92
    sky: Rgb = (0.25, 0.265, 0.295)
    ground: Rgb = (0.105, 0.085, 0.075)
    occlusion: float = 0.9
    occlusion_mm: float = 14.0

    def __post_init__(self) -> None:
        """Normalise the direction."""
        object.__setattr__(self, "toward_key", Directions[Eye](self.toward_key).unit)


@dataclass(frozen=True, eq=False)
class Scene(Generic[W]):
    """Everything in one picture. `picture` (h, w, 3) uint8, the undistorted camera frame, replaces the background."""

    meshes: tuple[MeshPart[W], ...] = ()
    lines: tuple[LinePart[W], ...] = ()
    labels: tuple[TextPart[W], ...] = ()
    screen_texts: tuple[ScreenText, ...] = ()
    light: Light = field(default_factory=Light)
    background_rgb: Rgb = (0.055, 0.065, 0.08)
    background_top_rgb: Rgb | None = (0.16, 0.185, 0.22)
    picture: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Freeze the sequences; check the picture."""
        for name in ("meshes", "lines", "labels", "screen_texts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_rgb(self.background_rgb, "the background")
        if self.background_top_rgb is not None:
            _check_rgb(self.background_top_rgb, "the background's top")
        p = self.picture
        if p is not None and (p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3):
            raise BadScene(f"backdrop {p.dtype} {p.shape}; uint8 (height, width, 3) in RGB order is needed")

    def plus(
        self,
        meshes: tuple[MeshPart[W], ...] = (),
        lines: tuple[LinePart[W], ...] = (),
        labels: tuple[TextPart[W], ...] = (),
        screen_texts: tuple[ScreenText, ...] = (),
    ) -> Scene[W]:
        """The same scene with more in it."""
        return replace(
            self,
            meshes=self.meshes + meshes,
            lines=self.lines + lines,
            labels=self.labels + labels,
            screen_texts=self.screen_texts + screen_texts,
        )

    def without(self, *layers: str) -> Scene[W]:
        """The scene less the parts of these layers."""
        return replace(
            self,
            meshes=tuple(part for part in self.meshes if part.layer not in layers),
            lines=tuple(part for part in self.lines if part.layer not in layers),
            labels=tuple(part for part in self.labels if part.layer not in layers),
        )

    def bounds_mm(self) -> tuple[Array, Array]:
        """Lowest and highest corner (3,) over all meshes, in the world. Raises BadScene when there is none."""
        lows, highs = [], []
        for part in self.meshes:
            low, high = part.mesh.bounds_mm
            corners = np.array(list(product(*zip(low, high, strict=True))))
            M = part.matrix()
            corners = corners @ M[:3, :3].T + M[:3, 3]
            lows.append(corners.min(axis=0))
            highs.append(corners.max(axis=0))
        if not lows:
            raise BadScene("a scene without meshes has no bounds")
        return np.min(lows, axis=0), np.max(highs, axis=0)
