"""A camera's lens from views of a board: one robust bundle over the lens, the boards' poses and, if asked, the board.

Levenberg-Marquardt with analytic derivatives; each view's pose is eliminated (Schur complement; Triggs et al. 2000),
so the system is as large as the lens, and the board where it is estimated too. Corners are whitened by their own
covariance and weighted by Geman-McClure. What the residuals have beyond what the corners claim (the print, the light,
the model) becomes one more variance of every corner, so weights and covariance know of it. The covariance widens
further where leaving out pictures moves the lens more than independent errors would (jackknife over pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, rotation_exp
from tracking.calibration.board_view import BoardView
from tracking.calibration.bundle import NoFit, Normal, Pose, Problem, Slopes, Stack, State, run_bundle
from tracking.calibration.lens_model import LensModel

__all__ = ["CameraFit", "NoFit", "Pose", "Stack", "board_pose", "evidence", "first_guess", "fit_camera", "resect"]
JACKKNIFE_TRUST = 2.0  # scatter between pictures below twice the expected is chance


@dataclass(frozen=True, eq=False)
class CameraFit:
    """A fitted camera with its evidence.

    `covariance` is of the lens' parameters (`names`). `poses`: (R, t) of camera_from_board, a view. `residuals_px`
    (n, 2) are seen minus predicted, `weights` (n,) 1 for a good corner, near 0 for an outlier; `rms_px` is of those
    that count, `view_rms_px` of all. `excess_px`: sd that every corner has beyond its claim. `offsets_mm` (K, 3): the
    board's corners off their nominal places. `widened`: by how much the jackknife widened the sds.
    """

    model: LensModel
    pinhole: Pinhole
    covariance: Array
    poses: tuple[Pose, ...]
    stack: Stack
    residuals_px: Array
    weights: Array
    rms_px: float
    view_rms_px: Array
    excess_px: float
    offsets_mm: Array
    widened: float

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of `covariance`."""
        return self.model.names

    @property
    def parameters(self) -> Array:
        """The lens as a vector, in the order of `names`."""
        return self.model.parameters(self.pinhole)


def fit_camera(
    views: Sequence[BoardView],
    points_mm: Array,
    model: LensModel,
    size_px: tuple[int, int],
    *,
    start: CameraFit | None = None,
    board_sd_mm: float = 0.0,
    equal: bool = False,
    jackknife: bool = True,
) -> CameraFit:
    """Fit `model` to views of a board whose corner `id` is `points_mm[id]`.

    `board_sd_mm` above zero lets each of the board's corners leave its place by about as much (a prior, which also
    fixes the gauge). `equal` is plain least squares, every corner alike, as OpenCV's. `start`: a fit of the same views.
    Without `jackknife` the covariance is as if all errors were independent. Raises NoFit.
    """
    stack = Stack.of(views, equal=equal)
    offsets = np.zeros((len(points_mm), 3))
    if start is None:
        lens, poses = first_guess(views, points_mm, model, size_px)
    else:
        lens, poses = model.parameters(start.pinhole), start.poses
        offsets = start.offsets_mm.copy() if board_sd_mm > 0 else offsets
    at = State(lens, poses, offsets)
    excess_px2 = 0.0 if start is None or equal else start.excess_px**2
    for turn in range(1 if equal else 5):
        problem = Problem(stack, stack.root(excess_px2), points_mm, model, board_sd_mm, not equal)
        at, slopes, weights = run_bundle(problem, at)
        if equal:
            break
        more = _excess(problem, slopes, weights)
        if turn and abs(more - excess_px2) <= 0.05 * excess_px2 + 1e-8:
            break
        excess_px2 = more
    m = len(at.lens)
    normal = Normal.of(problem, slopes, weights, at)
    normals, gradients = normal.reduced()
    total = normals.sum(axis=0)
    if board_sd_mm > 0:
        total[m:, m:] += np.eye(len(total) - m) / board_sd_mm**2
    freedom = max(1.0, 2 * float(weights.sum()) - problem.unknowns)
    chi = float((weights * slopes.squares).sum()) / freedom
    covariance = _inverse(total)[:m, :m] * (chi if equal else max(1.0, chi))
    widened = 1.0 if equal or not jackknife else _jackknife(normals, gradients, total, covariance)
    squared = (slopes.residuals**2).sum(axis=1)
    kept = weights > 0.2 if (weights > 0.2).any() else np.ones(len(weights), dtype=bool)
    return CameraFit(
        model,
        model.pinhole(at.lens, *size_px),
        covariance * widened**2,
        at.poses,
        stack,
        slopes.residuals,
        weights,
        float(np.sqrt(squared[kept].mean())),
        np.array([np.sqrt(squared[rows].mean()) for rows in stack.rows]),
        float(np.sqrt(excess_px2)),
        at.offsets,
        widened,
    )


def resect(views: Sequence[BoardView], points_mm: Array, fit: CameraFit) -> tuple[tuple[Pose, ...], Array]:
    """Poses of further views with the lens held, and their residuals (n, 2) px. Raises NoFit, BadLens."""
    stack = Stack.of(views)
    board = points_mm + fit.offsets_mm
    poses = tuple(board_pose(view, board, fit.pinhole)[0] for view in views)
    problem = Problem(stack, stack.root(fit.excess_px**2), board, fit.model, 0.0, True, held=True)
    at, slopes, _ = run_bundle(problem, State(fit.parameters, poses, np.zeros_like(board)))
    return at.poses, slopes.residuals


def evidence(
    views: Sequence[BoardView], points_mm: Array, fit: CameraFit, board_sd_mm: float = 0.0
) -> tuple[Array, Array, Array]:
    """What each view says of a lens that is held, its own pose eliminated.

    Normal matrices (V, m, m) and gradients (V, m): a change d of the lens lowers the sum of squares of view v by
    2 d.g - d.H d. And the residuals (n, 2) px. With `board_sd_mm` above zero the board's corners (x0, y0, z0, x1 ...)
    follow the lens' parameters in both, without a prior. Raises NoFit, BadLens.
    """
    stack = Stack.of(views)
    board = points_mm + fit.offsets_mm
    poses = tuple(board_pose(view, board, fit.pinhole)[0] for view in views)
    problem = Problem(stack, stack.root(fit.excess_px**2), board, fit.model, board_sd_mm, True, held=True)
    at, slopes, weights = run_bundle(problem, State(fit.parameters, poses, np.zeros_like(board)))
    normals, gradients = Normal.of(problem, slopes, weights, at).reduced()
    return normals, gradients, slopes.residuals


def first_guess(
    views: Sequence[BoardView], points_mm: Array, model: LensModel, size_px: tuple[int, int]
) -> tuple[Array, tuple[Pose, ...]]:
    """The best of a row of focal lengths with the centre in the middle, and the poses that go with it. Raises NoFit."""
    width, height = size_px
    best: tuple[float, Array, tuple[Pose, ...]] | None = None
    for factor in np.geomspace(0.2, 4.0, 26):
        focal = factor * width * (1.0 if model.lens == "brown" else 0.6)
        lens = np.array([focal, focal, (width - 1) / 2, (height - 1) / 2, *np.zeros(len(model.coefficients))])
        pinhole = model.pinhole(lens, width, height)
        try:
            found = [board_pose(view, points_mm, pinhole) for view in views]
        except (NoFit, BadLens):
            continue
        error = float(np.median([rms for _, rms in found]))
        if best is None or error < best[0]:
            best = error, lens, tuple(pose for pose, _ in found)
    if best is None:
        raise NoFit("no focal length between a fifth and four times the picture's width explains the views")
    return best[1], best[2]


def board_pose(view: BoardView, points_mm: Array, pinhole: Pinhole) -> tuple[Pose, float]:
    """A flat board's pose (R, t) and its RMS px, by IPPE (Collins & Bartoli 2014). Raises NoFit, BadLens."""
    rays = pinhole.normalised(view.corners_px)
    mm = points_mm[view.ids]
    middle = mm.mean(axis=0)
    flat = mm - middle
    flat[:, 2] = 0.0
    try:
        _, turns, shifts, errors = cv2.solvePnPGeneric(flat, rays, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    except cv2.error:
        raise NoFit(f"no pose explains the board in {view.name}") from None
    for turn, shift, error in zip(turns, shifts, np.ravel(errors), strict=True):
        R = rotation_exp(np.ravel(turn))
        t = np.ravel(shift) - R @ middle
        if np.isfinite(t).all() and (mm @ R.T + t)[:, 2].min() > 1.0:
            return (R, t), float(error) * pinhole.fx_px
    raise NoFit(f"no pose before the camera explains the board in {view.name}")


def _excess(problem: Problem, slopes: Slopes, weights: Array) -> float:
    """Variance (px2) of a corner's coordinate beyond what is claimed; 0 where the claims explain the residuals."""
    n = len(weights)
    squared = (slopes.residuals**2).sum(axis=1) / 2
    limit = 9.0 * float(np.median(squared)) / 0.693  # an outlier counts as three sd, not more
    seen = float(np.minimum(squared, limit).mean()) * 2 * n / max(2 * n - problem.unknowns, 2)
    claimed = float(np.trace(problem.stack.covariance, axis1=1, axis2=2).mean()) / 2
    return max(0.0, seen - claimed)


def _jackknife(normals: Array, gradients: Array, total: Array, covariance: Array) -> float:
    """By how much the sds must grow so that leaving out one picture at a time moves the lens no more than expected."""
    m, count = len(covariance), len(normals)
    moves = []
    for normal, gradient in zip(normals, gradients, strict=True):
        try:
            moves.append(-np.linalg.solve(total - normal, gradient)[:m])
        except np.linalg.LinAlgError:
            return 1.0
    spread = np.array(moves) - np.mean(moves, axis=0)
    ratio = float(np.einsum("vi,ij,vj->", spread, _inverse(covariance), spread)) * (count - 1) / count / m
    return float(np.sqrt(ratio)) if ratio > JACKKNIFE_TRUST else 1.0


def _inverse(matrix: Array) -> Array:
    """Of a positive matrix whose entries differ by many decades; what it leaves open is left at zero."""
    size = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix * size[:, None] * size
    try:
        root = np.linalg.inv(np.linalg.cholesky(scaled))
        inverse = root.T @ root
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(scaled, hermitian=True)
    inverse = inverse * size[:, None] * size
    return np.asarray((inverse + inverse.T) / 2)
