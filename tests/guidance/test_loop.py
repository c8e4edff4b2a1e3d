"""The loop on rendered pictures, its recording, live sources that stall, the diary."""

import json
import threading
import time
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from guidance.diary import Diary
from guidance.live import newest
from guidance.loop import Guided, guide
from guidance.record import NotEmpty, Recorder
from guidance.session import Tick, Trust, step
from guidance.stages import Stages
from spatial.rigid import Points
from tests.guidance import theatre as room
from tests.guidance.theatre import DRILL, REFERENCE, SCREWS, SMALL, STEP_NS, TWIN, camera_at, drill_at, seen_at, state
from tracking.calibration.camera_file import Calibrated, WrongResolution
from tracking.frame import Frame, Stopped
from tracking.synthetic.camera import SyntheticCamera
from tracking.undistort import undistort

HIDDEN = range(3, 8)


class Shots:
    """Nine frames of a moving camera; the reference is covered in five of them."""

    name = "rendered"

    def __init__(self):
        camera = SyntheticCamera(SMALL, (REFERENCE, DRILL), seed=3)
        self.path = [camera_at(0.01 * k, 560.0, 25.0) for k in range(9)]
        screw = SCREWS["L3-left"]
        self.drill = drill_at(screw.entry.mm - 25 * screw.axis.direction + [0, 0, 1.0], screw.axis.direction)
        self.frames = []
        for k, pose in enumerate(self.path):
            bodies = {"drill": self.drill} | ({} if k in HIDDEN else {"reference": room.PATIENT_FROM_REFERENCE})
            self.frames.append(camera.shoot(k, pose, bodies).frame)

    def __iter__(self):
        return iter(self.frames)


@pytest.fixture(scope="module")
def shots():
    return Shots()


@pytest.fixture(scope="module")
def guided(shots):
    stages = Stages()
    first = state(instrument=DRILL, screw="L3-left")
    return list(guide(shots, SMALL, first, TWIN, stages=stages)), stages


def test_each_frame_is_answered_for_its_own_instant(shots, guided):
    frames, stages = guided
    how = [one.readout.how for one in frames]
    assert how == ["EXACT"] * 3 + ["PREDICTED"] * 3 + ["STALE"] * 2 + ["EXACT"]
    target = Points(SCREWS["L3-left"].tip.mm)
    for one, true in zip(frames, shots.path, strict=True):
        if one.readout.camera_from_patient is not None:
            off = (one.readout.camera_from_patient.pose @ target).mm - (true @ target).mm
            assert np.linalg.norm(off) <= max(one.readout.tre95_mm, 0.5)
        if one.readout.how == "EXACT":
            tip = one.readout.tip.mm - (shots.drill @ Points(DRILL.tip_mm)).mm
            assert np.linalg.norm(tip) <= 1.5 * one.readout.tip95_mm
            off = one.readout.deviation["L3-left"]
            assert off.entry_mm == pytest.approx(1.0, abs=1.0)
            assert off.depth_mm == pytest.approx(-65.0, abs=1.5)
    assert set(stages.summary()) == {"track", "step", "undistort", "compose", "draw"}


def test_the_line_of_a_frame_is_the_contracts(guided):
    line = json.loads(json.dumps(guided[0][0].to_json(), allow_nan=False))
    assert {"frame", "t_ns", "trust", "how", "camera_from_patient", "deviation", "tre95_mm", "stages_ms"} <= set(line)
    assert {"entry_mm", "tip_mm", "angle_deg", "depth_mm"} <= set(line["deviation"]["L3-left"])
    stale = guided[0][6].to_json()
    assert stale["camera_from_patient"] is None
    assert stale["tre95_mm"] is None
    assert stale["deviation"] == {}


def test_stale_pictures_hold_no_bone(shots, guided):
    frames = guided[0]
    plain = undistort(frames[6].frame.picture, SMALL)
    words = np.abs(frames[6].picture.astype(int) - plain).max(axis=2) > 60
    rows, _ = np.nonzero(words)
    assert len(rows)
    assert rows.min() > SMALL.height_px // 4  # only the word in the middle differs, nothing over the whole picture
    assert np.ptp(rows) < SMALL.height_px // 2


def test_recording_is_whole_or_not_there(guided, tmp_path):
    folder = tmp_path / "out"
    recorder = Recorder(folder)
    for one in guided[0]:
        recorder.add(one)
    assert not folder.exists()
    assert recorder.finish() == 9
    assert sorted(p.name for p in folder.iterdir()) == [
        "guidance.mp4", *(f"overlay_{k:04d}.png" for k in range(9)), "poses.jsonl", "readouts.jsonl",
    ]  # fmt: skip
    with av.open(str(folder / "guidance.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 9
    assert np.array_equal(np.asarray(Image.open(folder / "overlay_0000.png")), guided[0][0].picture)
    assert len((folder / "readouts.jsonl").read_text().splitlines()) == 9
    poses = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]
    assert [line["how"] for line in poses if line["body"] == "drill"] == ["EXACT"] * 9
    reference = [line for line in poses if line["body"] == "reference"]
    assert [line["how"] for line in reference] == [one.readout.how for one in guided[0]]
    for line in reference:
        hidden = line["frame"] in HIDDEN
        assert (line["camera_from_body"] is None) == hidden  # raw: what this very picture said
        assert (line["filtered"] is None) == (line["how"] == "STALE")
        assert (line["cause"] is not None) == hidden
    Recorder(folder).abort()
    assert (folder / "guidance.mp4").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(NotEmpty):
        Recorder(tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_wrong_resolution_is_refused(shots):
    with pytest.raises(WrongResolution, match="640 x 360"):
        list(guide(shots, room.LENS, state(), TWIN, draw=False))


class Stalling:
    """A camera that gives three frames, then nothing until it is closed."""

    name = "camera:7"

    def __init__(self, frames, error=None):
        self.frames, self.error, self.closed = frames, error, threading.Event()

    def __iter__(self):
        for frame in self.frames:
            yield replace(frame, t_ns=time.monotonic_ns())
            time.sleep(0.05)
        if self.error:
            raise self.error
        self.closed.wait(5)


def test_a_live_source_that_stalls_is_drawn_stale(shots):
    source, told = Stalling(shots.frames[:3]), []
    for one in guide(source, SMALL, state(), TWIN, draw=False, clock=time.monotonic_ns):
        told.append((one.is_new, one.readout.trust))
        if told[-1] == (False, Trust.STOP):
            assert one.readout.how == "STALE"
            assert one.readout.camera_from_patient is None
            assert "old" in one.readout.reason
            source.closed.set()
    assert told[-1] == (False, Trust.STOP)
    assert (True, Trust.STOP) not in told


class Unplugged(Stalling):
    """The same, and it says what it thinks has happened."""

    def events(self, patience_s=0.25):
        for frame in self.frames:
            yield replace(frame, t_ns=time.monotonic_ns())
            time.sleep(0.05)
        for _ in range(20):
            time.sleep(patience_s)
            now = time.monotonic_ns()
            yield Stopped(now, now - 10**8, "camera:7 stopped giving pictures; was it unplugged?")


def test_a_camera_that_stopped_says_why(shots):
    last = None
    for one in guide(Unplugged(shots.frames[:3]), SMALL, state(), TWIN, draw=False, clock=time.monotonic_ns):
        last = one
        if one.readout.trust == Trust.STOP:
            break
    assert last is not None
    assert last.readout.cause == "camera stopped"
    assert "was it unplugged?" in last.readout.reason
    assert last.sightings == ()
    back = step(last.state, room.Sighting("reference", 0, "LOST", "?", None, None))
    assert back.stopped is None


def test_a_lens_that_is_hardly_known_widens_the_error(shots):
    known = Calibrated(SMALL, ("fx", "fy"), np.diag([25.0, 25.0]))
    sure, unsure = (list(guide(shots, lens, state(), TWIN, draw=False))[-1].readout for lens in (SMALL, known))
    assert unsure.tre95_mm > 1.2 * sure.tre95_mm


def test_a_live_sources_failure_reaches_the_reader(shots):
    with pytest.raises(RuntimeError, match="unplugged"):
        list(newest(Stalling(shots.frames[:2], RuntimeError("unplugged"))))


def frame_of(state_now, index, picture):
    return Guided(Frame(index * STEP_NS, picture, index), state_now, state_now.readout, None, {})


def test_the_diary_writes_changes_not_frames():
    picture, diary, entries = np.zeros((2, 2), np.uint8), Diary(), []
    good = bad = None
    for k in range(300):  # ten seconds; the reference flickers every third frame, from the fifth second it stays
        t_ns = k * STEP_NS
        good = seen_at(state(), t_ns, camera_at())
        bad = step(state(), Tick(t_ns))
        diary, entry = diary.after(frame_of(bad if k < 150 and k % 3 == 2 else good, k, picture))
        if entry:
            entries.append(entry)
    assert len(entries) <= 7
    assert entries[0]["trust"] == "GUIDING"
    assert entries[-1]["trust"] == "GUIDING"
    assert sum(entry["changes"] for entry in entries) + diary.changes == 101
    assert diary.frames == {"GUIDING": 250, "STOP": 50}
    assert diary.reference_seen == 250
