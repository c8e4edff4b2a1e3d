"""The bundle behind a camera's calibration: lens, boards' poses and the board's own corners, the poses eliminated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.pinhole import BadLens
from spatial.rigid import Array, rotation_exp
from tracking.calibration.board_view import BoardView
from tracking.calibration.lens_model import LensModel, project

GEMAN_SD = 6.0
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
class State:
    """A point of the search: lens, poses, board offsets (K, 3)."""

    lens: Array
    poses: tuple[Pose, ...]
    offsets: Array


@dataclass(frozen=True, eq=False)
class Slopes:
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
class Problem:
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
        """How many numbers are looked for, the board's own aside."""
        return (0 if self.held else 4 + len(self.model.coefficients)) + 6 * len(self.stack.rows)

    def slopes(self, at: State) -> Slopes:
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
        return Slopes(residuals, whitened, square, self.root @ by_lens, self.root @ by_pose, board)

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

    def cost(self, slopes: Slopes, at: State, scale: float) -> float:
        """What is minimised, with the weights' scale held."""
        squares = slopes.squares
        total = float((squares / (1.0 + squares / (GEMAN_SD**2 * scale))).sum() if self.robust else squares.sum())
        if self.board_sd_mm > 0:
            total += float((at.offsets**2).sum()) / self.board_sd_mm**2
        return total if np.isfinite(total) else float("inf")


@dataclass(frozen=True, eq=False)
class Normal:
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
    def of(cls, problem: Problem, slopes: Slopes, weights: Array, at: State) -> Normal:
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


def run_bundle(problem: Problem, at: State) -> tuple[State, Slopes, Array]:
    """Levenberg-Marquardt from a start; returns the solution, its derivatives and the corners' weights."""
    damping = 1e-3
    try:
        slopes = problem.slopes(at)
    except BadLens as fault:
        raise NoFit(f"the fit can't start: {fault.message}") from None
    m = len(at.lens)
    for _ in range(100):
        scale = problem.scale(slopes.squares)
        normal = Normal.of(problem, slopes, problem.weights(slopes.squares, scale), at)
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
            tried = State(at.lens + delta[:m], poses, at.offsets + bend)
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
    return State(at.lens, tuple(straight), at.offsets), slopes, problem.weights(slopes.squares, scale)
