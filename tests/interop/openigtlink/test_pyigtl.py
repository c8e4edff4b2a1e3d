"""Both ways with pyigtl: the bytes are the same, and poses, images and words arrive."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyigtl

from interop.openigtlink.address import read_address
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.decoder import Decoder, Refused
from interop.openigtlink.image import Image
from interop.openigtlink.message import Message, encoded
from interop.openigtlink.outgoing import WirePose
from interop.openigtlink.poses import Transform
from interop.openigtlink.shapes import PolyData
from interop.openigtlink.source import WireSource
from interop.openigtlink.words import String
from spatial.frames import Camera, Reference
from spatial.rigid import Rigid, UncertainRigid, rotation_exp

POSE = np.vstack([np.column_stack([rotation_exp([0.1, -0.2, 0.3]), [1.0, 2.0, 3.0]]), [0, 0, 0, 1]])
T_S = 1_700_000_000.5  # a half is exact in either's arithmetic
T_NS = 1_700_000_000_500_000_000
VOXELS = (np.arange(60).reshape(3, 4, 5) * 37 - 1000).astype(np.int16)


def test_the_same_transform_is_the_same_bytes() -> None:
    ours = encoded(Message("Tool", Transform(POSE[:3]), T_NS))
    assert ours == pyigtl.TransformMessage(POSE, timestamp=T_S, device_name="Tool").pack()


@pytest.mark.parametrize("axes", ["ras", "lps"])
def test_the_same_image_is_the_same_bytes(axes: str) -> None:
    matrix = np.diag([0.5, 0.5, 2.0, 1.0])
    matrix[:3, 3] = 1, 2, 3
    image = Image.placed(VOXELS, matrix[:3, :3], matrix[:3, 3], "RAS" if axes == "ras" else "LPS")
    theirs = pyigtl.ImageMessage(VOXELS, matrix, axes, timestamp=T_S, device_name="CT").pack()
    assert encoded(Message("CT", image, T_NS)) == theirs
    (back,) = Decoder().feed(theirs)
    assert isinstance(back, Message)
    assert isinstance(back.content, Image)
    assert np.array_equal(back.content.voxels, VOXELS)
    assert np.allclose(back.content.origin_mm, [1, 2, 3], atol=1e-5)


def test_protocol_3_with_metadata_is_the_same_bytes() -> None:
    theirs = pyigtl.TransformMessage(POSE, timestamp=T_S, device_name="Tool")
    theirs.header_version, theirs.metadata, theirs.message_id = 2, {"TransformStatus": "OK", "x": "y"}, 7
    ours = Message("Tool", Transform(POSE[:3]), T_NS, {"TransformStatus": "OK", "x": "y"}, 7, 2)
    assert encoded(ours) == theirs.pack()


def test_the_same_surface_and_words_are_the_same_bytes() -> None:
    points, cells = np.eye(3), np.array([[0, 1, 2]])
    flat = np.array([3, 0, 1, 2])
    theirs = pyigtl.PolyDataMessage(points=points, polygons=flat, timestamp=T_S, device_name="b").pack()
    assert encoded(Message("b", PolyData.of_mesh(points, cells), T_NS)) == theirs
    assert (
        encoded(Message("s", String("hello"), T_NS))
        == pyigtl.StringMessage("hello", timestamp=T_S, device_name="s").pack()
    )


def test_its_own_kind_of_position_is_refused_by_name() -> None:
    """pyigtl packs POSITION as a list of named points (152 bytes each); the protocol has 12, 24 or 28 bytes."""
    data = pyigtl.PositionMessage(np.zeros(3), np.array([0, 0, 0, 1.0]), timestamp=T_S, device_name="p").pack()
    (event,) = Decoder().feed(data)
    assert isinstance(event, Refused)
    assert "pyigtl" in event.words


@pytest.fixture
def server() -> Iterator[pyigtl.OpenIGTLinkServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = pyigtl.OpenIGTLinkServer(port=port, local_server=True)
    yield running
    running.stop()


def test_its_poses_arrive_at_sixty_hertz(server: pyigtl.OpenIGTLinkServer) -> None:
    count, late_ms, seen = 90, [], []
    with WireSource(read_address(f"igtl://127.0.0.1:{server.port}")) as source:
        iterator = iter(source)
        while not server.is_connected():
            time.sleep(0.01)
        time.sleep(0.1)
        begin = time.monotonic()
        for k in range(count):
            matrix = POSE.copy()
            matrix[2, 3] = k
            time.sleep(max(0.0, begin + k / 60 - time.monotonic()))
            server.send_message(pyigtl.TransformMessage(matrix, device_name="StylusToTracker"), wait=False)
        while len(seen) < count:
            sighting = next(iterator)
            if sighting.camera_from_body is not None:
                seen.append(sighting.camera_from_body.pose.translation_mm[2])
                late_ms.append(sighting.t_ns)
    assert seen == list(range(count))
    assert np.all(np.diff(late_ms) >= 0)


def test_our_poses_arrive_at_sixty_hertz_and_images_too() -> None:
    count = 90
    image = Image.placed(np.arange(2_000_000, dtype=np.int32).reshape(50, 200, 200), np.eye(3), np.zeros(3))
    with Broadcast(0, standing=[Message("CT", image, T_NS)]) as wire:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", wire.port)
        try:
            got = client.wait_for_message("CT", timeout=10)
            assert np.array_equal(got.image, image.voxels)
            seen = []
            for k in range(count):
                pose = UncertainRigid(Rigid[Camera, Reference](np.eye(3), [0, 0, float(k)]), np.eye(6))
                wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose, "EXACT")])
                message = client.wait_for_message("referenceToCamera", timeout=5)
                seen.append(float(message.matrix[2, 3]))
                assert abs(message.timestamp - time.time()) < 1.0
        finally:
            client.stop()
    assert seen == list(range(count))
