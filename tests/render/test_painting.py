"""Occlusion, see-through order, colours, words, and that everything on the GPU is given back."""

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from render.offscreen import Offscreen, gl_info
from render.painter import linear_from_display
from render.scene import BadScene, Light, LinePart, Material, MeshPart, Scene, ScreenText, TextPart, View
from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid, Similarity
from tests.render.shapes import box, icosphere, quad

LENS = Pinhole(160, 120, 200.0, 200.0, 79.5, 59.5)
VIEW: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
BLACK: Scene[Camera] = Scene(background_rgb=(0, 0, 0), background_top_rgb=None)
FLAT = Light(key=0.0, sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), occlusion=0.0)


def wall(depth_mm: float, half_mm: float = 500.0) -> Any:
    h = half_mm
    return quad(np.array([[-h, -h, depth_mm], [h, -h, depth_mm], [h, h, depth_mm], [-h, h, depth_mm]]))


def part(mesh: Any, rgb: tuple[float, float, float], **material: Any) -> MeshPart[Camera]:
    return MeshPart("part", mesh, None, Material(rgb, shine=0.0, **material))


def middle(picture: NDArray[np.uint8]) -> list[int]:
    return [int(v) for v in picture[60, 80]]


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_surface_hides_the_farther(offscreen: Offscreen, near_first: bool) -> None:
    red, green = part(wall(300.0), (0.8, 0.0, 0.0)), part(wall(310.0), (0.0, 0.8, 0.0))
    r, g, b = middle(offscreen.picture(replace(BLACK, meshes=(red, green) if near_first else (green, red)), VIEW))
    assert r > 40
    assert g == b == 0


def test_see_through_surfaces_do_not_depend_on_their_order(offscreen: Offscreen) -> None:
    """And a screw behind them shows, one before them is untouched."""
    a = part(wall(300.0), (0.9, 0.2, 0.1), mode="translucent", opacity=0.4)
    b = part(wall(330.0), (0.1, 0.3, 0.9), mode="translucent", opacity=0.6)
    solid = part(icosphere(20.0, 2).moved(Rigid.exp((0, 0, 0), (0.0, 0.0, 400.0))), (0.9, 0.9, 0.9))
    one = offscreen.picture(replace(BLACK, meshes=(a, b, solid)), VIEW)
    other = offscreen.picture(replace(BLACK, meshes=(solid, b, a)), VIEW)
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    without = offscreen.picture(replace(BLACK, meshes=(a, b)), VIEW)
    assert max(middle(one)) > max(middle(without)) + 15
    before = replace(solid, world_from_mesh=Rigid.exp((0, 0, 0), (0.0, 0.0, -200.0)))
    alone = offscreen.picture(replace(BLACK, meshes=(before,)), VIEW)
    assert middle(offscreen.picture(replace(BLACK, meshes=(a, b, before)), VIEW)) == middle(alone)


@pytest.mark.parametrize("opacity", [0.25, 0.5, 0.75])
def test_one_see_through_surface_covers_by_its_opacity(offscreen: Offscreen, opacity: float) -> None:
    """Over a white backdrop a black surface leaves 1 - opacity (seen face-on)."""
    white = np.full((120, 160, 3), 255, dtype=np.uint8)
    scene = Scene(
        meshes=(part(wall(300.0), (0, 0, 0), mode="translucent", opacity=opacity),), picture=white, light=FLAT
    )
    assert abs(middle(offscreen.picture(scene, VIEW))[0] - 255 * (1 - opacity)) < 4


def test_xray_is_clear_face_on_and_bright_at_the_outline(offscreen: Offscreen) -> None:
    ball = part(icosphere(40.0, 4).moved(Rigid.exp((0, 0, 0), (0.0, 0.0, 300.0))), (0.9, 0.85, 0.75), mode="xray")
    row = offscreen.picture(replace(BLACK, meshes=(ball,)), VIEW)[60, :, 0].astype(int)
    assert row[80] < 70
    assert row[50:58].max() > 110


def test_a_flat_light_gives_the_materials_own_colour(offscreen: Offscreen) -> None:
    """Linear light in, sRGB out: full ambient white returns the display colour that was asked for."""
    rgb = (0.8, 0.5, 0.25)
    shown = middle(offscreen.picture(replace(BLACK, meshes=(part(wall(300.0), rgb),), light=FLAT), VIEW))
    assert np.abs(np.array(shown) / 255 - rgb).max() < 0.006
    assert np.abs(np.array(linear_from_display(rgb)) - [0.6038, 0.2140, 0.0509]).max() < 1e-3


def test_edges_are_smooth_with_samples_and_hard_without(offscreen: Offscreen) -> None:
    ball = part(icosphere(40.0, 4).moved(Rigid.exp((0, 0, 0), (0.3, 0.2, 300.0))), (1, 1, 1))
    scene = replace(BLACK, meshes=(ball,), light=FLAT)
    smooth = offscreen.picture(scene, VIEW)[..., 0]
    with Offscreen(samples=0, occlusion=False) as other:
        hard = other.picture(scene, VIEW)[..., 0]
    assert ((smooth > 10) & (smooth < 200)).sum() > 60
    assert ((hard > 10) & (hard < 200)).sum() == 0


def test_words_are_drawn_where_they_stand_and_legible(offscreen: Offscreen) -> None:
    text = ScreenText("L3", (80.0, 60.0), 24.0, outline_rgb=None)
    ink = offscreen.picture(replace(BLACK, screen_texts=(text,)), VIEW)[..., 0].astype(float) / 255
    v, u = np.nonzero(ink > 0.5)
    assert 14 <= v.max() - v.min() + 1 <= 20  # capitals are 0.727 of 24 px
    assert abs((u.min() + u.max()) / 2 - 80) < 2
    assert abs((v.min() + v.max()) / 2 - 60) < 2
    assert 0.15 < ink[v.min() : v.max() + 1, u.min() : u.max() + 1].mean() < 0.6
    columns = ink[v.min() : v.max() + 1].max(axis=0) > 0.5
    assert columns[u.min() : u.max() + 1].sum() < u.max() - u.min() + 1  # there is a gap between the two letters


@pytest.mark.parametrize(
    ("anchor", "left", "top"),
    [("left", 80, None), ("right", None, None), ("top_left", 80, 60), ("bottom_right", None, None)],
)
def test_the_anchor_is_the_point_of_the_words_at_the_place(
    offscreen: Offscreen, anchor: Any, left: int | None, top: int | None
) -> None:
    text = ScreenText("H", (80.0, 60.0), 30.0, anchor=anchor, outline_rgb=None)
    v, u = np.nonzero(offscreen.picture(replace(BLACK, screen_texts=(text,)), VIEW)[..., 0] > 128)
    if left is not None:
        assert 80 <= u.min() <= 84
    elif "right" in anchor:
        assert 76 <= u.max() <= 80
    if top is not None:
        assert abs(v.min() - 60) <= 1
    elif "bottom" in anchor:
        assert abs(v.max() - 60) <= 1


def test_a_label_in_the_world_follows_the_depth_when_measured_in_mm(offscreen: Offscreen) -> None:
    heights = []
    for z in (200.0, 400.0):
        label: TextPart[Camera] = TextPart("H", np.array([0.0, 0.0, z]), height_mm=20.0, outline_rgb=None)
        v, _ = np.nonzero(offscreen.picture(replace(BLACK, labels=(label,)), VIEW)[..., 0] > 128)
        heights.append(v.max() - v.min() + 1)
        assert abs(heights[-1] - 0.727 * 20.0 * 200.0 / z) < 1.6
    assert heights[0] > 1.7 * heights[1]


@pytest.mark.parametrize("on_top", [True, False])
def test_lines_and_labels_are_hidden_unless_on_top(offscreen: Offscreen, on_top: bool) -> None:
    cover = part(wall(200.0), (0.0, 0.0, 0.0))
    line: LinePart[Camera] = LinePart(np.array([[-50.0, 0, 300], [50.0, 0, 300]]), (1, 0, 0), 3, on_top=on_top)
    label: TextPart[Camera] = TextPart("X", np.array([0.0, 30.0, 300.0]), rgb=(0, 1, 0), on_top=on_top)
    picture = offscreen.picture(replace(BLACK, meshes=(cover,), lines=(line,), labels=(label,)), VIEW)
    assert bool((picture[..., 0] > 200).any()) == on_top
    assert bool((picture[..., 1] > 200).any()) == on_top


def test_a_line_on_a_surface_is_not_eaten_by_it(offscreen: Offscreen) -> None:
    tilted = wall(0.0).moved(Rigid.exp((0.0, 0.9, 0.0), (0.0, 0.0, 300.0)))
    direction = tilted.vertices_mm[1] - tilted.vertices_mm[0]
    centre = tilted.vertices_mm.mean(axis=0)
    line: LinePart[Camera] = LinePart(centre + np.outer([-0.08, 0.08], direction), (1, 0, 0), 2.0)
    scene = replace(BLACK, meshes=(part(tilted, (0, 0, 0), two_sided=True),), lines=(line,))
    ends = VIEW.pixels(Points[Camera](line.points_mm[0]))
    lit = (offscreen.picture(scene, VIEW)[..., 0] > 90).any(axis=0)
    inner = lit[int(np.ceil(ends[:, 0].min())) + 1 : int(ends[:, 0].max()) - 1]
    assert len(inner) > 20
    assert inner.all()


def test_nothing_outside_the_view_is_drawn_and_what_is_partly_inside_is(offscreen: Offscreen) -> None:
    outside = MeshPart[Camera]("far", icosphere(10.0, 1), Rigid.exp((0, 0, 0), (900.0, 0.0, 300.0)))
    behind = MeshPart[Camera]("behind", icosphere(10.0, 1), Rigid.exp((0, 0, 0), (0.0, 0.0, -300.0)))
    edge = MeshPart[Camera]("edge", icosphere(10.0, 2), Similarity(np.eye(3), np.array([125.0, 0.0, 300.0]), 1.5))
    assert offscreen.picture(replace(BLACK, meshes=(outside, behind)), VIEW).max() == 0
    picture = offscreen.picture(replace(BLACK, meshes=(outside, behind, edge)), VIEW)
    assert picture[:, 150:].max() > 30
    assert picture[:, :140].max() == 0


def test_crevices_darken_only_where_the_painter_is_asked(offscreen: Offscreen) -> None:
    floor = part(box(np.array([100.0, 100.0, 5.0])), (0.8, 0.8, 0.8))
    ball = part(icosphere(15.0, 3).moved(Rigid.exp((0, 0, 0), (0.0, 0.0, -18.0))), (0.8, 0.8, 0.8))
    view: View[Camera] = View.looking((0, 0, 0), (0, -120.0, -260.0), (0, 0, -1), 160, 120)
    lit = replace(BLACK, meshes=(floor, ball))
    open_light = replace(lit, light=Light(occlusion=0.0))
    shaded, plain = (offscreen.picture(s, view)[..., 0].astype(int) for s in (lit, open_light))
    assert (plain - shaded).max() > 12
    assert (shaded - plain).max() <= 1
    with Offscreen(occlusion=False) as other:
        assert np.abs(other.picture(lit, view)[..., 0].astype(int) - plain).max() <= 1


def test_everything_on_the_gpu_is_given_back() -> None:
    with Offscreen() as target:
        meshes = [icosphere(5.0 + i, 1) for i in range(3)]
        parts = tuple(
            MeshPart[Camera](str(i), mesh, Rigid.exp((0, 0, 0), (15.0 * i - 15, 0.0, 200.0)), Material(mode=mode))
            for i, (mesh, mode) in enumerate(zip(meshes, ("lit", "translucent", "xray"), strict=True))
        )
        picture = target.picture(replace(BLACK, meshes=parts), VIEW)
        assert picture.max() > 0
        assert target.painter.mesh_count == 3
        del parts, meshes
        gc.collect()
        target.picture(BLACK, VIEW)
        assert target.painter.mesh_count == 0


def test_frames_allocate_nothing_that_stays(offscreen: Offscreen) -> None:
    """After a first frame, fifty more with other poses, lines and words make no new GPU object."""
    import moderngl

    made: list[str] = []
    mesh = icosphere(10.0, 1)

    def frame(n: int) -> None:
        pose: Rigid[Camera, Any] = Rigid.exp((0.0, 0.1 * n, 0.0), (float(n % 5), 0.0, 200.0))
        scene = replace(
            BLACK,
            meshes=(MeshPart("a", mesh, pose), MeshPart("b", mesh, pose, Material(mode="xray"))),
            lines=(LinePart[Camera](np.array([[0.0, 0, 150], [float(n % 7), 5, 150]])),),
            labels=(TextPart[Camera](f"{n % 10}", np.array([0.0, 0.0, 150.0])),),
        )
        offscreen.picture(scene, VIEW)

    for n in range(10):
        frame(n)
    context: Any = offscreen.context
    patched = {name: getattr(type(context), name) for name in ("buffer", "texture", "framebuffer", "vertex_array")}
    with pytest.MonkeyPatch.context() as patch:
        for name, real in patched.items():

            def counted(self: Any, *args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
                made.append(name)
                return real(self, *args, **kwargs)

            patch.setattr(moderngl.Context, name, counted)
        for n in range(50):
            frame(n)
    assert made == []


def test_no_gl_error_is_left_behind(offscreen: Offscreen) -> None:
    scene = replace(
        BLACK,
        meshes=(part(icosphere(20.0, 2).moved(Rigid.exp((0, 0, 0), (0, 0, 200))), (1, 1, 1), mode="xray"),),
        screen_texts=(ScreenText("ok", (20, 20), panel_opacity=0.6),),
    )
    offscreen.picture(scene, VIEW)
    offscreen.mask(scene, VIEW)
    with offscreen.context:
        assert offscreen.context.error == "GL_NO_ERROR"


def test_drawing_into_another_framebuffer_gives_the_same_picture(offscreen: Offscreen) -> None:
    scene = replace(BLACK, meshes=(part(icosphere(30.0, 3).moved(Rigid.exp((0, 0, 0), (5, 3, 200))), (0.9, 0.7, 0.4)),))
    expected = offscreen.picture(scene, VIEW)
    with offscreen.context:
        framebuffer = offscreen.context.simple_framebuffer((160, 120), 3)
        offscreen.painter.draw(scene, VIEW, framebuffer)
        raw = framebuffer.read(components=3, alignment=1)
        framebuffer.release()
    assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(120, 160, 3)[::-1], expected)


def test_a_backdrop_of_another_size_is_refused(offscreen: Offscreen) -> None:
    with pytest.raises(BadScene, match=r"64 x 48 px in a view of 160 x 120"):
        offscreen.picture(Scene(picture=np.zeros((48, 64, 3), dtype=np.uint8)), VIEW)


def test_the_machine_says_what_it_draws_with(offscreen: Offscreen) -> None:
    assert {"vendor", "renderer", "version"} == set(gl_info())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Material((255, 0, 0)),
        lambda: Material(opacity=1.5),
        lambda: Material(mode="glass"),  # type: ignore[arg-type]  # a wrong name is what is tested
        lambda: LinePart(np.zeros((2, 2, 2, 3))),
        lambda: LinePart(np.zeros((2, 3)), width_px=0.0),
        lambda: TextPart("L3", np.zeros(3), height_px=0.0),
        lambda: Scene(picture=np.zeros((4, 4, 3))),
        lambda: View.looking((0, 0, 0), (0, 0, 0), (0, 0, 1), 10, 10),
        lambda: View.looking((0, 0, 0), (0, 0, 5), (0, 0, 1), 10, 10),
    ],
)
def test_what_can_not_be_drawn_is_refused(make: Any) -> None:
    with pytest.raises(BadScene):
        make()


coordinate = st.floats(-80.0, 80.0, allow_nan=False)


@given(
    st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=4, max_size=12),
    st.floats(0, 6.2),
    st.floats(-1.2, 1.2),
)
@example([(45.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (50.0, 7.0, 9.0)], 0.0, 0.0)
def test_a_framed_view_holds_every_point_and_touches_its_margin(
    points: list[tuple[float, float, float]], azimuth_rad: float, elevation_rad: float
) -> None:
    mm = np.array([*points, np.add(points[0], (5.0, 7.0, 9.0))])  # never all in one place
    toward = np.array(
        [
            np.cos(azimuth_rad) * np.cos(elevation_rad),
            np.sin(azimuth_rad) * np.cos(elevation_rad),
            np.sin(elevation_rad),
        ]
    )
    view: View[Patient] = View.framing(Points[Patient](mm), toward, (0, 0, 1), 400, 300, margin=0.1)
    px = view.pixels(Points[Patient](mm)) + 0.5
    assert px[:, 0].min() > 0.1 * 400 - 1e-6
    assert px[:, 0].max() < 0.9 * 400 + 1e-6
    assert px[:, 1].min() > 0.1 * 300 - 1e-6
    assert px[:, 1].max() < 0.9 * 300 + 1e-6
    slack = min(px[:, 0].min() - 40, 360 - px[:, 0].max(), px[:, 1].min() - 30, 270 - px[:, 1].max())
    depth = view.depths_mm(Points[Patient](mm))
    assert depth.min() > 1.0 - 1e-9
    assert slack < 1e-6 or depth.min() < 1.0 + 1e-9  # as near as it may come
    assert np.abs(view.rotation[2] - toward / np.linalg.norm(toward)).max() < 1e-9


def test_a_parallel_view_keeps_sizes_at_every_depth(offscreen: Offscreen) -> None:
    view: View[Patient] = View.parallel((0, 0, 0), (0, -500.0, 0), (0, 0, 1), 200, 200, span_mm=100.0)
    areas = []
    for y in (-60.0, 0.0, 80.0):
        ball: MeshPart[Patient] = MeshPart("b", icosphere(20.0, 4), Rigid.exp((0, 0, 0), (0.0, y, 0.0)))
        areas.append(int(offscreen.mask(Scene(meshes=(ball,)), view).sum()))
    assert max(areas) - min(areas) <= 4
    assert abs(areas[0] - np.pi * 40.0**2) < 60
    assert float(view.pixels_per_mm(Points[Patient](np.zeros(3)))) == pytest.approx(2.0)


@pytest.mark.parametrize(("rgb", "background"), [((1.0, 1.0, 1.0), 255), ((0.05, 0.05, 0.05), 0)])
def test_words_stand_out_from_a_background_of_their_own_colour(
    offscreen: Offscreen, rgb: tuple[float, float, float], background: int
) -> None:
    picture = np.full((120, 160, 3), background, dtype=np.uint8)
    scene: Scene[Camera] = Scene(picture=picture, screen_texts=(ScreenText("L3", (80, 60), 24.0, rgb),))
    drawn = offscreen.picture(scene, VIEW).astype(int)
    assert (np.abs(drawn - background).max(axis=2) > 150).sum() > 60
