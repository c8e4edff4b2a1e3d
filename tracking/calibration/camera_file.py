"""A camera's calibration file: OpenCV's YAML with what our own calibration knows besides.

OpenCV's keys: `image_width`, `image_height`, `camera_matrix`, `distortion_coefficients`, `avg_reprojection_error`.
Ours: `distortion_model` (ROS's names: plumb_bob, rational_polynomial, equidistant; absent is one of the first two),
`parameter_names` and `parameter_covariance` (px for fx fy cx cy), `readout_ns` (first to last row, 0 global),
`board`, `pictures`, `corners`, `predicted_error_mm` (95 %), `error_limit_mm`, `accepted` (0 or 1), `taken` (the
pictures' date, where they say one).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.pinhole import BadLens, Lens, Pinhole
from spatial.rigid import Array, readonly
from tracking.part_file import part_file

cv2.setNumThreads(2)


class BadCalibration(Fault):
    """A camera file that can't be read or holds no camera."""


class WrongResolution(Fault):
    """A picture of another size than the camera was calibrated with."""


OFF_MIDDLE = 0.1  # of the picture's size; real lenses' centres lie nearer its middle
MODELS = {"plumb_bob": "brown", "rational_polynomial": "brown", "equidistant": "fisheye", "fisheye": "fisheye"}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A camera with how well it is known.

    `names` are the parameters that were estimated (fx, fy, cx, cy, k1 …), `covariance` theirs; both are empty for a
    file of another program. `rms_px`, `predicted_mm` (95 % of the pose errors that the covariance foretells in the
    working volume) and `limit_mm` are None where unknown. `readout_ns`: first to last row; 0 is a global shutter or
    not measured. `size_assumed`: the file does not tell its pictures' size, so a wrong one goes unnoticed.
    """

    pinhole: Pinhole
    names: tuple[str, ...] = ()
    covariance: Array = field(default_factory=lambda: np.zeros((0, 0)))
    rms_px: float | None = None
    readout_ns: int = 0
    size_assumed: bool = False
    board: str = ""
    pictures: int = 0
    corners: int = 0
    predicted_mm: float | None = None
    limit_mm: float | None = None
    accepted: bool | None = None
    taken: str = ""

    def __post_init__(self) -> None:
        """Check the shapes and freeze. Raises BadCalibration."""
        n = len(self.names)
        covariance = self.covariance
        if np.shape(covariance) != (n, n) or not np.isfinite(covariance).all():
            raise BadCalibration(f"parameter_covariance has shape {np.shape(covariance)}, {n} parameters are named")
        if n and float(np.linalg.eigvalsh(covariance)[0]) < -1e-9 * float(np.abs(covariance).max()):
            raise BadCalibration("parameter_covariance has a negative variance")
        object.__setattr__(self, "covariance", readonly(covariance, (n, n), "covariance"))
        if self.readout_ns < 0:
            raise BadCalibration(f"readout_ns is {self.readout_ns}; from the first to the last row it is 0 or more")

    def sd(self, name: str) -> float | None:
        """The standard deviation of a parameter (px for fx fy cx cy); None where the file does not say."""
        if name not in self.names:
            return None
        k = self.names.index(name)
        return float(np.sqrt(self.covariance[k, k]))


def load_camera(path: str | Path) -> Pinhole:
    """The lens of a camera file; see `load_calibrated`. Raises BadCalibration."""
    return load_calibrated(path).pinhole


def load_calibrated(path: str | Path, size_px: tuple[int, int] | None = None) -> Calibrated:
    """Read a camera file, ours or another program's.

    4, 5 or 8 coefficients (further zeros are tolerated; tilted and thin-prism lenses are not known), 4 for a fisheye.
    `size_px` (width, height) stands in where the file tells no size, if the lens' centre lies near its middle.
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
        told = _size(store)
        matrix = store.getNode("camera_matrix").mat()
        node = store.getNode("distortion_coefficients")
        distortion = np.zeros(0) if node.empty() else np.asarray(node.mat(), dtype=np.float64).ravel()
        lens = _lens(store, file)
        extra = _extras(store)
    except (cv2.error, TypeError, ValueError):
        raise BadCalibration("a matrix of the file (camera_matrix …) is no matrix of numbers", path=file) from None
    finally:
        store.release()
    try:
        size = told or _assumed(size_px, matrix)
        pinhole = pinhole_of(matrix, distortion, lens, size)
        return Calibrated(pinhole, **extra, size_assumed=told is None)
    except (BadLens, BadCalibration) as fault:
        raise BadCalibration(fault.message, path=file) from None


def pinhole_of(matrix: Array | None, distortion: Array, lens: Lens, size_px: tuple[int, int]) -> Pinhole:
    """A lens from OpenCV's matrix and coefficients, further zeros left out. Raises BadCalibration, BadLens."""
    if matrix is None or matrix.shape != (3, 3):
        shape = None if matrix is None else matrix.shape
        raise BadCalibration(f"camera_matrix has shape {shape}, 3x3 is needed")
    if abs(matrix[0, 1]) > 1e-9 or not np.allclose([*matrix[1:, 0], matrix[2, 1], matrix[2, 2] - 1], 0, atol=1e-9):
        raise BadCalibration("camera_matrix has skew or is transposed; its form is [fx 0 cx; 0 fy cy; 0 0 1]")
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Pinhole(size_px[0], size_px[1], fx, fy, cx, cy, _shortest(distortion, lens), lens)


def save_camera(path: str | Path, camera: Pinhole | Calibrated, *, rms_px: float | None = None) -> None:
    """Write the file that `load_calibrated` reads, atomically; `rms_px` is the fit's reprojection error."""
    made = camera if isinstance(camera, Calibrated) else Calibrated(camera, rms_px=rms_px)
    file = Path(path)
    if not file.absolute().parent.is_dir():  # OpenCV would say so in its own words
        raise BadCalibration("there is no such folder to write into", path=file.parent)
    with part_file(file, ".part.yml") as part:
        store = cv2.FileStorage(str(part), cv2.FILE_STORAGE_WRITE)
        if not store.isOpened():
            raise BadCalibration("cannot be written; is there the right and the room to?", path=file)
        try:
            _store(store, made)
        finally:
            store.release()


def _store(store: Any, made: Calibrated) -> None:
    pinhole = made.pinhole
    store.write("image_width", pinhole.width_px)
    store.write("image_height", pinhole.height_px)
    store.write("camera_matrix", pinhole.matrix)
    blank = 5 if pinhole.lens == "brown" else 4
    bend = np.array(pinhole.distortion or (0.0,) * blank, dtype=np.float64)
    store.write("distortion_coefficients", bend.reshape(1, -1))
    rational = len(pinhole.distortion) == 8
    model = "equidistant" if pinhole.lens == "fisheye" else "rational_polynomial" if rational else "plumb_bob"
    store.write("distortion_model", model)
    if made.rms_px is not None:
        store.write("avg_reprojection_error", float(made.rms_px))
    if made.names:
        store.write("parameter_names", " ".join(made.names))
        store.write("parameter_covariance", np.array(made.covariance))
    if made.readout_ns:
        store.write("readout_ns", int(made.readout_ns))
    for key, value in (("board", made.board), ("taken", made.taken)):
        if value:
            store.write(key, value)
    for key, count in (("pictures", made.pictures), ("corners", made.corners)):
        if count:
            store.write(key, int(count))
    for key, number in (("predicted_error_mm", made.predicted_mm), ("error_limit_mm", made.limit_mm)):
        if number is not None:
            store.write(key, float(number))
    if made.accepted is not None:
        store.write("accepted", int(made.accepted))


def require_resolution(picture: NDArray[np.uint8], pinhole: Pinhole) -> None:
    """Raise WrongResolution when the picture is not of the size that the camera was calibrated with."""
    height, width = picture.shape[:2]
    if (width, height) != (pinhole.width_px, pinhole.height_px):
        raise WrongResolution(
            f"the picture is {width} x {height} px, the calibration is for {pinhole.width_px} x {pinhole.height_px}; "
            "was the camera's mode changed, or is it another camera's file?"
        )


def _size(store: Any) -> tuple[int, int] | None:
    """The pictures' size that the file tells; None where a key is missing."""
    nodes = [store.getNode(key) for key in ("image_width", "image_height")]
    if any(node.empty() or not (node.isInt() or node.isReal()) for node in nodes):
        return None
    return int(nodes[0].real()), int(nodes[1].real())


def _assumed(size_px: tuple[int, int] | None, matrix: Array | None) -> tuple[int, int]:
    """The pictures' size for a file that tells none. Raises BadCalibration where the lens' centre is far off."""
    missing = "image_width or image_height is missing; add the calibration pictures' size in pixels"
    if size_px is None:
        raise BadCalibration(missing)
    if matrix is None or matrix.shape != (3, 3):
        return size_px  # and that is refused next
    cx, cy = matrix[:2, 2].tolist()
    if any(abs(c / n - 0.5) > OFF_MIDDLE for c, n in zip((cx, cy), size_px, strict=True)):
        raise BadCalibration(
            f"{missing}; they were hardly {size_px[0]} x {size_px[1]} as these, for the lens' centre would be at "
            f"{cx:.0f}, {cy:.0f}"
        )
    return size_px


def _lens(store: Any, file: Path) -> Lens:
    node = store.getNode("distortion_model")
    if node.empty():
        return "brown"
    name = node.string() if node.isString() else ""
    if MODELS.get(name) not in ("brown", "fisheye"):
        raise BadCalibration(f"distortion_model {name!r} is not known; {', '.join(MODELS)} are", path=file)
    return "fisheye" if MODELS[name] == "fisheye" else "brown"


def _extras(store: Any) -> dict[str, Any]:
    """What the file says beyond the lens; keys of `Calibrated`."""
    out: dict[str, Any] = {}
    node = store.getNode("parameter_covariance")
    if not node.empty():
        out["covariance"] = np.asarray(node.mat(), dtype=np.float64)
    for key in ("board", "taken"):
        node = store.getNode(key)
        if node.isString():
            out[key] = node.string()
    node = store.getNode("parameter_names")
    if node.isString():
        out["names"] = tuple(node.string().split())
    numbers = (
        ("avg_reprojection_error", "rms_px"),
        ("predicted_error_mm", "predicted_mm"),
        ("error_limit_mm", "limit_mm"),
        ("readout_ns", "readout_ns"),
        ("pictures", "pictures"),
        ("corners", "corners"),
        ("accepted", "accepted"),
    )
    for key, name in numbers:
        node = store.getNode(key)
        if node.isInt() or node.isReal():
            out[name] = float(node.real())
    for name in ("readout_ns", "pictures", "corners"):
        if name in out:
            out[name] = int(out[name])
    if "accepted" in out:
        out["accepted"] = bool(out["accepted"])
    return out


def _shortest(distortion: Array, lens: Lens) -> tuple[float, ...]:
    used = int(np.flatnonzero(distortion).max(initial=-1)) + 1
    if not np.isfinite(distortion).all():
        raise BadCalibration("a distortion coefficient is not finite")
    for length in (0, 4, 5, 8) if lens == "brown" else (0, 4):
        if used <= length:
            return tuple(float(k) for k in np.pad(distortion, (0, 8))[:length])
    most = 8 if lens == "brown" else 4
    raise BadCalibration(f"distortion coefficient number {used} is not zero; at most {most} are known")
