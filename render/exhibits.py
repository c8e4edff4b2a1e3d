"""The pictures that show what a case holds: slices with outlines and level names, and a view a group of bones.

Everything is a value here: what is shown comes as `Exhibit`s, and nothing of this module knows a twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from render.callouts import Callout, bytes_of, draw_callouts, font, placed
from render.offscreen import Offscreen
from render.orientation import edge_letters
from render.scene import Material, MeshPart, Rgb, Scene, View
from render.slices import Outline, Slice, Voxels, filled, slice_picture
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("skull", ("skull", "mandible")),
    ("spine", ("vertebrae_", "sacrum")),
    ("ribs", ("rib_", "sternum", "costal")),
    ("shoulders", ("scapula", "clavicula", "humerus")),
    ("pelvis", ("sacrum", "hip_")),
    ("legs", ("femur", "patella", "tibia", "fibula", "talus", "calcaneus", "tarsal", "metatarsal", "phalanges")),
)
OTHER = "other"
CAUTION = "Research tool, not for clinical use"
BACK_RGB: Rgb = (0.055, 0.065, 0.08)
TEXT_RGB: Rgb = (0.92, 0.94, 0.96)
QUIET_RGB: Rgb = (0.68, 0.72, 0.77)
LETTER_RGB: Rgb = (0.98, 0.86, 0.45)
WARN_RGB: Rgb = (0.98, 0.72, 0.35)
UP = np.array([0.0, 0.0, 1.0])
TOWARD: Mapping[str, tuple[float, float, float]] = {
    "anterior": (0.0, -1.0, 0.0),
    "posterior": (0.0, 1.0, 0.0),
    "left": (1.0, 0.0, 0.0),
}
SEEN_FROM = {
    "anterior": "from the front",
    "posterior": "from behind",
    "left": "from the left",
    "right": "from the right",
}
HEADER_PX, FOOTER_PX = 64, 44
TOP_PX, BOTTOM_PX = 34, 62  # of a panel: the directions, and the scale below
LEAST_SEEN_PX = 12
LABEL_PX, LINE_PX = 19, 25
SLICE_PX = (420, 1000)  # least and most of a slice's sides
MARGIN_MM = 14.0
NICE_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A bone or a structure: `mesh` for slices, `coarse` for views, what it is called, where its middle is."""

    name: str
    label: str
    mesh: TriangleMesh[Patient]
    coarse: TriangleMesh[Patient]
    rgb: Rgb
    outline_rgb: Rgb
    middle_mm: Array
    role: Literal["bone", "critical", "target", "context"] = "bone"


@dataclass(frozen=True, slots=True)
class Standing:
    """What each picture says of the level names, and whether that is a warning."""

    words: str
    is_warning: bool


def bones_of(exhibits: Sequence[Exhibit]) -> list[Exhibit]:
    """The bones alone."""
    return [one for one in exhibits if one.role == "bone"]


def groups_of(exhibits: Sequence[Exhibit]) -> dict[str, list[Exhibit]]:
    """The bones by group, those that have any; a bone may stand in two (the sacrum), unknown names in `other`."""
    bones = bones_of(exhibits)
    found = {group: [one for one in bones if one.name.startswith(starts)] for group, starts in GROUPS}
    known = {one.name for own in found.values() for one in own}
    found[OTHER] = [one for one in bones if one.name not in known]
    if len(found["pelvis"]) == 1 and found["spine"]:
        found["pelvis"] = []  # the sacrum alone is shown with the spine
    if [one.name for one in found["spine"]] == ["sacrum"] and found["pelvis"]:
        found["spine"] = []
    return {group: own for group, own in found.items() if own}


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


def group_plates(
    exhibits: Sequence[Exhibit], screen: Offscreen, standing: Standing
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """A picture a bone group: two sides of it and, where structures lie in it, a third through which they show."""
    structures = [one for one in exhibits if one.role != "bone"]
    for group, bones in groups_of(exhibits).items():
        low = np.min([one.coarse.bounds_mm[0] for one in bones], axis=0)
        high = np.max([one.coarse.bounds_mm[1] for one in bones], axis=0)
        size = high - low
        sides = ["anterior", "posterior" if group in ("pelvis", "ribs", "shoulders", "legs") else "left"]
        inner = [one for one in structures if _overlap(one.coarse.bounds_mm, (low, high))]
        aspect = float(size[:2].max()) / max(float(size[2]), 1.0)
        high_px = int(np.clip(860 / aspect, 420, 980))
        wide_px = int(np.clip(high_px * aspect * 1.1, 300, 860))
        panels = [_panel(screen, bones, [], side, wide_px, high_px, side == sides[0]) for side in sides]
        if inner and group in ("spine", "skull", OTHER):
            panels.append(_panel(screen, bones, inner, "left", wide_px, high_px, True))
        yield group, _page(group.capitalize(), panels, standing)


@dataclass(frozen=True, slots=True, eq=False)
class _Panel:
    picture: Image.Image
    title: str


def _panel(
    screen: Offscreen,
    bones: Sequence[Exhibit],
    inner: Sequence[Exhibit],
    side: str,
    wide_px: int,
    high_px: int,
    names_hidden: bool,
) -> _Panel:
    """Bones from one side with their names in columns; with `inner`, bones seen through and structures in them."""
    points = np.concatenate([one.coarse.vertices_mm for one in bones])
    view = _parallel(points, np.array(TOWARD[side]), wide_px, high_px)
    solid = [MeshPart[Patient](one.name, one.coarse, None, Material(one.rgb)) for one in bones]
    shown = solid
    if inner:
        shown = [replace(part, material=replace(part.material, mode="xray", opacity=0.55)) for part in solid]
        shown += [
            MeshPart[Patient](one.name, one.coarse, None, Material(one.rgb, 0.6, "translucent", shine=0.1))
            for one in inner
        ]
    scene = Scene[Patient](meshes=tuple(shown), background_rgb=BACK_RGB, background_top_rgb=BACK_RGB)
    picture = screen.picture(scene, view)
    seen = screen.part_indices(Scene[Patient](meshes=tuple(solid)), view)
    gutter_px = _gutter_px([*bones, *inner])
    page = Image.new("RGB", (wide_px + 2 * gutter_px, TOP_PX + high_px + BOTTOM_PX), bytes_of(BACK_RGB))
    page.paste(Image.fromarray(picture), (gutter_px, TOP_PX))
    hidden = [n for n in range(len(bones)) if np.count_nonzero(seen == n) < LEAST_SEEN_PX]
    named = [(one, _anchor(seen, n, view, one)) for n, one in enumerate(bones) if n not in hidden or names_hidden]
    named += [(one, _point(view, one.middle_mm)) for one in inner]
    middle_px = float(np.median([at[0] for _, at in named])) if len(named) > 1 else 0.0
    callouts = []
    for one, (x, y) in named:
        is_left = len(bones) > 1 and _is_column_left(one, x, middle_px, side)
        callouts.append(Callout(one.label, (x + gutter_px, y + TOP_PX), one.rgb, "left" if is_left else "right"))
    columns_px = gutter_px - 8, wide_px + gutter_px + 8
    draw_callouts(page, placed(callouts, TOP_PX, TOP_PX + high_px, LINE_PX, columns_px), columns_px, LABEL_PX)
    _letters(page, view, gutter_px)
    _scale_bar(page, 1.0 / float(view.pixels_per_mm(Points[Patient](points[0]))))
    return _Panel(page, SEEN_FROM[side] + (", bones seen through" if inner else ""))


def _is_column_left(one: Exhibit, x: float, middle_px: float, side: str) -> bool:
    """Paired bones on their own side of the picture; what lies in the midline on the right."""
    for word, sign in (("left", 1), ("right", -1)):
        if f"_{word}" in one.name and side in ("anterior", "posterior"):
            return (sign if side == "anterior" else -sign) < 0
    return "_left" in one.name or ("_right" in one.name and x < middle_px)


def _anchor(seen: NDArray[np.int32], part: int, view: View[Patient], one: Exhibit) -> tuple[float, float]:
    """The point of the visible surface farthest from its edge; the bone's middle when it is hidden."""
    ys, xs = np.nonzero(seen == part)
    if len(ys) < LEAST_SEEN_PX:
        return _point(view, one.middle_mm)
    y0, x0 = int(ys.min()), int(xs.min())
    mask = np.zeros((int(ys.max()) - y0 + 1, int(xs.max()) - x0 + 1), dtype=bool)
    mask[ys - y0, xs - x0] = True
    x, y, _ = _deepest(mask)
    return x + x0, y + y0


def _deepest(mask: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Where a shape is widest: x, y and the distance to its edge; of equally wide places the most central."""
    deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    ys, xs = np.nonzero(deep >= 0.8 * deep.max())
    best = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
    return float(xs[best]), float(ys[best]), float(deep[ys[best], xs[best]])


def _point(view: View[Patient], mm: Array) -> tuple[float, float]:
    u, v = view.pixels(Points[Patient](mm))
    return float(np.clip(u, 0, view.width_px - 1)), float(np.clip(v, 0, view.height_px - 1))


def _parallel(points_mm: Array, toward_eye: Array, wide_px: int, high_px: int, margin: float = 0.03) -> View[Patient]:
    """A parallel view (sizes can be measured in it) that holds all points in its margin."""
    right = np.cross(UP, toward_eye)
    right /= np.linalg.norm(right)
    up = np.cross(toward_eye, right)
    u, v = points_mm @ right, points_mm @ up
    centre = (low_high(u) * right) + (low_high(v) * up) + float(np.median(points_mm @ toward_eye)) * toward_eye
    span_mm = max(float(np.ptp(v)), float(np.ptp(u)) * high_px / wide_px, 10.0) * (1.0 + 2.0 * margin)
    return View[Patient].parallel(centre, centre + toward_eye * 2000.0, UP, wide_px, high_px, span_mm=span_mm)


def low_high(values: Array) -> float:
    """The middle between the lowest and the highest."""
    return float(values.min() + values.max()) / 2.0


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
    gutter_px = _gutter_px(exhibits)
    page = Image.new("RGB", (where.width_px + 2 * gutter_px, where.height_px), bytes_of(BACK_RGB))
    page.paste(Image.fromarray(picture), (gutter_px, 0))
    _name_sections(page, exhibits, where, gutter_px)
    title, place = words
    window = f"window C {window_hu[0]:.0f} W {window_hu[1]:.0f} HU" if voxels is not None else "no CT: surfaces alone"
    return _page(title, [_Panel(page, f"{place}; {window}")], standing)


def _gutter_px(exhibits: Sequence[Exhibit]) -> int:
    """Room beside a picture for the longest name."""
    return round(max(float(font(LABEL_PX).getlength(one.label)) for one in exhibits)) + 24


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
        x, y, depth = _deepest(mask)
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


def _overlap(a: tuple[Array, Array], b: tuple[Array, Array]) -> bool:
    return bool((np.maximum(a[0], b[0]) <= np.minimum(a[1], b[1])).all())


def _letters(page: Image.Image, view: View[Patient], gutter_px: int) -> None:
    """The directions; left and right stand in the upper corners, where no name's line runs."""
    letters = edge_letters(view.rotation)
    pen = ImageDraw.Draw(page)
    w, h = page.size
    for text, place, anchor in (
        (letters["left"], (gutter_px, 6), "lt"),
        (letters["right"], (w - gutter_px, 6), "rt"),
        (letters["top"], (w / 2, 6), "mt"),
        (letters["bottom"], (w / 2, h - 36), "mb"),
    ):
        pen.text(
            place, text, fill=bytes_of(LETTER_RGB), font=font(24, "SemiBold"), anchor=anchor, stroke_width=3,
            stroke_fill=bytes_of(BACK_RGB),
        )  # fmt: skip


def _scale_bar(page: Image.Image, px_mm: float) -> None:
    w, h = page.size
    bar_mm = max((mm for mm in NICE_MM if mm / px_mm <= 0.3 * w), default=1)
    pen = ImageDraw.Draw(page)
    left, y = (w - bar_mm / px_mm) / 2, h - 8
    pen.line((left, y, left + bar_mm / px_mm, y), fill=bytes_of(TEXT_RGB), width=2)
    for x in (left, left + bar_mm / px_mm):
        pen.line((x, y - 6, x, y), fill=bytes_of(TEXT_RGB), width=2)
    pen.text((w / 2, y - 6), f"{bar_mm} mm", fill=bytes_of(QUIET_RGB), font=font(16), anchor="mb")


def _page(title: str, panels: Sequence[_Panel], standing: Standing) -> NDArray[np.uint8]:
    """Panels side by side under a title, over the line that says what this is not, and who confirmed the levels."""
    high_px = max(panel.picture.height for panel in panels)
    footer_px = sum(font(18).getlength(text) for text in (standing.words, CAUTION)) + 80
    needed_px = max(footer_px, *(font(17).getlength(panel.title) + 40 for panel in panels))
    wide_px = max(sum(panel.picture.width for panel in panels), round(needed_px))
    page = Image.new("RGB", (wide_px, HEADER_PX + high_px + FOOTER_PX), bytes_of(BACK_RGB))
    pen = ImageDraw.Draw(page)
    pen.text((20, 20), title, fill=bytes_of(TEXT_RGB), font=font(26, "SemiBold"), anchor="lm")
    x = (wide_px - sum(panel.picture.width for panel in panels)) // 2
    for panel in panels:
        page.paste(panel.picture, (x, HEADER_PX))
        pen.text((x + panel.picture.width / 2, 50), panel.title, fill=bytes_of(QUIET_RGB), font=font(17), anchor="mm")
        x += panel.picture.width
    y = page.height - FOOTER_PX / 2
    pen.line((0, page.height - FOOTER_PX, wide_px, page.height - FOOTER_PX), fill=(40, 46, 54))
    state_rgb = WARN_RGB if standing.is_warning else QUIET_RGB
    pen.text((20, y), standing.words, fill=bytes_of(state_rgb), font=font(18), anchor="lm")
    pen.text((wide_px - 20, y), CAUTION, fill=bytes_of(QUIET_RGB), font=font(18), anchor="rm")
    return np.asarray(page)
