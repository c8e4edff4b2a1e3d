"""The greater sciatic notch on a hip bone's surface, which a screw into the ilium has to pass above.

Seen from the side the back edge of the hip bone runs forward under the posterior iliac spine, and backward again to the
ischial spine: the bay between is the notch. Keep 10 mm above it (clinical fact sheet 1.4 [M]).
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.twin import Twin
from twin.plan.screws.screw import Screw

ROW_MM = 2.0
BAY_MM = 8.0  # how far the edge comes back on either side, at least
EDGE_MM = 4.0
DEEP_MM = 30.0
ABOVE_HEAD_MM = (-15.0, 75.0)  # rows of the hip bone that may hold the notch, from the femoral head's height


def notch_distance_mm(twin: Twin, screw: Screw) -> float | None:
    """From a screw's thread to the edge of the notch on its side; None: no notch shows."""
    edge = notch_points(twin, f"hip_{screw.side}")
    if edge is None:
        return None
    way = edge - screw.axis.point_mm
    along = np.clip(way @ screw.axis.direction, 0.0, screw.length_mm)
    return float(np.linalg.norm(way - along[:, None] * screw.axis.direction, axis=1).min()) - screw.diameter_mm / 2.0


def notch_points(twin: Twin, hip: str) -> Array | None:
    """Points (N, 3) on the edge of the notch; None: the hip bone shows none. Raises NoBone."""
    mesh = twin.bone(hip).surface
    if mesh not in _NOTCHES:
        _NOTCHES[mesh] = _found(mesh, _head_z(twin, hip))
    return _NOTCHES[mesh]


def _head_z(twin: Twin, hip: str) -> float:
    """Height of the hip's centre; without a femoral head the lower third of the bone."""
    femur = hip.replace("hip", "femur")
    for mark in twin.landmarks:
        if (mark.name, mark.bone) == ("femoral_head", femur):
            return float(mark.position.mm[2])
    low, high = twin.bone(hip).surface.bounds_mm
    return float(low[2] + 0.38 * (high[2] - low[2]))


def _found(mesh: TriangleMesh[Patient], head_z: float) -> Array | None:
    v = mesh.vertices_mm
    rows = np.floor((v[:, 2] - head_z - ABOVE_HEAD_MM[0]) / ROW_MM).astype(int)
    count = int((ABOVE_HEAD_MM[1] - ABOVE_HEAD_MM[0]) / ROW_MM)
    there = (rows >= 0) & (rows < count)
    back = np.full(count, -np.inf)
    np.maximum.at(back, rows[there], v[there, 1])  # Patient: +y is posterior
    known = np.isfinite(back)
    if known.sum() < count // 2:
        return None
    back = np.interp(np.arange(count), np.flatnonzero(known), back[known])
    smooth = ndimage.gaussian_filter1d(back, 1.0)
    upper = np.array([smooth[n:].max() for n in range(count)])
    lower = np.array([smooth[: n + 1].max() for n in range(count)])
    bay = np.minimum(upper, lower) - smooth
    deepest = int(np.argmax(bay))
    if bay[deepest] < BAY_MM:
        return None
    top = bottom = deepest
    roof = back[deepest] + min(0.9 * (upper[deepest] - back[deepest]), DEEP_MM)
    while top + 1 < count and back[top] < roof:
        top += 1
    while bottom > 0 and smooth[bottom] < smooth[deepest] + BAY_MM:
        bottom -= 1
    edge = np.zeros(len(v), dtype=bool)
    edge[there] = v[there, 1] > back[rows[there]] - EDGE_MM
    edge &= (rows >= bottom) & (rows <= top)
    under = _looks_down(mesh) & (rows >= deepest) & (rows <= top) & (v[:, 1] > back[deepest] - EDGE_MM)
    chosen = v[edge | under]
    return np.ascontiguousarray(chosen) if len(chosen) else None


def _looks_down(mesh: TriangleMesh[Patient]) -> Any:
    """Which vertices (N,) belong to a triangle that looks down."""
    down = np.zeros(len(mesh.vertices_mm), dtype=bool)
    down[mesh.triangles[mesh.face_normals[:, 2] < -0.6].ravel()] = True
    return down


_NOTCHES: WeakKeyDictionary[TriangleMesh[Any], Array | None] = WeakKeyDictionary()
