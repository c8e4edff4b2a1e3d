"""A case over the wire: bones, CT, screws out as 3D Slicer gets them; trajectories in, as candidates only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import osteotwin
from interop.openigtlink import scene
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.image import Image
from interop.openigtlink.link import Client
from interop.openigtlink.message import Message, encoded
from interop.openigtlink.poses import Transform
from interop.openigtlink.shapes import PolyData, Trajectories, Trajectory
from spatial.mesh import TriangleMesh
from spatial.rigid import rotation_exp
from tests.data import ROOT
from tests.guidance.theatre import SCREWS, TWIN
from twin.case import Case
from twin.plan.plan import Plan
from twin.scan.volume import Grid, Volume


def run(*arguments: object, code: int = 0) -> tuple[list[Any], str, str]:
    done = CliRunner().invoke(osteotwin.app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"], done.stdout, done.stderr


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wire") / "case"
    made = Case.create(folder, TWIN, None, None)
    made.save_plan("plan", Plan("plan", TWIN.twin_id, SCREWS).to_json())
    made.close()
    return folder


@dataclass
class Served:
    """`osteotwin igtl serve` in a process of its own."""

    address: str
    process: subprocess.Popen[str]

    def line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def served(case: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "osteotwin", "igtl", "serve", str(case), "--plan", "plan", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            started = Served("", process)
            started.address = f"igtl://127.0.0.1:{started.line()['port']}"
            yield started
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=20)
            assert process.returncode == 130
            assert words.splitlines()[-1] == "Cancelled."
        finally:
            process.kill()


def test_every_bone_and_screw_arrives(served: Served) -> None:
    lines, _, _ = run("igtl", "listen", served.address, "--seconds", 1.5, "--json")
    devices = {(d["type"], d["device"]): d for d in lines[-1]["devices"]}
    for name, bone in TWIN.bones.items():
        mesh = bone.for_drawing(60_000)
        words = f"{len(mesh.vertices_mm)} points, {len(mesh.triangles)} polygons"
        assert devices["POLYDATA", name]["last"] == words
    assert set(devices["TRAJ", "Plan plan"]["last"].split(", ")) == set(SCREWS)
    assert lines[-1]["refused"] == {}


def test_bones_and_ct_are_turned_not_mirrored() -> None:
    for message in scene.bones(TWIN):
        assert isinstance(message.content, PolyData)
        bone = TWIN.bones[message.device].surface
        points, triangles = message.content.points_mm, message.content.triangles
        assert triangles is not None
        assert np.allclose(points, bone.vertices_mm * [-1, -1, 1], atol=1e-3)
        again = TriangleMesh[Any](points.astype(float), triangles.astype(np.int32))
        assert np.isclose(again.volume_ml, bone.volume_ml, rtol=1e-4)  # negative if it were mirrored
    axes = rotation_exp([0.1, 0.2, 0.3])
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    grid = Grid((4, 3, 2), np.array([0.5, 0.6, 1.5]), np.array([-100.0, 50.0, 900.0]), axes)
    for turned in ("RAS", "LPS"):
        image = scene.ct(Volume(grid, hu), turned).content
        assert isinstance(image, Image)
        index = np.array([3.0, 1.0, 1.0])
        there = image.origin_mm + image.steps_mm @ index
        truth = grid.patient_from_index(index).mm * ([-1, -1, 1] if turned == "RAS" else [1, 1, 1])
        assert np.allclose(there, truth, atol=1e-9)
        assert image.voxels[1, 1, 3] == hu[1, 1, 3]


def test_long_and_foreign_names_are_cut_to_the_room_there_is() -> None:
    screws = {"Wirbelkörper drei, linke Seite " * 3: next(iter(SCREWS.values()))}
    message = scene.trajectories("Überlänge für Müller und Söhne", screws)
    assert message.device == "Plan Überlänge fü"
    assert len(encoded(message)) == 58 + 150


def test_a_plan_comes_back_as_candidates_for_the_same_bones() -> None:
    message = scene.trajectories("plan", SCREWS)
    assert isinstance(message.content, Trajectories)
    found = {one.name: one for one in scene.candidates(message.content.elements, TWIN)}
    for name, screw in SCREWS.items():
        one = found[name]
        assert (one.bone, one.side) == (screw.bone, screw.side)
        assert one.entry is not None
        assert np.allclose(one.entry.mm, screw.entry.mm, atol=1e-3)
        assert one.length_mm == pytest.approx(screw.length_mm, abs=1e-3)
        assert one.sent_diameter_mm == screw.diameter_mm


def test_what_lies_nowhere_is_told_and_the_other_axes_are_hinted_at() -> None:
    message = scene.trajectories("plan", SCREWS, "LPS")
    assert isinstance(message.content, Trajectories)
    (one, *_) = scene.candidates(message.content.elements, TWIN, "RAS")
    assert one.bone is None
    assert "read as LPS it would lie in" in str(one.why)
    (half,) = scene.candidates([Trajectory("half", np.zeros(3), None)], TWIN)
    assert "only its entry was sent" in str(half.why)


def test_candidates_are_shown_with_the_command_and_change_nothing(case: Path) -> None:
    before = len(Case.open(case).journal.entries())
    with Broadcast(0, standing=[scene.trajectories("plan", SCREWS)]) as wire:
        address = f"igtl://127.0.0.1:{wire.port}"
        lines, _, _ = run("igtl", "candidates", case, address, "--diameter", 6, "--plan", "plan", "--json")
        _, words, _ = run("igtl", "candidates", case, address)
    rows = {row["name"]: row for row in lines[-1]["candidates"]}
    for name, screw in SCREWS.items():
        assert rows[name]["bone"] == screw.bone
        assert rows[name]["command"].startswith(f"osteotwin plan screw {case} --bone {screw.bone} --side {screw.side}")
        assert rows[name]["grade"] or rows[name]["reason"]
    assert "not graded (--diameter)" in words
    assert len(Case.open(case).journal.entries()) == before


def test_trajectories_sent_to_a_served_case_are_shown_as_candidates(served: Served) -> None:
    async def talk() -> None:
        message = scene.trajectories("theirs", SCREWS)
        client = Client(opened=lambda line: line.send(message))
        task = asyncio.ensure_future(client.run("127.0.0.1", int(served.address.rsplit(":", 1)[1])))
        await asyncio.sleep(0.5)
        task.cancel()

    asyncio.run(talk())
    assert [row["bone"] for row in served.line()["candidates"]] == [screw.bone for screw in SCREWS.values()]


def test_wrong_use_is_named(case: Path) -> None:
    with Broadcast(0, standing=[Message("x", Transform(np.eye(3, 4)))]) as wire:
        address = f"igtl://127.0.0.1:{wire.port}"
        lines, _, _ = run("igtl", "candidates", case, address, "--seconds", 0.6, "--json", code=1)
        assert lines[-1]["error"]["kind"] == "NoTrajectories"
        lines, _, _ = run("igtl", "candidates", case, address, "--axes", "XYZ", "--json", code=2)
        lines, _, _ = run("igtl", "serve", case, "--port", wire.port, "--json", code=2)
        assert lines[-1]["error"]["kind"] == "PortTaken"
    lines, _, _ = run("igtl", "listen", address, "--seconds", 0.3, "--json", code=1)
    assert lines[-1]["error"]["kind"] == "NoTracker"


@pytest.mark.parametrize(
    ("said", "hangs_up", "words"),
    [
        (b"HTTP/1.0 400 Bad request\r\n" + b"x" * 200, False, "b'HTTP/1.0 400 Bad'… is no OpenIGTLink header"),
        (b"SSH-2.0-server\r\n", False, "and no more came; an OpenIGTLink header has 58 bytes"),
        (b"SSH-2.0-server\r\n", True, "cut short (b'SSH-2.0-server"),
        (b"", False, "a line, but no message came over it"),
        (b"", True, "the other side closed it"),
    ],
)
def test_a_server_that_speaks_something_else_or_nothing_is_a_failure(said: bytes, hangs_up: bool, words: str) -> None:
    lines_open: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # closed below
                while True:
                    line, _ = server.accept()
                    line.sendall(said)
                    if hangs_up:
                        line.close()
                    else:
                        lines_open.append(line)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"igtl://127.0.0.1:{server.getsockname()[1]}"
        lines, _, _ = run("igtl", "listen", address, "--seconds", 0.4, "--json", code=1)
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for line in lines_open:
        line.close()
    assert lines[-1]["error"]["kind"] == "NothingHeard"
    assert words in lines[-1]["error"]["message"]
