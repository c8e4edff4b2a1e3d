"""Slices: the right voxel in the right pixel, letters, the scale bar's length, what the plane cuts."""

from typing import Any

import numpy as np
import pytest

from render.scene import BadScene
from render.slices import Outline, Slice, Stroke, Voxels, mosaic, slice_picture
from render.solids import cylinder_mesh, pose_along
from spatial.frames import Patient
from spatial.rigid import Points
from spatial.shapes import Line
from tests.render.shapes import icosphere


def ramp() -> Voxels:
    """HU = x + 2 y + 3 z (mm), an exactly trilinear field, on a tilted-free grid with unequal spacing."""
    spacing, origin = np.array([1.0, 0.8, 2.0]), np.array([-40.0, -30.0, -50.0])
    i, j, k = np.arange(81), np.arange(81), np.arange(51)
    xyz = np.stack(np.meshgrid(k, j, i, indexing="ij")[::-1], axis=-1) * spacing + origin
    hu = np.rint(10 * (xyz @ [1.0, 2.0, 3.0])).astype(np.int16)
    return Voxels(hu, np.column_stack([np.diag(1 / spacing), -origin / spacing]))


def test_values_are_trilinear_and_absent_outside() -> None:
    points = Points[Patient](np.random.default_rng(2).uniform([-39, -29, -49], [39, 29, 49], (200, 3)))
    assert np.abs(ramp().at(points) - 10 * points.mm @ [1.0, 2.0, 3.0]).max() < 1.0
    assert np.isnan(ramp().at(Points[Patient](np.array([100.0, 0, 0]))))


@pytest.mark.parametrize(
    ("where", "right", "down"),
    [
        (Slice.axial, (1, 0, 0), (0, 1, 0)),
        (Slice.coronal, (1, 0, 0), (0, 0, -1)),
        (Slice.sagittal, (0, 1, 0), (0, 0, -1)),
    ],
)
def test_the_planes_hang_as_radiologists_hang_them(where: Any, right: Any, down: Any) -> None:
    s: Slice = where((0.0, 0.0, 0.0), 40.0, 80, 60)
    assert s.right.tolist() == list(map(float, right))
    assert s.down.tolist() == list(map(float, down))
    points = s.points()
    assert points.mm.shape == (60, 80, 3)
    px = s.pixels(points)
    assert np.abs(px[..., 0] - np.arange(80)).max() < 1e-9
    assert np.abs(px[..., 1] - np.arange(60)[:, None]).max() < 1e-9
    grey = slice_picture(ramp(), s, window_hu=(0.0, 4000.0))[..., 0].astype(float)
    expected = np.clip((10 * points.mm @ [1.0, 2.0, 3.0] + 2000) / 4000 * 255, 0, 255)
    assert np.abs(grey - expected)[25:30, 20:60].max() < 1.2  # away from the letters


def test_an_outline_is_drawn_where_the_plane_cuts() -> None:
    s = Slice.axial((0.0, 0.0, 6.0), 40.0, 400, 400)
    picture = slice_picture(None, s, outlines=(Outline(icosphere(10.0, 5), (1.0, 0.0, 0.0), 1.5, 0.4),), title="")
    red = picture[..., 0].astype(float) - picture[..., 1]
    v, u = np.nonzero(red > 180)
    radius_mm = np.hypot(u - 199.5, v - 199.5) * s.px_mm
    assert np.abs(radius_mm - 8.0).max() < 0.2  # the circle at height 6 of a ball of radius 10
    assert len(u) > 400
    r_mm = np.hypot(*np.meshgrid(np.arange(400) - 199.5, np.arange(400) - 199.5)) * s.px_mm
    assert np.abs(red[r_mm < 7.5] - 102).max() < 2
    assert not red[(r_mm > 8.5) & (r_mm < 16)].any()


def test_a_slice_along_a_screw_shows_it_whole() -> None:
    axis: Line[Patient] = Line(np.array([12.0, 20.0, 3.0]), np.array([-0.3, -1.0, 0.15]))
    s = Slice.along("screw", axis, Slice.axial((0, 0, 0), 80.0, 400, 400))
    assert np.abs(s.plane.signed_distance_mm(axis.at(np.array([0.0, 45.0])))).max() < 1e-9
    assert s.right[0] > 0.9
    assert s.down[1] > 0.9
    screw = cylinder_mesh(6.0, 45.0).moved(pose_along(axis.point_mm, axis.direction, np.array([0.0, 0, 1])))
    picture = slice_picture(None, s, outlines=(Outline(screw, (0.0, 1.0, 0.0), 1.0, 1.0),), title="")
    green = picture[..., 1].astype(float) - picture[..., 0] > 128
    assert abs(green.sum() * s.px_mm**2 - 6.0 * 45.0) < 0.05 * 6.0 * 45.0
    with pytest.raises(BadScene, match="across"):
        Slice.along("screw", Line(np.zeros(3), np.array([0.0, 0, 1])), Slice.axial((0, 0, 0)))


def test_letters_and_scale_are_on_the_picture() -> None:
    s = Slice.axial((0.0, 0.0, 0.0), 100.0, 500, 500)
    picture = slice_picture(None, s).astype(int)
    yellow = (picture[..., 0] > 180) & (picture[..., 2] < 150)
    for rows, columns in (
        ((230, 270), (0, 50)),
        ((230, 270), (450, 500)),
        ((0, 50), (230, 270)),
        ((450, 500), (230, 270)),
    ):
        assert yellow[slice(*rows), slice(*columns)].sum() > 15
    bar = (picture[440:, 300:].min(axis=2) > 200).sum(axis=1).max()  # the longest bright row
    assert abs(bar - 20 / s.px_mm) <= 3
    assert (
        slice_picture(None, s, strokes=(Stroke(np.array([[0.0, 0, 0], [20.0, 0, 0]]), (1, 0, 1)),))[250, 250:340, 2]
        > 200
    ).all()


def test_a_mosaic_keeps_the_pictures() -> None:
    pictures = [np.full((4, 5, 3), n, dtype=np.uint8) for n in (10, 20, 30)]
    out = mosaic(pictures, 2, gap_px=1)
    assert out.shape == (9, 11, 3)
    assert out[0, 6, 0] == 20
    assert out[5, 0, 0] == 30
    with pytest.raises(BadScene):
        mosaic([], 2)
