"""A first arrangement of a body's markers, from pictures alone: what pairs of them agree on, along a tree.

A single marker has two poses in a picture, so a pair has four relative poses; the wrong ones differ from picture to
picture, the right one repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from tracking.calibration.body_bundle import SQUARE, Corners, Shape
from tracking.pose.starts import Guess, guesses

Rated = tuple[Array, Array, float]

PICTURES_A_PAIR = 40
PLAINLY, SURE_SHARE = 4.0, 0.0005  # a second pose is dropped when worse than that many times the first, by so much
NEAR_RAD, NEAR_SIZES = 0.12, 0.15  # what counts as the same relative pose: turn, and shift in marker sizes


def components(corners: Corners, markers: int) -> list[list[int]]:
    """Markers that are seen together, directly or through others; those never seen at all are left out."""
    group = list(range(markers))
    for view in np.unique(corners.view):
        seen = corners.marker[corners.view == view]
        for other in seen[1:]:
            a, b = group[int(seen[0])], group[int(other)]
            group = [a if g == b else g for g in group]
    there = sorted(set(corners.marker.tolist()))
    return [[m for m in there if group[m] == g] for g in dict.fromkeys(group[m] for m in there)]


def arrange(corners: Corners, sizes_mm: Array) -> tuple[Shape, NDArray[np.int64], Array, Array] | None:
    """Shape in the frame of the marker seen most, and camera_from_body of the pictures that it explains.

    Returns shape, numbers of the pictures (v,), rotations (v, 3, 3), translations (v, 3) mm; None without agreement.
    """
    markers = len(sizes_mm)
    found = [_poses(SQUARE * sizes_mm[m], rays) for m, rays in zip(corners.marker, corners.rays, strict=True)]
    pairs = _pairs(corners, found, sizes_mm)
    root = int(np.argmax(np.bincount(corners.marker, minlength=markers)))
    placed: dict[int, Guess] = {root: (np.eye(3), np.zeros(3))}
    while len(placed) < markers:
        options = [
            (votes, known, other, turn, shift)
            for (known, other), (votes, turn, shift) in pairs.items()
            if known in placed and other not in placed
        ]
        if not options:
            return None
        _, known, other, turn, shift = max(options, key=lambda option: option[0])
        R, t = placed[known]
        placed[other] = (R @ turn, R @ shift + t)
    shape = Shape(
        np.stack([placed[m][0] for m in range(markers)]), np.stack([placed[m][1] for m in range(markers)]), sizes_mm
    )
    views, poses = [], []
    for view in np.unique(corners.view):
        rows = np.flatnonzero(corners.view == view)
        pose = _best_pose(rows, corners, found, shape)
        if pose is not None:
            views.append(int(view))
            poses.append(pose)
    if not views:
        return None
    return shape, np.array(views, dtype=np.int64), np.stack([R for R, _ in poses]), np.stack([t for _, t in poses])


def sides(corners: Corners, sizes_mm: Array) -> list[Array]:
    """From where each marker is seen: the camera's axis in the marker's frame (k, 3), of one pose or of both."""
    out = []
    for m, rays in zip(corners.marker, corners.rays, strict=True):
        out.append(np.array([R[2] for R, _, _ in _poses(SQUARE * sizes_mm[m], rays)]).reshape(-1, 3))
    return out


def _poses(square_mm: Array, rays: Array) -> list[Rated]:
    """A marker's poses with their errors, the likelier first; the second only where it explains it nearly as well."""
    rated = []
    for R, t in guesses(square_mm, rays):
        p = square_mm @ R.T + t
        if p[:, 2].min() > 1.0:
            rated.append((R, t, float(np.sqrt(((p[:, :2] / p[:, 2:] - rays) ** 2).sum(axis=1).mean()))))
    rated.sort(key=lambda pose: pose[2])
    size = float(np.linalg.norm(np.ptp(rays, axis=0)))
    return [pose for pose in rated if pose[2] <= PLAINLY * rated[0][2] + SURE_SHARE * size]


def _pairs(
    corners: Corners, found: Sequence[list[Rated]], sizes_mm: Array
) -> dict[tuple[int, int], tuple[int, Array, Array]]:
    """For ordered pairs of markers: in how many pictures the best relative pose (first from second) repeats, and it."""
    relative: dict[tuple[int, int], list[list[Rated]]] = {}
    for view in np.unique(corners.view):
        rows = np.flatnonzero(corners.view == view)
        for i in rows.tolist():
            for j in rows.tolist():
                a, b = int(corners.marker[i]), int(corners.marker[j])
                if a >= b or len(relative.get((a, b), ())) >= PICTURES_A_PAIR:
                    continue
                options = [(R1.T @ R2, R1.T @ (t2 - t1), e1 + e2) for R1, t1, e1 in found[i] for R2, t2, e2 in found[j]]
                relative.setdefault((a, b), []).append(options)
    out: dict[tuple[int, int], tuple[int, Array, Array]] = {}
    for (a, b), pictures in relative.items():
        R = np.array([R for options in pictures for R, _, _ in options])
        t = np.array([t for options in pictures for _, t, _ in options])
        error = np.array([e for options in pictures for _, _, e in options])
        picture = np.array([k for k, options in enumerate(pictures) for _ in options])
        if not len(R):
            continue
        cosine = (np.einsum("iab,jab->ij", R, R) - 1) / 2
        apart = np.linalg.norm(t[:, None] - t[None], axis=2)
        near = (cosine > np.cos(NEAR_RAD)) & (apart < NEAR_SIZES * (sizes_mm[a] + sizes_mm[b]) / 2)
        votes = np.array([len(set(picture[row].tolist())) for row in near])
        mean = np.where(near, error, 0).sum(axis=1) / near.sum(axis=1)  # decides where few pictures show the pair
        best = int(np.lexsort((mean, -votes))[0])
        out[a, b] = (int(votes[best]), R[best], t[best])
        out[b, a] = (int(votes[best]), R[best].T, -R[best].T @ t[best])
    return out


def _best_pose(rows: NDArray[np.int64], corners: Corners, found: Sequence[list[Rated]], shape: Shape) -> Guess | None:
    """camera_from_body from that marker whose pose explains the whole picture best."""
    every = shape.corners_mm()[corners.marker[rows]]
    best, least = None, np.inf
    for row in rows.tolist():
        marker = int(corners.marker[row])
        for R, t, _ in found[row]:
            turn = R @ shape.R[marker].T
            shift = t - turn @ shape.mm[marker]
            p = every @ turn.T + shift
            if p[..., 2].min() < 1.0:
                continue
            error = np.linalg.norm(p[..., :2] / p[..., 2:] - corners.rays[rows], axis=-1)
            cost = float(np.median(error.max(axis=1))) + 0.1 * float(error.mean())
            if cost < least:
                best, least = (turn, shift), cost
    return best
