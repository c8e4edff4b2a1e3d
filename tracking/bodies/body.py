"""A rigid body of square markers: which ids it bears, and where their corners are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic

import numpy as np
from numpy.typing import ArrayLike

from spatial.faults import Fault
from spatial.frames import B
from spatial.rigid import Array, Directions, readonly, skew
from tracking.part_file import part_file


class BadBody(Fault):
    """Marker geometry that no printed body has."""


FLAT_MM = 0.3
SQUARE_FRACTION = 0.02


@dataclass(frozen=True, eq=False)
class Body(Generic[B]):
    """Marker corners (4, 3) mm by id, in the body's frame.

    Their order is OpenCV's: top-left, top-right, bottom-right, bottom-left of the upright marker.
    `dictionary` is OpenCV's name or the path of an OpenCV dictionary file. A tool has its tip, and perhaps the unit
    direction of its shaft from the handle to the tip. What was measured has its covariance: `covariance` (6, 6) a
    marker, of its pose about its own middle (rotation rad before mm, the body's axes), `tip_covariance_mm2` (3, 3),
    `axis_covariance` (3, 3). Raises BadBody.
    """

    name: str
    dictionary: str
    corners_mm: Mapping[int, Array]
    tip_mm: Array | None = None
    axis: Array | None = None
    covariance: Mapping[int, Array] = field(default_factory=lambda: MappingProxyType({}))
    tip_covariance_mm2: Array | None = None
    axis_covariance: Array | None = None

    def __post_init__(self) -> None:
        """Validate every marker and how the markers stand to one another; freeze."""
        if not self.name or not self.dictionary:
            raise BadBody("a body needs a name and a dictionary")
        if not self.corners_mm:
            raise BadBody(f"body {self.name} has no markers")
        corners = {}
        for marker, mm in sorted(self.corners_mm.items()):
            if marker < 0:
                raise BadBody(f"marker id {marker!r} of {self.name} is not a whole number from 0")
            corners[int(marker)] = _square(self.name, int(marker), mm)
        object.__setattr__(self, "corners_mm", MappingProxyType(corners))
        if self.tip_mm is not None:
            object.__setattr__(self, "tip_mm", readonly(self.tip_mm, (3,), "tip_mm"))
        if self.axis is not None:
            object.__setattr__(self, "axis", Directions[B](readonly(self.axis, (3,), "axis")).unit)
        stray = sorted(set(self.covariance) - set(corners))
        if stray:
            raise BadBody(f"{self.name} has a covariance for marker {stray[0]}, which it does not bear")
        measured = {int(m): _covariance(c, 6, f"covariance of marker {m}") for m, c in sorted(self.covariance.items())}
        object.__setattr__(self, "covariance", MappingProxyType(measured))
        for key, of in (("tip_covariance_mm2", self.tip_mm), ("axis_covariance", self.axis)):
            value = getattr(self, key)
            if value is not None and of is None:
                raise BadBody(f"{self.name} has {key} and nothing that it belongs to")
            if value is not None:
                object.__setattr__(self, key, _covariance(value, 3, key))
        _check_handedness(self.name, corners)

    @classmethod
    def single(cls, marker: int, dictionary: str, size_mm: float) -> Body[B]:
        """The body `marker:ID`: x right, y up, z out of the print, origin at the centre (OpenCV's IPPE_SQUARE)."""
        if not (np.isfinite(size_mm) and size_mm > 0):
            raise BadBody(f"marker size {size_mm} mm; it must be above zero")
        h = size_mm / 2
        return cls(f"marker:{marker}", dictionary, {marker: np.array([[-h, h, 0], [h, h, 0], [h, -h, 0], [-h, -h, 0]])})

    @property
    def is_flat(self) -> bool:
        """All corners in one plane (within 0.3 mm): then two poses explain a weak view."""
        mm = np.concatenate(list(self.corners_mm.values()))
        centred = mm - mm.mean(axis=0)
        normal = np.linalg.svd(centred, full_matrices=False)[2][2]
        return float(np.abs(centred @ normal).max()) <= FLAT_MM

    def corner_covariance_mm2(self, marker: int) -> Array:
        """Covariance (12, 12) of a marker's corners x0, y0, z0, x1 ... in the body's axes; zero where none is known."""
        if marker not in self.covariance:
            return np.zeros((12, 12))
        corners = self.corners_mm[marker]
        arms = corners - corners.mean(axis=0)
        J = np.concatenate([np.concatenate([-skew(arm), np.eye(3)], axis=1) for arm in arms])
        return np.asarray(J @ self.covariance[marker] @ J.T)

    def to_json(self) -> dict[str, Any]:
        """The marker body file's content."""
        value: dict[str, Any] = {
            "name": self.name,
            "dictionary": self.dictionary,
            "markers": {str(marker): mm.tolist() for marker, mm in self.corners_mm.items()},
        }
        if self.tip_mm is not None:
            value["tip_mm"] = self.tip_mm.tolist()
        if self.axis is not None:
            value["axis"] = self.axis.tolist()
        if self.covariance:
            value["covariance"] = {str(marker): matrix.tolist() for marker, matrix in self.covariance.items()}
        if self.tip_covariance_mm2 is not None:
            value["tip_covariance_mm2"] = self.tip_covariance_mm2.tolist()
        if self.axis_covariance is not None:
            value["axis_covariance"] = self.axis_covariance.tolist()
        return value

    @classmethod
    def from_json(cls, value: Any) -> Body[B]:
        """From the marker body file's content; raises BadBody."""
        if not isinstance(value, dict):
            raise BadBody("a marker body is a JSON object with name, dictionary and markers")
        missing = [key for key in ("name", "dictionary", "markers") if key not in value]
        if missing:
            raise BadBody(
                f"{', '.join(missing)} missing; a marker body has name, dictionary, markers and perhaps tip_mm"
            )
        if not isinstance(value["markers"], dict):
            raise BadBody("markers must be an object: id to four corners")
        corners = _by_id(value["markers"], "corners")
        measured = value.get("covariance") or {}
        if not isinstance(measured, dict):
            raise BadBody("covariance must be an object: id to six rows of six")
        tip, axis, tip_spread, axis_spread = (
            None if value.get(key) is None else _numbers(value[key], key)
            for key in ("tip_mm", "axis", "tip_covariance_mm2", "axis_covariance")
        )
        for key in ("name", "dictionary"):
            if not isinstance(value[key], str) or not value[key].strip():
                raise BadBody(f"{key} is {value[key]!r}; it has to be a word")
        name, dictionary = value["name"], value["dictionary"]
        return cls(name, dictionary, corners, tip, axis, _by_id(measured, "covariance"), tip_spread, axis_spread)


def load(path: str | Path) -> Body[Any]:
    """Read a marker body file. Raises BadBody."""
    file = Path(path)
    try:
        return Body.from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadBody(f"cannot be read: {error.strerror}", path=file) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadBody(f"not JSON ({error}); `osteotwin markers convert` reads BARD's text files", path=file) from None
    except Fault as fault:
        raise BadBody(fault.message, path=file) from None


def save(body: Body[Any], path: str | Path) -> None:
    """Write a marker body file, atomically."""
    with part_file(path) as part:
        part.write_text(json.dumps(body.to_json(), indent=1) + "\n", encoding="utf-8")


def board(name: str, dictionary: str, ids: Sequence[int], size_mm: float, gap_mm: float, columns: int) -> Body[Any]:
    """A flat board, ids row by row from the top left: x right, y up, z out of the print, origin at the middle."""
    if not (np.isfinite([size_mm, gap_mm]).all() and size_mm > 0 and gap_mm >= 0 and columns >= 1):
        raise BadBody(f"size {size_mm} mm, gap {gap_mm} mm, {columns} columns; a board has size and columns above zero")
    pitch, rows = size_mm + gap_mm, -(-len(ids) // columns)
    square = size_mm / 2 * np.array([[-1.0, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]])
    corners = {
        marker: square + pitch * np.array([k % columns - (columns - 1) / 2, (rows - 1) / 2 - k // columns, 0.0])
        for k, marker in enumerate(ids)
    }
    return Body(name, dictionary, corners)


def from_bard_files(path: Path, name: str, dictionary: str, tip: Path | None = None) -> Body[Any]:
    """`from_bard` for files; `tip` holds x y z. Raises BadBody."""
    try:
        text = path.read_text(encoding="utf-8")
        tip_mm = None if tip is None else _numbers(tip.read_text(encoding="utf-8").split(), "tip")
        return from_bard(text, name, dictionary, tip_mm)
    except (OSError, UnicodeDecodeError) as error:
        raise BadBody(f"cannot be read as text: {error}", path=path) from None
    except Fault as fault:
        raise BadBody(fault.message, path=path) from None


def from_bard(text: str, name: str, dictionary: str, tip_mm: ArrayLike | None = None) -> Body[Any]:
    """From scikit-surgery BARD's text: a row a marker: id, centre xyz, four corners xyz.

    Its corners are top-left first and its y runs down the print, so the body's z points into the print; the frame is
    kept.
    """
    corners = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        row = _numbers(fields, f"line {number}")
        if len(row) != 16 or row[0] != int(row[0]):
            raise BadBody(f"line {number} has {len(row)} numbers; a whole-number id and 15 coordinates are needed")
        if int(row[0]) in corners:
            raise BadBody(f"marker id {int(row[0])} is there twice, again in line {number}")
        mm = row[4:].reshape(4, 3)
        if not np.allclose(mm.mean(axis=0), row[1:4], atol=0.05):
            raise BadBody(f"line {number}: the centre is not the middle of the four corners; are columns exchanged?")
        corners[int(row[0])] = mm
    return Body(name, dictionary, corners, None if tip_mm is None else np.asarray(tip_mm, dtype=np.float64))


def _by_id(values: dict[Any, Any], what: str) -> dict[int, Array]:
    out: dict[int, Array] = {}
    for key, numbers in values.items():
        if not (isinstance(key, str) and key.isascii() and key.isdigit()):
            raise BadBody(f"marker id {key!r} is not a whole number from 0")
        if int(key) in out:
            raise BadBody(f"marker id {int(key)} is there twice")
        out[int(key)] = _numbers(numbers, f"{what} of marker {key}")
    return out


def _covariance(value: ArrayLike, size: int, what: str) -> Array:
    """Checked and frozen: symmetric, no negative variance."""
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape != (size, size) or not np.isfinite(matrix).all():
        raise BadBody(f"{what} has shape {matrix.shape}; {size} rows of {size} finite numbers are needed")
    largest = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-6 * largest or float(np.linalg.eigvalsh(matrix)[0]) < -1e-6 * largest:
        raise BadBody(f"{what} is not symmetric or has a negative variance")
    return readonly((matrix + matrix.T) / 2, (size, size), what)


def _numbers(value: Any, what: str) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadBody(f"{what}: not numbers") from None


def _square(name: str, marker: int, mm: ArrayLike) -> Array:
    where = f"marker {marker} of {name}"
    array = np.asarray(mm, dtype=np.float64)
    if array.shape != (4, 3) or not np.isfinite(array).all():
        raise BadBody(f"{where} has corners of shape {array.shape}; four finite points of three coordinates are needed")
    edges = np.linalg.norm(np.roll(array, -1, axis=0) - array, axis=1)
    diagonals = np.linalg.norm(array[:2] - array[2:], axis=1)
    size = float(edges.mean())
    if size < 1.0:
        raise BadBody(f"{where} has edges of {size:.2g} mm, under 1; are the coordinates metres?")
    if np.abs(edges - size).max() > SQUARE_FRACTION * size or np.abs(diagonals - size * 2**0.5).max() > 0.03 * size:
        raise BadBody(
            f"{where} is not a square: edges {np.round(edges, 2).tolist()} mm, diagonals "
            f"{np.round(diagonals, 2).tolist()} mm; do the corners run around the marker "
            "(top-left, top-right, bottom-right, bottom-left)?"
        )
    normal = np.cross(array[2] - array[0], array[3] - array[1])
    height = abs(float((array[1] - array[0]) @ normal / np.linalg.norm(normal)))
    if height > max(FLAT_MM, 0.01 * size):
        raise BadBody(f"{where} is not flat: a corner stands {height:.2f} mm out of the plane of the others")
    return readonly(array, (4, 3), where)


def outward_normal(corners_mm: Array) -> Array:
    """Unit normal (3,) out of the print toward the viewer: right x up."""
    right = corners_mm[1] + corners_mm[2] - corners_mm[0] - corners_mm[3]
    up = corners_mm[0] + corners_mm[1] - corners_mm[2] - corners_mm[3]
    normal = np.cross(right, up)
    return np.asarray(normal / np.linalg.norm(normal))


def _check_handedness(name: str, corners: Mapping[int, Array]) -> None:
    """Find corners that run the wrong way round: a lone marker can't tell, its neighbours can."""
    ids = list(corners)
    centres = np.array([corners[i].mean(axis=0) for i in ids])
    normals = np.array([outward_normal(corners[i]) for i in ids])
    height = np.einsum("ijk,ik->ij", centres[None] - centres[:, None], normals)  # of marker j over marker i's face
    same_plane = (np.abs(height) < FLAT_MM) & (np.abs(height.T) < FLAT_MM)
    opposed = same_plane & (normals @ normals.T < -0.99)
    if opposed.any():
        votes = opposed.sum(axis=1)
        worst = ids[int(np.argmax(votes))]
        raise BadBody(
            f"marker {worst} of {name} faces the other way than its neighbours in the same plane; its corners run "
            "left-handed (counter-clockwise from the front): top-left, top-right, bottom-right, bottom-left is needed"
        )
    # A body that no single view shows whole is seen from outside: no face may have all other markers in front of it.
    closed = len(ids) >= 4 and bool((normals @ normals.mean(axis=0) < 0.05).any())
    others = ~np.eye(len(ids), dtype=bool)
    if closed and bool((height[others] > -FLAT_MM).all()) and bool((height[others] > FLAT_MM).any()):
        raise BadBody(
            f"every marker of {name} faces the body's inside; the corners run left-handed "
            "(counter-clockwise seen from the front): top-left, top-right, bottom-right, bottom-left is needed"
        )
