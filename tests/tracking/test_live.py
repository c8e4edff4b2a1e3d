"""Live cameras and network streams: newest picture, losses counted, found again when unplugged, settings read back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tracking.frame import Frame, Stopped
from tracking.sources.camera import CameraSource, camera_source
from tracking.sources.capture import CameraMode, Wish
from tracking.sources.clock import DeviceClock
from tracking.sources.closing import BadSource, CameraSilent, SizeChanged
from tracking.sources.live import LiveSource, Shutter
from tracking.sources.stream import StreamSource, hidden
from tracking.sources.watch import watch
from tracking.video import write_mp4

MS = 1_000_000


class Webcam:
    """A driver of 200 pictures a second, as OpenCV shows it; what it refuses to change stays as it is."""

    def __init__(self, pictures: int = 10**9, *, stubborn: tuple[int, ...] = (), plugged: bool = True) -> None:
        self.left, self.stubborn, self.plugged, self.released = pictures, stubborn, plugged, False
        self.values = {
            cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_AUTOFOCUS: 1.0, cv2.CAP_PROP_AUTO_EXPOSURE: 3.0, cv2.CAP_PROP_EXPOSURE: 156.0,
        }  # fmt: skip
        self.driver_ms: Callable[[], float] = lambda: 0.0
        self.frozen = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.plugged

    def set(self, prop: int, value: float) -> bool:
        if prop not in self.stubborn:
            self.values[prop] = value
        return True  # a driver says yes to everything

    def get(self, prop: int) -> float:
        return self.driver_ms() if prop == cv2.CAP_PROP_POS_MSEC else self.values.get(prop, -1.0)

    def grab(self) -> bool:
        time.sleep(0.005)
        self.left -= not self.frozen
        return self.left >= 0

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        height, width = int(self.values[cv2.CAP_PROP_FRAME_HEIGHT]), int(self.values[cv2.CAP_PROP_FRAME_WIDTH])
        return True, np.full((height, width, 3), (255, 0, self.left % 251), dtype=np.uint8)

    def release(self) -> None:
        self.released = True


class Plug:
    """What `cv2.VideoCapture` is to a socket that cameras are plugged into one after another."""

    def __init__(self, *cameras: Webcam) -> None:
        self.cameras = list(cameras)
        self.backends: list[int] = []

    def __call__(self, number: int, backend: int) -> Any:
        self.backends.append(backend)
        return self.cameras.pop(0) if self.cameras else Webcam(plugged=False)


def first(source: LiveSource) -> Frame:
    return next(iter(source))


def test_the_newest_picture_and_the_losses_counted() -> None:
    with CameraSource(0, capture=Plug(Webcam(40)), give_up_s=0.0) as camera:
        seen: list[Frame] = []

        def watch_slowly() -> None:
            for frame in camera:
                seen.append(frame)
                time.sleep(0.02)

        with pytest.raises(CameraSilent, match="unplugged"):
            watch_slowly()
    stamps = [f.t_ns for f in seen]
    assert stamps == sorted(stamps)
    assert seen[0].picture[0, 0, 2] == 255  # RGB
    assert camera.lost > 0
    assert camera.lost + len(seen) == camera.counts.received == 40
    assert [f.index for f in seen] == sorted({f.index for f in seen})


def test_an_unplugged_camera_is_said_to_be_stopped_and_found_again() -> None:
    second = Webcam()
    plug = Plug(Webcam(10), Webcam(plugged=False), second)
    with CameraSource(0, capture=plug, give_up_s=5.0) as camera:
        events = []
        for event in watch(camera, 0.05):
            events.append(event)
            if camera.counts.reconnected and isinstance(event, Frame):
                break
    stops = [e for e in events if isinstance(e, Stopped)]
    assert stops
    assert "unplugged" in stops[0].reason
    assert all(s.t_ns > s.since_ns for s in stops)
    frames = [e for e in events if isinstance(e, Frame)]
    assert frames[-1].index > frames[-2].index
    assert camera.counts.reconnected == 1
    assert second.released


def test_a_frozen_camera_repeats_nothing() -> None:
    webcam = Webcam()
    with CameraSource(0, capture=Plug(webcam), give_up_s=0.0) as camera:
        first(camera)
        webcam.frozen = True
        reasons = []
        for event in watch(camera, 0.05):
            if isinstance(event, Stopped):
                reasons.append(event.reason)
                webcam.frozen = False
            elif reasons:
                break
        assert "repeats the same picture" in reasons[0]
        assert camera.counts.repeated > 0


def test_a_camera_that_cannot_be_opened() -> None:
    with pytest.raises(CameraSilent, match="camera 3 can"):
        CameraSource(3, capture=Plug())


def test_closing_ends_the_reader_at_once() -> None:
    webcam = Webcam()
    camera = CameraSource(0, capture=Plug(webcam))
    threading.Timer(0.05, camera.close).start()
    start = time.monotonic()
    assert sum(1 for _ in camera) > 0
    assert time.monotonic() - start < 5
    camera.close()
    assert webcam.released


def test_settings_are_asked_for_and_read_back() -> None:
    wish = Wish(size=(128, 96), fps=60, fourcc="MJPG", exposure_ms=8.0, gain=4.0, focus=30.0, backend="v4l2")
    plug = Plug(Webcam())
    with CameraSource(0, wish, plug) as camera:
        assert plug.backends == [cv2.CAP_V4L2]
        mode = camera.mode
        assert (mode.width_px, mode.height_px, mode.fps, mode.fourcc) == (128, 96, 60.0, "MJPG")
        assert mode.exposure_ns == 8 * MS
        assert mode.locked == ("exposure", "gain", "focus")
        assert camera.notes == ()
        assert first(camera).exposure_ns == 8 * MS
        assert "exposure 8.00 ms" in str(mode)


def test_a_driver_that_only_says_yes_is_caught() -> None:
    stubborn = (cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTOFOCUS, cv2.CAP_PROP_FPS, cv2.CAP_PROP_GAIN)
    wish = Wish(fps=60, exposure_ms=8.0, gain=4.0, backend="v4l2")
    with CameraSource(0, wish, Plug(Webcam(stubborn=stubborn))) as camera:
        notes = " ".join(camera.notes)
        assert camera.mode.locked == ()
        assert camera.mode.exposure_ns == 0
        for words in ("exposure could not be locked", "autofocus", "60 pictures a second", "gain could not"):
            assert words in notes
    size = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    webcam = Webcam(stubborn=size)
    with pytest.raises(CameraMode, match="64 x 48 px, 1920 x 1080 was asked for"):
        CameraSource(0, Wish(size=(1920, 1080)), Plug(webcam))
    assert webcam.released


def test_directshow_counts_exposure_in_powers_of_two() -> None:
    with CameraSource(0, Wish(exposure_ms=8.0, backend="dshow"), Plug(Webcam())) as camera:
        assert camera.mode.exposure_ns == round(2**-7 * 1e9)


def test_pictures_of_another_size_are_refused_on_the_way() -> None:
    webcam = Webcam()
    with CameraSource(0, capture=Plug(webcam)) as camera:
        first(camera)
        webcam.values[cv2.CAP_PROP_FRAME_WIDTH] = 32.0
        with pytest.raises(SizeChanged, match="32 x 48 px, it gave 64 x 48"):
            list(camera)


def test_a_drivers_stamp_counts_where_it_is_monotonic() -> None:
    """V4L2 stamps when the first row leaves the sensor: half an exposure before, half a readout after is the middle."""
    wish = Wish(exposure_ms=8.0, readout_ms=20.0, backend="v4l2")
    webcam = Webcam()
    webcam.driver_ms = lambda: time.monotonic() * 1e3 - 30.0
    with CameraSource(0, wish, Plug(webcam)) as camera:
        frame = first(camera)
    late_ms = (time.monotonic_ns() - frame.t_ns) / MS
    assert frame.readout_ns == 20 * MS
    assert 30 + 4 - 10 <= late_ms < 30 + 4 - 10 + 900
    wall = Webcam()
    wall.driver_ms = lambda: time.time() * 1e3  # the wall's clock is not ours
    with CameraSource(0, wish, Plug(wall)) as camera:
        frame = first(camera)
    assert 0 < time.monotonic_ns() - frame.t_ns < 5_000 * MS


@pytest.mark.parametrize(
    "words",
    ["front", "", "0,size=big", "0,fps=-3", "0,exposure=long", "0,colour=red", "0,fps=30,fps=60", "0,fourcc=MJPEG"],
)
def test_wrong_camera_words_are_named(words: str) -> None:
    with pytest.raises(BadSource):
        camera_source(words)


class Scripted:
    """A feed whose stamps are given; ends after the last."""

    def __init__(self, stamps_ms: list[float], wait_s: float = 0.002) -> None:
        self.stamps, self.wait_s, self.clock_steps = stamps_ms, wait_s, 0
        self.count = 0

    def read(self) -> Shutter | None:
        time.sleep(self.wait_s)
        if self.count == len(self.stamps):
            return None
        self.count += 1
        picture = np.full((4, 4), self.count % 256, dtype=np.uint8)
        return Shutter(round(self.stamps[self.count - 1] * MS), picture)

    def close(self) -> None:
        return None


def test_gaps_and_belated_pictures_are_counted() -> None:
    regular = [10.0 * k for k in range(40)]
    stamps = [*regular, 420.0, 430.0, 425.0, 440.0]  # three missing (400, 410 make 30 ms), one belated
    feeds = [Scripted(stamps)]

    def connect() -> Scripted:
        if not feeds:
            raise CameraSilent("gone")
        return feeds.pop()

    with LiveSource("scripted", connect, give_up_s=0.0) as source:
        seen: list[Frame] = []
        with pytest.raises(CameraSilent, match="did not come back"):
            seen.extend(source)
        counts = source.counts
    assert (counts.received, counts.missed, counts.belated) == (44, 2, 1)
    assert str(replace(counts, overwritten=0)) == "44 pictures came, 2 missing, 1 out of order"
    assert all(b.t_ns > a.t_ns for a, b in pairwise(seen))
    assert seen[-1].index == 44 + 2 - 1


def test_a_senders_clock_is_laid_on_ours_and_its_jumps_are_noticed() -> None:
    rng = np.random.default_rng(1)
    clock = DeviceClock()
    true_ns = [k * 20 * MS for k in range(400)]
    delays = rng.exponential(8.0, 400) * MS + 3 * MS
    errors = []
    for k, t in enumerate(true_ns):
        stamp = t + (0 if k < 200 else -5_000 * MS)  # five seconds back in the middle
        taken = clock.monotonic_ns(stamp, round(t + delays[k]))
        errors.append((taken - t) / MS)
    assert clock.steps == 1
    assert 3 <= np.median(errors[50:200]) < 3.6  # the least delay stays
    assert 3 <= np.median(errors[250:]) < 3.6
    assert clock.monotonic_ns(true_ns[-1] + 60_000 * MS, true_ns[-1] + 30 * MS) == true_ns[-1] + 30 * MS
    assert clock.steps == 2


def test_a_stall_is_no_jump() -> None:
    clock = DeviceClock()
    for k in range(50):
        clock.monotonic_ns(k * 20 * MS, k * 20 * MS + 5 * MS)
    assert clock.monotonic_ns(50 * 20 * MS, 50 * 20 * MS + 3_000 * MS) == pytest.approx(50 * 20 * MS + 5 * MS, abs=MS)
    assert clock.steps == 0


@pytest.fixture
def mjpeg() -> Iterator[tuple[str, threading.Event]]:
    """A Motion JPEG camera on the loopback; the event makes it hang up."""
    hang_up = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            k = 0
            try:
                while not hang_up.is_set():
                    picture = np.full((48, 64, 3), 40, dtype=np.uint8)
                    picture[:, : k % 60] = 200
                    data = cv2.imencode(".jpg", picture)[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    k += 1
                    time.sleep(0.02)
            except OSError:
                pass  # the reader has gone

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/video", hang_up
    hang_up.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_network_camera_is_read_and_found_again(mjpeg: tuple[str, threading.Event]) -> None:
    url, hang_up = mjpeg
    with StreamSource(url, timeout_s=2.0, give_up_s=5.0) as stream:
        frames, stopped = [], 0
        for event in watch(stream, 0.05):
            if isinstance(event, Stopped):
                stopped += 1
                hang_up.clear()
                continue
            frames.append(event)
            if len(frames) == 10:
                hang_up.set()
            if len(frames) == 20:
                break
        counts = stream.counts
    assert stopped > 0
    assert counts.reconnected == 1
    assert frames[0].picture.shape == (48, 64, 3)
    assert all(b.t_ns > a.t_ns and b.index > a.index for a, b in pairwise(frames))
    assert abs(time.monotonic_ns() - frames[-1].t_ns) < 3_000 * MS


def test_a_udp_stream_keeps_the_senders_intervals() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = threading.Event()

    def send() -> None:
        with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as out:
            stream = out.add_stream("mpeg2video", rate=50)
            stream.width, stream.height, stream.gop_size = 64, 48, 5
            k = 0
            while not done.is_set():
                picture = np.full((48, 64, 3), 40, dtype=np.uint8)
                picture[:, : 4 + k % 60] = 200
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    out.mux(packet)
                k += 1
                time.sleep(0.02)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with StreamSource(f"udp://127.0.0.1:{port}", timeout_s=5.0, give_up_s=0.0) as stream:
            frames = [frame for frame, _ in zip(stream, range(25), strict=False)]
            steps = stream.counts.clock_steps
    finally:
        done.set()
        sender.join()
    gaps = np.diff([f.t_ns for f in frames[5:]]) / np.diff([f.index for f in frames[5:]]) / MS
    assert frames[0].picture.shape == (48, 64, 3)
    assert np.median(gaps) == pytest.approx(20.0, abs=1.0)
    assert steps == 0


def test_a_file_behind_an_address_is_no_stream(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", [np.full((48, 64, 3), 20 * k, dtype=np.uint8) for k in range(10)], 25.0)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pytest.raises(BadSource, match="no stream"):
            StreamSource(f"http://127.0.0.1:{server.server_port}/a.mp4", timeout_s=2.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_nobody_at_the_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(CameraSilent, match="can't be opened within 1 s"):
        StreamSource(f"http://127.0.0.1:{port}/video", timeout_s=1.0)


def test_a_password_is_not_shown() -> None:
    assert hidden("rtsp://me:secret@host:554/a") == "rtsp://…@host:554/a"
    assert hidden("udp://127.0.0.1:5000") == "udp://127.0.0.1:5000"
