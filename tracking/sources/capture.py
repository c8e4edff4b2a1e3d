"""An OpenCV camera: opened with the system's own backend, its mode asked for and read back, its automatics locked.

Drivers agree to much that they don't do. Every setting is read back, and what did not hold is said in words.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from tracking.sources.closing import BadSource, CameraSilent
from tracking.sources.live import Shutter

BACKENDS = {
    "v4l2": cv2.CAP_V4L2, "dshow": cv2.CAP_DSHOW, "msmf": cv2.CAP_MSMF, "avfoundation": cv2.CAP_AVFOUNDATION,
    "any": cv2.CAP_ANY,
}  # fmt: skip
OWN = {"linux": "v4l2", "win32": "dshow", "darwin": "avfoundation"}
MANUAL = {"v4l2": (1.0,), "dshow": (0.25, 0.0), "msmf": (0.25, 0.0)}  # what switches automatic exposure off
HELD = 0.1  # a setting that reads back within a tenth of what was asked holds

Open = Callable[[int, int], Any]


class CameraMode(Fault):
    """A camera that does not give the picture size that was asked for."""


@dataclass(frozen=True)
class Wish:
    """What a camera is asked for; None leaves the driver's choice.

    `exposure_ms`, `gain`, `focus` lock at a value; `exposure_lock` and `focus_lock` at where they are. Focus is locked
    unless it is told not to be: a lens that refocuses has another calibration. `readout_ms`: of the rolling shutter,
    from a data sheet or a measurement; a driver never tells.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    fourcc: str | None = None
    exposure_ms: float | None = None
    exposure_lock: bool = False
    gain: float | None = None
    focus: float | None = None
    focus_lock: bool = True
    readout_ms: float = 0.0
    backend: str | None = None


@dataclass(frozen=True)
class Mode:
    """What a camera said after it was asked; `exposure_ns` 0 is unknown. `notes`: what did not hold, for people."""

    width_px: int
    height_px: int
    fps: float
    fourcc: str
    backend: str
    exposure_ns: int = 0
    gain: float | None = None
    focus: float | None = None
    locked: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        """One line for people."""
        rate = f"{self.fps:g} a second" if self.fps > 0 else "rate unknown"
        exposure = f", exposure {self.exposure_ns / 1e6:.2f} ms" if self.exposure_ns else ""
        held = f", locked: {', '.join(self.locked)}" if self.locked else ""
        return f"{self.width_px} x {self.height_px} {self.fourcc or '?'}, {rate}{exposure}{held} ({self.backend})"


class Capture:
    """An open camera as a `Feed`.

    A stamp of V4L2 is taken when the first row leaves the sensor (uvcvideo stamps the first packet), any other when the
    whole picture was there; both are moved to the middle of the middle row's exposure as far as exposure and readout
    are known. What the cable and the driver take on top stays in the stamp: `osteotwin calibrate latency` measures it.
    """

    clock_steps = 0

    def __init__(self, number: int, wish: Wish, capture: Open = cv2.VideoCapture) -> None:
        """Open camera `number` and ask for what is wished. Raises CameraSilent, CameraMode, BadSource."""
        name = wish.backend or OWN.get(sys.platform, "any")
        if name not in BACKENDS:
            raise BadSource(f"backend {name} is unknown; known: {', '.join(BACKENDS)}")
        self.number, self.wish, self.backend = number, wish, name
        with _quietly():
            self._device = capture(number, BACKENDS[name])
        if not self._device.isOpened():
            self._device.release()
            raise CameraSilent(f"camera {number} can't be opened; {_likely(number)}")
        try:
            self.mode = self._ask()
        except Fault:
            self._device.release()
            raise

    def read(self) -> Shutter | None:
        """Wait for the next picture; None when the device has gone."""
        if not self._device.grab():
            return None
        arrival_ns = time.monotonic_ns()
        good, picture = self._device.retrieve()
        if not good or picture is None:
            return None
        readout_ns = round(self.wish.readout_ms * 1e6)
        stamp_ns, stamped = self._stamp(arrival_ns, readout_ns)
        return Shutter(stamp_ns, _rgb(np.asarray(picture)), self.mode.exposure_ns, readout_ns, stamped)

    def close(self) -> None:
        """Let go of the device."""
        self._device.release()

    def _stamp(self, arrival_ns: int, readout_ns: int) -> tuple[int, bool]:
        """When the middle row was exposed, and whether the driver said so."""
        half_ns = self.mode.exposure_ns // 2
        driver_ns = round(self._device.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if self.backend == "v4l2" else 0
        if 0 < arrival_ns - driver_ns < 1_000_000_000:  # else it is another clock, or none
            return driver_ns - half_ns + abs(readout_ns) // 2, True
        return arrival_ns - half_ns - abs(readout_ns) // 2, False

    def _ask(self) -> Mode:
        device, wish = self._device, self.wish
        notes: list[str] = []
        locked: list[str] = []
        device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if wish.fourcc is not None:  # first: sizes and rates depend on it
            device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wish.fourcc))
        if wish.size is not None:
            device.set(cv2.CAP_PROP_FRAME_WIDTH, wish.size[0])
            device.set(cv2.CAP_PROP_FRAME_HEIGHT, wish.size[1])
        if wish.fps is not None:
            device.set(cv2.CAP_PROP_FPS, wish.fps)
        width, height = (round(device.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if wish.size is not None and (width, height) != wish.size:
            raise CameraMode(
                f"camera {self.number} gives {width} x {height} px, {wish.size[0]} x {wish.size[1]} was asked for; "
                "does it have that mode (osteotwin doctor), or is another program using it?"
            )
        fps = float(device.get(cv2.CAP_PROP_FPS))
        if wish.fps is not None and abs(fps - wish.fps) > HELD * wish.fps:
            notes.append(f"asked for {wish.fps:g} pictures a second, the driver says {fps:g}")
        fourcc = _letters(device.get(cv2.CAP_PROP_FOURCC))
        if wish.fourcc is not None and fourcc != wish.fourcc:
            notes.append(f"asked for {wish.fourcc}, the driver says {fourcc or 'nothing'}")
        exposure_ns = self._exposure(notes, locked)
        gain = self._hold("gain", cv2.CAP_PROP_GAIN, wish.gain, notes, locked)
        focus = self._focus(notes, locked)
        return Mode(
            width, height, fps, fourcc, self.backend, exposure_ns, gain, focus, tuple(locked), tuple(notes)
        )  # fmt: skip

    def _exposure(self, notes: list[str], locked: list[str]) -> int:
        """Lock the exposure where wished; how long it is, ns, where that is known."""
        wish, device = self.wish, self._device
        if wish.exposure_ms is None and not wish.exposure_lock:
            return 0  # automatic: another one in every picture
        value = device.get(cv2.CAP_PROP_EXPOSURE) if wish.exposure_ms is None else self._raw(wish.exposure_ms)
        for manual in MANUAL.get(self.backend, (0.25, 1.0)):
            device.set(cv2.CAP_PROP_AUTO_EXPOSURE, manual)
            device.set(cv2.CAP_PROP_EXPOSURE, value)
            got = float(device.get(cv2.CAP_PROP_EXPOSURE))
            if got != -1 and abs(got - value) <= max(HELD * abs(value), 0.51 if self.backend == "dshow" else 0):
                locked.append("exposure")
                return self._length_ns(got)
        notes.append(f"the exposure could not be locked (asked for {value:g}, the driver says {got:g})")
        return 0

    def _raw(self, exposure_ms: float) -> float:
        """The driver's number: V4L2 counts 0.1 ms, DirectShow and Media Foundation powers of two of a second."""
        if self.backend in ("dshow", "msmf"):
            return float(round(math.log2(exposure_ms * 1e-3)))
        return max(round(exposure_ms * 10), 1) if self.backend == "v4l2" else exposure_ms

    def _length_ns(self, value: float) -> int:
        if self.backend in ("dshow", "msmf"):
            return round(2.0**value * 1e9) if value < 4 else 0
        return round(value * 1e5) if self.backend == "v4l2" and value > 0 else 0

    def _focus(self, notes: list[str], locked: list[str]) -> float | None:
        wish, device = self.wish, self._device
        if not wish.focus_lock and wish.focus is None:
            return None
        automatic = float(device.get(cv2.CAP_PROP_AUTOFOCUS))
        if wish.focus is None and automatic in (0, -1):  # nothing that refocuses, or nothing that would tell
            return None
        device.set(cv2.CAP_PROP_AUTOFOCUS, 0)
        if float(device.get(cv2.CAP_PROP_AUTOFOCUS)) > 0:
            notes.append("the autofocus could not be switched off: the calibration may not hold")
            return None
        if wish.focus is None:
            locked.append("focus")
            return float(device.get(cv2.CAP_PROP_FOCUS))
        return self._hold("focus", cv2.CAP_PROP_FOCUS, wish.focus, notes, locked)

    def _hold(self, what: str, prop: int, value: float | None, notes: list[str], locked: list[str]) -> float | None:
        if value is None:
            return None
        self._device.set(prop, value)
        got = float(self._device.get(prop))
        if abs(got - value) <= max(HELD * abs(value), 0.5):
            locked.append(what)
        else:
            notes.append(f"the {what} could not be locked (asked for {value:g}, the driver says {got:g})")
        return got


@contextmanager
def _quietly() -> Iterator[None]:
    """OpenCV prints its own warnings about a camera that is not there; ours is enough."""
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _likely(number: int) -> str:
    """Why a camera can't be opened, as far as the system tells."""
    node = Path(f"/dev/video{number}")
    if not sys.platform.startswith("linux"):
        return "is it plugged in, free and permitted?"
    if not node.exists():
        here = ", ".join(sorted(str(path) for path in node.parent.glob("video*")))
        return f"there is no {node}; plugged in: {here or 'none'} (osteotwin doctor)"
    if not os.access(node, os.R_OK | os.W_OK):
        return f"this user may not open {node}; is it in the group video?"
    return "is another program using it, or does it give no pictures (osteotwin doctor)?"


def _rgb(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """OpenCV's BGR, grey or 16-bit grey as 8-bit RGB or grey."""
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    elif picture.ndim == 3:
        picture = picture[..., 0]
    return np.ascontiguousarray(picture, dtype=np.uint8)


def _letters(code: float) -> str:
    """The four letters of a pixel format; empty where the driver does not say."""
    number = int(code) if math.isfinite(code) and code > 0 else 0
    letters = number.to_bytes(8, "little")[:4].decode("ascii", "replace")
    return letters if letters.isprintable() and letters.strip() and number else ""
