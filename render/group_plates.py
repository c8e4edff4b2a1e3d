"""A view a bone group: from two sides with the names beside it, and a third through which its structures show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from render.callouts import Callout, bytes_of, draw_callouts, placed
from render.exhibits import OTHER, Exhibit, Standing, groups_of
from render.offscreen import Offscreen
from render.panels import BOTTOM_PX, TOP_PX, draw_letters, draw_scale, parallel_view, point_px
from render.plate import (
    BACK_RGB,
    LABEL_PX,
    LINE_PX,
    Panel,
    deepest,
    framed_page,
    gutter_px_of,
)
from render.scene import Material, MeshPart, Scene, View
from spatial.frames import Patient
from spatial.rigid import Array, Points

TOWARD: Mapping[str, tuple[float, float, float]] = {
    "anterior": (0.0, -1.0, 0.0),
    "posterior": (0.0, 1.0, 0.0),
    "left": (1.0, 0.0, 0.0),
    "right": (-1.0, 0.0, 0.0),
    "above": (0.0, 0.0, 1.0),
}
SEEN_FROM = {
    "anterior": "from the front",
    "posterior": "from behind",
    "left": "from the left",
    "right": "from the right",
    "above": "from above",
}
LEAST_SEEN_PX = 12


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
        yield group, framed_page(group.capitalize(), panels, standing)


def _panel(
    screen: Offscreen,
    bones: Sequence[Exhibit],
    inner: Sequence[Exhibit],
    side: str,
    wide_px: int,
    high_px: int,
    names_hidden: bool,
) -> Panel:
    """Bones from one side with their names in columns; with `inner`, bones seen through and structures in them."""
    points = np.concatenate([one.coarse.vertices_mm for one in bones])
    view = parallel_view(points, np.array(TOWARD[side]), wide_px, high_px)
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
    gutter_px = gutter_px_of([*bones, *inner])
    page = Image.new("RGB", (wide_px + 2 * gutter_px, TOP_PX + high_px + BOTTOM_PX), bytes_of(BACK_RGB))
    page.paste(Image.fromarray(picture), (gutter_px, TOP_PX))
    hidden = [n for n in range(len(bones)) if np.count_nonzero(seen == n) < LEAST_SEEN_PX]
    named = [(one, _anchor(seen, n, view, one)) for n, one in enumerate(bones) if n not in hidden or names_hidden]
    named += [(one, point_px(view, one.middle_mm)) for one in inner]
    middle_px = float(np.median([at[0] for _, at in named])) if len(named) > 1 else 0.0
    callouts = []
    for one, (x, y) in named:
        is_left = len(bones) > 1 and _is_column_left(one, x, middle_px, side)
        callouts.append(Callout(one.label, (x + gutter_px, y + TOP_PX), one.rgb, "left" if is_left else "right"))
    columns_px = gutter_px - 8, wide_px + gutter_px + 8
    draw_callouts(page, placed(callouts, TOP_PX, TOP_PX + high_px, LINE_PX, columns_px), columns_px, LABEL_PX)
    draw_letters(page, view, gutter_px)
    draw_scale(page, 1.0 / float(view.pixels_per_mm(Points[Patient](points[0]))))
    return Panel(page, SEEN_FROM[side] + (", bones seen through" if inner else ""))


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
        return point_px(view, one.middle_mm)
    y0, x0 = int(ys.min()), int(xs.min())
    mask = np.zeros((int(ys.max()) - y0 + 1, int(xs.max()) - x0 + 1), dtype=bool)
    mask[ys - y0, xs - x0] = True
    x, y, _ = deepest(mask)
    return x + x0, y + y0


def _overlap(a: tuple[Array, Array], b: tuple[Array, Array]) -> bool:
    return bool((np.maximum(a[0], b[0]) <= np.minimum(a[1], b[1])).all())
