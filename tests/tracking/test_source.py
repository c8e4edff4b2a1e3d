"""Pictures from files, folders and devices; the bad ones give one clear line."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tracking.frame import Frame
from tracking.latest import Latest
from tracking.sources import source
from tracking.sources.source import BadSource, CameraSilent, NoVideo, open_source
from tracking.synthetic.camera import BadSynthetic
from tracking.video import VideoNotWritten, write_mp4


def pictures(count: int, width: int = 96, height: int = 64) -> list[NDArray[np.uint8]]:
    return [np.full((height, width, 3), (20 * k, 100, 250 - 20 * k), dtype=np.uint8) for k in range(count)]


def test_mp4_round_trip_keeps_stamps_colours_and_size(tmp_path: Path) -> None:
    assert write_mp4(tmp_path / "a.mp4", pictures(10), 25.0) == 10
    with open_source(str(tmp_path / "a.mp4")) as video:
        frames = list(video)
    assert [f.index for f in frames] == list(range(10))
    assert [f.t_ns for f in frames] == [round(k * 40e6) for k in range(10)]
    assert all(np.abs(f.picture.astype(int) - p).max() < 12 for f, p in zip(frames, pictures(10), strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_odd_sizes_are_padded_and_mixed_sizes_refused(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", pictures(2, 95, 63), 30.0)
    with open_source(str(tmp_path / "a.mp4")) as video:
        assert next(iter(video)).picture.shape == (64, 96, 3)
    with pytest.raises(VideoNotWritten, match="frame 1 is 50 x 40"):
        write_mp4(tmp_path / "b.mp4", [*pictures(1), *pictures(1, 50, 40)], 30.0)
    with pytest.raises(VideoNotWritten, match="no frames"):
        write_mp4(tmp_path / "b.mp4", [], 30.0)
    with pytest.raises(VideoNotWritten):
        write_mp4(tmp_path / "absent" / "b.mp4", pictures(1), 30.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_folder_is_read_in_order_of_names_at_thirty_a_second(tmp_path: Path) -> None:
    for k, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / f"p{2 - k}.png"), picture[..., ::-1])
    (tmp_path / "notes.txt").write_text("no picture")
    with open_source(str(tmp_path)) as folder:
        frames = list(folder)
    assert [f.picture[0, 0, 0] for f in frames] == [40, 20, 0]
    assert [f.t_ns for f in frames] == [0, 33333333, 66666667]


def test_bad_files_and_folders(tmp_path: Path) -> None:
    text = tmp_path / "a.avi"
    text.write_text("this is no video")
    with pytest.raises(NoVideo, match="not a video"):
        open_source(str(text))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoVideo, match="no pictures"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(BadSource):
        open_source(str(tmp_path / "absent.mp4"))
    with pytest.raises(BadSource, match="camera:0"):
        open_source("camera:front")
    with pytest.raises(BadSynthetic, match="colour is unknown"):
        open_source("synthetic:colour=red")
    with pytest.raises(BadSynthetic, match="numbers"):
        open_source("synthetic:frames=many")


def test_truncated_videos_say_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(30)]
    write_mp4(tmp_path / "a.mp4", noise, 30.0)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NoVideo, match="truncated"), open_source(str(tmp_path / "a.mp4")) as video:
        list(video)


def test_a_damaged_picture_and_a_wrong_size_are_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pictures(1)[0])
    cv2.imwrite(str(tmp_path / "b.png"), pictures(1, 50, 40)[0])
    with pytest.raises(NoVideo, match="50 x 40 px, the first picture is 96 x 64") as caught:
        list(open_source(str(tmp_path)))
    assert caught.value.path == tmp_path / "b.png"
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(NoVideo, match="damaged"):
        list(open_source(str(tmp_path)))


class FakeCapture:
    """A camera of 200 pictures a second that is unplugged after `count`."""

    def __init__(self, count: int) -> None:
        self.left = count

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.left > 0

    def set(self, *_: Any) -> bool:
        return True

    def get(self, *_: Any) -> float:
        return 0.0

    def grab(self) -> bool:
        time.sleep(0.005)
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        return True, np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)

    def release(self) -> None:
        return None


def test_a_camera_gives_the_newest_picture_counts_losses_and_notices_unplugging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cv2.VideoCapture", lambda _: FakeCapture(40))
    monkeypatch.setattr(source, "SILENT_S", 0.2)
    seen: list[Frame] = []

    def watch() -> None:
        for frame in camera:
            seen.append(frame)
            time.sleep(0.02)

    with source.CameraSource(0) as camera, pytest.raises(CameraSilent, match="unplugged"):
        watch()
    stamps = [f.t_ns for f in seen]
    assert stamps == sorted(stamps)
    assert seen[0].picture[0, 0].tolist() == [0, 0, 255]  # RGB
    assert camera.lost > 0
    assert camera.lost + len(seen) == 40


def test_a_camera_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoCapture", lambda _: FakeCapture(0))
    with pytest.raises(CameraSilent, match="plugged in"):
        open_source("camera:3")


def test_the_mailbox_counts_what_it_overwrites() -> None:
    box: Latest[int] = Latest()
    for k in range(5):
        box.put(k)
    assert (box.take(0.1), box.take(0.01)) == (4, None)
    assert (box.received, box.overwritten) == (5, 4)
    writer = threading.Timer(0.02, box.put, [9])
    writer.start()
    assert box.take(2.0) == 9
    box.put(10)
    box.close()
    box.put(11)
    assert (box.take(), box.take(), box.closed) == (10, None, True)
