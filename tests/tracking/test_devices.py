"""Cameras and their modes from a V4L2 driver that the test plays."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from tracking.sources import devices
from tracking.sources.devices import CameraMode, cameras

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's")
MJPG, YUYV = (int.from_bytes(word, "little") for word in (b"MJPG", b"YUYV"))
SIZES = {MJPG: [(1920, 1080), (1280, 720)], YUYV: [(640, 480)]}
RATES = {(1920, 1080): [(1, 30)], (1280, 720): [(1, 60), (1, 30)], (640, 480): [(1001, 30000)]}


def driver(capabilities: int) -> devices.Ioctl:
    """videodev2.h in reverse: fills in what a webcam would; says no beyond its lists."""

    def answer(_: int, request: int, data: bytearray) -> int:
        if request == devices.QUERYCAP:
            data[:104] = struct.pack(
                "<16s32s32sIII12x", b"uvcvideo", b"HD Webcam", b"usb", 0x60000, 0x84A00001, capabilities
            )
            return 0
        index = struct.unpack_from("<I", data)[0]
        try:
            if request == devices.ENUM_FMT:
                struct.pack_into("<I", data, 44, list(SIZES)[index])
            elif request == devices.ENUM_FRAMESIZES:
                width, height = SIZES[struct.unpack_from("<I", data, 4)[0]][index]
                struct.pack_into("<III", data, 8, devices.DISCRETE, width, height)
            else:
                _, width, height = struct.unpack_from("<III", data, 4)
                struct.pack_into("<III", data, 16, devices.DISCRETE, *RATES[width, height][index])
        except IndexError:
            raise OSError(22, "Invalid argument") from None
        return 0

    return answer


def test_modes_are_asked_for_largest_first(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    (found,) = cameras(tmp_path, driver(devices.CAPTURE))
    assert (found.node, found.name, found.trouble) == (str(tmp_path / "video0"), "HD Webcam", None)
    assert found.modes == (
        CameraMode("MJPG", 1920, 1080, (30.0,)),
        CameraMode("MJPG", 1280, 720, (60.0, 30.0)),
        CameraMode("YUYV", 640, 480, (29.97,)),
    )
    assert str(found.modes[1]) == "MJPG 1280x720 at 60, 30"


def test_a_node_for_metadata_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "video1").touch()
    assert cameras(tmp_path, driver(0x00800000)) == ()


def test_a_node_that_does_not_answer_says_so(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()  # a plain file knows no ioctl
    (found,) = cameras(tmp_path)
    assert found.modes == ()
    assert "no camera driver" in (found.trouble or "")


def test_the_requests_have_the_sizes_of_the_structures() -> None:
    assert [(request >> 16) & 0x3FFF for request in (
        devices.QUERYCAP, devices.ENUM_FMT, devices.ENUM_FRAMESIZES, devices.ENUM_FRAMEINTERVALS
    )] == [104, 64, 44, 52]  # fmt: skip
