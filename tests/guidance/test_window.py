"""Guidance in a window under a virtual display: what stands on the screen."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data import ROOT

SHOW = """
import sys
from pathlib import Path
from guidance.loop import guide
from guidance.window import show
from render.window import save_png
from tests.guidance.test_loop import Shots
from tests.guidance.theatre import DRILL, SMALL, TWIN, state

lines = []
def keep(window, one):
    save_png(Path(sys.argv[1]) / f"screen_{one.frame.index}.png", window.on_screen())
    if one.frame.index == 6:
        window.close()
frames = guide(Shots(), SMALL, state(instrument=DRILL, screw="L3-left"), TWIN, draw=False)
assert show(frames, SMALL, TWIN, lines.append, shown=keep) == 7
assert [line["trust"] for line in lines] == ["GUIDING"] * 3 + ["CAUTION"] * 3 + ["STOP"]
"""


def test_the_window_shows_the_overlay_then_the_word(display: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, last = (np.asarray(Image.open(tmp_path / f"screen_{k}.png")).astype(int) for k in (0, 6))
    assert first.shape == last.shape == (360, 640, 3)

    def share(picture: np.ndarray, rgb: tuple[int, int, int]) -> int:
        return int((np.abs(picture - rgb).max(axis=2) < 40).sum())

    green, red = (115, 235, 158), (255, 107, 92)
    assert share(first, green) > 50
    assert share(first, red) < 5  # a rim may blend to it
    assert share(last, red) > 500
    assert share(last, green) < 5
