"""`osteotwin calibrate latency`: from light to overlay, measured by a camera that looks at a numbered screen."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.calibrate_input import limited, write_json
from commands.console import command, emit, progress_bar, say, tell
from commands.place import prepare
from commands.reading import reading
from spatial.faults import Misuse
from spatial.progress import Progress

if TYPE_CHECKING:
    from tracking.calibration.latency import Latency, Look
    from tracking.frame import Frame

SCREEN_PX = (1280, 720)
LIVE_S = 20.0
LONGEST_S = 60.0


@command
def latency(
    source: Annotated[str, typer.Argument(help="The camera that sees the screen: camera:N; or its recorded pictures.")],
    log: Annotated[
        Path | None, typer.Option(help="Recorded pictures: JSON lines of number and shown_ns, on the same clock.")
    ] = None,
    start_ns: Annotated[int, typer.Option(help="Recorded pictures: the first one's stamp on the log's clock.")] = 0,
    seconds: Annotated[float, typer.Option(help="Live: how long the screen is shown.")] = LIVE_S,
    save_log: Annotated[Path | None, typer.Option(help="Live: keep the screen's log here.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here too (JSON).")] = None,
    limit_ms: Annotated[float, typer.Option(help="What half of the delay's 95 % interval may be.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure how long light takes to become an overlay: a window shows numbers, the camera reads them.

    Without --log a window opens: point the camera at it so that all four corner squares are in view.
    """
    from tracking.calibration.latency import load_log, measure_latency

    if not limit_ms > 0 or not 0 < seconds <= LONGEST_S:
        raise Misuse(f"--limit-ms {limit_ms} and --seconds {seconds}: above zero, and at most {LONGEST_S:g} s")
    if log is None and not source.startswith("camera:"):
        raise Misuse("recorded pictures need --log FILE: when was each number shown?")
    prepare(out)
    prepare(save_log, "--save-log")
    if log is not None:
        shown = load_log(log)
        with reading(source) as pictures, progress_bar("Reading the screen") as progress:
            looks = _read_all(limited(source, pictures, None), start_ns, progress)
    else:
        from render.window import Window

        with reading(source) as pictures, Window(*SCREEN_PX, "Osteotwin: latency") as window:
            shown, looks = live(pictures, drawer(window), seconds, lambda: window.is_closed)
        if save_log is not None:
            lines = (json.dumps({"number": number, "shown_ns": t_ns}) for number, t_ns in shown.items())
            save_log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    found = measure_latency(looks, shown, limit_ms=limit_ms)
    if out is not None:
        write_json(out, {"kind": "latency", **found.to_json()})
    if as_json:
        emit({"out": None if out is None else str(out), **found.to_json()})
    else:
        tell(*_words(found))


def live(
    pictures: Iterable[Frame], show: Callable[[int], None], seconds: float, stopped: Callable[[], bool]
) -> tuple[dict[int, int], list[Look]]:
    """Show number after number for `seconds` while another thread reads the camera; the log and the looks."""
    from tracking.calibration.latency_code import NUMBERS

    shown: dict[int, int] = {}
    looks: list[Look] = []
    trouble: list[BaseException] = []
    done = threading.Event()

    def watch() -> None:
        try:
            for frame in pictures:
                if done.is_set():
                    return
                looks.append(_look(frame, 0, time.monotonic_ns))
        except BaseException as error:  # handed to the main thread, which raises it
            trouble.append(error)

    watcher = threading.Thread(target=watch, name="latency", daemon=True)
    watcher.start()
    say(f"showing numbers for {seconds:g} s; the camera has to see all four corner squares")
    stop_ns = time.monotonic_ns() + round(seconds * 1e9)
    try:
        while time.monotonic_ns() < stop_ns and not stopped() and not trouble and len(shown) < NUMBERS - 1:
            number = len(shown)
            shown[number] = time.monotonic_ns()
            show(number)
    finally:
        done.set()
        watcher.join(timeout=3.0)
    if trouble:
        raise trouble[0]
    return shown, looks


def drawer(window: Any) -> Callable[[int], None]:
    """What shows a number in a `render.window.Window`, by the way that an overlay takes."""
    import numpy as np

    from render.scene import Scene
    from render.view import View
    from spatial.rigid import Rigid
    from tracking.calibration.latency_code import draw

    view: View[Any] = View(Rigid.identity(), np.eye(4), *SCREEN_PX)

    def show(number: int) -> None:
        picture = np.repeat(draw(number, *SCREEN_PX)[..., None], 3, axis=2)
        window.draw(Scene[Any](picture=picture), view)

    return show


def _read_all(frames: Iterable[Frame], start_ns: int, progress: Progress) -> list[Look]:
    looks = []
    for count, frame in enumerate(frames):
        looks.append(_look(frame, start_ns, None))
        if count % 50 == 49:
            progress(f"{count + 1} pictures", 0.0)
    return looks


def _look(frame: Frame, start_ns: int, clock: Callable[[], int] | None) -> Look:
    """Read one picture; its stamp becomes that of the code's row. A repeated picture tells nothing new."""
    from tracking.calibration.latency import Look
    from tracking.calibration.latency_code import read

    reading = None if frame.repeated else read(frame.picture)
    ready_ns = None if clock is None else clock()
    look = Look(frame.t_ns + start_ns, reading, ready_ns, frame.exposure_ns)
    return look if reading is None else replace(look, t_ns=look.t_ns + round(frame.row_ns(reading.row_px)))


def _words(found: Latency) -> tuple[str, ...]:
    low, high = found.interval_ms
    words = [
        f"from handing a picture to the screen until the camera's stamp of its light: {found.delay_ms:.1f} ms "
        f"(95 %: {low:.1f} to {high:.1f}), a single picture scatters by {found.jitter_ms:.1f} ms",
        f"{found.read} of {found.pictures} pictures read, {found.changes} saw the screen change; exposure "
        f"{found.exposure_ms:.1f} ms (sd {found.exposure_sd_ms:.1f}), screen {found.screen_hz:.1f} Hz",
    ]
    if found.to_overlay_ms is not None:
        median, late = found.to_overlay_ms
        words.insert(0, f"from light to overlay: {median:.0f} ms (median), {late:.0f} ms (95th percentile)")
    else:
        words.append("from light to overlay is not known: recorded pictures do not tell when they were evaluated")
    return tuple(words)
