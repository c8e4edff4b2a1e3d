"""The picture as an ideal lens would have taken it: what the overlay is drawn on."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Points
from tracking.calibration.camera_file import require_resolution


@lru_cache(maxsize=4)
def raw_pixels(pinhole: Pinhole) -> NDArray[np.float32]:
    """Where each pixel of the ideal picture lies in the raw one: (h, w, 2), NaN-free, pixel centres at integers."""
    v, u = np.mgrid[0.0 : pinhole.height_px, 0.0 : pinhole.width_px]
    rays = np.stack(
        [(u - pinhole.cx_px) / pinhole.fx_px, (v - pinhole.cy_px) / pinhole.fy_px, np.ones_like(u)], axis=-1
    )
    maps = pinhole.project(Points[Camera](rays)).astype(np.float32)
    maps.flags.writeable = False
    return maps


def undistort(picture: NDArray[np.uint8], pinhole: Pinhole) -> NDArray[np.uint8]:
    """The picture of `pinhole.undistorted()`; black where the raw picture has nothing. Raises WrongResolution."""
    require_resolution(picture, pinhole)
    if pinhole.is_ideal:
        return picture
    maps = raw_pixels(pinhole)
    return np.asarray(cv2.remap(picture, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), dtype=np.uint8)
