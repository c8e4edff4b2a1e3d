"""`camera:N[,KEY=VALUE…]` as a source: a webcam or an industrial camera that OpenCV opens.

Keys: size (1920x1080), fps, fourcc (MJPG, YUYV …), exposure (ms, or lock: as it is now), gain, focus (the driver's
number, lock, or auto; locked when left out), readout (ms, of the rolling shutter), backend (v4l2, dshow, msmf,
avfoundation, any).
"""

from __future__ import annotations

import math

import cv2

from tracking.sources.capture import Capture, Mode, Open, Wish
from tracking.sources.closing import BadSource
from tracking.sources.live import Feed, LiveSource

KEYS = ("size", "fps", "fourcc", "exposure", "gain", "focus", "readout", "backend")


class CameraSource(LiveSource):
    """A live camera. `mode` is what it was opened with, `notes` what it was asked for and did not do."""

    def __init__(
        self,
        number: int,
        wish: Wish | None = None,
        capture: Open = cv2.VideoCapture,
        *,
        silent_s: float = 2.0,
        give_up_s: float = 30.0,
    ) -> None:
        """Open the device and start its thread. Raises CameraSilent, CameraMode, BadSource."""
        wanted = wish or Wish()
        self.number = number
        self.mode: Mode  # as the device was last opened

        def connect() -> Feed:
            found = Capture(number, wanted, capture)
            self.mode = found.mode
            return found

        super().__init__(f"camera:{number}", connect, silent_s=silent_s, give_up_s=give_up_s)

    @property
    def notes(self) -> tuple[str, ...]:
        """What did not hold, a sentence each."""
        return tuple(f"camera:{self.number}: {note}" for note in self.mode.notes)


def camera_source(rest: str) -> CameraSource:
    """Open `N[,KEY=VALUE…]`. Raises BadSource, CameraSilent, CameraMode."""
    number, *pairs = rest.split(",")
    if not (number.isascii() and number.isdigit()):
        raise BadSource(f"camera:{rest}: the camera's number is needed, as camera:0 or camera:0,size=1920x1080")
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in KEYS or not equals or not value or key in values:
            raise BadSource(f"camera:{rest}: {pair!r} is not understood; once each, KEY=VALUE of {', '.join(KEYS)}")
        values[key] = value
    return CameraSource(int(number), _wish(rest, values))


def _wish(rest: str, values: dict[str, str]) -> Wish:
    size: tuple[int, int] | None = None
    if "size" in values:
        width, _, height = values["size"].partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise BadSource(f"camera:{rest}: sizes are as 1920x1080")
        size = int(width), int(height)
    if len(values.get("fourcc", "MJPG")) != 4:
        raise BadSource(f"camera:{rest}: a pixel format has four letters, as MJPG")
    exposure, focus = values.get("exposure", ""), values.get("focus", "lock")
    return Wish(
        size=size,
        fps=_positive(rest, "fps", values.get("fps")),
        fourcc=values.get("fourcc"),
        exposure_ms=None if exposure in ("lock", "auto") else _positive(rest, "exposure", exposure or None),
        exposure_lock=exposure == "lock",
        gain=_number(rest, "gain", values.get("gain")),
        focus=None if focus in ("lock", "auto") else _number(rest, "focus", focus),
        focus_lock=focus != "auto",
        readout_ms=_number(rest, "readout", values.get("readout", "0")) or 0.0,
        backend=values.get("backend"),
    )


def _number(rest: str, key: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadSource(f"camera:{rest}: {key}={text} is no number")
    return value


def _positive(rest: str, key: str, text: str | None) -> float | None:
    value = _number(rest, key, text)
    if value is not None and value <= 0:
        raise BadSource(f"camera:{rest}: {key}={text} must be above zero")
    return value
