"""The lens of a source: its camera file's, or what the source brings itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from commands.console import say
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.calibration.camera_file import Calibrated
    from tracking.frame import FrameSource


def lens(pictures: FrameSource, camera: Path | None) -> Calibrated:
    """The camera file's, or the synthetic source's own; says so where the file does not tell its pictures' size.

    Raises BadCalibration, NoVideo; Misuse without either.
    """
    from tracking.calibration.camera_file import Calibrated, load_calibrated
    from tracking.sources.source import size_px

    if camera is not None:
        known = load_calibrated(camera, size_px(pictures))
        if known.size_assumed:
            say(
                f"{camera}: tells no picture size; taken as {known.pinhole.width_px} x {known.pinhole.height_px}, "
                "as these are. If the calibration's were others, every pose is wrong: add image_width and image_height"
            )
        return known
    own = getattr(pictures, "pinhole", None)
    if own is None:
        raise Misuse("--camera FILE is needed: without a calibration (OpenCV's YAML) there is no pose")
    return Calibrated(own)
