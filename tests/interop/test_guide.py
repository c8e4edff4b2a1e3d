"""Guidance driven by a tracker at the end of a wire, and guidance shown to another program, in one session."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import osteotwin
from commands.guide_wire import beside
from guidance.by_tracker import guide_by_tracker
from guidance.loop import guide as guide_by_camera
from guidance.session import Trust
from interop import axes
from interop.openigtlink.address import read_address
from interop.openigtlink.broadcast import Broadcast
from interop.openigtlink.outgoing import WirePose
from interop.openigtlink.placed import PlacedTracker, load_placing
from interop.openigtlink.source import WireSource
from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Points, Rigid, UncertainRigid, rotation_log
from tests.data import ROOT
from tests.guidance import theatre as room
from tests.guidance.test_loop import Shots
from tests.interop.test_track import free_port
from tracking.pose.sighting import Sighting
from twin.case import Case
from twin.plan.plan import Plan

MS = 1_000_000
SCREW = room.SCREWS["L3-left"]
BODIES = ["--bodies", str(ROOT / "assets/markers/reference.json"), "--bodies", str(ROOT / "assets/markers/drill.json")]
DRILL = room.drill_at(SCREW.entry.mm, SCREW.target.mm - SCREW.entry.mm)
SPREAD = np.diag([1e-4**2] * 3 + [0.05**2] * 3)


def tracker_from_patient(k: int) -> Rigid[Any, Patient]:
    """The patient breathes and the tracker stands somewhere."""
    return Rigid[Any, Patient].exp([0.4, -1.0, 0.3 + 0.001 * np.sin(k / 7)], [200.0, -80.0, 1500.0 + np.sin(k / 9)])


class TestLoop:
    """Without sockets: which sightings make which instants."""

    def run(self, events: list[Any], clock_ns: list[int]) -> list[Any]:
        ticks = iter(clock_ns)
        state = room.state(instrument=room.DRILL, screw="L3-left")
        batches = [[] if event is None else [event] for event in events]
        return list(guide_by_tracker(batches, state, clock=lambda: next(ticks)))

    def pair(self, k: int) -> list[Any]:
        t_ns, there = k * 16 * MS, tracker_from_patient(k)
        return [
            room.exact(room.DRILL, there @ DRILL, t_ns),
            room.exact(room.REFERENCE, there @ room.PATIENT_FROM_REFERENCE, t_ns),
        ]

    def test_an_instant_is_answered_when_both_bodies_were_heard_of(self) -> None:
        events = [sighting for k in range(10) for sighting in self.pair(k)]
        guided = self.run(events, [0, *(e.t_ns + MS for e in events)])
        assert [one.frame.t_ns for one in guided] == [k * 16 * MS for k in range(10)]
        assert {one.readout.trust for one in guided} == {Trust.GUIDING}
        assert {one.readout.how for one in guided} == {"EXACT"}
        off = guided[-1].readout.deviation["L3-left"]
        assert (off.entry_mm, off.tip_mm) == pytest.approx((0.0, 0.0), abs=0.3)

    def test_whoever_is_slow_answers_for_the_newest_instant(self) -> None:
        ticks = iter([0, 200 * MS])
        state = room.state(instrument=room.DRILL, screw="L3-left")
        (one,) = guide_by_tracker([[s for k in range(10) for s in self.pair(k)]], state, clock=lambda: next(ticks))
        assert one.frame.t_ns == 9 * 16 * MS

    def test_a_lost_reference_stops_and_silence_ages(self) -> None:
        events: list[Any] = [sighting for k in range(10) for sighting in self.pair(k)]
        clock = [0, *(e.t_ns + MS for e in events)]
        last_ns = events[-1].t_ns
        events += [None] * 5
        clock += [last_ns + (150 + 110 * k) * MS for k in range(5)]
        silent = self.run(events, clock)[10:]
        assert [one.is_new for one in silent] == [False] * 5
        assert [str(one.readout.trust) for one in silent] == ["CAUTION", "STOP", "STOP", "STOP", "STOP"]
        events = events[:20]
        for k in range(10, 90):
            events += [room.exact(room.DRILL, DRILL, k * 16 * MS), room.lost(room.REFERENCE, k * 16 * MS)]
        guided = self.run(events, [0, *(e.t_ns + MS for e in events)])
        assert guided[-1].readout.trust is Trust.STOP
        assert guided[-1].readout.camera_from_patient is None


class TestBeside:
    """A camera whose reference is covered, and a tracker that sees it and the camera's own body."""

    HAND_FROM_CAMERA = Rigid[Any, Any].exp([0.3, -0.2, 1.0], [40.0, 20.0, -60.0])
    TRACKER_FROM_PATIENT = Rigid[Any, Any].exp([0.4, -1.0, 0.3], [200.0, -80.0, 1500.0])

    def write(self, folder: Path) -> Path:
        file = folder / "hand_eye.json"
        covariance = np.diag([1e-4**2] * 3 + [0.05**2] * 3).tolist()
        value = {"hand": "helmet", "hand_from_camera": self.HAND_FROM_CAMERA.to_json(), "covariance": covariance}
        file.write_text(json.dumps(value))
        return file

    def test_the_tracker_fills_in_while_the_camera_sees_nothing(self, tmp_path: Path) -> None:
        shots = Shots()
        placed = PlacedTracker(load_placing(self.write(tmp_path)))
        frames = iter(zip(shots.frames, shots.path, strict=True))

        def also() -> list[Any]:
            frame, camera_from_patient = next(frames)
            hand = self.TRACKER_FROM_PATIENT @ camera_from_patient.inverse() @ self.HAND_FROM_CAMERA.inverse()
            body = self.TRACKER_FROM_PATIENT @ room.PATIENT_FROM_REFERENCE
            seen = [("helmet", hand), ("reference", body)]
            return placed.turned([
                Sighting[Any](name, frame.t_ns + MS, "TRACKED", None, UncertainRigid(pose, SPREAD), None)
                for name, pose in seen
            ])  # fmt: skip

        state = room.state(instrument=room.DRILL, screw="L3-left")
        guided = list(guide_by_camera(shots, room.SMALL, state, room.TWIN, draw=False, also=also))
        assert {one.readout.how for one in guided} <= {"EXACT", "INTERPOLATED"}
        assert {one.readout.trust for one in guided} == {Trust.GUIDING}
        target = Points[Patient](SCREW.tip.mm)
        for one, true in zip(guided, shots.path, strict=True):
            known = one.readout.camera_from_patient
            assert known is not None
            assert np.linalg.norm((known.pose @ target).mm - (true @ target).mm) < 3.0  # the camera moves on for 1 ms

    def test_the_wire_gives_them_in_the_cameras_axes(self, tmp_path: Path) -> None:
        camera = room.camera_at()
        hand = self.TRACKER_FROM_PATIENT @ camera.inverse() @ self.HAND_FROM_CAMERA.inverse()
        body = self.TRACKER_FROM_PATIENT @ room.PATIENT_FROM_REFERENCE
        with Broadcast(0) as tracker:
            address = f"igtl://127.0.0.1:{tracker.port}?tool=Helmet:helmet&tool=Ref:reference"
            with beside(address, self.write(tmp_path), room.state()) as also:
                found: list[Any] = []
                stop = time.monotonic() + 10
                while not found and time.monotonic() < stop:
                    t_ns = time.monotonic_ns()
                    for name, pose in (("RefToTracker", body), ("HelmetToTracker", hand)):
                        tracker.poses([WirePose(name, t_ns, UncertainRigid(pose, SPREAD), "EXACT")])
                    time.sleep(0.02)
                    found = [one for one in also() if one.camera_from_body is not None]
            with (
                pytest.raises(Misuse, match="no tool=…:helmet"),
                beside(f"igtl://127.0.0.1:{tracker.port}?tool=Ref:reference", tmp_path / "hand_eye.json", room.state()),
            ):
                pass
        truth = camera @ room.PATIENT_FROM_REFERENCE
        assert found[0].body == "reference"
        assert np.allclose(found[0].camera_from_body.pose.translation_mm, truth.translation_mm, atol=1e-2)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    made = Case.create(tmp_path / "case", room.TWIN, None, None)
    made.save_plan("plan", Plan("plan", room.TWIN.twin_id, room.SCREWS).to_json())
    made.close()
    pairs = [vars(pair) for pair in room.pairs(np.random.default_rng(4), 0.1)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    body, out = ROOT / "assets/markers/reference.json", tmp_path / "reg.json"
    words = ["register", tmp_path / "case", "--pairs", tmp_path / "pairs.json", "--body", body, "--out", out, "--json"]
    assert CliRunner().invoke(osteotwin.app, [str(word) for word in words]).exit_code == 0
    return tmp_path


def guide(case: Path, source: str, *more: object) -> Any:
    words = ["guide", case / "case", "--source", source, *BODIES, "--registration", case / "reg.json"]
    words += ["--reference", "reference", "--instrument", "drill", "--screw", "L3-left", *more, "--json"]
    return CliRunner().invoke(osteotwin.app, [str(word) for word in words])


def test_a_tracker_guides_and_slicer_sees_it(case: Path) -> None:
    stop, received = threading.Event(), []
    port = free_port()
    with Broadcast(0) as tracker:

        def send() -> None:
            k = 0
            while not stop.wait(0.016):
                k, t_ns = k + 1, time.monotonic_ns()
                there = tracker_from_patient(k)
                tip, body = there @ DRILL, there @ room.PATIENT_FROM_REFERENCE
                away = k % 80 > 60  # somebody stands in the way
                tracker.poses([
                    WirePose("DrillToTracker", t_ns, UncertainRigid(tip, SPREAD), "EXACT"),
                    WirePose("RefToTracker", t_ns, None if away else UncertainRigid(body, SPREAD), "EXACT", "hidden"),
                ])  # fmt: skip

        def look(to: str) -> None:
            with WireSource(read_address(f"igtl://127.0.0.1:{port}?repeat_ms=0&to={to}"), patience_s=60) as slicer:
                for batch in slicer.batches():
                    if stop.is_set():
                        return
                    received.extend(batch)

        threads = [threading.Thread(target=send)]
        threads += [threading.Thread(target=look, args=(to,)) for to in ("Patient", "Tracker")]
        for thread in threads:
            thread.start()
        try:
            address = f"igtl://127.0.0.1:{tracker.port}?tool=Ref:reference&tool=Drill:drill&sd_mm=0.05&sd_deg=0.01"
            done = guide(case, address, "--igtl", port, "--seconds", 4)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    good = [line for line in lines if line["trust"] == "GUIDING"]
    assert len(good) > 20
    assert any(line["trust"] == "STOP" for line in lines)
    off = np.array([[line["deviation"]["L3-left"][key] for key in ("entry_mm", "tip_mm")] for line in good])
    assert np.median(off) < 0.3  # the registration's own error
    assert all(line["camera_from_patient"] is None for line in lines if line["trust"] == "STOP")
    tool = [s for s in received if s.body == "drill" and s.camera_from_body is not None]
    assert len(tool) > 10
    for sighting in tool:
        tip = Points[Any](room.DRILL.tip_mm)
        assert np.linalg.norm((sighting.camera_from_body.pose @ tip).mm * axes.SIGNS - SCREW.entry.mm) < 0.6
    patient = [s for s in received if s.body == "Patient" and s.camera_from_body is not None]
    ras = axes.out(room.CENTRE, "RAS")
    there = (tracker_from_patient(0) @ Points[Patient](room.CENTRE)).mm
    assert np.linalg.norm((patient[0].camera_from_body.pose @ Points[Any](ras)).mm - there) < 4.0  # it breathes
    assert [entry.payload["source"] for entry in Case.open(case / "case").journal.entries()
            if entry.kind == "guidance_started"] == ["tracker"]  # fmt: skip


def test_wrong_use_is_named(case: Path) -> None:
    for more, words in (
        (("--window",), "gives no picture"),
        (("--offscreen", case / "out"), "gives no picture"),
    ):
        done = guide(case, "igtl://127.0.0.1:1", *more)
        assert done.exit_code == 2
        assert words in done.stderr
    done = guide(case, "synthetic:", "--reference-from", "igtl://x", "--hand-eye", case / "reg.json")
    assert done.exit_code == 2
    assert "go together, and with a live camera" in done.stderr
    done = guide(case, "igtl://127.0.0.1:1?tool=Ref:reference")
    assert done.exit_code == 2
    assert "no tool=…:drill" in done.stderr


def test_a_pose_in_ras_has_its_covariance_in_ras() -> None:
    """Against samples: perturb the pose in LPS, send each sample, measure the spread in RAS."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6)) * np.array([0.01] * 3 + [1.0] * 3)[:, None]
    pose = UncertainRigid(Rigid[Any, Any].exp([0.3, 0.2, -0.5], [10.0, 20.0, 30.0]), root @ root.T)
    turned = axes.uncertain_out(pose, "RAS", to_patient=True)
    errors = []
    for _ in range(4000):
        e = root @ rng.normal(size=6)
        true = Rigid[Any, Any](
            Rigid[Any, Any].exp(e[:3]).rotation @ pose.pose.rotation, pose.pose.translation_mm + e[3:]
        )
        sent = Rigid[Any, Any].from_matrix(axes.matrix_out(true.matrix(), "RAS", to_patient=True))
        turn = rotation_log(sent.rotation @ turned.pose.rotation.T)
        errors.append([*turn, *(sent.translation_mm - turned.pose.translation_mm)])
    found = np.cov(np.array(errors).T)
    scale = np.sqrt(np.outer(np.diag(turned.covariance), np.diag(turned.covariance)))
    assert np.abs((found - turned.covariance) / scale).max() < 0.1
