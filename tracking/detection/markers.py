"""Find square markers in a picture: OpenCV finds and reads them, our edge fit says where their corners are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.detection.edges import fit_corners

cv2.setNumThreads(2)

SUBPIX_SD_PX = 0.7  # its RMS on rendered markers with sides of 8 to 14 px, where the edge fit gives up


class UnknownDictionary(Misuse):
    """A dictionary name that OpenCV does not have, or a file that holds none."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Markers of one dictionary in one raw picture; nothing here says which body they belong to.

    `ids` (N,), `corners_px` (N, 4, 2) in OpenCV's order, pixel centres at integers. `whitening` (N, 8, 8) times a
    corner error (x0, y0, ... y3) has unit variance, its rows in pairs of independent measurements. `method` (N,):
    EDGES, PARTLY (some sides could not be fitted) or SUBPIX (too small for the fit).
    """

    dictionary: str
    ids: NDArray[np.int64]
    corners_px: Array
    whitening: Array
    method: tuple[str, ...]

    def __len__(self) -> int:
        """How many markers were seen."""
        return len(self.ids)

    def by_id(self) -> Mapping[int, int]:
        """Index of each id that was seen exactly once; an id seen twice is nobody's."""
        ids, first, count = np.unique(self.ids, return_index=True, return_counts=True)
        return MappingProxyType({int(i): int(k) for i, k, n in zip(ids, first, count, strict=True) if n == 1})

    def covariance_px2(self) -> Array:
        """Covariance (N, 8, 8) of each marker's corner coordinates."""
        root = np.linalg.inv(self.whitening)
        return np.asarray(root @ np.swapaxes(root, -1, -2))


def dictionary_names() -> tuple[str, ...]:
    """OpenCV's dictionary names."""
    return tuple(sorted(name for name in dir(cv2.aruco) if name.startswith("DICT_")))


@lru_cache(maxsize=8)
def find_dictionary(name: str) -> Any:
    """OpenCV's dictionary by name (DICT_6X6_250), or one from an OpenCV dictionary file. Raises UnknownDictionary."""
    if name.startswith("DICT_") and hasattr(cv2.aruco, name):
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
    if Path(name).is_file():
        dictionary = cv2.aruco.Dictionary()
        store = cv2.FileStorage(name, cv2.FILE_STORAGE_READ)
        if store.isOpened() and dictionary.readDictionary(store.root()) and len(dictionary.bytesList):
            return dictionary
        raise UnknownDictionary("no marker dictionary in this file (nmarkers, markersize, marker_0 …)", path=name)
    wanted = name.removeprefix("DICT_").split("_")[0][:4].lower()
    near = [known for known in dictionary_names() if wanted in known.lower()]
    hint = f"meant perhaps {', '.join(near)}?" if near else f"there are {', '.join(dictionary_names())}"
    raise UnknownDictionary(f"{name} is no dictionary of OpenCV and no file; {hint}")


@lru_cache(maxsize=8)
def _detector(name: str) -> Any:
    parameters = cv2.aruco.DetectorParameters()
    # OpenCV's own refinements are worse than our edge fit, and one is off by half a pixel
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_NONE
    return cv2.aruco.ArucoDetector(find_dictionary(name), parameters)


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (h, w) of an RGB or grey picture."""
    if picture.ndim == 2:
        return np.ascontiguousarray(picture)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def detect(picture: NDArray[np.uint8], dictionary: str, pinhole: Pinhole | None = None) -> Detections:
    """Find and refine all markers of `dictionary` in a raw picture, grey (h, w) or RGB (h, w, 3).

    With `pinhole` the sides are fitted as the curves that the lens makes of them. Raises UnknownDictionary.
    """
    luma = grey(picture)
    quads, found, _ = _detector(dictionary).detectMarkers(luma)
    if found is None or not len(found):
        return Detections(dictionary, np.zeros(0, dtype=np.int64), np.zeros((0, 4, 2)), np.zeros((0, 8, 8)), ())
    ids = np.asarray(found, dtype=np.int64).ravel()
    coarse = np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2)
    order = np.argsort(ids, kind="stable")
    ids, coarse = ids[order], coarse[order]
    fit = fit_corners(luma, coarse, int(find_dictionary(dictionary).markerSize) + 2, pinhole)
    corners, whitening = fit.corners_px.copy(), fit.whitening.copy()
    method = []
    for k, sides in enumerate(fit.fitted.sum(axis=1)):
        edge_px = float(np.linalg.norm(np.roll(coarse[k], -1, axis=0) - coarse[k], axis=1).min())
        astray = np.abs(corners[k] - coarse[k]).max() > max(4.0, 0.1 * edge_px)
        if sides < 2 or astray:
            corners[k], whitening[k] = _subpix(luma, coarse[k], edge_px), np.eye(8) / SUBPIX_SD_PX
            method.append("SUBPIX")
        else:
            method.append("EDGES" if sides == 4 else "PARTLY")
    return Detections(dictionary, ids, corners, whitening, tuple(method))


def _subpix(luma: NDArray[np.uint8], corners_px: Array, edge_px: float) -> Array:
    window = int(np.clip(edge_px / 8, 1, 5))
    start = corners_px.astype(np.float32).reshape(-1, 1, 2)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.01)
    refined = cv2.cornerSubPix(luma, start, (window, window), (-1, -1), stop).reshape(4, 2).astype(np.float64)
    return np.where(np.abs(refined - corners_px) <= window + 1, refined, corners_px)
