"""Bundle adjustment of a marker body: where each marker is in it, and where it was in each picture, all at once.

Unknown are body_from_marker for every marker and camera_from_body for every picture (and the markers' sizes relative to
their mean, where asked); known are the markers' stated sizes, which alone give the scale. The eight corner coordinates
of a marker in a picture are weighted by their own covariance, and robustly as one (Geman-McClure). What lies far off
then is dropped and the rest fitted as it is, so that the covariance is that of least squares. Levenberg-Marquardt; the
pictures are eliminated first (Schur complement), so the dense system has six unknowns a marker. The frame is free: one
marker holds it while solving, the covariance is told for the frame that fits all corners best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from spatial.rigid import Array, rotation_exp

SQUARE = np.array([[-0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0]])
GEMAN_SQUARE = float(chi2.ppf(0.999, 8))
MEDIAN = float(chi2.median(8))
Blocks = tuple[Array, Array, Array, Array, Array]
SIZES_SD = 1e-6  # how firmly the mean of the relative sizes is held at 1


@dataclass(frozen=True, eq=False)
class Corners:
    """Observations: which picture (n,) and which marker (n,), rays (n, 4, 2), whitening of their errors (n, 8, 8)."""

    view: NDArray[np.int64]
    marker: NDArray[np.int64]
    rays: Array
    whitening: Array

    def part(self, rows: NDArray[Any]) -> Corners:
        """Some of them."""
        return Corners(self.view[rows], self.marker[rows], self.rays[rows], self.whitening[rows])


@dataclass(frozen=True, eq=False)
class Shape:
    """body_from_marker: rotations (m, 3, 3), middles (m, 3) mm, sizes (m,) mm."""

    R: Array
    mm: Array
    size_mm: Array

    def corners_mm(self) -> Array:
        """All corners (m, 4, 3) in the body's frame."""
        local = SQUARE * self.size_mm[:, None, None]
        return np.asarray(np.einsum("mij,mcj->mci", self.R, local) + self.mm[:, None])

    def moved(self, R: Array, t: Array) -> Shape:
        """The same shape in another frame."""
        return Shape(R @ self.R, self.mm @ R.T + t, self.size_mm)


@dataclass(frozen=True, eq=False)
class Bundle:
    """The shape, camera_from_body of each picture (v, 3, 3) and (v, 3) mm, and what is left over.

    `covariance` (6m, 6m) is of the markers' increments (rotation rad about the middle, then mm, body axes) in the frame
    that fits all corners best. `size_sd` (m,) is that of relative sizes, zero where they were not asked for. `squares`
    and `kept` (n,) are of the observations; `excess` is by what the covariances of the corners are too small.
    """

    shape: Shape
    R: Array
    mm: Array
    covariance: Array
    size_sd: Array
    squares: Array
    kept: NDArray[np.bool_]
    excess: float


def adjust(corners: Corners, shape: Shape, R: Array, mm: Array, *, free_sizes: bool = False) -> Bundle | None:
    """Refine from a start; None where it leaves the space before the camera or something is not determined."""
    per = 7 if free_sizes else 6
    squares = _squares(corners, shape, R, mm)
    if squares is None:
        return None
    # a start is far off against corners that are known to thousandths of a pixel: what is called an outlier is narrowed
    # down step by step, or the few pictures that tie two groups of markers together would be dropped as one
    scale = max(1.0, float(np.percentile(squares, 90)) / MEDIAN)
    found: tuple[Shape, Array, Array] | None = (shape, R, mm)
    while found is not None:
        found = _descend(corners, *found, per, scale)
        squares = None if found is None else _squares(corners, *found)
        if squares is None or scale <= _scale(squares):
            break
        scale = max(scale / 10, _scale(squares))
    if found is None or squares is None:
        return None
    kept = squares <= GEMAN_SQUARE * _scale(squares)
    good = corners.part(kept)
    if len(np.unique(good.marker)) < len(shape.mm):
        return None
    found = _descend(good, *found, per, math.inf)
    return None if found is None else _finished(corners, kept, *found, per)


def _descend(
    corners: Corners, shape: Shape, R: Array, mm: Array, per: int, scale: float
) -> tuple[Shape, Array, Array] | None:
    """Levenberg-Marquardt until a step gains less than a billionth; an infinite `scale` is plain least squares."""
    damping = 1e-4
    squares = _squares(corners, shape, R, mm)
    if squares is None:
        return None
    cost = _cost(squares, scale)
    for _ in range(60):
        blocks = _normal(corners, shape, R, mm, _weights(squares, scale), per)
        for _ in range(8):
            step = _step(blocks, _held(corners, len(shape.mm)), per, damping)
            trial = None if step is None else _applied(shape, R, mm, *step, per)
            now = None if trial is None else _squares(corners, *trial)
            if trial is not None and now is not None and _cost(now, scale) <= cost:
                break
            damping *= 10
        else:
            return shape, R, mm
        shape, R, mm = trial
        gain = 1 - _cost(now, scale) / max(cost, 1e-300)
        squares, cost = now, _cost(now, scale)
        damping = max(damping / 10, 1e-9)
        if gain < 1e-9:
            break
    return shape, R, mm


def _finished(corners: Corners, kept: NDArray[np.bool_], shape: Shape, R: Array, mm: Array, per: int) -> Bundle | None:
    good = corners.part(kept)
    markers, held = len(shape.mm), _held(good, len(shape.mm))
    reduced = _reduced(_normal(good, shape, R, mm, np.ones(len(good.view)), per), 0.0)[0]
    free = np.delete(np.arange(markers * per), held * per + np.arange(6))
    try:
        held_covariance = np.linalg.inv(_conditioned(reduced, per, markers)[np.ix_(free, free)])
    except np.linalg.LinAlgError:
        return None
    if not (np.diag(held_covariance) > 0).all():
        return None
    whole = np.zeros((markers * per, markers * per))
    whole[np.ix_(free, free)] = held_covariance
    squares = _squares(corners, shape, R, mm)
    assert squares is not None  # it has just descended there; for mypy
    unknowns = 6 * len(np.unique(good.view)) + 6 * (markers - 1) + (markers - 1 if per == 7 else 0)
    excess = max(1.0, float(squares[kept].sum()) / max(8 * len(good.view) - unknowns, 1))
    poses = (np.arange(markers)[:, None] * per + np.arange(6)).ravel()
    covariance = _best_frame(shape, whole[np.ix_(poses, poses)]) * excess
    sizes = np.zeros(markers)
    if per == 7:
        sizes = np.sqrt(np.diag(whole)[np.arange(markers) * per + 6] * excess)
    return Bundle(shape, R, mm, covariance, sizes, squares, kept, excess)


def _held(corners: Corners, markers: int) -> int:
    """The marker that holds the frame: the one seen most."""
    return int(np.argmax(np.bincount(corners.marker, minlength=markers)))


def _best_frame(shape: Shape, covariance: Array) -> Array:
    """The covariance (6m, 6m) when the frame is not held by one marker but laid to fit all corners best."""
    markers = len(shape.mm)
    middle = shape.mm.mean(axis=0)
    rigid = np.zeros((6 * markers, 6))  # what a motion of the whole body does to each marker
    spread = np.zeros((12 * markers, 6 * markers))  # what an increment does to a marker's corners
    corners = shape.corners_mm()
    for k in range(markers):
        rigid[6 * k : 6 * k + 3, :3] = np.eye(3)
        rigid[6 * k + 3 : 6 * k + 6, :3] = -_skews((shape.mm[k] - middle)[None])[0]
        rigid[6 * k + 3 : 6 * k + 6, 3:] = np.eye(3)
        for c in range(4):
            row = 12 * k + 3 * c
            spread[row : row + 3, 6 * k : 6 * k + 3] = -_skews((corners[k, c] - shape.mm[k])[None])[0]
            spread[row : row + 3, 6 * k + 3 : 6 * k + 6] = np.eye(3)
    Q = np.eye(6 * markers) - rigid @ np.linalg.pinv(spread @ rigid) @ spread
    out = Q @ covariance @ Q.T
    return np.asarray((out + out.T) / 2)


def _cost(squares: Array, scale: float) -> float:
    return float((squares / (1 + squares / (GEMAN_SQUARE * scale))).sum())


def _weights(squares: Array, scale: float) -> Array:
    return np.asarray(1 / (1 + squares / (GEMAN_SQUARE * scale)) ** 2)


def _scale(squares: Array) -> float:
    return max(1.0, float(np.median(squares)) / MEDIAN)


def _project(corners: Corners, shape: Shape, R: Array, mm: Array) -> tuple[Array, Array, Array] | None:
    """Arms from the markers' middles, body points turned into the camera, camera points, each (n, 4, 3)."""
    arms = np.einsum("mij,mcj->mci", shape.R, SQUARE * shape.size_mm[:, None, None])[corners.marker]
    turned = np.einsum("nij,ncj->nci", R[corners.view], arms + shape.mm[corners.marker][:, None])
    p = turned + mm[corners.view][:, None]
    return None if p[..., 2].min() < 1.0 else (arms, turned, p)


def _residuals(corners: Corners, p: Array) -> Array:
    error = p[..., :2] / p[..., 2:] - corners.rays
    return np.asarray(np.einsum("nij,nj->ni", corners.whitening, error.reshape(-1, 8)))


def _squares(corners: Corners, shape: Shape, R: Array, mm: Array) -> Array | None:
    projected = _project(corners, shape, R, mm)
    return None if projected is None else np.asarray((_residuals(corners, projected[2]) ** 2).sum(axis=1))


def _normal(corners: Corners, shape: Shape, R: Array, mm: Array, weights: Array, per: int) -> Blocks:
    """Blocks of the normal equations: pictures (v, 6, 6), markers (m, per, per), both (v, m, 6, per); right sides."""
    projected = _project(corners, shape, R, mm)
    assert projected is not None  # the caller evaluated the squares here; for mypy
    arms, turned, p = projected
    n, views, markers = len(p), len(R), len(shape.mm)
    z = p[..., 2]
    D = np.zeros((n, 4, 2, 3))  # d ray / d point
    D[..., 0, 0] = D[..., 1, 1] = 1 / z
    D[..., :, 2] = -p[..., :2] / z[..., None] ** 2
    J = np.zeros((n, 4, 2, 6 + per))
    J[..., :3] = -D @ _skews(turned)
    J[..., 3:6] = D
    DR = D @ R[corners.view][:, None]
    J[..., 6:9] = -DR @ _skews(arms)
    J[..., 9:12] = DR
    if per == 7:
        J[..., 12] = np.einsum("ncij,ncj->nci", DR, arms)
    J = corners.whitening @ J.reshape(n, 8, 6 + per)
    r = _residuals(corners, p)
    JT = np.swapaxes(J * weights[:, None, None], 1, 2)
    H, g = JT @ J, (JT @ r[..., None])[..., 0]
    A, B = np.zeros((views, 6, 6)), np.zeros((markers, per, per))
    C = np.zeros((views, markers, 6, per))
    a, b = np.zeros((views, 6)), np.zeros((markers, per))
    np.add.at(A, corners.view, H[:, :6, :6])
    np.add.at(B, corners.marker, H[:, 6:, 6:])
    np.add.at(C, (corners.view, corners.marker), H[:, :6, 6:])
    np.add.at(a, corners.view, g[:, :6])
    np.add.at(b, corners.marker, g[:, 6:])
    return A, B, C, a, b


def _reduced(blocks: Blocks, damping: float) -> tuple[Array, Array, Array]:
    """The markers' system (m per, m per) and right side after the pictures are eliminated; the pictures' inverses."""
    A, B, C, a, b = blocks
    views, markers, _, per = C.shape
    diagonal = np.zeros_like(A)
    diagonal[:, range(6), range(6)] = np.einsum("vii->vi", A)
    inverse = np.linalg.inv(A + damping * diagonal + 1e-9 * np.eye(6))  # a picture may have lost all its markers
    wide = C.transpose(0, 2, 1, 3).reshape(views, 6, markers * per)
    carried = inverse @ wide
    S = -np.einsum("vki,vkj->ij", wide, carried)
    right = b.ravel() - np.einsum("vki,vk->i", carried, a)
    for k in range(markers):
        block = slice(k * per, (k + 1) * per)
        S[block, block] += B[k] + damping * np.diag(np.diag(B[k]))
    return S, np.asarray(right), np.asarray(inverse)


def _conditioned(S: Array, per: int, markers: int) -> Array:
    """With the mean of the relative sizes held."""
    if per == 7:
        rows = np.arange(markers) * per + 6
        S = S.copy()
        S[np.ix_(rows, rows)] += 1 / (markers * SIZES_SD) ** 2
    return S


def _step(blocks: Blocks, held: int, per: int, damping: float) -> tuple[Array, Array] | None:
    """Increments of the pictures (v, 6) and of the markers (m, per); None where the system is singular."""
    _, B, C, a, _ = blocks
    views, markers = len(a), len(B)
    try:
        S, right, inverse = _reduced(blocks, damping)
        free = np.delete(np.arange(markers * per), held * per + np.arange(6))
        dm = np.zeros(markers * per)
        dm[free] = -np.linalg.solve(_conditioned(S, per, markers)[np.ix_(free, free)], right[free])
    except np.linalg.LinAlgError:
        return None
    wide = C.transpose(0, 2, 1, 3).reshape(views, 6, markers * per)
    dv = -np.einsum("vij,vj->vi", inverse, a + wide @ dm)
    if not (np.isfinite(dm).all() and np.isfinite(dv).all()):
        return None
    return dv, dm.reshape(markers, per)


def _applied(shape: Shape, R: Array, mm: Array, dv: Array, dm: Array, per: int) -> tuple[Shape, Array, Array]:
    size = shape.size_mm * (1 + dm[:, 6]) if per == 7 else shape.size_mm
    turned = np.stack([rotation_exp(d[:3]) @ r for d, r in zip(dm, shape.R, strict=True)])
    return (
        Shape(turned, shape.mm + dm[:, 3:6], size),
        np.stack([rotation_exp(d[:3]) @ r for d, r in zip(dv, R, strict=True)]),
        mm + dv[:, 3:],
    )


def _skews(v: Array) -> Array:
    out = np.zeros((*v.shape, 3))
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 0] = -v[..., 2], v[..., 1], v[..., 2]
    out[..., 1, 2], out[..., 2, 0], out[..., 2, 1] = -v[..., 0], -v[..., 1], v[..., 0]
    return out


def aligned(shape: Shape, onto_mm: Array, rows: Sequence[int]) -> tuple[Array, Array]:
    """The motion (R, t) that lays the corners of some markers onto given ones (k, 4, 3) best (Kabsch)."""
    ours = shape.corners_mm()[list(rows)].reshape(-1, 3)
    theirs = onto_mm.reshape(-1, 3)
    u, _, vt = np.linalg.svd((theirs - theirs.mean(axis=0)).T @ (ours - ours.mean(axis=0)))
    R = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return R, theirs.mean(axis=0) - R @ ours.mean(axis=0)
