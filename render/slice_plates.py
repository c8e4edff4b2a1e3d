"""Slices of a case: through the middle of the anatomy and along the canal, each cut bone outlined and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from render.callouts import Callout, bytes_of, draw_callouts, font, placed
from render.exhibits import Exhibit, Standing, bones_of
from render.plate import BACK_RGB, LABEL_PX, LINE_PX, Panel, deepest, framed_page, gutter_px_of, low_high
from render.slices import Outline, Slice, Voxels, filled, slice_picture
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points

SLICE_PX = (420, 1000)  # least and most of a slice's sides
MARGIN_MM = 14.0


def slice_plates(
    exhibits: Sequence[Exhibit], voxels: Voxels | None, standing: Standing, window_hu: tuple[float, float]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Axial, coronal and sagittal through the middle of the anatomy; for a spine also the slice along its canal."""
    bones = bones_of(exhibits)
    low = np.min([one.coarse.bounds_mm[0] for one in bones], axis=0) - MARGIN_MM
    high = np.max([one.coarse.bounds_mm[1] for one in bones], axis=0) + MARGIN_MM
    if voxels is not None:
        low, high = _within(voxels, low, high)
    middle, through = _middle(bones)
    for where, words in (
        (_framed(Slice.axial, middle, low, high, (0, 1)), f"Axial{through}"),
        (_framed(Slice.coronal, middle, low, high, (0, 2)), "Coronal"),
        (_framed(Slice.sagittal, middle, low, high, (1, 2)), "Sagittal"),
    ):
        axis = int(np.argmax(np.abs(where.plane.normal)))
        place = f"{'xyz'[axis]} = {where.centre_mm[axis]:.1f} mm ({'LPH'[axis]} +)"
        yield where.name.lower(), _slice_plate(exhibits, voxels, where, (words, place), standing, window_hu)
    canal = next((one for one in exhibits if one.role != "bone" and "canal" in one.name), None)
    if canal is not None and voxels is not None:
        where = _framed(Slice.sagittal, middle, low, high, (1, 2))
        course = _course(canal)
        bent = [replace(one, mesh=_straightened(one.mesh, course, float(middle[0]))) for one in exhibits]
        along = replace(voxels, bend=(course, float(middle[0])))
        about = "Sagittal along the canal", "x follows the canal's middle: sideways bends are straightened"
        yield "canal", _slice_plate(bent, along, where, about, standing, window_hu)


def _slice_plate(
    exhibits: Sequence[Exhibit],
    voxels: Voxels | None,
    where: Slice,
    words: tuple[str, str],
    standing: Standing,
    window_hu: tuple[float, float],
) -> NDArray[np.uint8]:
    outlines = [Outline(one.mesh, one.outline_rgb, 1.5, 0.0 if voxels is not None else 0.12) for one in exhibits]
    picture = slice_picture(voxels, where, outlines=outlines, window_hu=window_hu, title="", smooth=True, text_px=21)
    gutter_px = gutter_px_of(exhibits)
    plate = Image.new("RGB", (where.width_px + 2 * gutter_px, where.height_px), bytes_of(BACK_RGB))
    plate.paste(Image.fromarray(picture), (gutter_px, 0))
    _name_sections(plate, exhibits, where, gutter_px)
    title, place = words
    window = f"window C {window_hu[0]:.0f} W {window_hu[1]:.0f} HU" if voxels is not None else "no CT: surfaces alone"
    return framed_page(title, [Panel(plate, f"{place}; {window}")], standing)


def _name_sections(page: Image.Image, exhibits: Sequence[Exhibit], where: Slice, gutter_px: int) -> None:
    """Each cut bone's name inside its outline where it fits, else beside the picture."""
    found = []
    for one in exhibits:
        segments = one.mesh.section(where.plane)
        if not len(segments):
            continue
        mask = filled(where.pixels(Points[Patient](segments)), where.width_px, where.height_px) > 0.5
        if not mask.any():
            continue
        x, y, depth = deepest(mask)
        found.append((depth, x, y, one))
    pen = ImageDraw.Draw(page)
    beside: list[Callout] = []
    w, h = page.width, where.height_px
    corners = ((w / 2, 0), (w / 2, h), (gutter_px, h / 2), (w - gutter_px, h / 2))  # where the letters stand
    taken: list[tuple[float, float, float, float]] = [(x - 44, y - 44, x + 44, y + 44) for x, y in corners]
    taken.append((w - gutter_px - 0.35 * where.width_px, h - 60, w, h))  # the scale
    for depth, x, y, one in sorted(found, key=lambda item: -item[0]):
        if depth < 1.5:
            continue
        at = (x + gutter_px, y)
        box = pen.textbbox(at, one.label, font=font(LABEL_PX, "SemiBold"), anchor="mm")
        roomy = depth >= 0.5 * (box[3] - box[1]) and 2.3 * depth >= box[2] - box[0]
        if roomy and not any(_boxes_meet(box, other) for other in taken):
            taken.append(box)
            pen.text(
                at, one.label, fill=bytes_of(one.outline_rgb), font=font(LABEL_PX, "SemiBold"), anchor="mm",
                stroke_width=3, stroke_fill=(8, 9, 12),
            )  # fmt: skip
        else:
            beside.append(Callout(one.label, at, one.outline_rgb, "left" if x < where.width_px / 2 else "right"))
    columns_px = gutter_px - 8, where.width_px + gutter_px + 8
    draw_callouts(page, placed(beside, 30.0, where.height_px - 50.0, LINE_PX, columns_px), columns_px, LABEL_PX)


def _boxes_meet(a: Any, b: Any) -> bool:
    return bool(a[0] < b[2] + 4 and b[0] < a[2] + 4 and a[1] < b[3] + 4 and b[1] < a[3] + 4)


def _middle(bones: Sequence[Exhibit]) -> tuple[Array, str]:
    """The middle of the anatomy: of the middle vertebra where there are any, else of all bones' surfaces."""
    chain = [one for one in bones if one.name.startswith("vertebrae_")]
    if chain:
        heights = np.array([one.middle_mm[2] for one in chain])
        nearest = chain[int(np.argmin(np.abs(heights - (heights.min() + heights.max()) / 2)))]
        lateral = float(np.median([one.middle_mm[0] for one in chain]))
        return np.array([lateral, nearest.middle_mm[1], nearest.middle_mm[2]]), f" through {nearest.label}"
    low = np.min([one.coarse.bounds_mm[0] for one in bones], axis=0)
    high = np.max([one.coarse.bounds_mm[1] for one in bones], axis=0)
    return (low + high) / 2.0, ""


def _framed(kind: Any, middle: Array, low: Array, high: Array, axes: tuple[int, int]) -> Slice:
    """A slice through the middle, as large as the anatomy, its sides between the least and the most pixels."""
    size_mm = (high - low)[list(axes)]
    least_px, most_px = SLICE_PX
    px_mm = float(size_mm.max()) / most_px
    wide_px, high_px = (int(np.clip(round(mm / px_mm), least_px, most_px)) for mm in size_mm)
    centre = np.array(middle)
    centre[list(axes)] = ((low + high) / 2.0)[list(axes)]
    made: Slice = kind(centre, width_mm=px_mm * wide_px, width_px=wide_px, height_px=high_px)
    return made


def _within(voxels: Voxels, low: Array, high: Array) -> tuple[Array, Array]:
    """The box of the anatomy less what lies outside the scan."""
    M = voxels.index_from_patient
    inverse = np.linalg.inv(np.vstack([M, [0, 0, 0, 1]]))
    last = np.array(voxels.hu.shape[::-1]) - 0.5
    corners = np.array([[i, j, k] for i in (-0.5, last[0]) for j in (-0.5, last[1]) for k in (-0.5, last[2])])
    mm = corners @ inverse[:3, :3].T + inverse[:3, 3]
    return np.maximum(low, mm.min(axis=0)), np.minimum(high, mm.max(axis=0))


def _course(canal: Exhibit) -> Array:
    """The canal's middle from caudal to cranial: rows (z, x) mm, from the surface's points in bands of height."""
    mm = canal.mesh.vertices_mm
    low, high = float(mm[:, 2].min()), float(mm[:, 2].max())
    rows = []
    for z in np.arange(low, high, 4.0):
        near = mm[np.abs(mm[:, 2] - z) < 6.0]
        if len(near) > 8:
            rows.append((z, low_high(near[:, 0])))
    course = np.array(rows or [(low, float(mm[:, 0].mean()))])
    course[:, 1] = ndimage.gaussian_filter1d(course[:, 1], 2.0, mode="nearest")
    return course


def _straightened(mesh: TriangleMesh[Patient], course: Array, x_mm: float) -> TriangleMesh[Patient]:
    """The mesh with every height moved sideways, so that the canal's middle comes to lie at `x_mm`."""
    moved = mesh.vertices_mm.copy()
    moved[:, 0] += x_mm - np.interp(moved[:, 2], course[:, 0], course[:, 1])
    return TriangleMesh[Patient](moved, mesh.triangles)
