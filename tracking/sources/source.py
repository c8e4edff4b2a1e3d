"""Where pictures come from, by one word: a video file, a folder, a camera, a network stream, a made-up camera."""

from __future__ import annotations

from pathlib import Path

from tracking.frame import Frame, FrameSource
from tracking.sources.camera import CameraSource, camera_source
from tracking.sources.closing import BadSource, CameraSilent, Closing, NoVideo, SizeChanged
from tracking.sources.folder import FolderSource, read_picture
from tracking.sources.live import LiveSource
from tracking.sources.stream import SCHEMES, StreamSource
from tracking.sources.video_file import VideoSource

__all__ = [
    "BadSource", "CameraSilent", "Closing", "Frame", "FrameSource", "NoVideo", "SizeChanged", "open_source",
    "read_picture",
]  # fmt: skip


def is_live(spec: str) -> bool:
    """Whether the source goes on by itself, with stamps of the computer's monotonic clock: a camera, a stream."""
    kind, slashes, _ = spec.partition("://")
    return spec.lower().startswith("camera:") or (bool(slashes) and kind.lower() in SCHEMES)


def notes(source: FrameSource) -> tuple[str, ...]:
    """What was asked of a camera and did not hold, a sentence each."""
    return source.notes if isinstance(source, CameraSource) else ()


def losses(source: FrameSource) -> tuple[str, ...]:
    """What became of a source's pictures, in a sentence, once they were read; nothing where none was lost."""
    if isinstance(source, LiveSource):
        return (f"{source.name}: {source.counts}",)
    if isinstance(source, FolderSource) and source.trouble is not None:
        return (f"{source.name}: {source.trouble}",)
    if isinstance(source, VideoSource) and source.clock_steps:
        return (f"{source.name}: {source.clock_steps} time stamps stood still or fell; counted on from the last",)
    return ()


def pictures_after(source: FrameSource, frame: Frame) -> int | None:
    """How many pictures a recording has after that one; None where it does not tell."""
    if isinstance(source, FolderSource):
        return len(source.entries) - frame.index - 1
    if isinstance(source, VideoSource) and source.announced:
        return max(0, source.announced - frame.index - 1)
    return None


def size_px(source: FrameSource) -> tuple[int, int] | None:
    """Width and height of a recording's pictures; None for others: a camera's mode may change. Raises NoVideo."""
    return source.size_px if isinstance(source, FolderSource | VideoSource) else None


def open_source(spec: str) -> FrameSource:
    """Open a video file, a folder of pictures, `camera:N[,KEY=VALUE…]`, a URL, or `synthetic:KEY=VALUE,…`.

    Raises BadSource, NoVideo, CameraSilent, CameraMode, BadSynthetic.
    """
    kind, _, rest = spec.partition(":")
    kind = kind.lower()
    if kind == "camera":
        return camera_source(rest)
    if kind == "synthetic":
        from tracking.sources.synthetic_source import synthetic_source  # it renders: only loaded when asked for

        return synthetic_source(rest)
    if "://" in spec:
        if kind not in SCHEMES:
            raise BadSource(f"{kind}:// is unknown; known: {', '.join(SCHEMES)}")
        return StreamSource(spec)
    path = Path(spec)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return VideoSource(path)
    raise BadSource(
        "no such video file or folder; a camera is camera:0, a stream rtsp://…, a made-up camera synthetic:", path=path
    )
