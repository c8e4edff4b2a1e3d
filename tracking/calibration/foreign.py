"""Camera calibrations of other programs: ROS, Kalibr, scikit-surgery's text files.

ROS `camera_info` (sensor_msgs/CameraInfo as YAML): image_width, camera_matrix {data}, distortion_coefficients {data},
distortion_model. Kalibr's camchain: cam0 {intrinsics [fx fy cx cy], distortion_coeffs, distortion_model, resolution}.
scikit-surgerycalibration: a 3x3 matrix as text, and the coefficients in a file of their own. All of them count pixel
centres at integers, as OpenCV does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spatial.pinhole import BadLens, Lens, Pinhole
from tracking.calibration.camera_file import BadCalibration, pinhole_of

MODELS: dict[str, Lens] = {
    "plumb_bob": "brown", "rational_polynomial": "brown", "radtan": "brown", "none": "brown", "": "brown",
    "equidistant": "fisheye", "fisheye": "fisheye",
}  # fmt: skip


def read_foreign(path: Path, distortion: Path | None, size_px: tuple[int, int] | None, camera: str) -> Pinhole:
    """Another program's camera. `distortion`, `size_px` (width, height): where the file has none; `camera` of a chain.

    Raises BadCalibration.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadCalibration("there is no such text file", path=path) from None
    try:
        rows = [[float(word) for word in line.split()] for line in text.replace(",", " ").splitlines() if line.strip()]
    except ValueError:
        rows = []
    if rows:
        return _of_text(path, rows, distortion, size_px)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, Mapping):
        raise BadCalibration("neither ROS' nor Kalibr's YAML nor a matrix as text", path=path)
    try:
        return _of_kalibr(path, value, camera) if camera in value else _of_ros(value)
    except KeyError as missing:
        cameras = [key for key, entry in value.items() if isinstance(entry, Mapping) and "intrinsics" in entry]
        hint = f"; it has {', '.join(cameras)} (--name)" if cameras else ""
        raise BadCalibration(f"{missing.args[0]} is missing{hint}", path=path) from None
    except (TypeError, ValueError):
        raise BadCalibration("a number is not where one should be", path=path) from None
    except (BadLens, BadCalibration) as fault:
        raise BadCalibration(fault.message, path=path) from None


def _of_text(path: Path, rows: list[list[float]], distortion: Path | None, size_px: tuple[int, int] | None) -> Pinhole:
    if [len(row) for row in rows] != [3, 3, 3]:
        shape = "x".join(map(str, sorted({len(row) for row in rows})))
        raise BadCalibration(f"{len(rows)} rows of {shape} numbers; a camera matrix has 3 rows of 3", path=path)
    if size_px is None:
        raise BadCalibration("a matrix as text tells no picture size; --size 640x480 does", path=path)
    bend = np.zeros(0)
    if distortion is not None:
        try:
            bend = np.array(distortion.read_text(encoding="utf-8").replace(",", " ").split(), dtype=np.float64)
        except (OSError, ValueError):
            raise BadCalibration("the distortion coefficients can't be read as numbers", path=distortion) from None
    try:
        return pinhole_of(np.array(rows), bend, "brown", size_px)
    except (BadLens, BadCalibration) as fault:
        raise BadCalibration(fault.message, path=path) from None


def _of_ros(value: Mapping[str, Any]) -> Pinhole:
    matrix = np.array(value["camera_matrix"]["data"], dtype=np.float64).reshape(3, 3)
    bend = np.array(value.get("distortion_coefficients", {"data": []})["data"], dtype=np.float64)
    lens = _lens(value.get("distortion_model", "plumb_bob"))
    return pinhole_of(matrix, bend, lens, (int(value["image_width"]), int(value["image_height"])))


def _of_kalibr(path: Path, value: Mapping[str, Any], camera: str) -> Pinhole:
    entry = value[camera]
    if entry.get("camera_model", "pinhole") != "pinhole":
        raise BadCalibration(f"{camera} is of the model {entry['camera_model']!r}; only pinhole is known", path=path)
    fx, fy, cx, cy = (float(number) for number in entry["intrinsics"])
    bend = np.array(entry["distortion_coeffs"], dtype=np.float64)
    width, height = (int(number) for number in entry["resolution"])
    return pinhole_of(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), bend, _lens(entry["distortion_model"]),
                    (width, height))  # fmt: skip


def _lens(model: Any) -> Lens:
    if str(model) not in MODELS:
        raise BadCalibration(f"distortion model {model!r} is not known; {', '.join(filter(None, MODELS))} are")
    return MODELS[str(model)]
