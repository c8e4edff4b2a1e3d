"""Which cameras this machine has and what pictures they can give, asked of the driver without starting them.

Linux only (V4L2's ioctls, Linux media API documentation, "Querying capabilities" and "Image formats"): the other
systems tell a program so only through their own frameworks.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CAPTURE = 0x1  # V4L2_CAP_VIDEO_CAPTURE, V4L2_BUF_TYPE_VIDEO_CAPTURE
QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
DISCRETE = 1
MOST = 64  # formats, sizes or rates that a driver is asked for: one that never ends its list is not believed

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True)
class CameraMode:
    """A picture size in a pixel format, with its rates, the fastest first; none where the driver names none."""

    fourcc: str
    width_px: int
    height_px: int
    fps: tuple[float, ...]

    def __str__(self) -> str:
        """For people, as in `camera:0,size=…,fps=…,fourcc=…`."""
        rates = " at " + ", ".join(f"{rate:g}" for rate in self.fps) if self.fps else ""
        return f"{self.fourcc} {self.width_px}x{self.height_px}{rates}"


@dataclass(frozen=True)
class CameraDevice:
    """A camera: its node, its name, its modes (largest first), or why it did not tell them."""

    node: str
    name: str
    modes: tuple[CameraMode, ...]
    trouble: str | None = None


def cameras(folder: Path = Path("/dev"), ioctl: Ioctl | None = None) -> tuple[CameraDevice, ...]:
    """The cameras of this machine; nodes that give no pictures (metadata, outputs) are left out."""
    if not sys.platform.startswith("linux"):
        return ()
    if ioctl is None:
        from fcntl import ioctl as system_ioctl

        ioctl = system_ioctl
    found = []
    for node in sorted(folder.glob("video*"), key=lambda path: (len(path.name), path.name)):
        try:
            handle = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            found.append(CameraDevice(str(node), "", (), f"can't be asked: {error.strerror}"))
            continue
        try:
            device = _ask(str(node), handle, ioctl)
        except OSError as error:
            device = CameraDevice(str(node), "", (), f"is no camera driver that answers: {error.strerror}")
        finally:
            os.close(handle)
        if device is not None:
            found.append(device)
    return tuple(found)


def _ask(node: str, handle: int, ioctl: Ioctl) -> CameraDevice | None:
    answer = bytearray(104)
    ioctl(handle, QUERYCAP, answer)
    card = bytes(answer[16:48]).split(b"\0")[0].decode("utf-8", "replace")
    everything, here = struct.unpack_from("<II", answer, 84)
    if not (here or everything) & CAPTURE:
        return None
    modes = {mode for fourcc in _formats(handle, ioctl) for mode in _modes(fourcc, handle, ioctl)}
    ordered = sorted(modes, key=lambda m: (-m.width_px * m.height_px, -max(m.fps, default=0), m.fourcc))
    return CameraDevice(node, card, tuple(ordered))


def _each(handle: int, ioctl: Ioctl, request: int, size: int, fields: tuple[int, ...]) -> Iterator[bytearray]:
    """The answers to a list request with index 0, 1, …: until the driver says no."""
    for index in range(MOST):
        answer = bytearray(size)
        struct.pack_into(f"<{1 + len(fields)}I", answer, 0, index, *fields)
        try:
            ioctl(handle, request, answer)
        except OSError:
            return
        yield answer


def _formats(handle: int, ioctl: Ioctl) -> Iterator[int]:
    for answer in _each(handle, ioctl, ENUM_FMT, 64, (CAPTURE,)):
        yield struct.unpack_from("<I", answer, 44)[0]


def _modes(fourcc: int, handle: int, ioctl: Ioctl) -> Iterator[CameraMode]:
    letters = fourcc.to_bytes(4, "little").decode("ascii", "replace")
    for answer in _each(handle, ioctl, ENUM_FRAMESIZES, 44, (fourcc,)):
        kind, width, second, _, _, highest = struct.unpack_from("<6I", answer, 8)
        height = second
        if kind != DISCRETE:  # from … to …: the largest
            width, height = second, highest
        rates = []
        for interval in _each(handle, ioctl, ENUM_FRAMEINTERVALS, 52, (fourcc, width, height)):
            over, under = struct.unpack_from("<II", interval, 20)
            if over:
                rates.append(round(under / over, 2))
        yield CameraMode(letters, width, height, tuple(sorted(rates, reverse=True)))
