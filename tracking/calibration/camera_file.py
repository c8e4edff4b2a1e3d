"""A camera's calibration file: OpenCV's YAML, read into a `Pinhole` and written from one."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.pinhole import BadLens, Pinhole

cv2.setNumThreads(2)


class BadCalibration(Fault):
    """A camera file that can't be read or holds no camera."""


class WrongResolution(Fault):
    """A picture of another size than the camera was calibrated with."""


def load_camera(path: str | Path) -> Pinhole:
    """Read `image_width`, `image_height`, `camera_matrix`, `distortion_coefficients`.

    4, 5 or 8 coefficients (further zeros are tolerated; tilted and thin-prism lenses are not known).
    Raises BadCalibration.
    """
    file = Path(path)
    if not file.is_file():
        raise BadCalibration("there is no such camera file; OpenCV's calibration writes one", path=file)
    store = cv2.FileStorage()
    try:
        opened = store.open(str(file), cv2.FILE_STORAGE_READ)
    except cv2.error:
        opened = False
    if not opened:
        raise BadCalibration("not an OpenCV YAML, XML or JSON file; is it a calibration in another format?", path=file)
    try:
        size = []
        for key in ("image_width", "image_height"):
            node = store.getNode(key)
            if node.empty() or not (node.isInt() or node.isReal()):
                raise BadCalibration(f"{key} is missing; add the calibration pictures' size in pixels", path=file)
            size.append(int(node.real()))
        matrix = store.getNode("camera_matrix").mat()
        node = store.getNode("distortion_coefficients")
        distortion = np.zeros(0) if node.empty() else np.asarray(node.mat(), dtype=np.float64).ravel()
    except (cv2.error, TypeError, ValueError):
        raise BadCalibration("camera_matrix or distortion_coefficients is no matrix of numbers", path=file) from None
    finally:
        store.release()
    if matrix is None or matrix.shape != (3, 3):
        shape = None if matrix is None else matrix.shape
        raise BadCalibration(f"camera_matrix has shape {shape}, 3x3 is needed", path=file)
    if abs(matrix[0, 1]) > 1e-9 or not np.allclose([*matrix[1:, 0], matrix[2, 1], matrix[2, 2] - 1], 0, atol=1e-9):
        raise BadCalibration(
            "camera_matrix has skew or is transposed; its form is [fx 0 cx; 0 fy cy; 0 0 1]", path=file
        )
    try:
        fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return Pinhole(size[0], size[1], fx, fy, cx, cy, _shortest(distortion, file))
    except BadLens as fault:
        raise BadCalibration(fault.message, path=file) from None


def save_camera(path: str | Path, pinhole: Pinhole, *, rms_px: float | None = None) -> None:
    """Write the file that `load_camera` reads, atomically; `rms_px` is the fit's reprojection error."""
    file = Path(path)
    part = file.with_name(f".{file.name}.part.yml")
    store = cv2.FileStorage(str(part), cv2.FILE_STORAGE_WRITE)
    if not store.isOpened():
        raise BadCalibration("cannot be written; does the folder exist?", path=file)
    store.write("image_width", pinhole.width_px)
    store.write("image_height", pinhole.height_px)
    store.write("camera_matrix", pinhole.matrix)
    store.write("distortion_coefficients", np.array(pinhole.distortion or (0.0,) * 5, dtype=np.float64).reshape(1, -1))
    if rms_px is not None:
        store.write("avg_reprojection_error", float(rms_px))
    store.release()
    os.replace(part, file)


def require_resolution(picture: NDArray[np.uint8], pinhole: Pinhole) -> None:
    """Raise WrongResolution when the picture is not of the size that the camera was calibrated with."""
    height, width = picture.shape[:2]
    if (width, height) != (pinhole.width_px, pinhole.height_px):
        raise WrongResolution(
            f"the picture is {width} x {height} px, the calibration is for {pinhole.width_px} x {pinhole.height_px}; "
            "was the camera's mode changed, or is it another camera's file?"
        )


def _shortest(distortion: NDArray[np.float64], file: Path) -> tuple[float, ...]:
    used = int(np.flatnonzero(distortion).max(initial=-1)) + 1
    if not np.isfinite(distortion).all():
        raise BadCalibration("a distortion coefficient is not finite", path=file)
    for length in (0, 4, 5, 8):
        if used <= length:
            return tuple(float(k) for k in np.pad(distortion, (0, 8))[:length])
    raise BadCalibration(f"distortion coefficient number {used} is not zero; at most 8 are known", path=file)
