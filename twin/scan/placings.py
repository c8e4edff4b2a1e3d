"""Where another scan may lie on the bone: a hundred thousand placings tried on coarse voxels, the best few kept.

A placing is good where the other scan has an edge along the bone's surface, whatever its grey values mean: the mean
squared cosine between the surface's normals and the scan's normalised gradients (Haber & Modersitzki, MICCAI 2006).
First the scan slides everywhere at which it still shows the middle of the bone, upright and turned about; the best
slides are tried at all small turns, and the best of those climb to their tops by compass search: first by the middle of
the bone alone, which a wrong turn displaces little, then by all of it, which tells neighbouring levels apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter

from spatial.compiled import njit, njit_parallel, prange
from spatial.frames import Patient, Series
from spatial.rigid import Array, Points, Rigid
from twin.scan.volume import Grid

POINTS, MORE_POINTS = 1200, 4000
SLIDE_MM = 7.0
TURNS_RAD = np.deg2rad([-8.0, 0.0, 8.0])
SLIDES_KEPT, CLIMBING = 200, 60
MIDDLE_MM = 80.0
SMOOTH_MM = 1.5  # of the scan before its gradients: how far an edge is felt
SKIN_MM = 10.0
AIR = 0.12  # of the way from dark to bright: what is darker is no tissue, in a CT or an MR
SEEN, SEEN_OF_MIDDLE = 0.5, 0.9  # of the points must lie within the other scan
APART_MM = 10.0  # placings nearer than this (at the bone's middle and ends) are one
FIRST_MM, FIRST_RAD, LAST = 4.0, np.deg2rad(3.0), 0.2  # steps of the compass search, and the share they end at
SEED = 7


def placings(
    points_mm: Array, normals: Array, moving: NDArray[np.float32], grid: Grid, count: int
) -> list[Rigid[Series, Patient]]:
    """The `count` best placings of surface points and normals (N, 3), apart from each other, best first.

    `moving` (k, j, i) on its grid, voxels of about 4 mm.
    """
    order = np.random.default_rng(SEED).permutation(len(points_mm))
    centre = np.median(points_mm, axis=0)
    middle = order[np.linalg.norm(points_mm[order] - centre, axis=1) < MIDDLE_MM][:POINTS]
    chosen = order[:MORE_POINTS]
    edges = gradients(moving, grid)
    index_from_series = (grid.axes / grid.spacing_mm).T

    def worth(poses: Array) -> Array:
        return np.asarray(
            edgeness(
                points_mm[middle],
                normals[middle],
                centre,
                edges,
                index_from_series,
                grid.origin_mm,
                poses,
                SEEN_OF_MIDDLE,
            )
        )

    upright = [np.zeros(3), np.array([0.0, 0.0, np.pi])]  # the other way round: feet first, prone
    places = _places(grid)
    slides = np.vstack([np.hstack([np.broadcast_to(turn, places.shape), places]) for turn in upright])
    found = worth(slides)
    best = slides[np.argsort(-found, kind="stable")[:SLIDES_KEPT]]
    turned = np.array([[*_composed(turn, pose[:3]), *pose[3:]] for pose in best for turn in _turns()])
    tops = turned[np.argsort(-worth(turned), kind="stable")[:CLIMBING]]
    value = np.zeros(len(tops))
    for part in (middle, chosen):
        tops, value = climbed(
            points_mm[part], normals[part], centre, edges, index_from_series, grid.origin_mm, tops, SEEN
        )
    ends = np.array([centre, *(centre + v for v in 100.0 * np.eye(3))])
    kept: list[Rigid[Series, Patient]] = []
    where: list[Array] = []
    for n in np.argsort(-value, kind="stable"):
        if value[n] <= 0 or len(kept) == count:
            break
        pose = about(centre, tops[n, :3], tops[n, 3:] - centre)
        at = (pose @ Points[Patient](ends)).mm
        if all(np.linalg.norm(at - other_at, axis=1).max() > APART_MM for other_at in where):
            kept.append(pose)
            where.append(at)
    return kept


def about(centre_mm: Array, rotvec_rad: Array, shift_mm: Array) -> Rigid[Series, Patient]:
    """A turn about a point, then a shift."""
    turn = Rigid[Series, Patient].exp(np.asarray(rotvec_rad, float), np.zeros(3)).rotation
    return Rigid[Series, Patient](turn, centre_mm + shift_mm - turn @ centre_mm)


def gradients(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Normalised gradients (k, j, i, 3) in the scan's own coordinates: of length 1 at an edge, 0 where it is flat.

    What counts as an edge is the scan's own: the 70th percentile of its gradients in the body. The skin, the strongest
    edge of all, is left out: no bone lies on it.
    """
    step = grid.spacing_mm[::-1]
    smooth = gaussian_filter(values, SMOOTH_MM / step)
    along: list[NDArray[np.float32]] = list(np.gradient(smooth, *(float(v) for v in step)))
    g = np.stack(along, axis=-1)[..., ::-1] @ grid.axes.T
    length = np.linalg.norm(g, axis=-1)
    within = _within_body(smooth, step)
    usual = float(np.percentile(length[within], 70.0)) if within.any() else 1.0
    g /= np.sqrt(length**2 + max(usual, 1e-6) ** 2)[..., None]
    g[~within] = 0.0
    return np.asarray(g, dtype=np.float32)


def _within_body(values: NDArray[np.float32], step_mm: Array) -> NDArray[np.bool_]:
    """Deeper than SKIN_MM in the body; lungs, bowel and dark bone belong to it."""
    dark, bright = np.percentile(values[:: max(1, len(values) // 64)], [1.0, 99.0])
    body = values > dark + AIR * (bright - dark)
    for k in range(len(body)):
        body[k] = binary_fill_holes(body[k])
    deep = distance_transform_edt(np.pad(body, ((1, 1), (0, 0), (0, 0)), mode="edge"), sampling=step_mm)
    return np.asarray(np.asarray(deep)[1:-1] > SKIN_MM)


def _places(grid: Grid) -> Array:
    """Where in the other scan (M, 3) the bone's middle may lie."""
    i, j, k = (np.arange(0.5 * SLIDE_MM, n * s, SLIDE_MM) for n, s in zip(grid.size, grid.spacing_mm, strict=True))
    offsets = np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid.origin_mm + offsets @ grid.axes.T)


def _turns() -> Array:
    return np.array([[a, b, c] for a in TURNS_RAD for b in TURNS_RAD for c in TURNS_RAD])


def _composed(turn_rad: Array, rotvec_rad: Array) -> Array:
    """The rotation vector of a small turn after another one."""
    one, other = (Rigid[Series, Series].exp(v, np.zeros(3)) for v in (turn_rad, rotvec_rad))
    return (one @ other).log()[0]


@njit
def _turned(v: Array) -> Array:
    """The rotation (3, 3) of a rotation vector (Rodrigues)."""
    angle = np.sqrt((v * v).sum())
    k = v / max(angle, 1e-12)
    x = np.array([[0.0, -k[2], k[1]], [k[2], 0.0, -k[0]], [-k[1], k[0], 0.0]])
    out: Array = np.eye(3) + np.sin(angle) * x + (1.0 - np.cos(angle)) * (x @ x)
    return out


@njit
def _edge(
    points: Array,
    normals: Array,
    centre: Array,
    edges: NDArray[np.float32],
    index_from_series: Array,
    origin: Array,
    pose: Array,
    seen: float,
) -> float:
    """Mean squared cosine of one placing; 0 when too few of the points are within the scan."""
    turn = _turned(pose[:3])
    r = index_from_series @ turn
    t = index_from_series @ (pose[3:] - turn @ centre - origin)
    nk, nj, ni = edges.shape[:3]
    total, count = 0.0, 0
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        i = int(np.floor(r[0, 0] * x + r[0, 1] * y + r[0, 2] * z + t[0] + 0.5))
        j = int(np.floor(r[1, 0] * x + r[1, 1] * y + r[1, 2] * z + t[1] + 0.5))
        k = int(np.floor(r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + t[2] + 0.5))
        if 0 <= i < ni and 0 <= j < nj and 0 <= k < nk:
            count += 1
            a, b, c = normals[n, 0], normals[n, 1], normals[n, 2]
            dot = (
                edges[k, j, i, 0] * (turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c)
                + edges[k, j, i, 1] * (turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c)
                + edges[k, j, i, 2] * (turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c)
            )
            total += dot * dot
    if count < seen * len(points):
        return 0.0
    return float(total / count)


@njit_parallel
def edgeness(
    points: Array,
    normals: Array,
    centre: Array,
    edges: NDArray[np.float32],
    index_from_series: Array,
    origin: Array,
    poses: Array,
    seen: float,
) -> Array:
    """Mean squared cosine (M,) of placings (M, 6): rotation vector, place of the centre."""
    out = np.zeros(len(poses))
    for m in prange(len(poses)):
        out[m] = _edge(points, normals, centre, edges, index_from_series, origin, poses[m], seen)
    return out


@njit_parallel
def climbed(
    points: Array,
    normals: Array,
    centre: Array,
    edges: NDArray[np.float32],
    index_from_series: Array,
    origin: Array,
    poses: Array,
    seen: float,
) -> tuple[Array, Array]:
    """Compass search from each placing (M, 6): the tops (M, 6) and their worth (M,)."""
    tops, worth = poses.copy(), np.zeros(len(poses))
    for m in prange(len(poses)):
        best = _edge(points, normals, centre, edges, index_from_series, origin, tops[m], seen)
        scale = 1.0
        while scale >= LAST:
            moved = False
            for n in range(12):
                tried = tops[m].copy()
                step = scale * (FIRST_RAD if n < 6 else FIRST_MM)
                tried[n // 2] += step if n % 2 == 0 else -step
                w = _edge(points, normals, centre, edges, index_from_series, origin, tried, seen)
                if w > best + 1e-6:
                    best = w
                    tops[m] = tried
                    moved = True
            if not moved:
                scale *= 0.5
        worth[m] = best
    return tops, worth
