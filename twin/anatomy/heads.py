"""Femoral heads in a CT: spheres, found by the votes of their edges (Hough transform on gradients)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit
from spatial.rigid import Array
from twin.anatomy.bone import Side
from twin.anatomy.working import Working

RADIUS_MM = (17.0, 31.0)
LATERAL_MM = (50.0, 130.0)  # from the body's middle
# of a whole sphere's edge voxels that voted for the centre; the neck and the socket's floor never do
LEAST_SHARE = 0.18


@dataclass(frozen=True, eq=False)
class Head:
    """A femoral head: side, centre (3,) mm Patient, radius, and the share of its sphere that was seen."""

    side: Side
    centre_mm: Array
    radius_mm: float
    share: float


def find(working: Working, middle_x_mm: float, below_z_mm: float) -> tuple[Head, ...]:
    """At most one head a side, lower than `below_z_mm`; a side that shows none is left out (cut off, or an implant)."""
    top = int(np.clip(round((below_z_mm - working.origin_mm[2]) / working.spacing_mm), 0, working.hu.shape[0]))
    if top < 2 * RADIUS_MM[0] / working.spacing_mm:
        return ()
    block = ndimage.gaussian_filter(np.clip(working.hu[:top], -100, 700), 1.0)
    gradient = np.stack(list(np.gradient(block)), axis=-1) / working.spacing_mm
    strength = np.linalg.norm(gradient, axis=-1)
    x = np.arange(block.shape[2]) * working.spacing_mm + working.origin_mm[0] - middle_x_mm
    found = []
    for sign in (-1.0, 1.0):  # Patient: +x is left
        columns = np.flatnonzero((sign * x > LATERAL_MM[0] - 35) & (sign * x < LATERAL_MM[1] + 35))
        if len(columns) < 10:
            continue
        first, last = int(columns[0]), int(columns[-1]) + 1
        edge = strength[:, :, first:last] > 35.0
        zyx = np.argwhere(edge)
        if len(zyx) < 200:
            continue
        g = gradient[:, :, first:last][edge] / strength[:, :, first:last][edge][:, None]
        votes = np.zeros(edge.shape, dtype=np.float32)
        radii = np.arange(RADIUS_MM[0], RADIUS_MM[1], working.spacing_mm) / working.spacing_mm
        _vote(zyx.astype(np.float64), g, radii, votes)
        votes = ndimage.gaussian_filter(votes, 1.2)
        allowed = (sign * x[first:last] > LATERAL_MM[0]) & (sign * x[first:last] < LATERAL_MM[1])
        votes[:, :, ~allowed] = 0.0
        centre = np.array(np.unravel_index(int(np.argmax(votes)), votes.shape), dtype=float)
        head = _fitted(zyx.astype(float), g, centre, working.spacing_mm)
        if head is None:
            continue
        at, radius, share = head
        at = at + np.array([0.0, 0.0, first])
        found.append(
            Head("left" if sign > 0 else "right", working.patient_from_index(at), radius * working.spacing_mm, share)
        )
    return tuple(h for h in found if h.share >= LEAST_SHARE)


def _fitted(zyx: Array, inward: Array, centre: Array, spacing_mm: float) -> tuple[Array, float, float] | None:
    """Sphere through the edge voxels that look at the centre: (centre, radius) in voxels, share of the sphere seen."""
    radius = 0.0
    for sweep in range(10):
        d = centre - zyx
        far = np.linalg.norm(d, axis=1)
        looks = (d * inward).sum(axis=1) > 0.96 * far
        if sweep == 0:
            near = looks & (far > RADIUS_MM[0] / spacing_mm) & (far < RADIUS_MM[1] / spacing_mm)
            if near.sum() < 60:
                return None
            # the shell that many voxels share, area for area
            bins = np.arange(RADIUS_MM[0], RADIUS_MM[1] + 1.0, 1.0) / spacing_mm
            count, edges = np.histogram(far[near], bins)
            density = ndimage.gaussian_filter1d(count / (0.5 * (edges[1:] + edges[:-1])) ** 2, 1.0)
            best = int(np.argmax(density))
            radius = float(0.5 * (edges[best] + edges[best + 1]))
        shell = looks & (np.abs(far - radius) < max(1.3, 3.0 - 0.3 * sweep) / spacing_mm)
        if shell.sum() < 50:
            return None
        p = zyx[shell]
        A = np.column_stack([2 * p, np.ones(len(p))])
        solution, *_ = np.linalg.lstsq(A, (p**2).sum(axis=1), rcond=None)
        centre = solution[:3]
        radius = float(np.sqrt(max(solution[3] + centre @ centre, 1.0)))
    directions = (zyx[shell] - centre) / radius
    cells = np.unique(np.round(directions * 5).astype(int), axis=0)
    whole = 300.0  # cells of this size that a whole sphere fills
    return centre, radius, min(1.0, len(cells) / whole)


@njit
def _vote(zyx: Array, inward: Array, radii: Array, votes: NDArray[np.float32]) -> None:
    nz, ny, nx = votes.shape
    for n in range(zyx.shape[0]):
        for r in range(len(radii)):
            z = int(zyx[n, 0] + radii[r] * inward[n, 0] + 0.5)
            y = int(zyx[n, 1] + radii[r] * inward[n, 1] + 0.5)
            x = int(zyx[n, 2] + radii[r] * inward[n, 2] + 0.5)
            if 0 <= z < nz and 0 <= y < ny and 0 <= x < nx:
                votes[z, y, x] += 1.0
