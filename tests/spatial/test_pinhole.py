"""The lens against OpenCV, and the OpenGL projection against the lens."""

import cv2
import numpy as np
import pytest

from spatial.frames import Camera
from spatial.pinhole import EYE_FROM_CAMERA, BadLens, Pinhole
from spatial.rigid import Points

LENSES = [
    (),
    (-0.28, 0.09, 1e-3, -5e-4),
    (-0.021916, -0.143, -0.003951, -0.000449, 0.19656),
    (0.1, -0.05, 5e-4, 2e-4, 0.01, 0.12, -0.03, 0.005),
]


def lens(distortion=()):
    return Pinhole(1920, 1080, 1500.0, 1480.0, 955.3, 541.7, distortion)


@pytest.fixture
def points():
    rng = np.random.default_rng(11)
    z = rng.uniform(300, 900, 500)
    return np.c_[rng.uniform(-0.5, 0.5, 500) * z, rng.uniform(-0.3, 0.3, 500) * z, z]


@pytest.mark.parametrize("distortion", LENSES)
def test_projection_is_opencvs(points, distortion):
    ours = lens(distortion).project(Points[Camera](points))
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), lens().matrix, np.array(distortion or (0.0,) * 4))
    assert np.abs(ours - theirs[:, 0]).max() < 1e-8


@pytest.mark.parametrize("distortion", LENSES)
def test_rays_invert_the_projection(points, distortion):
    camera = lens(distortion)
    rays = camera.rays(camera.project(Points[Camera](points))).unit
    assert np.abs(rays - points / np.linalg.norm(points, axis=1, keepdims=True)).max() < 1e-9


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(lens().project(Points[Camera]([[0, 0, -5.0], [0, 0, 0]]))).all()


def test_gl_projection_lands_on_the_same_pixel(points):
    camera = lens()
    eye = (EYE_FROM_CAMERA @ Points[Camera](points)).mm
    clip = np.c_[eye, np.ones(len(eye))] @ camera.gl_projection(10, 5000).T
    ndc = clip[:, :3] / clip[:, 3:]
    window = (ndc[:, :2] + 1) / 2 * (camera.width_px, camera.height_px)  # GL: lower left corner of the picture is 0, 0
    pixel = camera.project(Points[Camera](points))
    assert np.allclose(window[:, 0] - 0.5, pixel[:, 0], atol=1e-9)
    assert np.allclose(camera.height_px - 1 - (window[:, 1] - 0.5), pixel[:, 1], atol=1e-9)
    assert (np.abs(ndc[:, 2]) < 1).all()


def test_half_size_picture_sees_the_same_rays():
    camera, small = lens(), lens().scaled(0.5)
    corner = np.array([-0.5, -0.5])  # the outer corner of the first pixel stays the outer corner
    assert np.allclose(camera.rays(corner).unit, small.rays(corner).unit)


def test_a_lens_that_folds_over_is_refused():
    with pytest.raises(BadLens, match="inverted"):
        Pinhole(1920, 1080, 800, 800, 960, 540, (-0.9, 0.0, 0, 0)).rays([0.0, 0.0])
    with pytest.raises(BadLens, match="coefficients"):
        Pinhole(10, 10, 5, 5, 5, 5, (0.1, 0.2))
