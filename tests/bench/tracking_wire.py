"""OpenIGTLink beside pyigtl: poses packed and read, a large image packed and read, both over loopback."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyigtl

from interop.openigtlink.decoder import Decoder
from interop.openigtlink.image import Image
from interop.openigtlink.message import Message, encode, encoded
from interop.openigtlink.poses import Transform
from spatial.rigid import rotation_exp
from tests.bench.measure import Job, Judgement, Side

POSES = 200
T_S, T_NS = 1_700_000_000.5, 1_700_000_000_500_000_000
VOXELS = np.random.default_rng(1).integers(-1000, 2000, (64, 512, 512), dtype=np.int16)  # 33.6 MB


def jobs() -> Iterator[Job]:
    """Pack and read: small messages by the hundred, one large one; then the large one through a socket."""
    rng = np.random.default_rng(2)
    matrices = []
    for _ in range(POSES):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation_exp(rng.normal(size=3)), rng.normal(0, 300, 3)
        matrices.append(matrix)
    ours = [Message("StylusToTracker", Transform(m[:3]), T_NS) for m in matrices]
    theirs = [pyigtl.TransformMessage(m, timestamp=T_S, device_name="StylusToTracker") for m in matrices]
    packed = [encoded(message) for message in ours]

    def same_bytes(a: list[bytes], b: list[bytes]) -> Judgement:
        alike = a == b
        return Judgement(alike, "the same bytes" if alike else "other bytes")

    yield Job(
        "tracking", f"{POSES} poses packed for OpenIGTLink", Side("encode", lambda: [encoded(m) for m in ours]),
        Side("pyigtl", lambda: [m.pack() for m in theirs]), same_bytes,
    )  # fmt: skip

    def read() -> list[Any]:
        return [message.content.matrix for message in Decoder().feed(b"".join(packed))]

    def read_by_peer() -> list[Any]:
        out = []
        for data in packed:  # as pyigtl's own receiver does
            header = pyigtl.messages.MessageBase.parse_header(data[:58])
            message = pyigtl.messages.MessageBase.create_message(header["message_type"])
            message.unpack(header, data[58:])
            out.append(message.matrix[:3])
        return out

    def same_poses(a: list[Any], b: list[Any]) -> Judgement:
        worst = float(np.abs(np.array(a) - np.array(b)).max())
        return Judgement(
            worst == 0.0, f"matrices differ by {worst:g}; ours are checked (sum, finite), the peer's are not"
        )

    yield Job(
        "tracking", f"{POSES} poses read from OpenIGTLink", Side("Decoder", read), Side("pyigtl", read_by_peer),
        same_poses,
    )  # fmt: skip
    image = Message("CT", Image.placed(VOXELS, np.eye(3), np.zeros(3), "LPS"), T_NS)
    peer_image = pyigtl.ImageMessage(VOXELS, np.eye(4), "lps", timestamp=T_S, device_name="CT")
    megabytes = VOXELS.nbytes / 1e6
    yield Job(
        "tracking", f"an image of {megabytes:.0f} MB packed for OpenIGTLink", Side("encode", lambda: encode(image)),
        Side("pyigtl", peer_image.pack), lambda a, b: same_bytes([b"".join(a)], [b]),
    )  # fmt: skip
    yield Job(
        "tracking", f"an image of {megabytes:.0f} MB through a socket: packed, sent, checked, read",
        Side("encode, Decoder", lambda: _through(image)), None, lambda a, _: _same_image(a), rounds=3,
        no_peer="pyigtl's server gives up on a message of this size (it sends with a limit of 10 ms)",
    )  # fmt: skip


def _same_image(a: Any) -> Judgement:
    alike = bool(np.array_equal(a, VOXELS))
    return Judgement(alike, "the same voxels" if alike else "other voxels")


def _through(message: Message) -> Any:
    """Over loopback by our own parts, the sum checked on arrival."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as out:
        line, _ = server.accept()

        def send() -> None:
            for part in encode(message):
                out.sendall(part)

        thread = threading.Thread(target=send)
        thread.start()
        with line:
            decoder, events = Decoder(), []
            while not events:
                events = decoder.advance(line.recv_into(decoder.buffer()))
        thread.join()
    return events[0].content.voxels
