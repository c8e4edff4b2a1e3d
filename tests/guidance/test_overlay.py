"""The overlay: what it shows in each state, that it lies where OpenCV projects, that its words can be read."""

import cv2
import numpy as np
import pytest

from guidance.overlay import CHOSEN_RGB, overlay
from guidance.session import Limits, Tick, step
from render.offscreen import Offscreen
from render.scene import Scene, View
from spatial.frames import Patient
from spatial.rigid import Points
from tests.guidance import theatre as room
from tests.guidance.theatre import DRILL, SCREWS, SMALL, TWIN, camera_at, drill_at, seen_at, state

IDEAL = SMALL.undistorted()
GREY = np.full((SMALL.height_px, SMALL.width_px, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def target():
    with Offscreen(samples=4, occlusion=False) as offscreen:
        yield offscreen


def words(scene):
    return "\n".join(text.text for text in scene.screen_texts)


@pytest.mark.parametrize(("after_ms", "word"), [(150, "STALE"), (1500, "LOST")])
def test_stale_and_lost_draw_no_bone_but_the_word(after_ms, word):
    gone = step(seen_at(state(), 0, camera_at()), Tick(after_ms * 1_000_000))
    scene, _ = overlay(gone, TWIN, GREY, IDEAL)
    assert scene.meshes == scene.lines == scene.labels == ()
    assert next(text.text for text in scene.screen_texts) == word
    assert f"not seen for {after_ms} ms" in words(scene)


def test_never_seen_draws_no_bone_but_the_word():
    scene, _ = overlay(step(state(), Tick(0)), TWIN, GREY, IDEAL)
    assert scene.meshes == scene.lines == scene.labels == ()
    assert "LOST" in words(scene)
    assert "never seen" in words(scene)
    assert scene.picture is GREY
    scene, _ = overlay(state(), TWIN, GREY, IDEAL)
    assert scene.meshes == ()
    assert "no picture yet" in words(scene)


def test_guiding_shows_bones_screws_letters_levels_and_the_error():
    now = seen_at(state(screw="L3-left"), 0, camera_at())
    scene, view = overlay(now, TWIN, GREY, IDEAL)
    assert {part.name for part in scene.meshes} == {*TWIN.bones, *SCREWS}
    assert {label.text for label in scene.labels} == {"L3", "L4", "L hip"}
    texts = [text.text for text in scene.screen_texts]
    assert any("GUIDING" in text and "EXACT" in text for text in texts)
    assert any(f"{now.readout.tre95_mm:.1f} mm (95 %) at L3-left" in text for text in texts)
    assert sum(set(text) <= set("RLHFAP") for text in texts) == 4
    assert "not a medical device" in words(scene)
    chosen = {part.name: part.material.rgb == CHOSEN_RGB for part in scene.meshes}
    assert chosen["L3-left"]
    assert not chosen["L3-right"]
    at = view.pixels(Points[Patient](room.CENTRE))
    assert ((at > 0) & (at < (SMALL.width_px, SMALL.height_px))).all()


def test_head_is_left_and_the_patients_right_is_up_in_this_view():
    scene, view = overlay(seen_at(state(), 0, camera_at()), TWIN, GREY, IDEAL)
    letters = {t.position_px: t.text for t in scene.screen_texts if set(t.text) <= set("RLHFAP")}
    topmost = min(letters, key=lambda place: place[1])
    assert letters[topmost].startswith("R")
    left, right = view.pixels(Points[Patient](room.CENTRE + np.array([[10.0, 0, 0], [-10.0, 0, 0]])))
    assert left[1] > right[1]  # the patient's left lies lower


def test_drill_readout_says_entry_tip_angle_depth_and_its_own_error():
    screw = SCREWS["L3-left"]
    drill = drill_at(screw.entry.mm - 20 * screw.axis.direction, screw.axis.direction)
    scene, _ = overlay(seen_at(state(instrument=DRILL, screw=screw.id), 0, camera_at(), drill), TWIN, GREY, IDEAL)
    text = words(scene)
    for part in ("drill to L3-left", "entry 0.0 mm", "tip 0.0 mm", "angle 0.0°", "60.0 mm short of", "95 %, predicted"):
        assert part in text
    unseen, _ = overlay(seen_at(state(instrument=DRILL), 0, camera_at()), TWIN, GREY, IDEAL)
    assert "drill: LOST, never seen" in words(unseen)
    assert "no read-out" in words(unseen)


def test_caution_says_why():
    scene, _ = overlay(seen_at(state(limits=Limits(tre95_mm=0.1)), 0, camera_at()), TWIN, GREY, IDEAL)
    assert "CAUTION" in words(scene)
    assert "limit 0.1 mm" in words(scene)


def opencv_px(points_mm, camera_from_patient, pinhole):
    """cv2.projectPoints through the ideal lens."""
    rvec, _ = cv2.Rodrigues(camera_from_patient.rotation)
    px, _ = cv2.projectPoints(points_mm, rvec, camera_from_patient.translation_mm, pinhole.matrix, None)
    return px.reshape(-1, 2)


def test_vertices_lie_where_opencv_projects_them():
    camera = camera_at(0.25)
    _, view = overlay(seen_at(state(), 0, camera), TWIN, GREY, IDEAL)
    for bone in TWIN.bones.values():
        mm = bone.surface.vertices_mm
        assert np.abs(view.pixels(Points[Patient](mm)) - opencv_px(mm, camera, IDEAL)).max() < 1e-5


def test_drawn_extremes_lie_where_opencv_projects_them(target):
    camera, fine = camera_at(0.25), 8
    scene, _ = overlay(seen_at(state(), 0, camera), TWIN, GREY, IDEAL)
    view = View[Patient].from_pinhole(IDEAL.scaled(fine), camera)
    for part in scene.meshes[:3]:
        mask = target.mask(Scene[Patient](meshes=(part,)), view)
        v, u = np.nonzero(mask)
        drawn = (np.array([u.min() - 0.5, u.max() + 0.5, v.min() - 0.5, v.max() + 0.5]) + 0.5) / fine - 0.5
        px = opencv_px(part.mesh.vertices_mm, camera, IDEAL)
        expected = np.array([px[:, 0].min(), px[:, 0].max(), px[:, 1].min(), px[:, 1].max()])
        assert np.abs(drawn - expected).max() < 0.1


def luminance(rgb):
    c = np.asarray(rgb, float) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("seen", [True, False])
def test_words_can_be_read_over_dark_and_bright_pictures(target, grey, seen):
    picture = np.full_like(GREY, grey)
    now = seen_at(state(screw="L3-left"), 0, camera_at()) if seen else step(state(), Tick(0))
    scene, view = overlay(now, TWIN, picture, IDEAL)
    drawn = target.picture(scene, view)
    text = next(t for t in scene.screen_texts if t.panel_opacity > 0)
    x, y = (int(p) for p in text.position_px)
    size = int(text.height_px)
    part = drawn[y : y + size, x : x + 4 * size] if seen else drawn[y - size // 3 : y + size // 3, x - size : x + size]
    bright = luminance(part.reshape(-1, 3))
    assert (np.quantile(bright, 0.98) + 0.05) / (np.quantile(bright, 0.05) + 0.05) >= 4.5  # WCAG 2.2, AA


def test_a_bone_behind_the_camera_draws_nothing(target):
    behind = camera_at()
    turned = type(behind)(np.diag([-1.0, 1, -1]) @ behind.rotation, np.diag([-1.0, 1, -1]) @ behind.translation_mm)
    scene, _ = overlay(seen_at(state(), 0, camera_at()), TWIN, GREY, IDEAL)
    assert not target.mask(scene, View[Patient].from_pinhole(IDEAL, turned)).any()
