"""What is to be seen, as a value: meshes, lines, words, light and backdrop in one world frame W; and the View of it.

W is Patient for a planning picture, Stage for the rehearsal and Camera for the overlay. Nothing here knows of a GPU.
Colours are sRGB as a display shows them, 0 to 1. Pixels count from the picture's top-left, centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial.faults import Fault
from spatial.frames import Camera, Eye, Frame
from spatial.mesh import TriangleMesh
from spatial.pinhole import EYE_FROM_CAMERA, Pinhole
from spatial.rigid import Array, Directions, Points, Rigid, Similarity, readonly

W = TypeVar("W", bound=Frame)
Rgb = tuple[float, float, float]
Mode = Literal["lit", "translucent", "xray"]
Anchor = Literal["centre", "left", "right", "top", "bottom", "top_left", "top_right", "bottom_left", "bottom_right"]

WHITE: Rgb = (1.0, 1.0, 1.0)
BLACK: Rgb = (0.0, 0.0, 0.0)


class BadScene(Fault):
    """A part that can't be drawn: a colour off the scale, points of the wrong shape, a picture of another size."""


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
    groups parts that are switched on and off together.
    """

    name: str
    mesh: TriangleMesh[Any]
    world_from_mesh: Rigid[W, Any] | Similarity[W, Any] | None = None
    material: Material = Material()
    layer: str = ""

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
    """

    text: str
    position_mm: Array
    height_px: float = 14.0
    height_mm: float | None = None
    rgb: Rgb = WHITE
    anchor: Anchor = "centre"
    outline_rgb: Rgb | None = (0.04, 0.05, 0.07)
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
    outline_rgb: Rgb | None = (0.04, 0.05, 0.07)
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


@dataclass(frozen=True, eq=False)
class View(Generic[W]):
    """Where one looks from and through which lens: `projection` (4, 4) is OpenGL's, from Eye to clip coordinates."""

    eye_from_world: Rigid[Eye, W] | Similarity[Eye, W]
    projection: Array
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "projection", readonly(self.projection, (4, 4), "View.projection"))
        if self.width_px < 1 or self.height_px < 1:
            raise BadScene(f"a view of {self.width_px} x {self.height_px} px")

    @classmethod
    def from_pinhole(
        cls,
        pinhole: Pinhole,
        camera_from_world: Rigid[Camera, W] | Similarity[Camera, W],
        near_mm: float = 10.0,
        far_mm: float = 5000.0,
    ) -> View[W]:
        """A real camera's view onto its undistorted picture; lands on OpenCV's pixels."""
        eye_from_world: Rigid[Eye, W] | Similarity[Eye, W]
        if isinstance(camera_from_world, Similarity):
            eye_from_world = Similarity[Eye, Camera].of(EYE_FROM_CAMERA) @ camera_from_world
        else:
            eye_from_world = EYE_FROM_CAMERA @ camera_from_world
        return cls(eye_from_world, pinhole.gl_projection(near_mm, far_mm), pinhole.width_px, pinhole.height_px)

    @classmethod
    def looking(
        cls,
        at_mm: ArrayLike,
        from_mm: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        fov_y_rad: float = 0.6,
        near_mm: float | None = None,
        far_mm: float | None = None,
    ) -> View[W]:
        """A perspective view from one point to another; near and far default to 1/50 and 4 times their distance."""
        eye_from_world, distance_mm = _look(at_mm, from_mm, up)
        near = distance_mm / 50.0 if near_mm is None else near_mm
        far = distance_mm * 4.0 if far_mm is None else far_mm
        f = 1.0 / np.tan(fov_y_rad / 2.0)
        P = np.zeros((4, 4))
        P[0, 0], P[1, 1] = f * height_px / width_px, f
        P[2, 2], P[2, 3], P[3, 2] = -(far + near) / (far - near), -2.0 * far * near / (far - near), -1.0
        return cls(eye_from_world, P, width_px, height_px)

    @classmethod
    def parallel(
        cls,
        at_mm: ArrayLike,
        from_mm: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        span_mm: float,
    ) -> View[W]:
        """A parallel view, as a radiograph's picture is read: `span_mm` fills the height; near and far are generous."""
        eye_from_world, distance_mm = _look(at_mm, from_mm, up)
        near, far = distance_mm - 4.0 * span_mm, distance_mm + 4.0 * span_mm
        P = np.diag([2.0 * height_px / (span_mm * width_px), 2.0 / span_mm, -2.0 / (far - near), 1.0])
        P[2, 3] = -(far + near) / (far - near)
        return cls(eye_from_world, P, width_px, height_px)

    @classmethod
    def framing(
        cls,
        points: Points[W],
        toward_eye: ArrayLike,
        up: ArrayLike,
        width_px: int,
        height_px: int,
        *,
        fov_y_rad: float = 0.45,
        margin: float = 0.08,
    ) -> View[W]:
        """The nearest perspective view from `toward_eye` (a direction) that holds all points (N, 3) in its margin."""
        mm = points.mm.reshape(-1, 3)
        eye_from_world, _ = _look(np.zeros(3), toward_eye, up)
        turned = mm @ eye_from_world.rotation.T
        t_y = np.tan(fov_y_rad / 2.0) * (1.0 - 2.0 * margin)
        t = np.array([t_y * width_px / height_px, t_y])
        # Each edge of the frame asks one thing of the distance d and the shift c: +-(x - c) <= t (d - z).
        high = (turned[:, :2] + t * turned[:, 2:]).max(axis=0)
        low = (-turned[:, :2] + t * turned[:, 2:]).max(axis=0)
        d = float(((high + low) / (2.0 * t)).max())
        reach = d - turned[:, 2]
        centre = np.array([*((high - low) / 2.0), float(turned[:, 2].mean())])
        eye = np.array([centre[0], centre[1], d])
        R = eye_from_world.rotation
        return cls.looking(
            R.T @ centre,
            R.T @ eye,
            R[1],
            width_px,
            height_px,
            fov_y_rad=fov_y_rad,
            near_mm=max(float(reach.min()) * 0.5, d / 500.0),
            far_mm=float(reach.max()) * 1.5,
        )

    @property
    def is_parallel(self) -> bool:
        """Whether size is the same at every depth."""
        return bool(self.projection[3, 2] == 0.0)

    @property
    def rotation(self) -> Array:
        """Eye from world, the rotation alone (3, 3)."""
        return self.eye_from_world.rotation

    def clip_from_world(self) -> Array:
        """Homogeneous (4, 4), float64."""
        return np.asarray(self.projection @ self.eye_from_world.matrix())

    def pixels(self, points: Points[W]) -> Array:
        """Pixels (..., 2) where the painter draws world points, (u, v) from the top-left; NaN behind the eye."""
        M = self.clip_from_world()
        clip = points.mm @ M[:, :3].T + M[:, 3]
        w = np.where(clip[..., 3] > 1e-9, clip[..., 3], np.nan)
        x, y = clip[..., 0] / w, clip[..., 1] / w
        return np.stack([(x + 1) * self.width_px / 2 - 0.5, (1 - y) * self.height_px / 2 - 0.5], axis=-1)

    def depths_mm(self, points: Points[W]) -> Array:
        """Distance (...,) before the eye along its axis (in the world's scale as the eye sees it)."""
        M = self.eye_from_world.matrix()
        return np.asarray(-(points.mm @ M[2, :3] + M[2, 3]))

    def pixels_per_mm(self, points: Points[W]) -> Array:
        """How tall (...,) one world millimetre, parallel to the picture, is drawn at each point; NaN behind the eye."""
        M = self.clip_from_world()
        w = points.mm @ M[3, :3] + M[3, 3]
        scale = self.eye_from_world.scale if isinstance(self.eye_from_world, Similarity) else 1.0
        return np.asarray(self.projection[1, 1] * scale * self.height_px / 2 / np.where(w > 1e-9, w, np.nan))


def _look(at_mm: ArrayLike, from_mm: ArrayLike, up: ArrayLike) -> tuple[Rigid[Eye, Any], float]:
    at, eye = readonly(at_mm, (3,), "at_mm"), readonly(from_mm, (3,), "from_mm")
    distance_mm = float(np.linalg.norm(eye - at))
    right = np.cross(np.asarray(up, dtype=np.float64), eye - at)
    if distance_mm < 1e-9 or float(np.linalg.norm(right)) < 1e-9 * distance_mm:
        raise BadScene("the view has no direction: the eye stands at its target, or `up` lies along the line of sight")
    z = (eye - at) / distance_mm
    x = right / np.linalg.norm(right)
    R = np.stack([x, np.cross(z, x), z])
    return Rigid[Eye, Any](R, -R @ eye), distance_mm
