"""Bytes to messages and back: exact, in whatever pieces they come, and robust against what is wrong."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import crcmod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interop.openigtlink.crc import crc64
from interop.openigtlink.decoder import Decoder, LostStream, Refused
from interop.openigtlink.fields import BadContent
from interop.openigtlink.image import Image
from interop.openigtlink.message import CONTENTS, HEADER, Message, encoded
from interop.openigtlink.poses import Position, QuaternionTool, QuaternionTrackingData, Tool, TrackingData, Transform
from interop.openigtlink.shapes import Cells, PolyData, Trajectories, Trajectory
from interop.openigtlink.stamps import ns_from_wire, wire_from_ns
from interop.openigtlink.words import Request, Status, String
from spatial.rigid import rotation_exp
from tests.interop.openigtlink.samples import MESSAGES

POSE = np.column_stack([rotation_exp([0.1, -0.2, 0.3]), [1.0, 2.0, 3.0]])
TRANSFORM = encoded(Message("Tool", Transform(POSE), 1_700_000_000_123_456_789))


def only(data: bytes, decoder: Decoder | None = None) -> Message | Refused:
    events = (decoder or Decoder()).feed(data)
    assert len(events) == 1
    return events[0]


@given(st.binary(max_size=300), st.integers(0, 300))
def test_the_sum_is_the_one_of_ecma_182(data: bytes, cut: int) -> None:
    peer = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, rev=False, initCrc=0, xorOut=0)
    assert crc64(data) == crc64(data[:cut], data[cut:]) == peer(data)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 65_537, 1_000_003])
def test_the_sum_in_strands_is_the_sum(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    peer = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, rev=False, initCrc=0, xorOut=0)
    assert crc64(data) == peer(data)
    assert crc64(bytearray(data[:5000]), memoryview(data)[5000:]) == peer(data)


def test_the_sum_of_the_catalogue() -> None:
    assert crc64(b"123456789") == 0x6C40DF5F0B497347  # CRC-64/ECMA-182, check value


def test_a_message_of_protocol_3_has_the_bytes_that_the_reference_library_is_tested_on() -> None:
    """Three trackers with two entries of metadata: igtl_test_data_tdataFormat2.h gives size and sum."""
    numbers = "bf7473cd3e4959e6be63dd98be4959e63e12491b3f7852d63e63dd983f7852d6bdc830ae42383660419bc46742383660"
    matrix = np.frombuffer(bytes.fromhex(numbers), ">f4").reshape(4, 3).T
    tools = tuple(Tool(f"Tracker{k}", matrix) for k in range(3))
    metadata = {"First patient age": "22", "Second patient age": "25"}
    data = encoded(Message("DeviceName", TrackingData(tools), None, metadata, 1, 2))
    header = HEADER.unpack_from(data)
    assert header[0] == 2
    assert header[4] == 0x117
    assert header[5] == 0xBD309E0E33101C37
    back = only(data)
    assert isinstance(back, Message)
    assert dict(back.metadata) == metadata
    assert back.number == 1


@given(MESSAGES)
def test_what_is_packed_comes_back_to_the_byte(message: Message) -> None:
    data = encoded(message)
    back = only(data)
    assert isinstance(back, Message), back
    assert (back.device, back.t_ns, back.type) == (message.device, message.t_ns, message.type)
    assert back.version == message.version
    if message.version == 2:
        assert dict(back.metadata) == dict(message.metadata)
        assert back.number == message.number
    assert encoded(back) == data


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_pieces_of_any_size_make_the_same_messages(messages: list[Message], sizes: list[int]) -> None:
    data = b"".join(map(encoded, messages))
    decoder, at, out = Decoder(), 0, []
    while at < len(data):
        n = sizes[len(out) % len(sizes)] if at % 3 else 1
        out += decoder.feed(data[at : at + n])
        at += n
    assert [encoded(m) for m in out if isinstance(m, Message)] == [encoded(m) for m in messages]
    assert not decoder.pending


@given(MESSAGES, st.data())
def test_a_stream_that_is_cut_short_gives_nothing_and_says_so(message: Message, data: st.DataObject) -> None:
    whole = encoded(message)
    cut = data.draw(st.integers(1, len(whole) - 1))
    decoder = Decoder()
    assert decoder.feed(whole[:cut]) == []
    assert decoder.pending
    assert len(decoder.feed(whole[cut:])) == 1


@given(MESSAGES, st.data())
def test_a_flipped_bit_in_the_body_is_found_and_the_stream_goes_on(message: Message, data: st.DataObject) -> None:
    whole = bytearray(encoded(message) + TRANSFORM)
    body = len(whole) - len(TRANSFORM) - HEADER.size
    if not body:
        return
    whole[HEADER.size + data.draw(st.integers(0, body - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoder = Decoder()
    first, second = decoder.feed(whole)
    assert isinstance(first, Refused)
    assert first.why == "damaged"
    assert isinstance(second, Message)
    assert (decoder.counts.damaged, decoder.counts.messages) == (1, 1)


@given(
    st.binary(max_size=200), st.sampled_from([*CONTENTS, "STT_TDATA", "RTS_X", "GET_", "NDARRAY"]), st.integers(1, 2)
)
@settings(max_examples=150)
def test_any_body_is_read_or_refused(body: bytes, kind: str, version: int) -> None:
    head = HEADER.pack(version, kind.encode().ljust(12, b"\0"), b"x".ljust(20, b"\0"), 0, len(body), crc64(body))
    first, second = Decoder().feed(head + body + TRANSFORM)
    assert isinstance(first, (Message, Refused))
    assert isinstance(second, Message)


@given(st.binary(min_size=58, max_size=400))
def test_noise_is_no_stream(noise: bytes) -> None:
    with pytest.raises(LostStream):
        Decoder().feed(b"\xff" + noise)


def test_a_size_beyond_the_limit_is_refused_before_memory_is_set_aside() -> None:
    head = HEADER.pack(1, b"IMAGE".ljust(12, b"\0"), b"x".ljust(20, b"\0"), 0, 1 << 62, 0)
    tracemalloc.start()
    with pytest.raises(LostStream, match=r"4611686018427387904 bytes, the limit is 268435456"):
        Decoder().feed(head)
    assert tracemalloc.get_traced_memory()[1] < 1 << 18
    tracemalloc.stop()


def test_a_polydata_that_promises_more_than_it_has_sets_nothing_aside() -> None:
    body = struct.pack(">10I", 2**32 - 1, *[0] * 9)
    head = HEADER.pack(1, b"POLYDATA".ljust(12, b"\0"), b"x".ljust(20, b"\0"), 0, len(body), crc64(body))
    tracemalloc.start()
    event = only(head + body)
    assert isinstance(event, Refused)
    assert "promises" in event.words
    assert tracemalloc.get_traced_memory()[1] < 1 << 18
    tracemalloc.stop()


def test_unknown_and_unwanted_types_are_skipped_and_counted() -> None:
    body = bytes(100_000)
    ndarray = HEADER.pack(1, b"NDARRAY".ljust(12, b"\0"), b"x".ljust(20, b"\0"), 0, len(body), 0) + body
    text = encoded(Message("x", String("hello")))
    decoder = Decoder(wanted={"TRANSFORM"})
    events = decoder.feed(ndarray + text + TRANSFORM)
    assert [type(e).__name__ for e in events] == ["Refused", "Refused", "Message"]
    assert [e.why for e in events if isinstance(e, Refused)] == ["unknown", "not wanted"]
    assert decoder.counts.skipped == 2
    assert decoder.counts.n_bytes == len(ndarray) + len(text) + len(TRANSFORM)


def test_a_large_image_is_read_into_its_own_memory_and_not_copied() -> None:
    voxels = np.random.default_rng(1).integers(-1000, 2000, (64, 256, 256), dtype=np.int16)
    steps, origin = np.diag([0.5, 0.5, 1.25]), np.array([-10.0, 20.0, 30.0])
    data = encoded(Message("CT", Image.placed(voxels, steps, origin, "LPS")))
    decoder = Decoder()
    decoder.feed(data[:1000])
    tracemalloc.start()
    (event,) = decoder.feed(memoryview(data)[1000:])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert isinstance(event, Message)
    assert isinstance(event.content, Image)
    assert np.array_equal(event.content.voxels, voxels)
    assert np.allclose(event.content.origin_mm, origin, atol=1e-4)
    assert event.content.coordinates == "LPS"
    assert event.content.is_whole


def test_positions_of_each_length_say_the_same_turn() -> None:
    q = np.array([0.1, -0.2, 0.3, 0.0])
    q[3] = np.sqrt(1 - q @ q)
    four, three = Position(np.zeros(3), q).matrix, Position(np.zeros(3), q[:3]).matrix
    tool = QuaternionTool("t", np.zeros(3), q).matrix
    assert four is not None
    assert three is not None
    assert np.allclose(four, three, atol=1e-7)
    assert np.allclose(four, tool)
    assert Position(np.zeros(3)).matrix is None
    with pytest.raises(BadContent, match=r"over 1"):
        _ = Position(np.zeros(3), np.array([1.0, 1.0, 0.0])).matrix
    with pytest.raises(BadContent, match=r"length zero"):
        _ = QuaternionTrackingData((QuaternionTool("t", np.zeros(3), np.zeros(4)),)).tools[0].matrix


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: encoded(Message("a name that is far too long", Status())), "takes 27 bytes, the protocol has 20"),
        (lambda: encoded(Message("x", TrackingData((Tool("StylusTipToReferenceBase", POSE),)))), "tool's name"),
        (lambda: encoded(Message("x", String("x" * 70_000))), "65,535"),
        (lambda: encoded(Message("x", Status(), -1)), "stamps run from 0"),
        (lambda: Transform(np.full((3, 4), np.nan)), "not finite"),
        (lambda: Transform(np.eye(4)), r"\(3, 4\) is needed"),
        (lambda: Image(np.zeros((2, 2)), np.eye(3), np.zeros(3)), "voxels of shape"),
        (lambda: Image(np.zeros((2, 2, 2), np.complex64), np.eye(3), np.zeros(3)), "complex64"),
        (lambda: Image(np.zeros((1, 1, 70_000), np.int16), np.eye(3), np.zeros(3)), "65,535 a side"),
        (lambda: Trajectory("x", None, None), "neither entry nor target"),
    ],
)  # fmt: skip
def test_what_the_protocol_has_no_room_for_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(BadContent, match=words):
        make()


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (Cells(np.array([3, 0, 1, 9], np.uint32), 1), "name point 9 of 4"),
        (Cells(np.array([3, 0, 1, 2, 3, 0], np.uint32), 2), "cut short"),
        (Cells(np.array([3, 0, 1, 2], np.uint32), 5), "5 polygons are promised and 1 are there"),
    ],
)
def test_cells_that_lead_outside_are_refused(cells: Cells, words: str) -> None:
    none = Cells.none()
    event = only(encoded(Message("x", PolyData(np.zeros((4, 3), np.float32), cells, none, none, none))))
    assert isinstance(event, Refused)
    assert words in event.words


def test_a_nan_in_a_matrix_is_damage() -> None:
    body = np.full(12, np.nan, ">f4").tobytes()
    head = HEADER.pack(1, b"TRANSFORM".ljust(12, b"\0"), b"x".ljust(20, b"\0"), 0, 48, crc64(body))
    event = only(head + body)
    assert isinstance(event, Refused)
    assert "not finite" in event.words


def test_trajectories_keep_which_end_was_given() -> None:
    both = Trajectory("L3 left", np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), 6.5)
    entry, target = Trajectory("entry", np.ones(3), None), Trajectory("target", None, np.ones(3))
    event = only(encoded(Message("plan", Trajectories((both, entry, target)))))
    assert isinstance(event, Message)
    assert isinstance(event.content, Trajectories)
    a, b, c = event.content.elements
    assert a.diameter_mm == 6.5
    assert a.target_mm is not None
    assert b.entry_mm is not None
    assert b.target_mm is None
    assert c.entry_mm is None


def test_requests_are_told_apart() -> None:
    event = only(encoded(Message("", Request("STT", "TDATA", 20, "Reference"))))
    assert isinstance(event, Message)
    assert event.content == Request("STT", "TDATA", 20, "Reference")
    assert Request("GET", "CAPABILITY").type_name == "GET_CAPABIL"


@given(st.integers(0, (1 << 32) * 10**9 - 1))
def test_stamps_come_back_to_the_nanosecond(t_ns: int) -> None:
    assert ns_from_wire(wire_from_ns(t_ns)) == t_ns
