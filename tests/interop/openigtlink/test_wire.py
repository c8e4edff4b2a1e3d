"""Poses over a real socket, both ways, between our own ends; every way in which a pose can be missing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from interop.openigtlink.address import BadAddress, read_address
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.decoder import Decoder
from interop.openigtlink.incoming import WireTracker
from interop.openigtlink.link import Client, PortTaken, Server
from interop.openigtlink.message import Message, encoded
from interop.openigtlink.outgoing import LongName, WirePose, device_name, transform
from interop.openigtlink.poses import TOOL_3D, Position, Tool, TrackingData, Transform
from interop.openigtlink.source import NoTracker, WireSource
from interop.openigtlink.words import HARDWARE_FAILURE, OK, Capability, Request, Status, String
from spatial.frames import Camera, Reference
from spatial.rigid import Rigid, UncertainRigid, rotation_exp
from tracking.pose.sighting import Sighting

MS = 1_000_000
COVARIANCE = np.diag([1e-6, 2e-6, 3e-6, 0.01, 0.02, 0.03])


def pose(t_ns: int, k: int = 0) -> UncertainRigid[Camera, Reference]:
    return UncertainRigid(Rigid[Camera, Reference].exp([0.1, 0.2, 0.01 * k], [1.0, 2.0, 500.0 + k]), COVARIANCE)


def moved(k: int, device: str = "referenceToCamera", stamp_ns: int | None = None) -> Message:
    return Message(device, Transform(pose(0, k).pose.matrix()[:3]), stamp_ns)


def collect(
    source: WireSource, enough: Callable[[list[Sighting[Any]]], bool], limit_s: float = 10.0
) -> list[Sighting[Any]]:
    out: list[Sighting[Any]] = []
    stop = time.monotonic() + limit_s
    for sighting in source:
        out.append(sighting)
        if enough(out) or time.monotonic() > stop:
            break
    assert enough(out), [(s.status, s.reason) for s in out[-5:]]
    return out


def test_poses_cross_with_their_covariance_and_their_time() -> None:
    with Broadcast(0) as wire, WireSource(read_address(f"igtl://127.0.0.1:{wire.port}")) as source:
        while not wire.clients:
            time.sleep(0.005)
        sent = {}
        for k in range(30):
            t_ns = time.monotonic_ns()
            sent[k] = t_ns
            wire.poses([WirePose("referenceToCamera", t_ns, pose(t_ns, k), "EXACT")])
            time.sleep(0.005)
        seen = collect(source, lambda s: len(s) >= 30)[:30]
    assert {s.body for s in seen} == {"reference"}
    for k, sighting in enumerate(seen):
        assert sighting.camera_from_body is not None
        assert np.allclose(sighting.camera_from_body.pose.translation_mm, [1, 2, 500 + k], atol=1e-4)
        assert np.allclose(sighting.camera_from_body.covariance, source.tracker.covariance)
        assert abs(sighting.t_ns - sent[k]) < 50 * MS  # the clock's difference is known as well as the fastest message


def test_protocol_3_carries_the_covariance() -> None:
    address = read_address("igtl://x")
    sender = Message("aToCamera", Transform(pose(0).pose.matrix()[:3]), 1, {}, 0, 2)
    wired = transform(WirePose("aToCamera", 5, pose(5), "EXACT"), 10**18)
    assert wired is not None
    (event,) = Decoder().feed(encoded(wired, 2))
    assert isinstance(event, Message)
    (sighting,) = WireTracker(address).receive(event, 0)
    assert sighting.camera_from_body is not None
    assert np.array_equal(sighting.camera_from_body.covariance, COVARIANCE)
    (plain,) = WireTracker(address).receive(sender, 0)
    assert plain.camera_from_body is not None
    assert not np.allclose(plain.camera_from_body.covariance, COVARIANCE)


def test_whoever_asks_in_protocol_3_gets_the_spread_of_each_pose() -> None:
    with Broadcast(0) as wire, WireSource(read_address(f"igtl://127.0.0.1:{wire.port}?version=3")) as source:
        spreads: list[Any] = []
        stop = time.monotonic() + 10
        while not spreads and time.monotonic() < stop:
            wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose(0, 1), "EXACT")])
            time.sleep(0.01)
            told = [one.camera_from_body for one in source.pending() if one.reason is None]  # not an assumed spread
            spreads += [found.covariance for found in told if found is not None]
    assert np.array_equal(spreads[0], COVARIANCE)


def test_what_is_lost_is_told_and_never_repeated() -> None:
    with Broadcast(0) as wire, WireSource(read_address(f"igtl://127.0.0.1:{wire.port}")) as source:
        while not wire.clients:
            time.sleep(0.005)
        t_ns = time.monotonic_ns()
        wire.poses([WirePose("referenceToCamera", t_ns, pose(t_ns), "EXACT")])
        for k in range(1, 10):
            wire.poses([WirePose("referenceToCamera", t_ns + k, None, "STALE", "0 of 4 markers seen", "out of view")])
        wire.poses([WirePose("referenceToCamera", t_ns + 20 * MS, pose(0, 3), "EXACT")])
        seen = collect(source, lambda s: [x.status for x in s[:3]] == ["TRACKED", "LOST", "TRACKED"])
    assert seen[1].cause == "out of view"
    assert seen[1].reason == "the tracker says: 0 of 4 markers seen"


def test_a_tracker_that_falls_silent_or_dies_is_lost_with_the_cause() -> None:
    wire = Broadcast(0)
    address = read_address(f"igtl://127.0.0.1:{wire.port}?quiet_ms=80")
    with wire, WireSource(address) as source:
        while not wire.clients:
            time.sleep(0.005)
        wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose(0), "EXACT")])
        seen = collect(source, lambda s: s[-1].status == "LOST")
        assert seen[-1].cause == "camera stopped"
        wire.close()
        seen = collect(source, lambda s: "broke" in str(s[-1].reason))
        assert "the other side closed it" in str(seen[-1].reason)
        with Broadcast(wire.port) as again:
            deadline = time.monotonic() + 10
            while not again.clients and time.monotonic() < deadline:
                time.sleep(0.01)
            again.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose(0, 7), "EXACT")])
            seen = collect(source, lambda s: s[-1].status == "TRACKED")


def test_nobody_there_is_said() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        WireSource(read_address(f"igtl://127.0.0.1:{port}"), patience_s=0.3) as source,
        pytest.raises(NoTracker, match="can't be reached"),
    ):
        next(iter(source))


def test_a_port_that_is_taken_is_said() -> None:
    with Broadcast(0) as wire, pytest.raises(PortTaken, match=r"another program"):
        Broadcast(wire.port)


def test_other_machines_are_not_let_in_unasked() -> None:
    with Broadcast(0) as wire:
        own = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
        for host in {h for h in own if not str(h).startswith("127.")}:
            with pytest.raises(OSError, match=r".*"):
                socket.create_connection((str(host), wire.port), 0.5)


def test_tools_are_streamed_at_the_pace_that_was_asked_for() -> None:
    with Broadcast(0) as wire:
        address = read_address(f"igtl://127.0.0.1:{wire.port}?stream=qtdata&interval_ms=20")
        with WireSource(address) as source:
            while not wire.clients:
                time.sleep(0.005)
            time.sleep(0.1)  # the request goes the other way
            for k in range(40):
                t_ns = time.monotonic_ns()
                poses = [
                    WirePose("referenceToCamera", t_ns, pose(t_ns, k), "EXACT"),
                    WirePose("drillToCamera", t_ns, None, "LOST", "gone", "out of view"),
                ]
                wire.poses(poses)
                time.sleep(0.005)
            seen = collect(source, lambda s: sum(x.status == "TRACKED" for x in s) >= 5)
    assert {s.body for s in seen if s.status == "TRACKED"} == {"reference"}
    assert source.client.decoder is not None
    assert 5 <= source.client.decoder.counts.by_type["QTDATA"] <= 20
    assert "TRANSFORM" not in source.client.decoder.counts.by_type


def test_questions_are_answered() -> None:
    standing = Message("plan", String("a plan"))

    async def talk(port: int) -> list[Any]:
        got: list[Any] = []
        client = Client(lambda c, m, t: got.append(m.content), opened=lambda c: [c.send(Message("", q)) for q in asked])
        task = asyncio.ensure_future(client.run("127.0.0.1", port))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(got) >= 7:
                break
        task.cancel()
        return got

    asked = [Request("GET", "STATUS"), Request("GET", "CAPABILITY"), Request("GET", "STRING"), Request("GET", "IMAGE")]
    asked += [Request("STT", "TDATA", 5)]
    with Broadcast(0, standing=[standing]) as wire:
        got = asyncio.run(talk(wire.port))
    assert got[1] == String("a plan")  # after the greeting
    assert isinstance(got[3], Capability)
    assert got[4] == String("a plan")
    assert [type(x).__name__ for x in got[5:]] == ["Status", "Request"]
    assert got[5].code_words == "unknown instruction"


def test_a_slow_reader_gets_the_newest_pose_and_the_rest_is_counted() -> None:
    many = 600
    tools = TrackingData(tuple(Tool(str(k), pose(0, k).pose.matrix()[:3]) for k in range(900)))  # 63 kB

    async def run() -> tuple[int, int, list[int], list[str]]:
        server = Server()
        port = await server.listen(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        (line,) = server.connections
        for k in range(many):
            line.send(Message("a", tools, k + 1), "a")
            await asyncio.sleep(0)
        for k in range(3):
            line.send(Message("words", String(str(k))))
        sent, displaced = line.sent.messages, line.sent.displaced
        decoder, poses, words = Decoder(), [0], []
        while len(words) < 3 or poses[-1] != many:
            for event in decoder.feed(await reader.read(1 << 20)):
                assert isinstance(event, Message)
                if isinstance(event.content, String):
                    words.append(event.content.text)
                else:
                    poses.append(event.t_ns or 0)
        writer.close()
        await server.close()
        return sent, displaced, poses[1:], words

    sent, displaced, poses, words = asyncio.run(run())
    assert words == ["0", "1", "2"]
    assert displaced > 0
    assert sent + displaced + 1 == many
    assert poses == sorted(poses)
    assert len(poses) == sent + 1


def test_a_client_that_sends_rubbish_is_cut_off_and_the_others_stay() -> None:
    with Broadcast(0) as wire, WireSource(read_address(f"igtl://127.0.0.1:{wire.port}")) as source:
        while not wire.clients:
            time.sleep(0.005)
        with socket.create_connection(("127.0.0.1", wire.port)) as bad:
            bad.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(60))
            bad.settimeout(5)
            while bad.recv(4096):
                pass
        wire.poses([WirePose("referenceToCamera", time.monotonic_ns(), pose(0), "EXACT")])
        assert collect(source, lambda s: s[-1].status == "TRACKED")


class TestTracker:
    """Without sockets: which message means what."""

    def track(self, query: str = "") -> WireTracker:
        return WireTracker(read_address(f"igtl://tracker{query}"))

    def test_stated_and_assumed_covariances_are_told_apart(self) -> None:
        assert self.track().assumed
        stated = self.track("?sd_mm=0.1&sd_deg=0.05")
        assert not stated.assumed
        assert np.allclose(np.sqrt(np.diag(stated.covariance)), [np.radians(0.05)] * 3 + [0.1] * 3)

    def test_other_coordinate_systems_are_not_mixed_in(self) -> None:
        tracker = self.track()
        assert tracker.receive(moved(1, "StylusToTracker"), 1)[0].body == "Stylus"
        assert tracker.receive(moved(2, "StylusToReference"), 2) == []
        assert tracker.tally.elsewhere == {"StylusToReference": 1}
        chosen = self.track("?to=Reference&tool=Stylus:pointer")
        assert chosen.receive(moved(1, "StylusToTracker"), 1) == []
        assert chosen.receive(moved(1, "StylusToReference"), 1)[0].body == "pointer"

    def test_the_words_of_plus_are_understood(self) -> None:
        tracker = self.track()
        for word, cause in (("OUT_OF_VIEW", "out of view"), ("REQ_TIMEOUT", "camera stopped"), ("OK", None)):
            message = Message("aToTracker", moved(1).content, None, {"TransformStatus": word}, 0, 2)
            (sighting,) = tracker.receive(message, 1)
            assert sighting.cause == cause
        tools = TrackingData((Tool("aToTracker", pose(0, 3).pose.matrix()[:3]),))
        (sighting,) = tracker.receive(Message("", tools, None, {"aToTrackerStatus": "MISSING"}, 0, 2), 2)
        assert (sighting.status, sighting.reason) == ("LOST", "the tracker says MISSING")

    def test_a_tool_that_tdata_leaves_out_is_lost_at_once(self) -> None:
        tracker = self.track()
        both = tuple(Tool(n, pose(0, k).pose.matrix()[:3]) for k, n in enumerate(("a", "b")))
        assert [s.status for s in tracker.receive(Message("", TrackingData(both)), 1)] == ["TRACKED"] * 2
        one, other = tracker.receive(Message("", TrackingData((Tool("a", pose(0, 9).pose.matrix()[:3]),))), 2)
        assert (one.status, other.status, other.body) == ("TRACKED", "LOST", "b")

    @pytest.mark.parametrize(
        ("content", "words", "cause"),
        [
            (Transform(np.eye(3, 4)), "exactly the identity", "out of view"),
            (Transform(np.diag([2.0, 1, 1]) @ np.eye(3, 4)), "no rotation", "residual"),
            (Transform(np.column_stack([np.diag([1.0, 1, -1]), [1, 2, 3]])), "determinant -1.000", "residual"),
            (Position(np.ones(3)), "without a turn", "too few markers"),
            (Position(np.ones(3), np.zeros(4)), "length zero", "residual"),
            (TrackingData((Tool("a", pose(0).pose.matrix()[:3], TOOL_3D),)), "tip or axis alone", "too few markers"),
        ],
    )
    def test_what_is_no_pose_is_lost(self, content: Any, words: str, cause: str) -> None:
        (sighting,) = self.track().receive(Message("a", content), 1)
        assert sighting.status == "LOST"
        assert words in str(sighting.reason)
        assert sighting.cause == cause

    def test_the_same_measurement_again_is_dropped(self) -> None:
        tracker = self.track()
        assert len(tracker.receive(moved(1, "a", 10**18), 1)) == 1
        assert tracker.receive(moved(1, "a", 10**18), 2) == []
        assert tracker.tally.repeated == 1

    def test_a_pose_repeated_to_the_last_bit_is_not_believed_for_ever(self) -> None:
        tracker, patient = self.track(), self.track("?repeat_ms=0")
        for k in range(130):
            message = moved(1, "a", 10**18 + k * 16 * MS)
            last = tracker.receive(message, k * 16 * MS)[-1]
            assert patient.receive(message, k * 16 * MS)[-1].status == "TRACKED"
        assert last.status == "LOST"
        assert "to the last bit" in str(last.reason)
        assert tracker.receive(moved(2, "a", 10**18 + 10**10), 10**10)[0].status == "TRACKED"

    def test_silence_of_one_and_of_all_are_told_apart(self) -> None:
        tracker = self.track("?quiet_ms=100&tool=a&tool=b&tool=c")
        tracker.opened(0)
        for k in range(20):
            tracker.receive(moved(k, "a"), k * 20 * MS)
            if k < 10:
                tracker.receive(moved(k, "b"), k * 20 * MS)
        causes = {s.body: s.cause for s in tracker.quiet(400 * MS)}
        assert causes == {"b": "out of view", "c": "never seen"}
        causes = {s.body: s.cause for s in tracker.quiet(800 * MS)}
        assert causes == {"a": "camera stopped", "b": "camera stopped", "c": "never seen"}
        assert tracker.quiet(810 * MS) == []  # said a moment ago

    def test_a_status_of_the_tracker_concerns_all(self) -> None:
        tracker = self.track("?tool=a")
        tracker.receive(moved(1, "a"), 1)
        assert tracker.receive(Message("", Status(OK)), 2) == []
        (sighting,) = tracker.receive(Message("", Status(HARDWARE_FAILURE, "illuminator broke")), 3)
        assert (sighting.body, sighting.cause) == ("a", "camera stopped")
        assert "illuminator broke (hardware failure)" in str(sighting.reason)

    def test_single_precision_is_no_shear(self) -> None:
        rotation = rotation_exp([1.0, 2.0, 3.0]).astype(np.float32).astype(float)
        (sighting,) = self.track().receive(Message("a", Transform(np.column_stack([rotation, [1, 2, 3]]))), 1)
        assert sighting.camera_from_body is not None
        assert np.allclose(sighting.camera_from_body.pose.rotation, rotation, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("igtl://", "is not igtl://HOST:PORT"),
        ("igtl://host:99999", "out of range"),
        ("igtl://host/path", "is not igtl"),
        ("igtl://host?tools=a", "there are tool, to"),
        ("igtl://host?sd_mm=-1", "above 0"),
        ("igtl://host?sd_mm=much", "above 0"),
        ("igtl://host?latency_ms=nan", "at least 0"),
        ("igtl://host?version=4", "2 or 3"),
        ("igtl://host?stream=udp", "tdata or qtdata"),
        ("igtl://host?to=A&to=B", "given twice"),
        ("igtl://host?tool=a:x&tool=b:x", "given before"),
    ],
)
def test_a_wrong_address_is_named(text: str, words: str) -> None:
    with pytest.raises(BadAddress, match=words):
        read_address(text)


def test_a_name_too_long_for_the_wire_is_refused() -> None:
    assert device_name("reference", "Camera") == "referenceToCamera"
    with pytest.raises(LongName, match=r"has 20"):
        device_name("pointer_of_the_left_hand", "Camera")
