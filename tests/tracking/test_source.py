"""Pictures from files, folders and devices; the bad ones give one clear line."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tracking.calibration.board import Board
from tracking.calibration.collect import collect
from tracking.latest import Latest
from tracking.sources.folder import FolderSource
from tracking.sources.source import BadSource, NoVideo, is_live, losses, open_source
from tracking.sources.whole import is_cut_short
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
    with pytest.raises(BadSource, match="gopher:// is unknown"):
        open_source("gopher://host/x")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("colour=red", "colour is unknown"), ("frames=many", "whole numbers"), ("frames=0", "1 to"),
        ("fps=", "no value"), ("frames=2,frames=3", "twice"),
        ("size=1280", "1280x720"), ("size=8x8", "16 to 8192"), ("gamma=0", "0.2 to 5"),
        ("glare=5", "U:V:RADIUS"), ("glare=5:5:0", "radius"), ("noise=nan", "0 to 128"),
        ("path=loop", "sway, still, swing"), ("mjpeg=101", "0 to 100"), ("exposure=-1", "0 to"), ("bend", "no value"),
    ],
)  # fmt: skip
def test_wrong_synthetic_words_are_named(spec: str, words: str) -> None:
    with pytest.raises(BadSynthetic, match=words):
        open_source(f"synthetic:{spec}")


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
    (tmp_path / "b.png").unlink()
    (tmp_path / "a.png").write_bytes(b"BM broken")
    with pytest.raises(NoVideo, match="damaged"):
        list(open_source(str(tmp_path)))


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def with_thumbnail(data: bytes, thumbnail: bytes) -> bytes:
    """A JPEG with a whole one in its header, as cameras write them."""
    return data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.9999])
def test_a_picture_that_ends_early_is_told_from_a_whole_one(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    png = cv2.imencode(".png", noise)[1].tobytes()
    progressive = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]
    for whole in (jpeg(noise), progressive.tobytes(), with_thumbnail(jpeg(noise), jpeg(noise[:8, :8])), png):
        assert not is_cut_short(whole)
        assert not is_cut_short(whole + bytes(100))  # what follows the end does not matter
        part = whole[: int(share * len(whole))]
        assert is_cut_short(part)
        assert is_cut_short(part + bytes(len(whole) - len(part)))  # a file that was set aside and not filled
    assert not is_cut_short(b"")
    assert not is_cut_short(b"BM whatever")


def test_damaged_pictures_of_a_folder_are_left_out_counted_and_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
    for k, picture in enumerate(noise):
        (tmp_path / f"{k}.jpg").write_bytes(jpeg(picture))
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(b"")
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_bytes(b"")
    folder = FolderSource(tmp_path)
    assert folder.size_px == (64, 48)
    assert [frame.index for frame in folder] == [1, 4, 5]
    assert [folder.files[index].name for index in folder.damaged] == ["0.jpg", "2.jpg", "3.jpg"]
    (words,) = losses(folder)
    assert "3 of 6 pictures are damaged and were not used (0.jpg, 3.jpg: empty" in words
    assert "2.jpg: cut short" in words
    looked_at = collect(folder, Board.parse("chessboard:9x6,25")).found  # as calibrations do
    assert [view.name for view in looked_at] == ["1.jpg", "4.jpg", "5.jpg"]
    for k in (1, 4, 5):
        (tmp_path / f"{k}.jpg").write_bytes(whole[:100])
    for look in (lambda: folder.size_px, lambda: list(folder)):
        with pytest.raises(NoVideo, match="no picture can be read: 6 of 6"):
            look()


def test_an_index_gives_a_folder_its_times(tmp_path: Path) -> None:
    for k, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / f"p{k}.png"), picture[..., ::-1])
    rows = [
        {"file": f"p{k}.png", "t_ns": 5_000_000_000 + 16_000_000 * (2 - k), "exposure_ns": 4_000_000} for k in (2, 0)
    ]
    (tmp_path / "index.json").write_text(json.dumps({"frames": rows}))
    with open_source(str(tmp_path)) as folder:
        frames = list(folder)
    assert [f.t_ns for f in frames] == [5_000_000_000, 5_032_000_000]
    assert [f.picture[0, 0, 0] for f in frames] == [40, 0]
    assert [f.exposure_ns for f in frames] == [4_000_000] * 2
    (tmp_path / "index.json").unlink()
    for text, stamps in (
        ("file,t_ms\np0.png,0\np1.png,16.5\n", [0, 16_500_000]),
        ("#timestamp [ns],filename\n1403636579763555584,p1.png\n", [1403636579763555584]),
        ("filename,t_s\np2.png,0.25\n", [250_000_000]),
    ):
        (tmp_path / "index.csv").write_text(text)
        assert [entry.t_ns for entry in FolderSource(tmp_path).entries] == stamps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,when\np0.png,0\n", "needs a column"), ("file,t_ns\nq.png,0\n", "not in this folder"),
        ("file,t_ns\n../p0.png,0\n", "not in this folder"), ("file,t_ns\np0.png,noon\n", "no time"),
        ("file,t_s\np0.png,inf\n", "no time"),
    ],
)  # fmt: skip
def test_a_wrong_index_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pictures").mkdir()
    for folder in (tmp_path, tmp_path / "pictures"):
        cv2.imwrite(str(folder / "p0.png"), pictures(1)[0])
    (tmp_path / "pictures" / "index.csv").write_text(text)
    with pytest.raises(NoVideo, match=words):
        open_source(str(tmp_path / "pictures"))


def test_what_goes_on_by_itself_is_live() -> None:
    assert [is_live(s) for s in ("camera:0", "rtsp://host/a", "HTTP://host/a", "synthetic:", "a.mp4", "C:/a.mp4")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_the_same_picture_again_is_marked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(2)]
    for k, picture in enumerate((noise[0], noise[0], noise[1], noise[0])):
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture)
    with open_source(str(tmp_path)) as folder:
        assert [f.repeated for f in folder] == [False, True, False, False]


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
