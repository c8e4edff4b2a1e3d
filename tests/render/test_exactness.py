"""What is drawn stands on OpenCV's pixels; masks agree with rays against the analytic shape."""

from typing import Any

import cv2
import numpy as np
import pytest

from render.offscreen import Offscreen
from render.scene import LinePart, Material, MeshPart, Scene, View
from spatial.frames import Camera, Patient
from spatial.mesh import TriangleMesh
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid, Similarity
from tests.render.shapes import box, icosphere, quad

LENS = Pinhole(64, 48, 70.0, 71.0, 30.3, 25.6)
WHITE = Material((1.0, 1.0, 1.0))


def pixel_quad(u: int, v: int, lens: Pinhole, depth_mm: float, half_px: float = 0.4) -> TriangleMesh[Any]:
    """A square that covers the middle of pixel (u, v) alone, by OpenCV's equations written out."""
    corners = [
        (u - half_px, v - half_px),
        (u + half_px, v - half_px),
        (u + half_px, v + half_px),
        (u - half_px, v + half_px),
    ]
    xy = [((x - lens.cx_px) / lens.fx_px, (y - lens.cy_px) / lens.fy_px) for x, y in corners]
    return quad(np.array([(x * depth_mm, y * depth_mm, depth_mm) for x, y in xy]))


@pytest.mark.parametrize(("u", "v"), [(0, 0), (63, 0), (0, 47), (63, 47), (17, 31), (40, 5)])
def test_a_quad_on_one_pixel_lights_exactly_that_pixel(offscreen: Offscreen, u: int, v: int) -> None:
    view: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
    scene = Scene(
        meshes=(MeshPart("dot", pixel_quad(u, v, LENS, 300.0), None, WHITE),),
        background_rgb=(0, 0, 0),
        background_top_rgb=None,
    )
    expected = np.zeros((48, 64), dtype=bool)
    expected[v, u] = True
    assert np.array_equal(offscreen.mask(scene, view), expected)
    assert np.array_equal(offscreen.picture(scene, view).max(axis=2) > 0, expected)


def test_gl_order_is_bottom_up(offscreen: Offscreen) -> None:
    """In OpenGL's own read-back, row v of the picture is row h - 1 - v."""
    view: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
    scene = Scene(
        meshes=(MeshPart("dot", pixel_quad(17, 31, LENS, 300.0), None, WHITE),),
        background_rgb=(0, 0, 0),
        background_top_rgb=None,
    )
    with offscreen.context:
        raw = offscreen.painter.paint(scene, view).resolved.read(components=3, alignment=1)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(48, 64, 3)
    assert np.argwhere(rows.max(axis=2) > 0).tolist() == [[48 - 1 - 31, 17]]


def test_vertices_project_as_opencv_says(offscreen: Offscreen) -> None:
    """Markers drawn at world points: their centres of light against cv2.projectPoints, and the View's own numbers."""
    rng = np.random.default_rng(5)
    lens = Pinhole(320, 240, 410.0, 395.0, 150.2, 127.7)
    camera_from_patient: Rigid[Camera, Patient] = Rigid.exp((0.4, -0.7, 1.1), (900.0, -2000.0, 1800.0))
    # Far from the origin, where float32 world coordinates would cost precision.
    camera_points = np.column_stack([rng.uniform(-90, 90, 12), rng.uniform(-70, 70, 12), rng.uniform(300, 500, 12)])
    points = camera_from_patient.inverse() @ Points[Camera](camera_points)
    view: View[Patient] = View.from_pinhole(lens, camera_from_patient)
    rotvec, _ = cv2.Rodrigues(camera_from_patient.rotation)
    expected = cv2.projectPoints(points.mm, rotvec, camera_from_patient.translation_mm, lens.matrix, None)[0][:, 0]
    assert np.abs(view.pixels(points) - expected).max() < 1e-6
    for point, pixel in zip(points.mm, expected, strict=True):
        ball = TriangleMesh[Patient](icosphere(2.0, 3).vertices_mm + point, icosphere(2.0, 3).triangles)
        scene = Scene(meshes=(MeshPart("ball", ball, None, WHITE),), background_rgb=(0, 0, 0), background_top_rgb=None)
        mask = offscreen.mask(scene, view.__class__(view.eye_from_world, view.projection, 320, 240))
        v, u = np.nonzero(mask)
        assert len(u) > 5
        # Under a wide lens a ball's outline is an ellipse whose centre strays a little outward: compare with rays.
        rays = lens.rays(np.stack(np.meshgrid(np.arange(320), np.arange(240)), axis=-1)).unit
        centre = camera_from_patient.rotation @ point + camera_from_patient.translation_mm
        hit = (rays @ centre) ** 2 - centre @ centre + 4.0 > 0
        assert np.abs(np.array([u.mean(), v.mean()]) - np.argwhere(hit).mean(axis=0)[::-1]).max() < 0.1
        assert np.abs(np.array([u.mean(), v.mean()]) - pixel).max() < 0.3


def test_drawn_corners_meet_opencv_within_a_tenth_of_a_pixel(offscreen: Offscreen) -> None:
    """Edges of large quads, measured to sub-pixel by their covered area, against projected corners."""
    lens = Pinhole(200, 160, 300.0, 310.0, 96.4, 83.1)
    view: View[Camera] = View.from_pinhole(lens, Rigid.identity())
    for left, right, top, bottom in ((-31.27, 40.61, -22.9, 30.3), (-50.05, -10.4, -40.7, -1.6)):
        corners = np.array([[left, top, 400.0], [right, top, 400.0], [right, bottom, 400.0], [left, bottom, 400.0]])
        scene = Scene(meshes=(MeshPart("q", quad(corners), None, WHITE),))
        mask = offscreen.mask(scene, view)
        expected = cv2.projectPoints(corners, np.zeros(3), np.zeros(3), lens.matrix, None)[0][:, 0]
        u, v = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        # A pixel is lit when its centre (an integer) is inside, so the edge lies within the next whole pixel outward.
        assert (u[0], u[-1]) == (int(np.ceil(expected[0, 0])), int(np.floor(expected[1, 0])))
        assert (v[0], v[-1]) == (int(np.ceil(expected[0, 1])), int(np.floor(expected[2, 1])))


@pytest.mark.parametrize("samples", [0, 4])
def test_the_backdrop_is_the_picture_itself(offscreen: Offscreen, samples: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    view: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
    scene: Scene[Camera] = Scene(picture=picture)
    if samples == offscreen.painter.samples:
        assert np.array_equal(offscreen.picture(scene, view), picture)
        return
    with Offscreen(samples=samples) as other:
        assert np.array_equal(other.picture(scene, view), picture)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_mask_of_a_ball_is_what_rays_hit(offscreen: Offscreen, scale: float) -> None:
    """Every pixel whose centre lies over half a pixel from the outline agrees with the analytic sphere."""
    lens = Pinhole(240, 200, 350.0, 350.0, 118.2, 101.9)
    camera_from_patient: Rigid[Camera, Patient] = Rigid.exp((0.2, 0.1, -0.3), (12.0, -20.0, 420.0))
    view: View[Patient] = View.from_pinhole(lens, camera_from_patient)
    centre = np.array([5.0, 9.0, -14.0])
    part: MeshPart[Patient] = MeshPart("ball", icosphere(24.0, 5), Similarity(np.eye(3), centre, scale))
    mask = offscreen.mask(Scene(meshes=(part,)), view)
    c = camera_from_patient.rotation @ centre + camera_from_patient.translation_mm

    def hits(radius_mm: float) -> Any:
        rays = lens.rays(np.stack(np.meshgrid(np.arange(240), np.arange(200)), axis=-1)).unit
        return (rays @ c) ** 2 - c @ c + radius_mm**2 > 0

    half_px_mm = 0.5 * c[2] / 350.0
    assert not (hits(24.0 * scale - half_px_mm) & ~mask).any()
    assert not (mask & ~hits(24.0 * scale + half_px_mm)).any()
    assert abs(int(mask.sum()) - int(hits(24.0 * scale).sum())) < 0.004 * mask.sum()
    depth = offscreen.depth_mm(Scene(meshes=(part,)), view)
    assert abs(np.nanmin(depth) - (c[2] - 24.0 * scale)) < 0.8 * scale
    assert np.isnan(depth[~mask]).all()


def test_the_mask_of_a_turned_box_is_what_rays_hit(offscreen: Offscreen) -> None:
    """The box by the slab method in its own frame, a ray a pixel, against the drawn mask and depth."""
    lens = Pinhole(240, 200, 350.0, 345.0, 118.2, 101.9)
    half = np.array([30.0, 18.0, 9.0])
    camera_from_box: Rigid[Camera, Any] = Rigid.exp((0.5, -0.8, 0.3), (9.0, -6.0, 380.0))
    view: View[Camera] = View.from_pinhole(lens, Rigid.identity())
    scene = Scene(meshes=(MeshPart[Camera]("box", box(half), camera_from_box),))
    rays = lens.rays(np.stack(np.meshgrid(np.arange(240), np.arange(200)), axis=-1)).unit
    origin = camera_from_box.inverse().translation_mm
    local = rays @ camera_from_box.rotation
    near, far = (-half - origin) / local, (half - origin) / local
    enters, leaves = np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)
    hit = (enters < leaves) & (leaves > 0)
    mask = offscreen.mask(scene, view)
    assert (mask != hit).sum() <= 3  # rays within rounding of an edge
    depth = offscreen.depth_mm(scene, view)
    both = mask & hit
    assert np.abs(depth[both] - (enters * rays[..., 2])[both]).max() < 0.01


def test_a_line_is_as_wide_as_asked_and_where_it_should_be(offscreen: Offscreen) -> None:
    view: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
    for width_px in (1.0, 2.0, 5.0):
        z = 200.0
        y = (20.25 - LENS.cy_px) / LENS.fy_px * z
        line: LinePart[Camera] = LinePart(np.array([[-500.0, y, z], [500.0, y, z]]), width_px=width_px)
        column = offscreen.picture(Scene(lines=(line,), background_rgb=(0, 0, 0), background_top_rgb=None), view)[
            :, 32, 0
        ].astype(float)
        assert abs(column.sum() / 255.0 - width_px) < 0.1
        assert abs((column * np.arange(48)).sum() / column.sum() - 20.25) < 0.1


def test_a_line_that_passes_behind_the_eye_is_cut_not_folded(offscreen: Offscreen) -> None:
    view: View[Camera] = View.from_pinhole(LENS, Rigid.identity())
    line: LinePart[Camera] = LinePart(np.array([[0.0, 0.0, 300.0], [300.0, 0.0, -300.0]]), width_px=3)
    lit = (
        offscreen.picture(Scene(lines=(line,), background_rgb=(0, 0, 0), background_top_rgb=None), view).max(axis=2) > 0
    )
    columns = np.flatnonzero(lit.any(axis=0))
    assert columns.min() >= 27
    assert columns.max() == 63
