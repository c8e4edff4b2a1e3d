"""What no estimator can beat: the Cramér-Rao bound of a marker's corners, and of a body's pose, from its picture.

The expected picture is light(x) (dark + (bright - dark) (K * W)(x)): W the code (1 on white), K the blur with the
pixel's own area, light falling off linearly. Moving the pose or a corner moves the code's edges, so the derivative of
the picture by a parameter is an integral along the edges,

    d(K * W)(x) / d theta = sum over edges of jump * integral of K(x - q) (dq / d theta . n) dl,

which is evaluated here point by point along every edge, with K in closed form. Under white noise the Fisher information
is the sum over pixels of the products of such derivatives (Kay 1993, ch. 3.9). Blur, both levels and the light's two
slopes are unknown too and are eliminated. Nothing here is shared with the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.special import ndtr

from spatial.frames import B, Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, rotation_exp

STEP_PX = 0.1  # between the points along an edge
ROUNDING_GREY2 = 1.0 / 12.0
FINE = 5  # samples a pixel, across and down, of the code itself


@dataclass(frozen=True)
class Exposure:
    """What is known of the picture: Gaussian blur (sd px, without the pixel's area), noise sd, levels in grey."""

    blur_px: float
    noise_grey: float
    dark_grey: float
    bright_grey: float


def corner_information(corners_px: Array, code: NDArray[np.uint8], pinhole: Pinhole, exposure: Exposure) -> Array:
    """Fisher information (8, 8) of a marker's raw corners (4, 2), everything else about the picture being unknown.

    `code` (n, n): 1 white, with its border, whose opposite surrounds it.
    """
    ideal = pinhole.normalised(corners_px)
    n = len(code)

    def moved(uv: Array, corners: Array) -> Array:
        return _project(pinhole, _homography(uv, corners))

    # corners are moved in the raw picture; how that moves their undistorted places is the lens' inverse slope
    inverse = np.linalg.inv(pinhole.slopes(ideal))
    mids, jumps, direction, pitch = _edge_points(moved, ideal, code)
    h = 1e-6
    slopes = np.empty((len(mids), 2, 8))
    for corner in range(4):
        for axis in range(2):
            shift = np.zeros((4, 2))
            shift[corner] = inverse[corner][:, axis] * h / np.linalg.norm(inverse[corner][:, axis])
            scale = np.linalg.norm(inverse[corner][:, axis]) / (2 * h)
            slopes[:, :, 2 * corner + axis] = scale * (moved(mids, ideal + shift) - moved(mids, ideal - shift))
    places = moved(mids, ideal)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    rates = np.einsum("qak,qa->qk", slopes, normal) * (jumps * pitch)[:, None]
    low = np.floor(corners_px.min(axis=0)).astype(int) - 12
    high = np.ceil(corners_px.max(axis=0)).astype(int) + 13
    low, high = np.maximum(low, 0), np.minimum(high, [pinhole.width_px, pinhole.height_px])
    derivatives = _spread_along(places, rates, exposure.blur_px, low, high)
    blur = exposure.blur_px
    narrower, white, wider = _white(_cells(pinhole, ideal, n, low, high), code, (blur - 0.01, blur, blur + 0.01))
    contrast = exposure.bright_grey - exposure.dark_grey
    d_blur = (wider - narrower) / 0.02
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
    expected = exposure.dark_grey + contrast * white
    middle = corners_px.mean(axis=0)
    nuisance = [
        1 - white,
        white,
        contrast * d_blur,
        expected * (x - middle[0]) / 100,
        expected * (y - middle[1]) / 100,
    ]
    J = np.column_stack([contrast * derivatives.reshape(-1, 8), *(part.ravel() for part in nuisance)])
    information = J.T @ J / (exposure.noise_grey**2 + ROUNDING_GREY2)
    return np.asarray(
        information[:8, :8] - information[:8, 8:] @ np.linalg.solve(information[8:, 8:], information[8:, :8])
    )


def pose_bound(
    camera_from_body: Rigid[Camera, B],
    markers_mm: Sequence[Array],
    information: Sequence[Array],
    pinhole: Pinhole,
) -> Array:
    """Least covariance (6, 6) of a pose, rotation (rad) first, from markers (4, 3) and their corners' information."""
    total = np.zeros((6, 6))
    R, t = camera_from_body.rotation, camera_from_body.translation_mm
    h = np.array([1e-6] * 3 + [1e-4] * 3)
    for mm, own in zip(markers_mm, information, strict=True):
        J = np.empty((8, 6))
        for k in range(6):
            step = np.zeros(6)
            step[k] = h[k]
            ahead = Rigid[Camera, Any](rotation_exp(step[:3]) @ R, t + step[3:])
            behind = Rigid[Camera, Any](rotation_exp(-step[:3]) @ R, t - step[3:])
            J[:, k] = (pinhole.project(ahead @ Points(mm)) - pinhole.project(behind @ Points(mm))).ravel() / (2 * h[k])
        total += J.T @ own @ J
    return np.asarray(np.linalg.inv(total))


def _homography(uv: Array, corners: Array) -> Array:
    """Places (N, 2) of unit-square points (N, 2) between corners (4, 2), by the direct linear transform."""
    rows = []
    for (u, v), (x, y) in zip(((0, 0), (1, 0), (1, 1), (0, 1)), corners, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
    h = np.append(np.linalg.solve(np.array(rows, dtype=np.float64), corners.ravel()), 1.0).reshape(3, 3)
    p = np.column_stack([uv, np.ones(len(uv))]) @ h.T
    return np.asarray(p[:, :2] / p[:, 2:])


def _project(pinhole: Pinhole, ideal: Array) -> Array:
    return pinhole.project(Points[Camera](np.column_stack([ideal, np.ones(len(ideal))])))


def _edge_points(
    moved: Callable[[Array, Array], Array], ideal: Array, code: NDArray[np.uint8]
) -> tuple[Array, Array, Array, Array]:
    """Points along all edges of the code: (u, v) (Q, 2), jump across (Q,), raw tangent (Q, 2), length each stands for.

    The jump is white less dark on the side of the tangent turned by +90 degrees in (x right, y down), with its sign so
    that an edge moving along that normal takes white away.
    """
    n = len(code)
    padded = np.full((n + 2, n + 2), 1 - int(code[0, 0]), dtype=np.int64)
    padded[1:-1, 1:-1] = code
    side_px = np.linalg.norm(np.diff(moved(np.array([[0.0, 0], [1, 0], [1, 1]]), ideal), axis=0), axis=1).max()
    count = max(4, int(np.ceil(side_px / n / STEP_PX)))
    along = (np.arange(count) + 0.5) / count
    mids, jumps = [], []
    ends: list[tuple[Array, Array]] = []
    for line in range(n + 1):
        for k in range(n):
            for flat in (True, False):
                before, after = (
                    (padded[line, k + 1], padded[line + 1, k + 1])
                    if flat
                    else (padded[k + 1, line], padded[k + 1, line + 1])
                )
                if before == after:
                    continue
                run, fixed = (k + along) / n, np.full(count, line / n)
                at = np.column_stack([run, fixed] if flat else [fixed, run])
                half = np.array([0.5 / count / n, 0.0] if flat else [0.0, 0.5 / count / n])
                mids.append(at)
                ends.append((at - half, at + half))
                # +90 degrees from +u is +v, from +v is -u
                jumps.append(np.full(count, float(before - after) if flat else float(after - before)))
    points = np.concatenate(mids)
    first, last = np.concatenate([a for a, _ in ends]), np.concatenate([b for _, b in ends])
    chord = moved(last, ideal) - moved(first, ideal)
    pitch = np.linalg.norm(chord, axis=1)
    return points, np.concatenate(jumps), chord / pitch[:, None], pitch


def _spread_along(places: Array, rates: Array, blur_px: float, low: Array, high: Array) -> Array:
    """Sum over edge points of rate times the pixel's response to a point of light there: (h, w, 8)."""
    width, height = (high - low).tolist()
    reach = int(np.ceil(4.5 * blur_px + 1))
    corner = np.rint(places).astype(int)
    offsets = np.arange(-reach, reach + 1)
    # a Gaussian integrated over the pixel
    x = corner[:, :1] + offsets - places[:, :1]
    y = corner[:, 1:] + offsets - places[:, 1:]
    kx = ndtr((x + 0.5) / blur_px) - ndtr((x - 0.5) / blur_px)
    ky = ndtr((y + 0.5) / blur_px) - ndtr((y - 0.5) / blur_px)
    column = (corner[:, :1] + offsets - low[0])[:, None, :]
    row = (corner[:, 1:] + offsets - low[1])[:, :, None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    point = np.broadcast_to(np.arange(len(places))[:, None, None], inside.shape)[inside]
    weights = (ky[:, :, None] * kx[:, None, :])[inside]
    spread = coo_array((weights, ((row * width + column)[inside], point)), shape=(width * height, len(places)))
    return np.asarray(spread.tocsr() @ rates).reshape(height, width, -1)


def _cells(pinhole: Pinhole, ideal: Array, n: int, low: Array, high: Array) -> Array:
    """Cell coordinates, 0 to n, of the pixels' corners: (h + 1, w + 1, 2)."""
    y, x = np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1]
    xy = pinhole.normalised(np.stack([x, y], axis=-1) - 0.5)
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    rows = []
    for (u, v), (p, q) in zip(ideal, square, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -p * u, -p * v], [0, 0, 0, u, v, 1, -q * u, -q * v]]
    h = np.append(np.linalg.solve(np.array(rows), square.ravel()), 1.0).reshape(3, 3)
    cells = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1) @ h.T
    return np.asarray(n * cells[..., :2] / cells[..., 2:])


def _white(cells: Array, code: NDArray[np.uint8], blurs_px: tuple[float, ...]) -> list[Array]:
    """The share of white that each pixel sees, (h, w): the code sampled finely, blurred, averaged over the pixel."""
    n = len(code)
    height, width = cells.shape[0] - 1, cells.shape[1] - 1
    f = (np.arange(FINE) + 0.5) / FINE
    across = cells[:, :-1, None] * (1 - f)[:, None] + cells[:, 1:, None] * f[:, None]  # (h + 1, w, FINE, 2)
    both = across[:-1, None] * (1 - f)[:, None, None, None] + across[1:, None] * f[:, None, None, None]
    at = np.floor(both.reshape(height * FINE, width * FINE, 2)).astype(int)
    inside = ((at >= 0) & (at < n)).all(axis=-1)
    value = np.full(inside.shape, 1.0 - float(code[0, 0]))
    value[inside] = code[at[inside][:, 1], at[inside][:, 0]]
    out = []
    for blur_px in blurs_px:
        blurred = gaussian_filter(value, blur_px * FINE, mode="nearest", truncate=5.0)
        out.append(blurred.reshape(height, FINE, width, FINE).mean(axis=(1, 3)))
    return out
