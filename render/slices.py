"""Section pictures of a CT for reports: grey values through any plane, what it cuts drawn over it, letters, scale.

Pictures are read as radiologists hang them: the patient's right on the picture's left, the head or the front on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from render.glyphs import FONTS
from render.orientation import direction_letters
from render.scene import BadScene, Rgb
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points, readonly
from spatial.shapes import Line, Plane

BONE_WINDOW_HU = (400.0, 1800.0)  # centre and width
_FINER = 3  # outlines are drawn this many times as fine and averaged
_LETTER_RGB: Rgb = (0.98, 0.86, 0.45)
_SPLINE = 8  # voxels beside a block after which its cubic splines are those of the whole
_OUTSIDE_RGB = (14, 17, 20)  # where there is no scan: not black, which is air
_NICE_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """Grey values (k, j, i) and the affine (3, 4) that gives fractional (i, j, k) of patient points in mm."""

    hu: NDArray[np.int16]
    index_from_patient: Array
    bend: tuple[Array, float] | None = None
    """Rows (z, x) mm of a course, and the x at which it is shown: each height is read as far to the side of it."""

    def at(self, points: Points[Patient], *, smooth: bool = False) -> Array:
        """Values (...,) at points, NaN beyond the outermost voxels: trilinear, or by cubic splines when `smooth`."""
        M = self.index_from_patient
        mm = points.mm
        if self.bend is not None:
            course, x_mm = self.bend
            mm = mm + (np.interp(mm[..., 2], course[:, 0], course[:, 1]) - x_mm)[..., None] * np.array([1.0, 0.0, 0.0])
        ijk = mm @ M[:, :3].T + M[:, 3]
        kji = ijk[..., ::-1].reshape(-1, 3)
        shape = np.array(self.hu.shape)
        outside = ((kji < -0.5) | (kji > shape - 0.5)).any(axis=1)
        inside = kji[~outside]
        values = np.full(len(kji), np.nan)
        if len(inside):  # splines need the whole block: only what the picture reaches
            low = np.maximum(np.floor(inside.min(axis=0)).astype(int) - _SPLINE, 0)
            high = np.minimum(np.ceil(inside.max(axis=0)).astype(int) + _SPLINE + 1, shape)
            block = self.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
            order: Literal[1, 3] = 3 if smooth and min(block.shape) > 3 else 1
            values[~outside] = ndimage.map_coordinates(
                block, (inside - low).T, output=np.float64, order=order, mode="nearest"
            )
        return np.asarray(values.reshape(mm.shape[:-1]))


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A picture's plane: its middle, the unit directions of the picture's right and down, and the size of a pixel."""

    name: str
    centre_mm: Array
    right: Array
    down: Array
    px_mm: float
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        """Freeze; right and down must be perpendicular."""
        object.__setattr__(self, "centre_mm", readonly(self.centre_mm, (3,), "Slice.centre_mm"))
        object.__setattr__(self, "right", Directions[Patient](self.right).unit)
        object.__setattr__(self, "down", Directions[Patient](self.down).unit)
        if abs(float(self.right @ self.down)) > 1e-6:
            raise BadScene("the picture's right and down are not perpendicular")
        if not self.px_mm > 0 or self.width_px < 1 or self.height_px < 1:
            raise BadScene(f"a slice of {self.width_px} x {self.height_px} px of {self.px_mm} mm")

    @classmethod
    def axial(cls, centre_mm: ArrayLike, width_mm: float = 120.0, width_px: int = 640, height_px: int = 640) -> Slice:
        """Seen from the feet: the patient's right on the left, the front on top."""
        right, down = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
        return cls("Axial", np.asarray(centre_mm), right, down, width_mm / width_px, width_px, height_px)

    @classmethod
    def coronal(cls, centre_mm: ArrayLike, width_mm: float = 120.0, width_px: int = 640, height_px: int = 640) -> Slice:
        """Seen from the front: the patient's right on the left, the head on top."""
        right, down = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])
        return cls("Coronal", np.asarray(centre_mm), right, down, width_mm / width_px, width_px, height_px)

    @classmethod
    def sagittal(
        cls, centre_mm: ArrayLike, width_mm: float = 120.0, width_px: int = 640, height_px: int = 640
    ) -> Slice:
        """Seen from the patient's left: the front on the left, the head on top."""
        right, down = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
        return cls("Sagittal", np.asarray(centre_mm), right, down, width_mm / width_px, width_px, height_px)

    @classmethod
    def along(cls, name: str, axis: Line[Patient], near: Slice, centre_along_mm: float = 20.0) -> Slice:
        """The slice nearest to `near` (axial, sagittal or coronal) that holds an axis whole: a screw's own plane."""
        u = axis.direction
        normal = np.cross(near.right, near.down)
        normal = normal - (normal @ u) * u
        if float(np.linalg.norm(normal)) < 1e-6:
            raise BadScene(f"the axis stands across the {near.name.lower()} slice; no slice near it holds the axis")
        normal /= np.linalg.norm(normal)
        down = near.down - (near.down @ normal) * normal
        down /= np.linalg.norm(down)
        centre = axis.at(centre_along_mm).mm
        return cls(name, centre, np.cross(down, normal), down, near.px_mm, near.width_px, near.height_px)

    @property
    def plane(self) -> Plane[Patient]:
        """The plane; its normal points away from the viewer."""
        return Plane[Patient](self.centre_mm, np.cross(self.right, self.down))

    def points(self) -> Points[Patient]:
        """The pixels' centres (h, w, 3)."""
        u = (np.arange(self.width_px) - (self.width_px - 1) / 2) * self.px_mm
        v = (np.arange(self.height_px) - (self.height_px - 1) / 2) * self.px_mm
        return Points[Patient](self.centre_mm + u[None, :, None] * self.right + v[:, None, None] * self.down)

    def pixels(self, points: Points[Patient]) -> Array:
        """Pixels (..., 2), centres at integers, of points seen straight onto the plane."""
        d = points.mm - self.centre_mm
        middle = np.array([self.width_px - 1, self.height_px - 1]) / 2
        return np.stack([d @ self.right, d @ self.down], axis=-1) / self.px_mm + middle


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A surface whose cut by the slice is drawn; `shade` from 0 to 1 fills it (it must be closed)."""

    mesh: TriangleMesh[Patient]
    rgb: Rgb
    width_px: float = 1.6
    shade: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """A polyline (N, 3) seen straight onto the slice: an axis, a cut plane's trace."""

    points_mm: Array
    rgb: Rgb
    width_px: float = 1.6


def slice_picture(
    voxels: Voxels | None,
    where: Slice,
    *,
    outlines: Sequence[Outline] = (),
    strokes: Sequence[Stroke] = (),
    window_hu: tuple[float, float] = BONE_WINDOW_HU,
    title: str | None = None,
    smooth: bool = False,
    text_px: int | None = None,
) -> NDArray[np.uint8]:
    """The picture (h, w, 3): the CT (None: black), what the slice cuts, letters at the edges, a bar in mm, window.

    `smooth` reads the CT by cubic splines (for coarse voxels) and keeps what lies outside the scan apart from air. An
    empty title leaves title and window to the page around.
    """
    grey = np.zeros((where.height_px, where.width_px))
    outside = np.zeros(grey.shape, dtype=bool)
    if voxels is not None:
        low = window_hu[0] - window_hu[1] / 2
        values = voxels.at(where.points(), smooth=smooth)
        outside = np.isnan(values) & smooth
        grey = np.clip((np.nan_to_num(values, nan=-1e4) - low) / window_hu[1], 0.0, 1.0)
    picture = np.repeat((255.0 * grey)[..., None], 3, axis=2)
    picture[outside] = _OUTSIDE_RGB
    for outline in outlines:
        segments = outline.mesh.section(where.plane)
        if len(segments):
            px = where.pixels(Points[Patient](segments))
            if outline.shade > 0:
                inside = filled(px, where.width_px, where.height_px)[..., None] * outline.shade
                picture = picture * (1 - inside) + 255.0 * np.array(outline.rgb) * inside
            picture = _stroked(picture, px, outline.rgb, outline.width_px)
    for stroke in strokes:
        px = where.pixels(Points[Patient](stroke.points_mm))
        picture = _stroked(picture, np.stack([px[:-1], px[1:]], axis=1), stroke.rgb, stroke.width_px)
    image = Image.fromarray(np.clip(picture, 0, 255).round().astype(np.uint8))
    size = max(11, round(0.034 * min(image.size))) if text_px is None else text_px
    told = window_hu if voxels is not None and title != "" else None
    _annotate(image, where, told, where.name if title is None else title, size)
    return np.asarray(image)


def mosaic(pictures: Sequence[NDArray[np.uint8]], columns: int, gap_px: int = 6) -> NDArray[np.uint8]:
    """Pictures of one size side by side on black."""
    if not pictures:
        raise BadScene("no pictures to lay side by side")
    h, w, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    out = np.zeros((rows * h + (rows - 1) * gap_px, columns * w + (columns - 1) * gap_px, 3), dtype=np.uint8)
    for n, picture in enumerate(pictures):
        y, x = (n // columns) * (h + gap_px), (n % columns) * (w + gap_px)
        out[y : y + h, x : x + w] = picture
    return out


def _stroked(picture: Array, segments_px: Array, rgb: Rgb, width_px: float) -> Array:
    """Segments (K, 2, 2) px drawn smoothly over the picture."""
    height, width, _ = picture.shape
    finite = segments_px[np.isfinite(segments_px).all(axis=(1, 2))]
    if not len(finite):
        return picture
    low = np.clip(np.floor(finite.min(axis=(0, 1)) - width_px - 1), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(finite.max(axis=(0, 1)) + width_px + 2), 0, (width, height)).astype(int)
    (left, top), (w, h) = low, high - low
    if w <= 0 or h <= 0:
        return picture
    image = Image.new("L", (int(w) * _FINER, int(h) * _FINER))
    pen = ImageDraw.Draw(image)
    wide = max(1, round(width_px * _FINER))
    for (x0, y0), (x1, y1) in (finite - low + 0.5) * _FINER:
        pen.line((float(x0), float(y0), float(x1), float(y1)), fill=255, width=wide)
        if wide > 2:  # round the joints
            r = wide / 2 - 0.5
            pen.ellipse((float(x0) - r, float(y0) - r, float(x0) + r, float(y0) + r), fill=255)
    cover = np.asarray(image, dtype=np.float64).reshape(h, _FINER, w, _FINER).mean(axis=(1, 3))[..., None] / 255.0
    out = picture.copy()
    block = out[top : top + h, left : left + w]
    block *= 1 - cover
    block += 255.0 * np.array(rgb) * cover
    return out


def filled(segments_px: Array, width_px: int, height_px: int) -> Array:
    """What closed outlines hold (h, w): 1 where a ray from the left has crossed an odd number of segments."""
    crossings = np.zeros((height_px, width_px + 1), dtype=np.int64)
    for (x0, y0), (x1, y1) in segments_px:
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, int(np.ceil(y0))), min(height_px, int(np.ceil(y1))))
        if len(rows):
            x = x0 + (rows - y0) / (y1 - y0) * (x1 - x0)
            np.add.at(crossings, (rows, np.clip(np.ceil(x).astype(int), 0, width_px)), 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :width_px] % 2, dtype=np.float64)


@lru_cache(maxsize=16)
def _font(size_px: int) -> Any:
    return ImageFont.truetype(str(FONTS / "Inter-Medium.otf"), size_px)


def _annotate(image: Image.Image, where: Slice, window_hu: tuple[float, float] | None, title: str, size: int) -> None:
    w, h = image.size
    pen = ImageDraw.Draw(image)
    gap = round(0.8 * size)

    def say(text: str, x: float, y: float, anchor: str, rgb: Rgb, scale: float = 1.0) -> None:
        fill = tuple(round(255 * c) for c in rgb)
        pen.text(
            (x, y),
            text,
            fill=fill,
            font=_font(round(size * scale)),
            anchor=anchor,
            stroke_width=2,
            stroke_fill=(8, 9, 12),
        )

    say(direction_letters(-where.right), gap, h / 2, "lm", _LETTER_RGB, 1.15)
    say(direction_letters(where.right), w - gap, h / 2, "rm", _LETTER_RGB, 1.15)
    say(direction_letters(-where.down), w / 2, gap, "mt", _LETTER_RGB, 1.15)
    say(direction_letters(where.down), w / 2, h - gap, "mb", _LETTER_RGB, 1.15)
    say(title, gap, gap, "lt", (0.92, 0.94, 0.96))
    if window_hu is not None:
        say(f"C {window_hu[0]:.0f}  W {window_hu[1]:.0f} HU", gap, h - gap, "lb", (0.72, 0.76, 0.80), 0.8)
    bar_mm = max((mm for mm in _NICE_MM if mm / where.px_mm <= 0.3 * w), default=1)
    bar_px = bar_mm / where.px_mm
    y = h - gap
    for wide, colour in ((5, (8, 9, 12)), (2, (235, 240, 245))):
        extra = (wide - 2) / 2
        pen.line((w - gap - bar_px - extra, y, w - gap + extra, y), fill=colour, width=wide)
        for x in (w - gap - bar_px, w - gap):
            pen.line((x, y - 4 - extra, x, y + extra), fill=colour, width=wide)
    say(f"{bar_mm} mm", w - gap - bar_px / 2, y - 8, "mb", (0.92, 0.94, 0.96), 0.85)
