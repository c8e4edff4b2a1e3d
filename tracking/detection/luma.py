"""The grey of a colour picture, made only where it is looked at: a whole 1080p picture costs more than the tracking."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MOST = 0.5  # of the picture: a larger part is not worth being treated apart


class Luma:
    """Grey (h, w) of an RGB (h, w, 3) or grey picture; `store` is an earlier one's memory to use again."""

    def __init__(self, picture: NDArray[np.uint8], store: NDArray[np.uint8] | None = None) -> None:
        """Convert nothing yet."""
        self._picture = (
            picture if picture.ndim == 2 or picture.shape[2] == 3 else np.ascontiguousarray(picture[..., :3])
        )
        height, width = picture.shape[:2]
        self._box = (0, 0, 0, 0)  # left, top, right, bottom of what is grey already
        if picture.ndim == 2:
            # the kernels are compiled for arrays that could be written
            self._grey = np.require(picture, np.uint8, ("C", "W"))
            self._box = (0, 0, width, height)
        elif store is not None and store.shape == (height, width):
            self._grey = store
        else:
            self._grey = np.empty((height, width), dtype=np.uint8)

    @property
    def store(self) -> NDArray[np.uint8] | None:
        """Memory for the next picture; None where it is the picture's own."""
        return None if self._picture.ndim == 2 else self._grey

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return self._grey.shape

    def whole(self) -> NDArray[np.uint8]:
        """All of it."""
        height, width = self._grey.shape
        return self.near(0, 0, width, height)

    def near(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
        """The picture (h, w), grey at least within a box; elsewhere it may be an earlier picture's."""
        height, width = self._grey.shape
        a, b, c, d = self._box
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if a <= left and b <= top and right <= c and bottom <= d:
            return self._grey
        if c > a:
            left, top, right, bottom = min(left, a), min(top, b), max(right, c), max(bottom, d)
        if (right - left) * (bottom - top) > MOST * width * height:
            left, top, right, bottom = 0, 0, width, height
        part = self._picture[top:bottom, left:right]
        if part.size:
            cv2.cvtColor(part, cv2.COLOR_RGB2GRAY, dst=self._grey[top:bottom, left:right])
        self._box = (left, top, right, bottom)
        return self._grey
