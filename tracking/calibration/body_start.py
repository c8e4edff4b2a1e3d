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

PICTURES_A_PAIR = 40
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
    found = [guesses(SQUARE * sizes_mm[m], rays) for m, rays in zip(corners.marker, corners.rays, strict=True)]
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


def _pairs(
    corners: Corners, found: Sequence[list[Guess]], sizes_mm: Array
) -> dict[tuple[int, int], tuple[int, Array, Array]]:
    """For ordered pairs of markers: in how many pictures the best relative pose (first from second) repeats, and it."""
    relative: dict[tuple[int, int], list[list[Guess]]] = {}
    for view in np.unique(corners.view):
        rows = np.flatnonzero(corners.view == view)
        for i in rows.tolist():
            for j in rows.tolist():
                a, b = int(corners.marker[i]), int(corners.marker[j])
                if a >= b or len(relative.get((a, b), ())) >= PICTURES_A_PAIR:
                    continue
                options = [(R1.T @ R2, R1.T @ (t2 - t1)) for R1, t1 in found[i] for R2, t2 in found[j]]
                relative.setdefault((a, b), []).append(options)
    out: dict[tuple[int, int], tuple[int, Array, Array]] = {}
    for (a, b), pictures in relative.items():
        R = np.array([R for options in pictures for R, _ in options])
        t = np.array([t for options in pictures for _, t in options])
        picture = np.array([k for k, options in enumerate(pictures) for _ in options])
        if not len(R):
            continue
        cosine = (np.einsum("iab,jab->ij", R, R) - 1) / 2
        apart = np.linalg.norm(t[:, None] - t[None], axis=2)
        near = (cosine > np.cos(NEAR_RAD)) & (apart < NEAR_SIZES * (sizes_mm[a] + sizes_mm[b]) / 2)
        votes = np.array([len(set(picture[row].tolist())) for row in near])
        spread = np.where(near, apart, 0).sum(axis=1) / near.sum(axis=1)
        best = int(np.lexsort((spread, -votes))[0])
        out[a, b] = (int(votes[best]), R[best], t[best])
        out[b, a] = (int(votes[best]), R[best].T, -R[best].T @ t[best])
    return out


def _best_pose(rows: NDArray[np.int64], corners: Corners, found: Sequence[list[Guess]], shape: Shape) -> Guess | None:
    """camera_from_body from that marker whose pose explains the whole picture best."""
    every = shape.corners_mm()[corners.marker[rows]]
    best, least = None, np.inf
    for row in rows.tolist():
        marker = int(corners.marker[row])
        for R, t in found[row]:
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
