"""The least squares behind a rig: the cameras' places and the board's pose at each instant, the poses eliminated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import BadLens
from spatial.rigid import Array, rotation_exp
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.bundle import GEMAN_SD
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.lens_model import LensModel, project

Shot = Mapping[int, BoardView]
Lens = tuple[LensModel, Array]


@dataclass(frozen=True, eq=False)
class Seen:
    """One camera's view at one instant: places on the board, pixels, whitening."""

    camera: int
    mm: Array
    px: Array
    covariance: Array


@dataclass(frozen=True, eq=False)
class Rig:
    """camera_from_rig (R, t) of all cameras, rig_from_board (R, t) at all instants."""

    cameras: list[tuple[Array, Array]]
    boards: list[tuple[Array, Array]]


def gather(shots: Sequence[Shot], board: Board) -> list[list[Seen]]:
    """The evidence of each instant, its cameras in order."""
    return [
        [Seen(c, board.points_mm[v.ids], v.corners_px, v.covariance_px2) for c, v in sorted(shot.items())]
        for shot in shots
    ]


def slopes(seen: Seen, rig: Rig, shot: int, lens: Lens) -> tuple[Array, Array, Array, Array]:
    """Residuals (k, 2), d pixel / d camera's place (k, 2, 6), / d board's pose (k, 2, 6), / d lens (k, 2, m)."""
    Rc, tc = rig.cameras[seen.camera]
    Rs, ts = rig.boards[shot]
    turned = seen.mm @ Rs.T
    at = (turned + ts) @ Rc.T
    xyz = at + tc
    if float(xyz[:, 2].min()) < 1.0:
        raise BadLens("a corner fell behind a camera")
    px, by_point, by_lens = project(*lens, xyz)
    by_rig = by_point @ Rc
    place = np.concatenate([np.cross(at[:, None, :], by_point), by_point], axis=2)
    pose = np.concatenate([np.cross(turned[:, None, :], by_rig), by_rig], axis=2)
    return seen.px - px, place, pose, by_lens


def fit_rig(
    shots: Sequence[Shot], lenses: Sequence[Lens], board: Board, start: Rig
) -> tuple[Rig, list[list[Seen]], float, list[list[Array]]]:
    """The bundle; returns the rig, the evidence, the excess variance px2 and squared residuals px2."""
    seen, rig, excess = gather(shots, board), start, 0.0
    squares: list[list[Array]] = []
    for turn in range(4):
        damping, cost = 1e-3, np.inf
        for _ in range(40):
            solved = Solved.of(rig, seen, lenses, excess, None)
            if not solved.cost < cost * (1 - 1e-9) and np.isfinite(cost):
                break
            cost = solved.cost
            for _ in range(12):
                tried = solved.moved(damping)
                damping *= 8
                try:
                    if tried is not None and Solved.of(tried, seen, lenses, excess, None, solved.scale).cost <= cost:
                        rig, damping = tried, max(damping / 64, 1e-12)
                        break
                except BadLens:
                    continue
            else:
                break
        squares = [
            [(slopes(v, rig, k, lenses[v.camera])[0] ** 2).sum(axis=1) for v in views] for k, views in enumerate(seen)
        ]
        flat = np.concatenate([s for row in squares for s in row])
        claimed = np.mean([np.trace(v.covariance, axis1=1, axis2=2).mean() / 2 for views in seen for v in views])
        freedom = 1 - (6 * len(seen) + 6 * (len(lenses) - 1)) / (2 * len(flat))
        capped = np.minimum(flat, 9 * np.median(flat) / 0.693).mean() / 2 / max(freedom, 0.1)
        more = max(0.0, float(capped - claimed))
        if turn and abs(more - excess) <= 0.05 * excess + 1e-8:
            break
        excess = more
    return rig, seen, excess, squares


@dataclass(frozen=True, eq=False)
class Solved:
    """Normal equations at a point: G = places of cameras 1 … (6 each), then their lateness, then all lenses."""

    rig: Rig
    whole: Array
    right: Array
    joint: Array
    pose: Array
    pose_right: Array
    cost: float
    scale: float
    spare: float
    places_count: int
    lens_at: tuple[int, ...]

    @classmethod
    def of(
        cls, rig: Rig, seen: list[list[Seen]], lenses: Sequence[Lens], excess: float,
        twists: list[Array | None] | None, scale: float | None = None,
    ) -> Solved:  # fmt: skip
        """Sum up all corners. `twists`: the board's velocity (rad/s, mm/s) at each instant, where known."""
        count = len(rig.cameras) - 1
        sizes = np.cumsum([7 * count, *(len(lens[1]) for lens in lenses)]).tolist()
        G, S = sizes[-1], len(seen)
        rows = []
        for k, views in enumerate(seen):
            for v in views:
                residuals, place, pose, by_lens = slopes(v, rig, k, lenses[v.camera])
                root = np.linalg.inv(np.linalg.cholesky(v.covariance + excess * np.eye(2)))
                rows.append(
                    (k, v.camera, np.einsum("nij,nj->ni", root, residuals), root @ place, root @ pose, root @ by_lens)
                )
        squares = np.concatenate([(r[2] ** 2).sum(axis=1) for r in rows])
        scale = max(1.0, float(np.median(squares)) / 1.386) if scale is None else scale
        whole, right, cost, spare = np.zeros((G, G)), np.zeros(G), 0.0, 0.0
        joint, normal, pose_right = np.zeros((S, G, 6)), np.zeros((S, 6, 6)), np.zeros((S, 6))
        for k, c, r, place, pose, by_lens in rows:
            square = (r**2).sum(axis=1)
            cost += float((square / (1 + square / (GEMAN_SD**2 * scale))).sum())
            weight = 1 / (1 + square / (GEMAN_SD**2 * scale)) ** 2
            spare += 2 * float(weight.sum())
            w = np.sqrt(weight)[:, None]
            J = np.zeros((len(r), 2, G))
            if c > 0:
                J[:, :, 6 * (c - 1) : 6 * c] = place
                twist = None if twists is None else twists[k]
                if twist is not None:
                    J[:, :, 6 * count + c - 1] = -pose @ twist  # later by tau: it sees the board tau earlier
            J[:, :, sizes[c] : sizes[c + 1]] = by_lens
            flat, p, e = (J * w[..., None]).reshape(-1, G), (pose * w[..., None]).reshape(-1, 6), (r * w).ravel()
            whole += flat.T @ flat
            right += flat.T @ e
            joint[k] += flat.T @ p
            normal[k] += p.T @ p
            pose_right[k] += p.T @ e
        return cls(rig, whole, right, joint, normal, pose_right, cost, scale, spare, count, tuple(sizes[:-1]))

    def reduced(self, damping: float = 0.0) -> tuple[Array, Array]:
        """The boards' poses eliminated."""
        diagonal = np.einsum("sii->si", self.pose)
        gain = self.joint @ np.linalg.inv(self.pose + damping * diagonal[:, :, None] * np.eye(6))
        normal = self.whole - np.einsum("sgi,shi->gh", gain, self.joint)
        return normal, self.right - np.einsum("sgi,si->g", gain, self.pose_right)

    def moved(self, damping: float) -> Rig | None:
        """The rig after a damped step of places and poses."""
        n = 6 * self.places_count
        normal, right = self.reduced(damping)
        try:
            step = np.linalg.solve(normal[:n, :n] + damping * np.diag(np.diag(self.whole)[:n]), right[:n])
        except np.linalg.LinAlgError:
            return None
        diagonal = np.einsum("sii->si", self.pose)
        inverse = np.linalg.inv(self.pose + damping * diagonal[:, :, None] * np.eye(6))
        moves = np.einsum("sij,sj->si", inverse, self.pose_right - np.einsum("sgi,g->si", self.joint[:, :n], step))

        def shift(pose: tuple[Array, Array], by: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
            u, _, v = np.linalg.svd(rotation_exp(by[:3]) @ pose[0])
            return u @ v, np.asarray(pose[1] + by[3:])

        cameras = [self.rig.cameras[0]]
        cameras += [shift(c, step[6 * k : 6 * k + 6]) for k, c in enumerate(self.rig.cameras[1:])]
        return Rig(cameras, [shift(b, move) for b, move in zip(self.rig.boards, moves, strict=True)])

    def places(self, cameras: Sequence[Calibrated], lenses: Sequence[Lens]) -> list[Array]:
        """Covariance (6, 6) of each further camera_from_rig: the corners' noise, and the lenses'."""
        n = 6 * self.places_count
        normal, _ = self.reduced()
        inverse = np.linalg.inv(normal[:n, :n])
        freedom = max(1.0, self.spare - 6 * len(self.pose) - n)
        covariance = inverse * max(1.0, self.cost / freedom)
        for at, camera, (model, _) in zip(self.lens_at, cameras, lenses, strict=True):
            if camera.names == model.names:
                gain = inverse @ normal[:n, at : at + len(model.names)]
                covariance = covariance + gain @ camera.covariance @ gain.T
        blocks = [covariance[k : k + 6, k : k + 6] for k in range(0, n, 6)]
        return [(block + block.T) / 2 for block in blocks]

    def late(self) -> tuple[list[float], list[float], list[Array]]:
        """How late each further camera is, s, its sd (inf: nothing moved), and how its place would change (6,)."""
        n = 6 * self.places_count
        normal, right = self.reduced()
        late, sds, moved = [], [], []
        for c in range(self.places_count):
            keep = [*range(n), n + c]
            part = normal[np.ix_(keep, keep)]
            if part[n, n] < 1e-6:
                late.append(0.0)
                sds.append(float("inf"))
                moved.append(np.zeros(6))
                continue
            size = 1 / np.sqrt(np.diag(part))
            inverse = np.linalg.pinv(part * size[:, None] * size, hermitian=True) * size[:, None] * size
            change = inverse @ right[keep]
            late.append(float(change[n]))
            moved.append(change[6 * c : 6 * c + 6])
            sds.append(float(np.sqrt(inverse[n, n])))
        return late, sds, moved
