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
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, rotation_exp
from tracking.calibration.board_view import BoardView
from tracking.calibration.lens_model import LensModel, project

GEMAN_SD = 6.0
JACKKNIFE_TRUST = 2.0  # scatter between pictures below twice the expected is chance
Pose = tuple[Array, Array]


class NoFit(Fault):
    """Views that no camera of this model explains."""


@dataclass(frozen=True, eq=False)
class Stack:
    """All corners of all views: view (n,), id (n,), px (n, 2), claimed covariance (n, 2, 2); `rows` of each view."""

    view: NDArray[np.int64]
    ids: NDArray[np.int64]
    px: Array
    covariance: Array
    rows: tuple[slice, ...]

    @classmethod
    def of(cls, views: Sequence[BoardView], *, equal: bool = False) -> Stack:
        """Pile the views up; `equal` takes every corner as known to one pixel."""
        ends = np.cumsum([0, *(len(v) for v in views)]).tolist()
        covariance = np.concatenate([v.covariance_px2 for v in views])
        return cls(
            np.repeat(np.arange(len(views)), np.diff(ends)),
            np.concatenate([v.ids for v in views]),
            np.concatenate([v.corners_px for v in views]),
            np.broadcast_to(np.eye(2), covariance.shape) if equal else covariance,
            tuple(slice(a, b) for a, b in pairwise(ends)),
        )

    def root(self, excess_px2: float) -> Array:
        """Whitening (n, 2, 2) of the corners' errors with one more variance on top."""
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self.covariance + excess_px2 * np.eye(2))))


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


@dataclass(frozen=True, eq=False)
class _State:
    """A point of the search: lens, poses, board offsets (K, 3)."""

    lens: Array
    poses: tuple[Pose, ...]
    offsets: Array


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Residuals (n, 2) px, whitened ones, their squares; whitened d pixel / d lens (n, 2, m), / d pose (n, 2, 6).

    `by_board` (n, 2, 3): / d the corner's own place, where the board is estimated.
    """

    residuals: Array
    whitened: Array
    squares: Array
    by_lens: Array
    by_pose: Array
    by_board: Array | None


@dataclass(frozen=True, eq=False)
class _Problem:
    """What stays the same through one bundle."""

    stack: Stack
    root: Array
    points_mm: Array
    model: LensModel
    board_sd_mm: float
    robust: bool
    held: bool = False

    @property
    def unknowns(self) -> int:
        return (0 if self.held else 4 + len(self.model.coefficients)) + 6 * len(self.stack.rows)

    def slopes(self, at: _State) -> _Slopes:
        """Residuals and their derivatives. Raises BadLens."""
        stack = self.stack
        R = np.stack([pose[0] for pose in at.poses])[stack.view]
        t = np.stack([pose[1] for pose in at.poses])[stack.view]
        turned = np.einsum("nij,nj->ni", R, (self.points_mm + at.offsets)[stack.ids])
        xyz = turned + t
        if float(xyz[:, 2].min()) < 1.0:
            raise BadLens("a corner fell behind the camera")
        px, by_point, by_lens = project(self.model, at.lens, xyz)
        by_pose = np.empty((len(px), 2, 6))
        by_pose[:, :, :3] = np.cross(turned[:, None, :], by_point)  # d point / d w = -[turned]x
        by_pose[:, :, 3:] = by_point
        residuals = stack.px - px
        whitened = np.einsum("nij,nj->ni", self.root, residuals)
        board = self.root @ by_point @ R if self.board_sd_mm > 0 else None
        square = (whitened**2).sum(axis=1)
        return _Slopes(residuals, whitened, square, self.root @ by_lens, self.root @ by_pose, board)

    def scale(self, squares: Array) -> float:
        """How much larger the squares are than claimed; their median would be 1.386 (chi-square, two degrees)."""
        if not self.robust:
            return 1.0
        freedom = max(2 * len(squares) - self.unknowns, 2)
        return max(1.0, float(np.median(squares)) / 1.386 * 2 * len(squares) / freedom)

    def weights(self, squares: Array, scale: float) -> Array:
        """Geman-McClure's."""
        if not self.robust:
            return np.ones(len(squares))
        return np.asarray(1.0 / (1.0 + squares / (GEMAN_SD**2 * scale)) ** 2)

    def cost(self, slopes: _Slopes, at: _State, scale: float) -> float:
        """What is minimised, with the weights' scale held."""
        squares = slopes.squares
        total = float((squares / (1.0 + squares / (GEMAN_SD**2 * scale))).sum() if self.robust else squares.sum())
        if self.board_sd_mm > 0:
            total += float((at.offsets**2).sum()) / self.board_sd_mm**2
        return total if np.isfinite(total) else float("inf")


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal equations: whole (G, G) of lens and board with the board's prior; a view: whole_right (V, G), joint
    (V, G, 6), pose (V, 6, 6) and pose_right (V, 6). `parts` are what `reduced` needs of each view's whole.
    """

    whole: Array
    whole_right: Array
    joint: Array
    pose: Array
    pose_right: Array
    prior_right: Array
    parts: tuple[Array, Array, Array, NDArray[np.int64], NDArray[np.int64]]

    @classmethod
    def of(cls, problem: _Problem, slopes: _Slopes, weights: Array, at: _State) -> _Normal:
        """Sum the corners' parts up."""
        root = np.sqrt(weights)[:, None]
        L, P, r = slopes.by_lens * root[..., None], slopes.by_pose * root[..., None], slopes.whitened * root
        rows, view, ids = problem.stack.rows, problem.stack.view, problem.stack.ids
        V, m, n = len(rows), len(at.lens), len(r)
        K = len(problem.points_mm) if slopes.by_board is not None else 0
        lens, pose = np.empty((V, m, m)), np.empty((V, 6, 6))
        joint, right, pose_right = np.zeros((V, m + 3 * K, 6)), np.zeros((V, m + 3 * K)), np.empty((V, 6))
        for v, part in enumerate(rows):
            l2, p2, r2 = L[part].reshape(-1, m), P[part].reshape(-1, 6), r[part].ravel()
            lens[v], pose[v], joint[v, :m] = l2.T @ l2, p2.T @ p2, l2.T @ p2
            right[v, :m], pose_right[v] = l2.T @ r2, p2.T @ r2
        whole, prior_right = np.zeros((m + 3 * K, m + 3 * K)), np.zeros(m + 3 * K)
        whole[:m, :m] = lens.sum(axis=0)
        cross, block = np.zeros((n, m, 3)), np.zeros((n, 3, 3))
        if slopes.by_board is not None:
            B = slopes.by_board * root[..., None]
            cross, block = np.swapaxes(L, 1, 2) @ B, np.swapaxes(B, 1, 2) @ B
            joint[:, m:].reshape(V, K, 3, 6)[view, ids] = np.swapaxes(B, 1, 2) @ P
            right[:, m:].reshape(V, K, 3)[view, ids] = np.einsum("nki,nk->ni", B, r)
            sums = np.zeros((K, m, 3))
            np.add.at(sums, ids, cross)
            whole[:m, m:] = sums.transpose(1, 0, 2).reshape(m, -1)
            whole[m:, :m] = whole[:m, m:].T
            own = np.zeros((K, 3, 3))
            np.add.at(own, ids, block)
            corner = np.arange(K)
            whole[m:, m:].reshape(K, 3, K, 3)[corner, :, corner, :] = own + np.eye(3) / problem.board_sd_mm**2
            prior_right[m:] = -at.offsets.ravel() / problem.board_sd_mm**2
        return cls(whole, right, joint, pose, pose_right, prior_right, (lens, cross, block, view, ids))

    def reduced(self) -> tuple[Array, Array]:
        """Each view's part with its pose eliminated: (V, G, G) and (V, G)."""
        lens, cross, block, view, ids = self.parts
        m = lens.shape[1]
        K = (self.joint.shape[1] - m) // 3
        gain = self.joint @ np.linalg.inv(self.pose)
        normal = -gain @ np.swapaxes(self.joint, 1, 2)
        normal[:, :m, :m] += lens
        for i in range(3 if K else 0):
            place = m + 3 * ids + i
            normal[view, :m, place] += cross[:, :, i]
            normal[view, place, :m] += cross[:, :, i]
            for j in range(3):
                normal[view, place, m + 3 * ids + j] += block[:, i, j]
        return normal, self.whole_right - np.einsum("vgi,vi->vg", gain, self.pose_right)

    def step(self, damping: float, held: bool) -> tuple[Array, Array] | None:
        """The damped step: (G,) and (V, 6); None where the system is singular."""
        diagonal = np.einsum("vii->vi", self.pose)
        pose = self.pose + damping * diagonal[:, :, None] * np.eye(6)
        try:
            inverse = np.linalg.inv(pose)
            if held:
                return np.zeros(len(self.whole)), np.einsum("vij,vj->vi", inverse, self.pose_right)
            gain = self.joint @ inverse
            whole = self.whole + damping * np.diag(np.diag(self.whole))
            G = len(whole)
            whole -= np.swapaxes(gain, 0, 1).reshape(G, -1) @ np.swapaxes(self.joint, 0, 1).reshape(G, -1).T
            right = self.whole_right.sum(axis=0) + self.prior_right - np.einsum("vgi,vi->g", gain, self.pose_right)
            size = 1.0 / np.sqrt(np.maximum(np.diag(whole), 1e-300))  # focal lengths and k6 differ by ten decades
            delta = size * np.linalg.solve(whole * size[:, None] * size, right * size)
        except np.linalg.LinAlgError:
            return None
        moves = np.einsum("vij,vj->vi", inverse, self.pose_right - np.einsum("vgi,g->vi", self.joint, delta))
        return (delta, moves) if np.isfinite(delta).all() and np.isfinite(moves).all() else None


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
    at = _State(lens, poses, offsets)
    excess_px2 = 0.0 if start is None or equal else start.excess_px**2
    for turn in range(1 if equal else 5):
        problem = _Problem(stack, stack.root(excess_px2), points_mm, model, board_sd_mm, not equal)
        at, slopes, weights = _bundle(problem, at)
        if equal:
            break
        more = _excess(problem, slopes, weights)
        if turn and abs(more - excess_px2) <= 0.05 * excess_px2 + 1e-8:
            break
        excess_px2 = more
    m = len(at.lens)
    normal = _Normal.of(problem, slopes, weights, at)
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
    problem = _Problem(stack, stack.root(fit.excess_px**2), board, fit.model, 0.0, True, held=True)
    at, slopes, _ = _bundle(problem, _State(fit.parameters, poses, np.zeros_like(board)))
    return at.poses, slopes.residuals


def evidence(views: Sequence[BoardView], points_mm: Array, fit: CameraFit) -> tuple[Array, Array, Array]:
    """What each view says of a lens that is held, its own pose eliminated.

    Normal matrices (V, m, m) and gradients (V, m): a change d of the lens lowers the sum of squares of view v by
    2 d.g - d.H d. And the residuals (n, 2) px. Raises NoFit, BadLens.
    """
    stack = Stack.of(views)
    board = points_mm + fit.offsets_mm
    poses = tuple(board_pose(view, board, fit.pinhole)[0] for view in views)
    problem = _Problem(stack, stack.root(fit.excess_px**2), board, fit.model, 0.0, True, held=True)
    at, slopes, weights = _bundle(problem, _State(fit.parameters, poses, np.zeros_like(board)))
    normals, gradients = _Normal.of(problem, slopes, weights, at).reduced()
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


def _bundle(problem: _Problem, at: _State) -> tuple[_State, _Slopes, Array]:
    """Levenberg-Marquardt from a start; returns the solution, its derivatives and the corners' weights."""
    damping = 1e-3
    try:
        slopes = problem.slopes(at)
    except BadLens as fault:
        raise NoFit(f"the fit can't start: {fault.message}") from None
    m = len(at.lens)
    for _ in range(100):
        scale = problem.scale(slopes.squares)
        normal = _Normal.of(problem, slopes, problem.weights(slopes.squares, scale), at)
        cost = problem.cost(slopes, at, scale)
        gained = 0.0
        for _ in range(14):
            step = normal.step(damping, problem.held)
            damping *= 8
            if step is None:
                continue
            delta, moves = step
            poses = tuple((rotation_exp(w[:3]) @ R, t + w[3:]) for (R, t), w in zip(at.poses, moves, strict=True))
            bend = delta[m:].reshape(-1, 3) if problem.board_sd_mm > 0 else 0.0
            tried = _State(at.lens + delta[:m], poses, at.offsets + bend)
            try:
                there = problem.slopes(tried)
            except BadLens:
                continue
            gained = cost - problem.cost(there, tried, scale)
            if gained >= 0:
                at, slopes, damping = tried, there, max(damping / 64, 1e-12)
                break
        if not gained > (1e-7 if problem.robust else 1e-11) * (1.0 + cost):  # re-weighting converges slowly
            break
    straight = []
    for R, t in at.poses:  # rounding adds up over the steps
        u, _, v = np.linalg.svd(R)
        straight.append((u @ v, t))
    scale = problem.scale(slopes.squares)
    return _State(at.lens, tuple(straight), at.offsets), slopes, problem.weights(slopes.squares, scale)


def _excess(problem: _Problem, slopes: _Slopes, weights: Array) -> float:
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
