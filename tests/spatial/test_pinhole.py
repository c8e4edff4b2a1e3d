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


FISHEYES = [(), (0.08, -0.02, 0.004, -0.001), (-0.05, 0.01, 0.0, 0.0)]


@pytest.mark.parametrize("k", FISHEYES)
def test_a_fisheye_is_opencvs_and_is_inverted(k):
    camera = Pinhole(1280, 960, 420.0, 418.0, 630.2, 484.9, k, "fisheye")
    rng = np.random.default_rng(5)
    theta, turn, depth = rng.uniform(0, 1.4, 500), rng.uniform(0, 2 * np.pi, 500), rng.uniform(100, 900, 500)
    theta[0] = 0.0  # on the axis, where radius and angle vanish together
    points = depth[:, None] * np.c_[np.tan(theta) * np.cos(turn), np.tan(theta) * np.sin(turn), np.ones(500)]
    ours = camera.project(Points[Camera](points))
    flat = points[:, None]
    theirs, _ = cv2.fisheye.projectPoints(flat, np.zeros(3), np.zeros(3), camera.matrix, np.array(k or (0.0,) * 4))
    assert np.abs(ours - theirs[:, 0]).max() < 1e-8
    rays = camera.rays(ours).unit
    assert np.abs(rays - points / np.linalg.norm(points, axis=1, keepdims=True)).max() < 1e-9
    assert not camera.is_ideal
    assert camera.scaled(0.5).lens == "fisheye"


@pytest.mark.parametrize(
    "camera", [lens(k) for k in LENSES] + [Pinhole(9, 9, 400, 410, 4, 4, k, "fisheye") for k in FISHEYES]
)
def test_slopes_are_the_projections_derivative(camera):
    xy = np.random.default_rng(3).uniform(-0.4, 0.4, (50, 2))
    slopes, step = camera.slopes(xy), 1e-6
    for axis in range(2):
        ends = [np.c_[xy + sign * step * np.eye(2)[axis], np.ones(50)] for sign in (1, -1)]
        ahead, behind = (camera.project(Points[Camera](end)) for end in ends)
        assert np.abs((ahead - behind) / (2 * step) - slopes[..., axis]).max() < 1e-4


def test_a_fisheye_says_what_it_can_not_see():
    with pytest.raises(BadLens, match="outside the lens' circle"):
        Pinhole(1280, 960, 300.0, 300.0, 640, 480, (), "fisheye").normalised([0.0, 0.0])
    with pytest.raises(BadLens, match="0 or 4 are known"):
        Pinhole(9, 9, 4, 4, 4, 4, (0.1,) * 5, "fisheye")
    with pytest.raises(BadLens, match="brown and fisheye"):
        Pinhole(9, 9, 4, 4, 4, 4, (), "thick")


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
