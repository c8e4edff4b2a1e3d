"""`osteotwin track` at a wire: poses in from a tracker, poses out to whoever connects."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from commands.track import app
from interop.openigtlink.address import read_address
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.outgoing import WirePose
from interop.openigtlink.source import WireSource
from spatial.frames import Camera, Reference
from spatial.rigid import Rigid, UncertainRigid

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_tracker_on_the_wire_gives_the_same_lines_as_a_camera() -> None:
    with Broadcast(0) as wire:
        stop = threading.Event()

        def run() -> None:
            k = 0
            while not stop.is_set():
                pose = UncertainRigid(Rigid[Camera, Reference](np.eye(3), [0, 0, 500.0 + k]), np.eye(6))
                how, reason = ("EXACT", None) if k % 40 < 30 else ("STALE", "a hand is in the way")
                t_ns = time.monotonic_ns()
                wire.poses(
                    [WirePose("refToCamera", t_ns, pose if reason is None else None, how, reason, "out of view")]
                )
                k += 1
                stop.wait(0.01)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            done = CliRunner().invoke(app, [f"igtl://127.0.0.1:{wire.port}", "--seconds", "1.2", "--json"])
        finally:
            stop.set()
            thread.join()
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    tracked = [line for line in lines if line["status"] == "TRACKED"]
    lost = [line for line in lines if line["status"] == "LOST"]
    assert len(tracked) > 20
    assert lost
    assert {line["body"] for line in lines} == {"ref"}
    assert {"frame", "t_ns", "body", "status", "how", "reason", "camera_from_body", "covariance"} <= set(lines[0])
    assert all("spread is assumed" in line["reason"] for line in tracked)
    assert all(line["camera_from_body"] is None for line in lost)
    assert any("a hand is in the way" in line["reason"] for line in lost)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["igtl://x?colour=red"], "no option 'colour'"),
        (["igtl://x", "--dictionary", "DICT_4X4_50", "--size-mm", "40"], "knows its own bodies"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_poses_of_a_recording_are_sent_at_its_pace(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "osteotwin", "track", "synthetic:frames=20,fps=20,size=640x480", "--dictionary"]
    command += ["DICT_APRILTAG_36h11", "--size-mm", "40", "--igtl", str(port), "--out", str(tmp_path / "lines")]
    seen = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            with WireSource(read_address(f"igtl://127.0.0.1:{port}"), patience_s=60) as source:
                for sighting in source:
                    if sighting.camera_from_body is not None:
                        seen.append(sighting)
                    elif seen and "broke" in str(sighting.reason):
                        break
            _, words = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, words
    assert max(s.t_ns for s in seen) - min(s.t_ns for s in seen) > 0.8e9  # not faster than it was taken
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    tracked = {(line["body"], tuple(np.float32(line["camera_from_body"]["translation_mm"]))) for line in lines
               if line["camera_from_body"]}  # fmt: skip
    assert seen
    for one in seen:
        assert one.camera_from_body is not None
        assert (one.body, tuple(np.float32(one.camera_from_body.pose.translation_mm))) in tracked
    assert "Sending poses by OpenIGTLink on 127.0.0.1" in words
