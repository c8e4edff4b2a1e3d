"""Whether a bone is a left or a right one, from its shape alone: no direction of the scan is asked.

A mirror image has the other sign, however the bone is turned. Each bone gives three directions of its own (up, and two
across); their triple product tells the side. A skeleton mirrored as a whole is a skeleton again: each bone then looks
like its neighbour of the other side, and only what the file says about the patient can contradict it.
"""

from __future__ import annotations

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.bone import Side

END_SHARE = 0.12  # of a long bone's length: its ends
SHAFT = (0.25, 0.72)  # between them, the part whose middles are a line
LEAST_LENGTH_RATIO = 4.0  # length to shaft width: a cut piece is no whole long bone
LEAST_OFFSET_MM = 3.0
LEAST_LEAN_MM = 4.0  # of both ends of a tibia
BELOW_HEAD_MM = 35.0
BESIDE_MM = 6.0
WING_MM = 120.0  # from the head to the wing's far end, 145 to 152 in adults; symphysis and ischium are within 105
LEAST_SINE = 0.35  # of the angle between the two directions across
HEAD_OUTSIDE_MM = 6.0  # the head's centre lies at least so far from the hip bone's plane


def femur(mesh: TriangleMesh[Patient]) -> Side | None:
    """A whole femur: the head's end leans inward, the condyles' end backward."""
    ends = _ends(mesh)
    if ends is None:
        return None
    up, first, last = ends  # with the ends exchanged all three change sign together
    if min(np.linalg.norm(first), np.linalg.norm(last)) < LEAST_OFFSET_MM:
        return None
    return _side(float(np.cross(first, last) @ up), first, last, negative="right")


def shank(tibia: TriangleMesh[Patient], fibula: TriangleMesh[Patient]) -> Side | None:
    """A whole tibia with a fibula: the plateau leans backward, the ankle forward and inward; outside is the fibula."""
    ends = _ends(tibia)
    if ends is None:
        return None
    up, first, last = ends
    if min(np.linalg.norm(first), np.linalg.norm(last)) < LEAST_LEAN_MM:
        return None
    alone = float(np.cross(first, last) @ up) / float(np.linalg.norm(first) * np.linalg.norm(last))
    h = tibia.vertices_mm @ up
    far = np.linalg.norm(_across(tibia.vertices_mm - tibia.vertices_mm.mean(axis=0), up), axis=1)
    wide = [far[near].max() for near in (h < h.min() + END_SHARE * np.ptp(h), h > h.max() - END_SHARE * np.ptp(h))]
    up, backward = (-up, first) if wide[0] > wide[1] else (up, last)
    outward = fibula.centroid_mm - tibia.centroid_mm
    outward = outward - (outward @ up) * up
    across = float(np.linalg.norm(outward) * np.linalg.norm(backward))
    beside = float(np.cross(outward, backward) @ up) / max(across, 1e-9)
    if abs(beside - alone) < 2.0 * LEAST_SINE:
        return None
    return "left" if beside > alone else "right"


def by_head(mesh: TriangleMesh[Patient], head_mm: Array) -> Side | None:
    """A femur of a patient whose head is up in the scan: its head is nearer to the other leg than its shaft."""
    low = mesh.vertices_mm[mesh.vertices_mm[:, 2] < head_mm[2] - BELOW_HEAD_MM]
    return _by_x(float(low[:, 0].mean() - head_mm[0])) if len(low) > 20 else None


def by_fibula(tibia: TriangleMesh[Patient], fibula: TriangleMesh[Patient]) -> Side | None:
    """A shank of a patient whose head is up in the scan: the fibula is outside."""
    low, high = (
        limit([a.vertices_mm[:, 2].min() if limit is max else a.vertices_mm[:, 2].max() for a in (tibia, fibula)])
        for limit in (max, min)
    )
    middles = [m.vertices_mm[(m.vertices_mm[:, 2] > low) & (m.vertices_mm[:, 2] < high)] for m in (tibia, fibula)]
    if min(len(m) for m in middles) < 20:
        return None
    return _by_x(float(middles[1][:, 0].mean() - middles[0][:, 0].mean()))


def _by_x(outward_mm: float) -> Side | None:
    if abs(outward_mm) < BESIDE_MM:
        return None
    return "left" if outward_mm > 0 else "right"  # Patient: +x is left


def hip(mesh: TriangleMesh[Patient], head_mm: Array) -> Side | None:
    """A hip bone with the centre of its femoral head: the head lies outside its plane, the wing above the head, and the
    symphysis, which reaches furthest inward, in front.
    """
    points = mesh.vertices_mm
    middle = points.mean(axis=0)
    outward = np.linalg.svd((points - middle)[:: max(1, len(points) // 5000)], full_matrices=False)[2][2]
    beside = float((head_mm - middle) @ outward)
    outward = outward * np.sign(beside)
    d = points - head_mm
    far = np.linalg.norm(d, axis=1)
    wing = d[far > 0.8 * far.max()]
    if abs(beside) < HEAD_OUTSIDE_MM or len(wing) < 10:
        return None
    up = wing.mean(axis=0)
    up = up - (up @ outward) * outward
    up = up / np.linalg.norm(up)
    below = d[d @ up < 0.0]
    if len(below) < 50 or float(far.max()) < WING_MM:
        return None
    inward = -below @ outward
    forward = below[inward > inward.max() - 3.0].mean(axis=0)
    forward = forward - (forward @ up) * up - (forward @ outward) * outward
    return _side(float(np.cross(outward, forward) @ up), outward, forward, negative="right")


def _side(triple: float, a: Array, b: Array, *, negative: Side) -> Side | None:
    if abs(triple) < LEAST_SINE * float(np.linalg.norm(a) * np.linalg.norm(b)):
        return None
    other: Side = "right" if negative == "left" else "left"
    return negative if triple < 0 else other


def _ends(mesh: TriangleMesh[Patient]) -> tuple[Array, Array, Array] | None:
    """A long bone's axis (3,), and how far the middles of its two ends lie from it (3,), the axis pointing from the
    first to the second; None when it is no whole long bone.
    """
    points = mesh.vertices_mm
    corners = points[mesh.triangles]
    middle = corners.mean(axis=1)
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    axis = np.linalg.svd((middle - middle.mean(axis=0))[:: max(1, len(middle) // 8000)], full_matrices=False)[2][0]
    base = middle.mean(axis=0)
    for _ in range(4):
        h = (middle - base) @ axis
        low, length = float(h.min()), float(np.ptp(h))
        levels = low + length * np.linspace(*SHAFT, 14)
        half = 0.5 * (levels[1] - levels[0])
        line = [
            np.average(middle[near], axis=0, weights=area[near])
            for near in (np.abs(h - level) < half for level in levels)
            if near.sum() > 5
        ]
        if len(line) < 8:
            return None
        base = np.mean(line, axis=0)
        turned = np.linalg.svd(np.array(line) - base)[2][0]
        axis = turned if turned @ axis > 0 else -turned
    h = (middle - base) @ axis
    low, length = float(h.min()), float(np.ptp(h))
    shaft = (h > low + SHAFT[0] * length) & (h < low + SHAFT[1] * length)
    if length < LEAST_LENGTH_RATIO * np.ptp(_across(middle[shaft] - base, axis), axis=0).max():
        return None
    first, last = (
        np.average(_across(middle[near] - base, axis), axis=0, weights=area[near])
        for near in (h < low + END_SHARE * length, h > low + (1.0 - END_SHARE) * length)
    )
    return axis, first, last


def _across(points: Array, axis: Array) -> Array:
    return np.asarray(points - np.outer(points @ axis, axis))
