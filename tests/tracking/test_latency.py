"""Latency: simulated screens and cameras with a known delay, through rendered pictures and through readings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from commands import calibrate
from commands.calibrate_latency import live
from spatial.rigid import Array
from tests.data import ROOT
from tracking.calibration.latency import BadScreenLog, Look, PoorLatency, load_log, measure_latency
from tracking.calibration.latency_code import NUMBERS, Reading, draw, gray, read
from tracking.frame import Frame

SIZE = (400, 300)
PLACE = cv2.getPerspectiveTransform(
    np.array([[0, 0], [1280, 0], [1280, 720], [0, 720]], np.float32),
    np.array([[40, 50], [360, 42], [365, 240], [30, 236]], np.float32),
)


def seen(mixture: Array, noise: float = 2.0, seed: int = 0) -> NDArray[np.uint8]:
    """A camera's picture of what the screen showed on average while it exposed."""
    picture = cv2.warpPerspective(mixture.astype(np.float32), PLACE, SIZE, flags=cv2.INTER_AREA)
    picture = 0.7 * cv2.GaussianBlur(picture, (0, 0), 0.7) + 25
    picture += noise * np.random.default_rng(seed).standard_normal(picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_neighbouring_numbers_differ_in_one_bit() -> None:
    for number in range(NUMBERS):
        assert np.abs(gray(number) - gray((number + 1) % NUMBERS)).sum() == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, NUMBERS - 1), st.floats(0, 1))
def test_a_number_and_its_share_of_the_exposure_are_read(number: int, share: float) -> None:
    mixture = (1 - share) * draw(number) + share * draw(number + 1).astype(np.float64)
    found = read(seen(mixture, seed=number))
    assert found is not None
    mean = sum((found.first + k) * s for k, s in enumerate(found.shares))
    assert mean == pytest.approx(number + share, abs=0.1)


def test_three_numbers_within_one_exposure() -> None:
    mixture = 0.3 * draw(77) + 0.5 * draw(78) + 0.2 * draw(79).astype(np.float64)
    found = read(seen(mixture))
    assert found is not None
    assert found.first == 77
    assert found.shares == pytest.approx((0.3, 0.5, 0.2), abs=0.06)


@pytest.mark.parametrize("spoiled", ["nothing", "no corners", "washed out", "two far apart"])
def test_what_is_no_code_is_not_read(spoiled: str) -> None:
    picture = seen(draw(900).astype(np.float64))
    if spoiled == "nothing":
        picture[:] = 90
    elif spoiled == "no corners":
        picture[:120] = 90
    elif spoiled == "washed out":
        picture = np.clip(picture.astype(int) // 20 + 235, 0, 255).astype(np.uint8)
    else:
        picture = seen(0.5 * draw(900) + 0.5 * draw(3333).astype(np.float64))
    assert read(picture) is None


def filmed(
    seed: int, *, delay_ms: float = 43.0, exposure_ms: float = 8.0, jitter_ms: float = 0.5, hz: float = 60.0,
    fps: float = 29.3, pictures: int = 200, drift_ms: float = 0.0, told: bool = False,
) -> tuple[list[Look], dict[int, int]]:  # fmt: skip
    """Readings without pictures: a screen that misses a refresh now and then, a camera that drops pictures."""
    rng = np.random.default_rng(seed)
    period = 1e3 / hz
    count = min(int(pictures / fps * hz) + 120, NUMBERS)
    shown = np.arange(count) * period + np.cumsum(rng.random(count) < 0.01) * period + 100.0
    lit = np.append(shown + delay_ms, 1e12)
    looks = []
    for i in range(pictures):
        middle = 800.0 + i * 1e3 / fps
        low, high = middle - exposure_ms / 2, middle + exposure_ms / 2
        share = np.clip(np.minimum(high, lit[1:]) - np.maximum(low, lit[:-1]), 0, None) / exposure_ms
        run = np.flatnonzero(share > 0.02)
        if rng.random() < 0.02 or not len(run):
            continue
        stamp = middle + jitter_ms * rng.standard_normal() + drift_ms * i
        reading = Reading(int(run[0]), tuple(share[run] / share[run].sum()), 100.0, 0.05)
        exposure_ns = round(exposure_ms * 1e6) if told else 0
        looks.append(Look(round(stamp * 1e6), reading, round((stamp + 20 + rng.exponential(3)) * 1e6), exposure_ns))
    return looks, {k: round(t * 1e6) for k, t in enumerate(shown)}


@pytest.mark.parametrize(
    ("how", "within_ms"),
    [({}, 0.2), ({"exposure_ms": 1.0}, 0.4), ({"exposure_ms": 20.0, "told": True}, 0.3), ({"jitter_ms": 3.0}, 0.9)],
    ids=["usual", "short exposure", "longer than a refresh", "jitter"],
)
def test_the_delay_is_found_with_an_honest_interval(how: dict[str, Any], within_ms: float) -> None:
    inside = 0
    for seed in range(3):
        truth = 40.0 + 2.7 * seed
        found = measure_latency(*filmed(seed, delay_ms=truth, **how))
        assert found.delay_ms == pytest.approx(truth, abs=within_ms)
        inside += found.interval_ms[0] <= truth <= found.interval_ms[1]
    assert inside >= 2
    assert found.jitter_ms == pytest.approx(how.get("jitter_ms", 0.5), rel=0.5)
    assert abs(found.exposure_ms - how.get("exposure_ms", 8.0)) < max(3.5 * found.exposure_sd_ms, 0.6)
    assert found.to_overlay_ms is not None
    assert found.to_overlay_ms[0] == pytest.approx(truth + 20 + 3 * np.log(2), abs=1.0)
    assert found.to_overlay_ms[1] > found.to_overlay_ms[0] + 4


def test_rates_in_step_are_refused_unless_the_delay_is_known_all_the_same() -> None:
    """At 30 and 60 a second every picture sees the same part of a refresh: nothing narrows the delay down."""
    refused = 0
    for seed in range(3):
        truth = 40.0 + 3.1 * seed
        try:
            found = measure_latency(*filmed(seed, delay_ms=truth, fps=30.0, exposure_ms=2.0, jitter_ms=0.2))
        except PoorLatency:
            refused += 1
        else:
            assert abs(found.delay_ms - truth) < 4.0
    assert refused >= 2


def shifted(looks: list[Look], ns: int) -> list[Look]:
    return [Look(look.t_ns + ns, look.reading, None, look.exposure_ns) for look in looks]


def logged_in(unit: float, late_s: float = 0.0) -> tuple[list[Look], dict[int, int]]:
    looks, shown = filmed(1)
    late_ns = round(late_s * 1e9)
    return shifted(looks, late_ns), {number: int((t_ns + late_ns) * unit) for number, t_ns in shown.items()}


def frozen(looks: list[Look]) -> list[Look]:
    return [Look(look.t_ns, looks[9].reading) for look in looks]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: filmed(1, jitter_ms=25.0), "scatter by .* shutter's"),
        (lambda: filmed(1, drift_ms=0.03), "same rate"),
        (lambda: filmed(1, pictures=30), "could be read in 30 of 30|could be read in 2[0-9] of"),
        (lambda: (shifted(filmed(1)[0], 10**13), filmed(1)[1]), "same clock"),
        (lambda: (filmed(1)[0], {k + 2000: t for k, t in filmed(1)[1].items()}), "the log of this recording"),
        (lambda: ([Look(a.t_ns, None) for a in filmed(1)[0]] + filmed(1)[0][:50], filmed(1)[1]), "in view"),
        (lambda: logged_in(1e-3), "log in microseconds"),
        (lambda: logged_in(1e-6), "shown_ns advances by 4[0-9]* while .* is the log in milliseconds"),
        (lambda: logged_in(1e-9), "is the log in seconds"),
        (lambda: logged_in(1e-9, late_s=3e5), "is the log in seconds"),
        (lambda: (frozen(filmed(1)[0]), filmed(1)[1]), "stop|same clock"),
    ],
    ids=["jitter", "drift", "few", "clock", "other log", "unread", "us", "ms", "s", "s of a clock", "frozen"],
)
def test_what_gives_no_delay_is_refused(make: Any, words: str) -> None:
    looks, shown = make()
    with pytest.raises(PoorLatency, match=words):
        measure_latency(looks, shown)


def test_a_recorded_screen_through_the_command(tmp_path: Path) -> None:
    """Rendered pictures of a screen at 60 Hz, 37 ms late, exposed for 6 ms, 29.3 a second, through a video's stamps."""
    delay_ms, exposure_ms, period = 37.0, 6.0, 1e3 / 60
    (tmp_path / "film").mkdir()
    log = [{"number": k, "shown_ns": round((500.0 + k * period) * 1e6)} for k in range(400)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    start_ms = 900.0
    step = 1e3 / 30.0
    stretch = 1.011  # the folder's stamps are 30 a second; the screen runs slower instead, so the phases drift
    log = [{"number": k, "shown_ns": round((500.0 + k * period * stretch) * 1e6)} for k in range(400)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    for i in range(60):
        low = start_ms + i * step - exposure_ms / 2
        edges = 500.0 + delay_ms + np.arange(400) * period * stretch
        share = np.clip(np.minimum(low + exposure_ms, edges + period * stretch) - np.maximum(low, edges), 0, None)
        mixture = sum(share[k] / exposure_ms * draw(int(k)).astype(np.float64) for k in np.flatnonzero(share))
        cv2.imwrite(str(tmp_path / "film" / f"{i:03d}.png"), seen(np.asarray(mixture), seed=i))
    words = ["latency", tmp_path / "film", "--log", tmp_path / "log.jsonl", "--start-ns", round(start_ms * 1e6)]
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--out", str(tmp_path / "o.json"), "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["delay_ms"] == pytest.approx(delay_ms, abs=0.8)
    assert told["photon_to_overlay_ms"] is None
    assert json.loads((tmp_path / "o.json").read_text())["kind"] == "latency"
    result = CliRunner().invoke(calibrate.app, [*map(str, words[:-2])])
    assert result.exit_code == 1
    assert "PoorLatency" in result.stderr
    result = CliRunner().invoke(calibrate.app, ["latency", str(tmp_path / "film")])
    assert (result.exit_code, "--log" in result.stderr) == (2, True)


class Mirror:
    """A camera that sees what the screen showed a while ago; its pictures are stamped when they are exposed."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.shown: list[tuple[float, int]] = []
        self.lock = threading.Lock()

    def show(self, number: int) -> None:
        with self.lock:
            self.shown.append((time.monotonic(), number))
        time.sleep(0.012)

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            time.sleep(0.019)
            now = time.monotonic()
            with self.lock:
                lit = [number for t, number in self.shown if t + self.delay_s <= now]
            if lit:
                yield Frame(round(now * 1e9), seen(draw(lit[-1]).astype(np.float64), seed=index), index)
                index += 1


def test_live_numbers_are_shown_and_read_at_the_same_time() -> None:
    camera = Mirror(0.045)
    shown, looks = live(camera, camera.show, 4.0, lambda: False)
    assert len(shown) > 60
    assert all(look.ready_ns is not None and look.ready_ns > look.t_ns for look in looks)
    found = measure_latency(looks, shown, limit_ms=8.0)
    assert found.delay_ms == pytest.approx(45.0, abs=6.0)  # a busy machine's sleep is what scatters here
    assert found.to_overlay_ms is not None
    assert found.to_overlay_ms[0] > found.delay_ms


WINDOW = """
from commands.calibrate_latency import SCREEN_PX, drawer
from render.window import Window
from tracking.calibration.latency_code import read

with Window(640, 360, "latency") as window:
    show = drawer(window)
    for number in (0, 1, 2047, 4095):
        show(number)
        found = read(window.on_screen())
        assert found is not None, number
        assert (found.first, found.shares) == (number, (1.0,)), found
print("read")
"""


def test_the_window_shows_numbers_that_can_be_read_off_the_screen(display: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOW], env=os.environ | {"DISPLAY": display}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "read", done.stderr[-600:]


def test_a_camera_that_fails_ends_the_show() -> None:
    def broken() -> Iterator[Frame]:
        raise PoorLatency("unplugged")
        yield  # a generator that fails at its first picture

    with pytest.raises(PoorLatency, match="unplugged"):
        live(broken(), lambda _: time.sleep(0.01), 5.0, lambda: False)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}", "line 1 lacks"), ("x", "line 1 of 1 is not whole JSON"), ('{"number": 1, "shown_ns": 5}', "fewer than two"),
     ('{"number": 1, "shown_ns": 5}\n{"number": 1, "shown_ns": 6}', "there twice"),
     ('{"number": 1, "shown_ns": 5}\n{"number": 2, "sho', "line 2 of 2 is not whole JSON; was the file cut off"),
     ('{"number": 1, "shown_ns": 5}\n{"number": 2, "shown_ns": 4}', "do not rise")],
)  # fmt: skip
def test_broken_logs_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(BadScreenLog, match=words) as caught:
        load_log(tmp_path / "log.jsonl")
    assert caught.value.path == tmp_path / "log.jsonl"
