"""The window under a virtual display: what it shows, its keys; without a display one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.orbit import Orbit
from render.scene import MeshPart, Scene, TextPart
from render.viewer import ViewerState
from spatial.frames import Patient
from tests.data import ROOT
from tests.render.shapes import icosphere

SHOW = """
import sys
from pathlib import Path
from render.scene import MeshPart, Scene
from render.window import Window, save_png
from tests.render.shapes import icosphere

scene = Scene(meshes=(MeshPart("ball", icosphere(40.0, 3), layer="bones"),))
with Window(400, 300, "test") as window:
    window.keys.extend("1S")
    state = window.show(scene, frames=3, pictures=Path(sys.argv[1]))
    save_png(Path(sys.argv[1]) / "screen.png", window.on_screen())
    assert window.context.error == "GL_NO_ERROR"
    assert abs(state.orbit.azimuth_rad) < 1e-12
"""
NO_DISPLAY = """
from render.window import NoWindow, Window

try:
    Window(100, 100)
except NoWindow as fault:
    print(fault)
"""


def run(code: str, *arguments: str, display: str | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if display is not None:
        environment["DISPLAY"] = display
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_window_shows_the_scene_and_saves_a_screenshot(display: str, tmp_path: Path) -> None:
    run(SHOW, str(tmp_path), display=display)
    shown = np.asarray(Image.open(tmp_path / "screen.png")).astype(int)
    saved = np.asarray(Image.open(tmp_path / "osteotwin-001.png")).astype(int)
    assert shown.shape == saved.shape == (300, 400, 3)
    assert shown[150, 200].min() > 100  # bone in the middle
    assert shown[20, 20].max() < 80  # background in the corner
    letters = (shown[..., 0] > 200) & (shown[..., 2] < 150)
    assert letters[:, :40].any()
    assert letters[:, 360:].any()


def test_without_a_display_one_line_says_so() -> None:
    assert run(NO_DISPLAY, display=None).startswith("NoWindow: no window")


def scene() -> Scene[Patient]:
    ball = MeshPart[Patient]("ball", icosphere(30.0, 1), layer="bones")
    return Scene(meshes=(ball,), labels=(TextPart("L3", np.zeros(3), layer="labels"),))


def test_keys_turn_hide_and_go_home() -> None:
    start = ViewerState.of(scene())
    left = start.keyed("2")
    assert np.abs(left.orbit.toward_eye - (1, 0, 0)).max() < 1e-9
    view = left.orbit.view(320, 240)
    assert left.dressed(scene(), view).screen_texts[0].text == "A"
    assert not start.keyed("B").dressed(scene(), view).meshes
    assert start.keyed("B").keyed("B").dressed(scene(), view).meshes
    assert start.keyed("X").dressed(scene(), view).meshes[0].material.mode == "xray"
    assert all(label.text != "L3" for label in start.keyed("L").dressed(scene(), view).labels)
    assert left.dragged("left", 40, 30, 240).keyed("R").orbit is start.home
    assert start.keyed("?") is start


def test_a_drag_follows_the_mouse() -> None:
    start = ViewerState.of(scene(), 0.0, 0.0)
    view = start.orbit.view(400, 300)
    from spatial.rigid import Points

    before = view.pixels(Points[Patient](np.zeros(3)))
    shifted = start.dragged("middle", 25, -10, 300)
    after = shifted.orbit.view(400, 300).pixels(Points[Patient](np.zeros(3)))
    assert np.abs(after - before - (25, -10)).max() < 1e-6
    assert start.scrolled(2).orbit.distance_mm < start.orbit.distance_mm
    assert start.dragged("left", 0, 9999, 300).orbit.elevation_rad == pytest.approx(1.5)


def test_an_orbit_holds_the_whole_box_from_every_side() -> None:
    from itertools import product

    from spatial.rigid import Points

    low, high = np.array([-30.0, -50.0, 10.0]), np.array([40.0, 20.0, 200.0])
    corners = Points[Patient](np.array(list(product(*zip(low, high, strict=True)))))
    for azimuth_rad, elevation_rad in product(np.linspace(0, 6, 7), (-1.2, 0.0, 1.2)):
        px = Orbit.around(low, high, float(azimuth_rad), elevation_rad).view(300, 300).pixels(corners)
        assert px.min() > 0
        assert px.max() < 300
