"""Write an MP4 that every browser plays: H.264, yuv420p, through PyAV (OpenCV's wheel can't write it)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault


class VideoNotWritten(Fault):
    """No frames, frames that differ in size, or no encoder."""


def write_mp4(path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: float, *, crf: int = 20) -> int:
    """Encode RGB (h, w, 3) or grey (h, w) frames; returns how many. The file appears only when complete.

    An odd width or height is padded by one repeated row or column (yuv420p halves the chroma).
    """
    import av

    file = Path(path)
    part = file.with_name(f".{file.name}.part")
    count = 0
    size: tuple[int, int] | None = None
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": str(crf), "preset": "veryfast"}
            for picture in frames:
                rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
                if size is None:
                    size = (rgb.shape[1], rgb.shape[0])
                    stream.width, stream.height = size[0] + size[0] % 2, size[1] + size[1] % 2
                elif size != (rgb.shape[1], rgb.shape[0]):
                    raise VideoNotWritten(
                        f"frame {count} is {rgb.shape[1]} x {rgb.shape[0]} px, the first {size[0]} x {size[1]}",
                        path=file,
                    )
                even = np.pad(rgb, ((0, size[1] % 2), (0, size[0] % 2), (0, 0)), mode="edge")
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
                count += 1
            if not count:
                raise VideoNotWritten("there are no frames to write", path=file)
            for packet in stream.encode():
                container.mux(packet)
    except (av.error.FFmpegError, OSError) as error:
        part.unlink(missing_ok=True)
        raise VideoNotWritten(f"the encoder failed: {error}", path=file) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, file)
    return count
