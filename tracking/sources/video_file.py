"""A video file as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tracking.frame import Frame
from tracking.sources.closing import Closing, NoVideo, SizeChanged
from tracking.sources.repeats import same_picture

FPS = 30.0  # of a file that does not say


class VideoSource(Closing):
    """A video file, decoded by FFmpeg; stamps are the file's own, from its first picture.

    `clock_steps` counts stamps that stood still or fell: such a picture is put one picture's time after the last.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raises NoVideo."""
        self.path = path
        self.clock_steps = 0
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

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        stream = self._container.streams.video[0]
        return stream.width, stream.height

    @property
    def announced(self) -> int:
        """How many pictures the file says that it has; 0: it does not say."""
        return int(self._container.streams.video[0].frames)

    def __iter__(self) -> Iterator[Frame]:
        """All pictures once. Raises NoVideo when the file is damaged, ends early or holds no picture; SizeChanged."""
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        step_ns = round(1e9 / float(stream.average_rate or FPS))
        index, stamp_ns, t_ns = 0, 0, -step_ns
        earlier: NDArray[np.uint8] | None = None
        try:
            for decoded in self._container.decode(stream):
                before_ns = stamp_ns
                stamp_ns = (
                    index * step_ns if decoded.pts is None else round(int(decoded.pts) * float(decoded.time_base) * 1e9)
                )
                if index and stamp_ns <= before_ns:
                    self.clock_steps += 1
                t_ns += stamp_ns - before_ns if index and stamp_ns > before_ns else step_ns
                picture = decoded.to_ndarray(format="rgb24")
                if earlier is not None and picture.shape != earlier.shape:
                    raise SizeChanged(_sizes(index, picture, earlier), path=self.path)
                yield Frame(t_ns, picture, index, repeated=same_picture(picture, earlier))
                earlier = picture
                index += 1
        except av.error.FFmpegError:
            raise NoVideo(
                f"picture {index} can't be decoded; is the file damaged or truncated?", path=self.path
            ) from None
        if index == 0:
            raise NoVideo("the video holds no picture; is the file truncated?", path=self.path)
        if self.announced - index > max(1, self.announced // 50):
            raise NoVideo(f"{index} of {self.announced} pictures are there; is the file truncated?", path=self.path)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _sizes(index: int, picture: NDArray[np.uint8], earlier: NDArray[np.uint8]) -> str:
    return (
        f"picture {index} is {picture.shape[1]} x {picture.shape[0]} px, those before are "
        f"{earlier.shape[1]} x {earlier.shape[0]}; are two recordings joined here?"
    )
