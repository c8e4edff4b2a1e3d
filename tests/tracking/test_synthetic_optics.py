"""Motion, shutter and optics of the synthetic camera against closed forms and brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp
from tracking.bodies.body import Body
from tracking.sources.source import open_source
from tracking.sources.synthetic_source import SyntheticSource
from tracking.synthetic.camera import BadSynthetic, Glare, Gliding, Optics, Surface, Swinging, SyntheticCamera
from tracking.synthetic.optics import disc
from tracking.synthetic.plates import BLACK, WHITE

MS = 1_000_000
BENT = Pinhole(320, 240, 300.0, 302.0, 161.3, 117.9, (-0.3, 0.12, 0.001, -0.0008))
CLEAN = Optics(0.0, 0.0, 0.0)
TAG: Body[Any] = Body.single(3, "DICT_APRILTAG_36h11", 40.0)
FACING = np.diag([1.0, -1.0, -1.0])
POSE = Rigid[Camera, Any](rotation_exp([0.3, -0.4, 0.5]) @ FACING, [5.0, -8.0, 260.0])


def camera(optics: Optics = CLEAN, **rest: Any) -> SyntheticCamera:
    return SyntheticCamera(BENT, [TAG], optics=optics, mono=True, **rest)


def greys(cam: SyntheticCamera, pose: Any, t_ns: int = 0) -> Array:
    picture = cam.shoot(0, Rigid.identity(), {"marker:3": pose}, t_ns).frame.picture
    assert picture.shape == (240, 320)
    return picture.astype(float)


def test_a_pixel_has_the_exact_share_of_each_cell() -> None:
    """A plate square to an ideal lens: every grey from the overlap of two axis-aligned rectangles."""
    pinhole = Pinhole(200, 200, 250.0, 250.0, 99.3, 100.6)
    cam = SyntheticCamera(pinhole, [TAG], optics=CLEAN, mono=True)
    z = 250.0  # one mm is one pixel; a cell is 4.0 px: 40 mm over ten cells would be 4, 36h11 has eight: 5 px
    pose = Rigid[Camera, Any](FACING, [3.21, -1.87, z])
    picture = cam.shoot(0, Rigid.identity(), {"marker:3": pose}).frame.picture.astype(float)
    left, top = 99.3 + 3.21 - 25.0, 100.6 - 1.87 - 25.0  # of the white margin
    edge_u, edge_v = left + 5 * np.arange(11), top + 5 * np.arange(11)
    from tracking.synthetic.plates import pattern

    cells = np.full((10, 10), WHITE)
    cells[1:9, 1:9] = np.where(pattern(TAG.dictionary, 3) == 1, WHITE, BLACK)

    def overlap(edges: Array) -> Array:
        low = np.maximum(edges[None, :-1], np.arange(200)[:, None] - 0.5)
        high = np.minimum(edges[None, 1:], np.arange(200)[:, None] + 0.5)
        return np.maximum(high - low, 0)

    expected = 255 * overlap(edge_v) @ cells @ overlap(edge_u).T
    inside = (overlap(edge_v).sum(axis=1)[:, None] * overlap(edge_u).sum(axis=1)[None, :]) > 1 - 1e-9
    assert inside.sum() > 2000
    assert np.abs(picture - expected)[inside].max() <= 0.501


@pytest.mark.parametrize("sd_px", [0.6, 0.75, 0.9])
def test_an_edge_along_a_column_has_the_lens_own_profile(sd_px: float) -> None:
    """A step seen through a Gaussian and a pixel's box, in closed form; a kernel of whole pixels is off by 10 greys."""
    pinhole = Pinhole(200, 200, 250.0, 250.0, 99.0, 100.0)
    worst = 0.0
    for shift in (0.0, 0.21, 0.5, 0.83):
        cam = SyntheticCamera(pinhole, [TAG], optics=Optics(sd_px, 0.0, 0.0), mono=True)
        pose = Rigid[Camera, Any](FACING, [shift, 0.0, 250.0])
        row = cam.shoot(0, Rigid.identity(), {"marker:3": pose}).frame.picture[100].astype(float)
        edge = 99.0 + shift - 20.0  # paper to the left, ink to the right
        u = np.flatnonzero(np.abs(np.arange(200) - edge) < 1.9)  # the next edges are five pixels away

        def ramp(t: Array) -> Array:
            return np.asarray(t * norm.cdf(t / sd_px) + sd_px * norm.pdf(t / sd_px))

        inked = ramp(u + 0.5 - edge) - ramp(u - 0.5 - edge)
        worst = max(worst, float(np.abs(row[u] - 255 * (WHITE + (BLACK - WHITE) * inked)).max()))
    assert worst < 1.8


@pytest.mark.parametrize(("way_px", "blur_px"), [(2.0, 0.0), (9.0, 0.0), (9.0, 0.7), (40.0, 0.0)])
def test_motion_blur_is_the_mean_of_many_stills(way_px: float, blur_px: float) -> None:
    optics = replace(CLEAN, blur_px=blur_px)
    speed = way_px / 300 * 260 / 8e-3  # mm/s
    move = Gliding[Camera, Any](POSE, np.array([0.8, 0.5, 0.3]) * speed, np.array([0.0, 0.4, 2.0]))
    blurred = greys(camera(replace(optics, exposure_ns=8 * MS)), move)
    instants = ((np.arange(160) + 0.5) / 160 - 0.5) * 8 * MS
    mean = np.mean([greys(camera(optics), move(t)) for t in instants], axis=0)
    error = blurred - mean
    assert np.abs(error).max() < 5  # one still more or less in a pixel that few of them reach
    assert np.sqrt((error**2).mean()) < 0.5
    assert np.abs(greys(camera(optics), POSE) - mean).max() > 30


@pytest.mark.parametrize("readout_ms", [30.0, -30.0])
def test_each_row_of_a_rolling_shutter_is_exposed_at_its_own_time(readout_ms: float) -> None:
    move = Gliding[Camera, Any](POSE, np.array([150.0, 60.0, 0.0]), np.array([0.0, 0.0, 1.5]), 7.0 * MS)
    optics = replace(CLEAN, readout_ns=round(readout_ms * MS))
    shot = camera(optics).shoot(0, Rigid.identity(), {"marker:3": move}, 7 * MS)
    for v in range(60, 180, 7):
        still = greys(camera(), move(7 * MS + shot.frame.row_ns(v)))
        assert np.abs(shot.frame.picture[v] - still[v]).max() <= 1
    assert shot.camera_from_body["marker:3"].translation_mm == pytest.approx(POSE.translation_mm)


def test_only_what_is_around_the_markers_is_rendered_and_nobody_sees_it() -> None:
    """A surface that no ray meets makes the camera render the whole picture."""

    def nothing(origins: Array, _: Array, __: float) -> tuple[Array, NDArray[np.int64], Array]:
        return np.full(len(origins), np.inf), np.full(len(origins), -1), np.zeros((len(origins), 3))

    far = Surface(nothing, np.array([-1e4, -1e4, 1e5]), np.array([1e4, 1e4, 1.1e5]))
    optics = Optics(
        3.1, 0.0, 0.4, defocus_px=6.5, gamma=2.2, tone=0.4, sharpen=0.8, exposure_ns=8 * MS, readout_ns=10 * MS,
        glare=Glare(150.0, 100.0, 15.0, 0.3),
    )  # fmt: skip
    move = Gliding[Camera, Any](POSE, np.array([300.0, 0.0, 0.0]))
    part, whole = greys(camera(optics), move), greys(camera(optics, surface=far), move)
    assert np.abs(part - whole).max() <= 1
    assert np.abs(part - whole).mean() < 0.2  # the kept cloth is not blurred


def test_noise_is_as_told_and_the_same_for_the_same_frame() -> None:
    optics = Optics(0.7, 3.0, 0.0, 200.0, shot_grey=4.0)
    pictures = np.stack(
        [camera(optics).shoot(k, Rigid.identity(), {"marker:3": POSE}).frame.picture for k in range(40)]
    )
    again = camera(optics).shoot(5, Rigid.identity(), {"marker:3": POSE}).frame.picture
    assert (again == pictures[5]).all()
    clean = greys(camera(Optics(0.7, 0.0, 0.0, 200.0)), POSE)
    spread = pictures.std(axis=0, ddof=1)
    for low, high in ((15, 25), (165, 180)):  # ink and paper
        here = (clean > low) & (clean < high)
        assert np.sqrt((spread[here] ** 2).mean()) == pytest.approx(
            np.sqrt(9 + 16 * clean[here].mean() / 255 + 1 / 12), rel=0.03
        )


@given(st.floats(0.3, 4), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_curve_rises_and_its_inverse_is_known(gamma: float, tone: float) -> None:
    optics = Optics(gamma=gamma, tone=tone)
    light = np.linspace(0, 1, 400, dtype=np.float32)
    grey = optics.encode(light)
    assert (np.diff(grey) >= -1e-3).all()
    assert optics.encode(optics.linear_lut().astype(np.float32)) == pytest.approx(np.arange(256), abs=0.05)


def test_gamma_is_the_usual_one() -> None:
    assert Optics(gamma=2.2).encode(np.array([0.5], dtype=np.float32))[0] == pytest.approx(
        255 * 0.5 ** (1 / 2.2), abs=0.01
    )
    assert Optics().linear_lut() == pytest.approx(np.arange(256) / 255, abs=1e-6)


@pytest.mark.parametrize("radius", [0.8, 2.5, 7.3])
def test_a_disc_of_defocus_has_the_discs_moments(radius: float) -> None:
    kernel = disc(radius).astype(float)
    n = len(kernel) // 2
    u = np.arange(-n, n + 1)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    variance = (kernel.sum(axis=0) * u**2).sum()
    assert variance == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.08)  # and the pixel's own


def test_sharpening_overshoots_and_motion_jpeg_rings() -> None:
    plain = greys(camera(Optics(1.0, 0.0, 0.0, 200.0)), POSE)
    sharp = greys(camera(Optics(1.0, 0.0, 0.0, 200.0, sharpen=1.5)), POSE)
    assert sharp.max() > plain.max() + 15
    errors = [np.abs(greys(camera(Optics(1.0, 0.0, 0.0, 200.0, mjpeg=q)), POSE) - plain).mean() for q in (95, 70, 30)]
    assert 0 < errors[0] < errors[1] < errors[2] < 6


def test_glare_saturates_where_the_lamp_stands() -> None:
    picture = greys(camera(Optics(0.7, 0.0, 0.0, glare=Glare(161.0, 118.0, 12.0, 3.0))), POSE)
    assert (picture[113:124, 156:167] == 255).all()
    assert picture[10, 10] < 120


def test_colour_and_grey_show_the_same() -> None:
    grey = greys(camera(), POSE)
    colour = SyntheticCamera(BENT, [TAG], optics=CLEAN).shoot(0, Rigid.identity(), {"marker:3": POSE}).frame.picture
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY).astype(float)
    assert np.abs(grey - luma).max() <= 1


def test_a_swing_is_fastest_in_its_middle() -> None:
    path = Swinging[Camera, Any](POSE, np.array([200.0, 0, 0]), np.array([0, 0, 1.0]), 1.6)
    step = path(0.5 * MS).translation_mm - path(-0.5 * MS).translation_mm
    assert step == pytest.approx([0.2, 0, 0], abs=1e-5)
    assert path(1.6e9).translation_mm == pytest.approx(POSE.translation_mm, abs=1e-9)


@pytest.mark.parametrize("spec", ["path=sway", "speed=300,spin=40,exposure=8,readout=12", "path=still,tilt=40"])
def test_the_source_knows_the_truth_at_any_instant(spec: str) -> None:
    source = open_source(f"synthetic:frames=4,size=320x240,fps=25,grey=1,{spec}")
    assert isinstance(source, SyntheticSource)
    truth = source.camera_from_body("board")
    for shot in source.shots():
        found = shot.camera_from_body["board"]
        assert np.abs(found.rotation - truth(shot.frame.t_ns).rotation).max() < 1e-12
        assert np.abs(found.translation_mm - truth(shot.frame.t_ns).translation_mm).max() < 1e-9
        assert shot.frame.picture.shape == (240, 320)
        assert (shot.frame.exposure_ns, shot.frame.readout_ns) == (source.optics.exposure_ns, source.optics.readout_ns)


@pytest.mark.parametrize(
    "wrong", [{"blur_px": -1}, {"noise_grey": float("nan")}, {"gamma": 0}, {"mjpeg": 101}, {"exposure_ns": -5}]
)
def test_optics_that_no_camera_has(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadSynthetic):
        Optics(**wrong)
