"""Where pictures come from: a video file, a folder of pictures, a camera, a synthetic camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault, Misuse
from tracking.frame import Frame, FrameSource
from tracking.latest import Latest

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
FOLDER_FPS = 30.0
SILENT_S = 2.0
__all__ = ["Frame", "FrameSource", "open_source"]


class BadSource(Misuse):
    """A source that is not there or not understood."""


class NoVideo(Fault):
    """A file that is no video, a truncated one, a folder without pictures."""


class CameraSilent(Fault):
    """A camera that can't be opened or stopped giving pictures."""


def open_source(spec: str) -> FrameSource:
    """Open a video file, a folder of pictures, `camera:N` or `synthetic:KEY=VALUE,…`. Raises BadSource, NoVideo."""
    kind, _, rest = spec.partition(":")
    if kind == "camera":
        if not (rest.isascii() and rest.isdigit()):
            raise BadSource(f"{spec}: the camera's number is needed, as camera:0")
        return CameraSource(int(rest))
    if kind == "synthetic":
        from tracking.sources.synthetic_source import SyntheticSource  # it renders: only loaded when asked for

        return SyntheticSource(rest)
    path = Path(spec)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return VideoSource(path)
    raise BadSource("no such video file or folder; a camera is camera:0, a made-up stream synthetic:", path=path)


class Closing:
    """A source for `with`: leaving it closes."""

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class VideoSource(Closing):
    """A video file, decoded by FFmpeg; stamps are the file's own, from its first picture."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises NoVideo."""
        self.path = path
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError, ValueError):
            raise NoVideo("this is not a video, or its index is missing (truncated?)", path=path) from None
        if not self._container.streams.video:
            self._container.close()
            raise NoVideo("the file holds no video stream", path=path)

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def __iter__(self) -> Iterator[Frame]:
        """All pictures once. Raises NoVideo when the file is damaged, ends early or holds no picture."""
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        step_ns = round(1e9 / float(stream.average_rate or FOLDER_FPS))
        index, first_ns, last_ns = 0, 0, -1
        try:
            for picture in self._container.decode(stream):
                t_ns = (
                    index * step_ns if picture.pts is None else round(int(picture.pts) * float(picture.time_base) * 1e9)
                )
                first_ns = t_ns if index == 0 else first_ns
                t_ns = max(t_ns - first_ns, last_ns + 1)  # a file whose stamps stand still or fall still moves on
                last_ns = t_ns
                yield Frame(t_ns, picture.to_ndarray(format="rgb24"), index)
                index += 1
        except av.error.FFmpegError:
            raise NoVideo(
                f"picture {index} can't be decoded; is the file damaged or truncated?", path=self.path
            ) from None
        if index == 0:
            raise NoVideo("the video holds no picture; is the file truncated?", path=self.path)
        announced = int(stream.frames)
        if announced - index > max(1, announced // 50):
            raise NoVideo(f"{index} of {announced} pictures are there; is the file truncated?", path=self.path)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class FolderSource(Closing):
    """The pictures of a folder, sorted by name, as if taken at 30 a second."""

    def __init__(self, path: Path) -> None:
        """List them. Raises NoVideo when there are none."""
        self.path = path
        self.files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        if not self.files:
            raise NoVideo(f"no pictures in this folder ({', '.join(sorted(PICTURES))})", path=path)

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.path)

    def __iter__(self) -> Iterator[Frame]:
        """All pictures; raises NoVideo for one that can't be read or has another size than the first."""
        size: tuple[int, ...] | None = None
        for index, file in enumerate(self.files):
            picture = read_picture(file)
            if size is not None and picture.shape[:2] != size:
                raise NoVideo(
                    f"{picture.shape[1]} x {picture.shape[0]} px, the first picture is {size[1]} x {size[0]}", path=file
                )
            size = picture.shape[:2]
            yield Frame(round(index * 1e9 / FOLDER_FPS), picture, index)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as RGB (h, w, 3). Raises NoVideo."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise NoVideo("this picture can't be read; is it damaged?", path=path)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


class CameraSource(Closing):
    """A live camera in its own thread; the reader always gets the newest picture.

    `lost` counts those that the reader was too slow for. Stamps are monotonic, taken when the driver hands the
    picture over (its own stamp where that is monotonic too).
    """

    def __init__(self, number: int) -> None:
        """Open the device and start its thread. Raises CameraSilent."""
        self.number = number
        self._capture: Any = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraSilent(
                f"camera {number} can't be opened; is it plugged in, free and permitted? (osteotwin doctor)"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._slot: Latest[Frame] = Latest()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera:{number}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"camera:{self.number}"

    @property
    def lost(self) -> int:
        """Pictures that came while the reader was busy."""
        return self._slot.overwritten

    def __iter__(self) -> Iterator[Frame]:
        """The newest picture each time, until closed. Raises CameraSilent after two seconds without one."""
        while not self._stop.is_set():
            frame = self._slot.take(SILENT_S)
            if frame is not None:
                yield frame
            elif not self._stop.is_set():
                raise CameraSilent(f"camera {self.number} gave no picture for {SILENT_S:g} s; was it unplugged?")

    def close(self) -> None:
        """Stop the thread and free the device."""
        self._stop.set()
        self._slot.close()
        self._thread.join(timeout=SILENT_S)

    def _run(self) -> None:
        index = 0
        try:
            while not self._stop.is_set():
                good = self._capture.grab()
                t_ns = time.monotonic_ns()
                if good:
                    good, picture = self._capture.retrieve()
                if not good:
                    break
                driver_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if 0 < t_ns - driver_ns < 1_000_000_000:  # V4L2 stamps with the same clock, nearer to the shutter
                    t_ns = driver_ns
                self._slot.put(Frame(t_ns, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8), index))
                index += 1
        finally:  # whatever ended it, the reader must not wait for nothing and the device must be free
            self._capture.release()
            self._slot.close()
