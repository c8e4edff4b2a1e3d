"""A real tracker's recording, sent again as PLUS would send it: no pose is refused, none is changed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from interop.openigtlink.address import read_address
from interop.openigtlink.decoder import Decoder
from interop.openigtlink.incoming import WireTracker
from interop.openigtlink.message import Message, encoded
from interop.openigtlink.poses import Tool, TrackingData, Transform
from tests.data import shared_data

FIELD = re.compile(r"Seq_Frame(\d+)_(ReferenceToTracker|StylusToTracker)Transform = (.*)")
STAMP = re.compile(r"Seq_Frame(\d+)_Timestamp = (.*)")
STATUS = re.compile(r"Seq_Frame(\d+)_(\w+)TransformStatus = (\w+)")


def recorded() -> dict[int, dict[str, Any]]:
    folder = shared_data("tracker_landmark_registration")
    file = next(f for f in sorted(folder.rglob("*")) if f.suffix in (".mha", ".mhd"))
    frames: dict[int, dict[str, Any]] = {}
    for line in file.read_bytes().decode("latin-1").splitlines():
        for pattern in (FIELD, STAMP, STATUS):
            match = pattern.fullmatch(line.strip())
            if match is None:
                continue
            frame = frames.setdefault(int(match[1]), {})
            if pattern is FIELD:
                frame[match[2]] = np.array([float(word) for word in match[3].split()]).reshape(4, 4)
            elif pattern is STAMP:
                frame["t_s"] = float(match[2])
            else:
                frame[f"{match[2]} status"] = match[3]
    return frames


@pytest.mark.parametrize("kind", ["TRANSFORM", "TDATA"])
def test_a_recording_of_plus_comes_through_whole(kind: str) -> None:
    frames = recorded()
    tracker = WireTracker(read_address("igtl://plus?sd_mm=0.2&sd_deg=0.1"))
    decoder = Decoder()
    names = ("ReferenceToTracker", "StylusToTracker")
    worst_mm = worst = 0.0
    found = 0
    for frame in frames.values():
        stamp_ns = round(frame["t_s"] * 1e9) + 1_700_000_000 * 10**9
        arrived_ns = round(frame["t_s"] * 1e9) + 2_000_000
        states = {name: frame.get(f"{name} status", "OK") for name in names}
        if kind == "TDATA":
            metadata = {f"{name}Status": state for name, state in states.items()}
            tools = tuple(Tool(name, frame[name][:3]) for name in names)
            messages = [Message("Tracker", TrackingData(tools), stamp_ns, metadata, 0, 2)]
        else:
            messages = [
                Message(name, Transform(frame[name][:3]), stamp_ns, {"TransformStatus": states[name]}, 0, 2)
                for name in names
            ]
        for event in decoder.feed(b"".join(map(encoded, messages))):
            assert isinstance(event, Message)
            for sighting in tracker.receive(event, arrived_ns):
                truth = frame[sighting.body + "ToTracker"]
                assert states[sighting.body + "ToTracker"] == "OK"
                assert sighting.camera_from_body is not None, sighting.reason
                pose = sighting.camera_from_body.pose
                worst_mm = max(worst_mm, float(np.abs(pose.translation_mm - truth[:3, 3]).max()))
                own = float(np.abs(truth[:3, :3] @ truth[:3, :3].T - np.eye(3)).max())  # how far it is from a rotation
                worst = max(worst, float(np.abs(pose.rotation - truth[:3, :3]).max()) - own)
                assert abs(sighting.t_ns - arrived_ns) <= 2_000_001
                found += 1
    assert len(frames) == 1000
    assert found + tracker.tally.repeated == 2000
    assert tracker.tally.repeated < 100
    assert worst_mm < 1e-3
    assert worst < 1e-6
