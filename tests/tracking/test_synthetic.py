"""The second renderer against closed forms: silhouettes of spheres, places of markers, shafts, undistorted pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid
from spatial.shapes import Cylinder
from tests.tracking.scene import BENT
from tracking.bodies.body import Body
from tracking.sources.source import open_source
from tracking.synthetic.camera import Optics, Surface, SyntheticCamera, orbit, truth_mask
from tracking.undistort import undistort

SMALL = Pinhole(320, 240, 300.0, 302.0, 161.3, 117.9, (-0.3, 0.12, 0.001, -0.0008))
CLEAN = Optics(0.0, 0.0, 0.0)


def sphere(centre_mm: Array, radius_mm: float) -> Surface:
    def cast(origins: Array, directions: Array, t_max: float) -> tuple[Array, NDArray[np.int64], Array]:
        b = np.einsum("ij,ij->i", directions, centre_mm - origins)
        square = b**2 - ((centre_mm - origins) ** 2).sum(axis=1) + radius_mm**2
        t = np.where((square > 0) & (b > 0), b - np.sqrt(np.maximum(square, 0)), np.inf)
        t = np.where(t <= t_max, t, np.inf)
        normals = np.where(
            np.isfinite(t)[:, None], (origins + np.nan_to_num(t, posinf=0)[:, None] * directions - centre_mm), 0
        )
        return t, np.where(np.isfinite(t), 0, -1), normals / radius_mm

    return Surface(cast, centre_mm - radius_mm, centre_mm + radius_mm)


def seen_as_sphere(pinhole: Pinhole, centre_mm: Array, radius_mm: float) -> NDArray[np.bool_]:
    """A pixel sees a sphere when its ray is closer to the centre's direction than the sphere's half angle."""
    v, u = np.mgrid[0.0 : pinhole.height_px, 0.0 : pinhole.width_px]
    rays = pinhole.rays(np.stack([u, v], axis=-1)).unit
    distance = np.linalg.norm(centre_mm)
    return np.asarray(rays @ (centre_mm / distance) > np.sqrt(1 - (radius_mm / distance) ** 2))


def test_truth_mask_of_a_sphere_is_exact() -> None:
    centre = np.array([30.0, -20.0, 400.0])
    mask = truth_mask(sphere(centre, 50.0), SMALL, Rigid.identity())
    expected = seen_as_sphere(SMALL, centre, 50.0)
    assert expected.sum() > 3000
    assert (mask != expected).sum() == 0


def test_a_sphere_hides_what_is_behind_it_and_not_what_is_before() -> None:
    body: Body[Any] = Body.single(3, "DICT_APRILTAG_36h11", 40.0)
    ball = sphere(np.array([0.0, 0, 400.0]), 40.0)
    camera = SyntheticCamera(SMALL, [body], ball, optics=CLEAN)
    facing = np.diag([1.0, -1, -1])
    pictures = [
        camera.shoot(0, Rigid.identity(), {"marker:3": Rigid(facing, np.array([0.0, 0, z]))}).frame.picture
        for z in (300.0, 600.0)
    ]
    v, u = 118, 161
    ink_or_paper = [abs(int(p[v, u, 0]) - int(p[v, u, 2])) < 3 for p in pictures]
    assert ink_or_paper == [True, False]  # bone is warm, print is grey


def test_markers_stand_where_projection_says_under_distortion() -> None:
    """The centre of gravity of a plate's pixels against the same area sampled through Pinhole.project."""
    body: Body[Any] = Body.single(0, "DICT_4X4_50", 30.0)
    pose = Rigid[Any, Any].exp([0.5, 0.3, 0.2], [40.0, 30.0, 300.0])
    pose = Rigid(pose.rotation @ np.diag([1.0, -1, -1]), pose.translation_mm)
    camera = SyntheticCamera(SMALL, [body], optics=Optics(0.0, 0.0, 0.0, 255.0))
    with_plate = camera.shoot(0, Rigid.identity(), {"marker:0": pose}).frame.picture.astype(float)
    without = camera.shoot(0, Rigid.identity(), {}).frame.picture.astype(float)
    n = 600
    a, b = np.meshgrid((np.arange(n) + 0.5) / n - 0.5, (np.arange(n) + 0.5) / n - 0.5)
    plate = np.stack([a * 30 * 8 / 6, b * 30 * 8 / 6, np.zeros_like(a)], axis=-1).reshape(-1, 3)  # with its white rim
    px = SMALL.project(pose @ Points(plate))
    changed = np.abs(with_plate - without).max(axis=2) > 0
    inside = np.zeros_like(changed)
    inside[tuple(np.rint(px[:, ::-1]).astype(int).T)] = True
    assert (inside & ~changed).sum() <= 0.002 * inside.sum()  # grey equal to the cloth by chance
    assert (changed & ~inside).sum() <= 0.02 * inside.sum()  # pixels that the rim only brushes


def test_a_shaft_is_a_capsule() -> None:
    shaft = Cylinder[Any](np.array([-40.0, 0, 400.0]), np.array([1.0, 0, 0]), 80.0, 6.0)
    camera = SyntheticCamera(SMALL.undistorted(), (), None, {"drill": shaft}, CLEAN)
    drawn = camera.shoot(0, Rigid.identity(), {"drill": Rigid.identity()}).frame.picture.astype(int)
    empty = camera.shoot(0, Rigid.identity(), {}).frame.picture.astype(int)
    v, u = np.nonzero(np.abs(drawn - empty).max(axis=2) > 0)
    f, cy = SMALL.fy_px, SMALL.cy_px
    assert abs(v.min() - (cy - f * 6 / 400)) < 1.2
    assert abs(v.max() - (cy + f * 6 / 400)) < 1.2
    assert abs((u.max() - u.min()) - SMALL.fx_px * 92 / 400) < 2.5


def test_undistorted_pictures_follow_the_ideal_lens() -> None:
    """A sphere seen through the bent lens, undistorted, against its silhouette in the ideal picture."""
    centre = np.array([-70.0, 50.0, 400.0])
    for pinhole in (SMALL, BENT):
        raw = np.where(seen_as_sphere(pinhole, centre, 50.0), 255, 0).astype(np.uint8)
        straight = undistort(raw, pinhole) > 127
        expected = seen_as_sphere(pinhole.undistorted(), centre, 50.0)
        wrong = straight != expected
        outline = cv2.morphologyEx(expected.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
        assert (wrong & ~outline).sum() == 0
        shift = np.argwhere(straight).mean(axis=0) - np.argwhere(expected).mean(axis=0)
        assert np.abs(shift).max() < 0.1  # px: no half-pixel slip; a black-and-white disc knows no better


def test_the_camera_sways_smoothly_and_looks_at_the_scene() -> None:
    centre = np.array([3.0, -20.0, 7.0])
    path = list(orbit(centre, np.array([0, 1.0, 0]), np.array([0, 0, 1.0]), 500.0, 60))
    for pose in path:
        seen = pose @ Points(centre)
        assert np.abs(seen.mm[:2]).max() < 1e-9
        assert 400 < seen.mm[2] < 600
        assert (pose.rotation @ [0, 0, 1.0])[1] < -0.7  # the patient's head is up in the picture
    steps = [np.linalg.norm(b.translation_mm - a.translation_mm) for a, b in pairwise(path)]
    assert max(steps) < 25


def test_the_same_frame_is_the_same_picture() -> None:
    first, again = (open_source("synthetic:frames=2,size=320x240,seed=4") for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert a.t_ns == b.t_ns
