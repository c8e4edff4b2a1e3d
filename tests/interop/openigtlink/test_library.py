"""Both ways with the C++ reference library (protocol 2): the same numbers arrive, and every pose at 60 Hz."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interop.openigtlink.address import read_address
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.image import Image
from interop.openigtlink.link import Connection, Server
from interop.openigtlink.message import Content, Message
from interop.openigtlink.outgoing import WirePose
from interop.openigtlink.poses import (
    Position,
    QuaternionTool,
    QuaternionTrackingData,
    Tool,
    TrackingData,
    Transform,
)  # fmt: skip
from interop.openigtlink.running import LoopThread
from interop.openigtlink.shapes import PolyData, Trajectories, Trajectory
from interop.openigtlink.source import WireSource
from interop.openigtlink.words import Capability, Request, Status, String
from spatial.frames import Camera, Reference
from spatial.rigid import Rigid, UncertainRigid, rotation_exp

MATRIX = np.array([[0, -1, 0, 10.5], [1, 0, 0, -20.25], [0, 0, 1, 300.125]])
TETRAHEDRON = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
T_NS = 1_700_000_000_123_456_789
HALF = np.full(4, 0.5)
STAMP_NS = 20  # the library rounds a fraction of a second bit by bit


def heard(peer: Path, messages: list[Message]) -> list[list[str]]:
    """What the library prints of our messages: type, device, time, whether the sum was right, values, when."""
    with Broadcast(0, standing=messages) as wire:
        done = subprocess.run(
            [str(peer), "listen", str(wire.port), str(len(messages) + 1)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0
    return [line.split("|") for line in done.stdout.splitlines()][1:]


def said(peer: Path, count: int) -> list[Message]:
    """What the library sends."""
    got: list[Message] = []
    enough = threading.Event()

    def received(connection: Connection, message: Message, arrived_ns: int) -> None:
        got.append(message)
        if len(got) == count:
            enough.set()

    thread = LoopThread("test")
    server = Server(received)
    port = thread.call(server.listen(0))
    process = subprocess.Popen([str(peer), "say", str(port)])
    try:
        assert enough.wait(30), [m.type for m in got]
        assert all(not c.decoder.counts.damaged for c in server.connections)
    finally:
        thread.call(server.close())
        thread.stop()
        process.wait(10)
    return got


def values(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def test_the_library_hears_what_we_say(peer: Path) -> None:
    rotation = rotation_exp([0.3, -0.2, 0.7])
    pose = np.column_stack([rotation, [1.5, -2.5, 800.0]])
    voxels = (np.arange(60).reshape(3, 4, 5) * 37 - 1000).astype(np.int16)
    contents: list[Content] = [
        Transform(pose),
        TrackingData((Tool("Reference", pose), Tool("Drill", MATRIX))),
        QuaternionTrackingData((QuaternionTool("Reference", np.array([1.0, 2, 3]), HALF),)),
        Position(np.array([1.0, 2, 3]), HALF),
        Status(13, "lamp is cold", "Warming", -77),
        String("hello"),
        Capability(("IMAGE", "GET_IMAGE")),
        Trajectories(
            (Trajectory("L3 left", np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), 6.5, "Plan", "CT", (1, 2, 3, 4)),)
        ),
        PolyData.of_mesh(TETRAHEDRON, FACES),
        Image.placed(voxels, np.diag([0.5, 0.5, 2.0]), np.array([1.0, 2, 3]), "LPS"),
    ]
    lines = heard(peer, [Message("Sender", content, T_NS) for content in contents])
    assert [line[0] for line in lines] == [content.TYPE for content in contents]
    assert {line[1] for line in lines} == {"Sender"}
    assert {line[3] for line in lines} == {"1"}  # the library found the sum right
    assert all(abs(int(line[2].split(".")[1]) - 123_456_789) <= STAMP_NS for line in lines)
    by_type = {line[0]: line[4] for line in lines}
    assert np.allclose(values(by_type["TRANSFORM"]), pose.T.ravel(), atol=1e-4)
    words = by_type["TDATA"].split()
    assert words[0:2] == ["Reference", "2"]
    assert words[14] == "Drill"
    assert np.allclose([float(w) for w in words[16:]], MATRIX.T.ravel())
    assert by_type["QTDATA"].split() == ["Reference", "2", "1", "2", "3", "0.5", "0.5", "0.5", "0.5"]
    assert values(by_type["POSITION"]) == [1, 2, 3, 0.5, 0.5, 0.5, 0.5]
    assert by_type["STATUS"] == " 13 -77 Warming lamp is cold"
    assert by_type["STRING"] == " 3 hello"
    assert by_type["CAPABILITY"] == " IMAGE GET_IMAGE"
    assert by_type["TRAJ"] == " L3 left;Plan;CT 3 1 2 3 4 5 6 6.5 1 2 3 4"
    polydata = values(by_type["POLYDATA"])
    assert polydata[:2] == [4, 4]
    assert polydata[2:] == [*TETRAHEDRON.ravel(), *FACES.ravel()]
    image = values(by_type["IMAGE"])
    assert image[:6] == [5, 4, 3, 4, 2, 2]
    total = 0
    for byte in voxels.tobytes():
        total = (total * 31 + byte) % 1_000_000_007
    assert image[6] == total
    middle = [1 + 0.5 * 2, 2 + 0.5 * 1.5, 3 + 2.0]
    assert np.allclose(image[7:], [*np.eye(3).ravel(), *middle, 0.5, 0.5, 2.0])


def test_we_hear_what_the_library_says(peer: Path) -> None:
    got = said(peer, 15)
    kinds = "TRANSFORM TDATA QTDATA POSITION POSITION STATUS STRING CAPABILITY TRAJ POLYDATA IMAGE STT_TDATA STP_TDATA"
    assert [m.type for m in got] == [*kinds.split(), "RTS_TDATA", "GET_CAPABIL"]
    assert all(m.t_ns is not None and abs(m.t_ns - T_NS) <= STAMP_NS for m in got[:11])
    contents: list[Any] = [m.content for m in got]
    assert np.array_equal(contents[0].matrix, MATRIX)
    assert [tool.name for tool in contents[1].tools] == ["Reference", "Drill"]
    assert contents[1].tools[1].matrix[0, 3] == 11.5
    assert contents[2].tools[0].quaternion_xyzw.tolist() == [0.5] * 4
    assert np.allclose(contents[3].matrix, contents[4].matrix, atol=1e-6)
    assert contents[5] == Status(13, "lamp is cold", "Warming", -77)
    assert contents[6] == String("hello")
    assert contents[7] == Capability(("IMAGE", "GET_IMAGE"))
    (line,) = contents[8].elements
    assert (line.name, line.group, line.owner, line.rgba) == ("L3 left", "Plan", "CT", (1, 2, 3, 4))
    assert line.target_mm.tolist() == [4, 5, 6]
    assert np.array_equal(contents[9].triangles, FACES)
    assert np.array_equal(contents[9].points_mm, TETRAHEDRON)
    (height,) = contents[9].attributes
    assert (height.name, height.values.ravel().tolist()) == ("height", [0, 1, 2, 3])
    image = contents[10]
    assert np.array_equal(image.voxels.ravel(), np.arange(60) * 37 - 1000)
    assert (image.size, image.coordinates) == ((5, 4, 3), "LPS")
    assert np.allclose(image.steps_mm, MATRIX[:, :3] @ np.diag([0.5, 0.5, 2.0]))
    assert contents[11] == Request("STT", "TDATA", 20, "Reference")
    assert contents[12] == Request("STP", "TDATA")
    assert contents[13] == Request("RTS", "TDATA", accepted=False)
    assert contents[14] == Request("GET", "CAPABILITY")


def test_the_library_asks_and_is_answered(peer: Path) -> None:
    missing = {"RTS_QTDATA", "CAPABILITY", "QTDATA"}
    with (
        Broadcast(0) as wire,
        subprocess.Popen([str(peer), "ask", str(wire.port)], stdout=subprocess.PIPE, text=True) as process,
    ):
        stop = threading.Event()

        def send() -> None:
            k = 0
            while not stop.wait(0.005):
                k += 1
                pose = UncertainRigid(Rigid[Camera, Reference](np.eye(3), [0, 0, float(k)]), np.eye(6))
                wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose, "EXACT")])

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                missing.discard(line.split("|")[0])
                if not missing:
                    break
        finally:
            stop.set()
            sender.join()
            process.kill()
    assert not missing


@pytest.mark.parametrize("hz", [60])
def test_every_pose_of_the_library_arrives_at_sixty_hertz(peer: Path, hz: int) -> None:
    count = 120
    process = subprocess.Popen([str(peer), "serve", str(hz), str(count)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        port = int(process.stdout.readline())
    late_ms: list[float] = []
    with WireSource(read_address(f"igtl://127.0.0.1:{port}?tool=Stylus:pointer")) as source:
        for sighting in source:
            if sighting.status == "TRACKED":
                assert sighting.body == "pointer"
                late_ms.append((time.monotonic_ns() - sighting.t_ns) / 1e6)
            elif late_ms:
                break
    process.wait(10)
    assert len(late_ms) == count
    assert np.median(late_ms) < 10.0


def test_every_pose_of_ours_arrives_at_sixty_hertz(peer: Path) -> None:
    count = 120
    with Broadcast(0) as wire:
        process = subprocess.Popen(
            [str(peer), "listen", str(wire.port), str(count + 1)], stdout=subprocess.PIPE, text=True
        )
        while not wire.clients:
            time.sleep(0.005)
        begin = time.monotonic_ns()
        for k in range(count):
            pose = UncertainRigid(Rigid[Camera, Reference](np.eye(3), [0, 0, float(k)]), np.eye(6))
            due_ns = begin + k * 16_666_667
            time.sleep(max(0.0, (due_ns - time.monotonic_ns()) * 1e-9))
            wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose, "EXACT")])
        out, _ = process.communicate(timeout=20)
    rows = [line.split("|") for line in out.splitlines()]
    rows = [row for row in rows if row[0] == "TRANSFORM"]
    assert [values(row[4])[-1] for row in rows] == list(range(count))
    late_ms = [1e3 * (float(row[5]) - float(row[2])) for row in rows]
    assert np.median(late_ms) < 10.0
