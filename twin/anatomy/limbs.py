"""Landmarks of femora, tibiae and fibulae, measured on their surfaces in the bone's own axes.

Femur: the mechanical axis from the notch to the head's centre, turned so that both condyles touch a table behind them
(the posterior condylar line); the most posterior, most distal and most prominent points follow from it. Tibia: the
plateau's two faces, and the axis down to the ankle. A bone that the scan cuts gives what is left of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from twin.anatomy.bone import Landmark, Side

LATERAL = {"left": np.array([1.0, 0.0, 0.0]), "right": np.array([-1.0, 0.0, 0.0])}  # Patient: +x is left
POSTERIOR = np.array([0.0, 1.0, 0.0])
CRANIAL = np.array([0.0, 0.0, 1.0])
CONDYLES_MM = 42.0  # height of the distal femur that holds the condyles
LEAST_WIDTH_MM = 50.0  # across a knee's condyles; a shaft that the scan cuts is 25 to 35 mm wide
GROOVE_MM = 2.5  # half width of the strip along the groove between them
TURNED = 0.8  # rise a millimetre: about 40 degrees
LID_REACH_MM = 10.0  # of the bone's end, which leans against its own axis
LID_MM = 0.8  # a bone that the scan cuts is closed flat within this height
LID_SHARE = 0.55  # of the box about the section there; no joint is as flat
LID_TOP_MM = 2.5  # nothing stands out of an upper lid: a plateau may be as flat, but its spines do,
SPINES_MM = 15.0  # on average no further than this from its middle
LEAST_LENGTH = 3.0  # of its condyles' width, head to notch: a stump below the trochanters may be as broad as a knee
EPICONDYLE_MM = (12.0, 42.0)  # above the distal condyles
SWEEPS = 12
NEAR_MM = 0.35  # what lies this close to the furthest point counts as it: a flat place has no single one
PLATEAU_DEPTH_MM = 14.0
EMINENCE_MM = 8.0  # half width of what stands between the plateau's two faces
FLAT_COSINE = 0.85
LEAST_FACE_CM2 = 1.5
FACE_COSINE = 0.985  # 10 degrees
FACE_MIDDLE_MM = 11.0  # of a plateau's face: its slope is read there, its rim falls away
RIM_MM = 10.0  # below the faces, the plateau's widest places
PLAFOND_MM = 3.0
LEAST_SD_MM = 0.4


@dataclass(frozen=True, eq=False)
class Axes:
    """A limb bone's own directions (3,): lateral, posterior, cranial; not a right-handed set on both sides."""

    lateral: Array
    posterior: Array
    cranial: Array

    @classmethod
    def along(cls, cranial: Array, lateral: Array) -> Axes:
        """Cranial as given, lateral as near as can be to the given one, posterior across both."""
        up = cranial / np.linalg.norm(cranial)
        aside = lateral - (lateral @ up) * up
        aside = aside / np.linalg.norm(aside)
        back = POSTERIOR - (POSTERIOR @ up) * up
        back = back - (back @ aside) * aside
        return cls(aside, back / np.linalg.norm(back), up)


def shaft_axis(mesh: TriangleMesh[Patient]) -> Array:
    """The long axis (3,), cranial: along the middles of the bone's cross-sections away from its ends."""
    direction = CRANIAL
    points = mesh.vertices_mm
    weight = _vertex_areas(mesh)
    for _ in range(4):
        h = points @ direction
        low, high = h.min(), h.max()
        levels = np.linspace(low + 0.25 * (high - low), low + 0.75 * (high - low), 16)
        half = 0.5 * (levels[1] - levels[0])
        middles = []
        for level in levels:
            near = np.abs(h - level) < half
            if near.sum() > 10:
                middles.append(np.average(points[near], axis=0, weights=weight[near]))
        if len(middles) < 4:
            return direction
        line = np.array(middles) - np.mean(middles, axis=0)
        direction = np.linalg.svd(line)[2][0]
        direction = direction if direction @ CRANIAL > 0 else -direction
    return direction


def femur(mesh: TriangleMesh[Patient], side: Side, head_mm: Array | None) -> list[Landmark]:
    """Condyles, epicondyles and notch; empty when the distal end is not in the scan."""
    points, weight = mesh.vertices_mm, _vertex_areas(mesh)
    shaft = shaft_axis(mesh)
    if not _is_end(mesh, shaft, -1.0):
        return []
    axes = Axes.along(shaft, LATERAL[side])
    notch: Array | None = None
    for _ in range(SWEEPS):
        near = _end(points, axes.cranial, CONDYLES_MM)
        inner, outer, middle = _condyles(points[near], axes)
        if not (inner.any() and outer.any()) or np.ptp(points[near] @ axes.lateral) < LEAST_WIDTH_MM:
            return []
        notch = _notch(points[near], axes, middle)
        wide = float(np.ptp(points[near] @ axes.lateral))
        if head_mm is not None and notch is not None and np.linalg.norm(head_mm - notch) < LEAST_LENGTH * wide:
            return []
        back = [_furthest(points[near][m], weight[near][m], axes.posterior) for m in (inner, outer)]
        up = axes.cranial if head_mm is None or notch is None else head_mm - notch
        axes = Axes.along(up, back[1] - back[0])
    near = _end(points, axes.cranial, CONDYLES_MM)
    p, w = points[near], weight[near]
    inner, outer, middle = _condyles(p, axes)
    bone = f"femur_{side}"
    marks = []
    low = (p @ axes.cranial).min()
    height = p @ axes.cranial - low
    belt = (height > EPICONDYLE_MM[0]) & (height < EPICONDYLE_MM[1])
    for name, mine, sign in (("medial", inner, -1.0), ("lateral", outer, 1.0)):
        for place, where, way in (
            ("condyle_posterior", mine, axes.posterior),
            ("condyle_distal", mine, -axes.cranial),
            ("epicondyle", mine & belt, sign * axes.lateral),
        ):
            if where.any():
                marks.append(_placed(f"{place}_{name}", bone, side, p[where], w[where], way))
    if notch is not None:
        marks.append(_mark("intercondylar_notch", bone, side, notch, GROOVE_MM / np.sqrt(3.0)))
    return marks


def tibia(mesh: TriangleMesh[Patient], side: Side) -> list[Landmark]:
    """The plateau's two faces, each with the normal of its middle, the plateau's edges, the ankle's middle (of the
    plafond) and the medial malleolus, as far as the scan shows them.
    """
    axis, bone = shaft_axis(mesh), f"tibia_{side}"
    axes = Axes.along(axis, LATERAL[side])
    marks: list[Landmark] = []
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(twice, axis=1)
    lean = (twice @ axis) / np.maximum(2.0 * area, 1e-12)
    h = middle @ axis
    if _is_end(mesh, axis, 1.0):
        marks += _plateau(mesh, axis, side, middle, area, (h > h.max() - PLATEAU_DEPTH_MM) & (lean > FLAT_COSINE))
    if _is_end(mesh, axis, -1.0):
        points, weight = mesh.vertices_mm, _vertex_areas(mesh)
        tip = _placed("malleolus_medial", bone, side, points, weight, -axes.cranial)
        marks.append(tip)
        roof = (h < h.min() + 25.0) & (lean < -FLAT_COSINE)
        beside = roof & (middle @ axes.lateral > tip.position.mm @ axes.lateral + 8.0)
        if area[beside].sum() > 100.0 * LEAST_FACE_CM2:
            # the plafond is what lies level with that: the malleolus hangs lower, its own underside is not counted
            roof &= np.abs(h - np.average(h[beside], weights=area[beside])) < PLAFOND_MM
            at = np.average(middle[roof], axis=0, weights=area[roof])
            off = float(np.sqrt(np.average(((middle[roof] - at) @ axis) ** 2, weights=area[roof])))
            normal, spread = _plane(middle[roof], area[roof], axis), max(LEAST_SD_MM, off)
            mark = _mark("ankle_centre", bone, side, at, spread, normal)
            marks.append(replace(mark, sd_deg=_tilt_deg(spread)))
    return marks


def _plateau(
    mesh: TriangleMesh[Patient], axis: Array, side: Side, middle: Array, area: Array, top: NDArray[np.bool_]
) -> list[Landmark]:
    """Centres and normals of the two faces, and the plateau's outermost points; nothing where a face does not show."""
    if not top.any():
        return []
    bone, marks, aside = f"tibia_{side}", [], LATERAL[side]
    normals = mesh.face_normals
    for _ in range(2):  # a foot that falls outward turns the tibia: the faces tell how it lies
        aside = Axes.along(axis, aside).lateral
        x = middle @ aside
        centre = float(np.average(x[top], weights=area[top]))
        faces = {"medial": top & (x < centre - EMINENCE_MM), "lateral": top & (x > centre + EMINENCE_MM)}
        if not all(area[face].sum() > 100.0 * LEAST_FACE_CM2 for face in faces.values()):
            return []
        at = {name: np.average(middle[face], axis=0, weights=area[face]) for name, face in faces.items()}
        aside = at["lateral"] - at["medial"]
    aside = Axes.along(axis, aside).lateral
    for name, face in faces.items():
        spot = at[name]
        normal = _plane(middle[face], area[face], axis)
        for _ in range(
            3
        ):  # its rim and the slope of the spines belong to no plane: what leans as the middle does counts
            level = face & (normals @ normal > FACE_COSINE)
            if area[level].sum() < 100.0 * LEAST_FACE_CM2:
                break
            spot = np.average(middle[level], axis=0, weights=area[level])
            near = level & (np.linalg.norm(middle - spot, axis=1) < FACE_MIDDLE_MM)
            normal = _plane(middle[near], area[near], axis)
        near = face & (np.linalg.norm(middle - spot, axis=1) < FACE_MIDDLE_MM)
        off = float(np.sqrt(np.average(((middle[near] - spot) @ normal) ** 2, weights=area[near])))
        spread = max(LEAST_SD_MM, off)
        mark = _mark(f"plateau_{name}", bone, side, spot, spread, normal)
        marks.append(replace(mark, sd_deg=_tilt_deg(spread)))
    points, weight = mesh.vertices_mm, _vertex_areas(mesh)
    h = points @ axis
    for name, sign in (("medial", -1.0), ("lateral", 1.0)):
        rim = np.abs(h - at[name] @ axis + 0.5 * RIM_MM) < 0.5 * RIM_MM + 2.0
        marks.append(_placed(f"plateau_edge_{name}", bone, side, points[rim], weight[rim], sign * aside))
    return marks


def _tilt_deg(off_mm: float) -> float:
    """How sure a face's normal is: half of what lies off its plane, across its middle, counts as tilt."""
    return float(np.degrees(np.sqrt(0.5) * off_mm / FACE_MIDDLE_MM))


def _plane(points: Array, area: Array, up: Array) -> Array:
    """Normal (3,) of the least-squares plane through triangles' middles, weighted by area, on the side of `up`."""
    off = (points - np.average(points, axis=0, weights=area)) * np.sqrt(area)[:, None]
    normal = np.linalg.svd(off, full_matrices=False)[2][2]
    return np.asarray(normal if normal @ up > 0 else -normal)


def fibula(mesh: TriangleMesh[Patient], side: Side) -> list[Landmark]:
    """Its head and the lateral malleolus, where it ends in the scan."""
    axis = shaft_axis(mesh)
    points, weight = mesh.vertices_mm, _vertex_areas(mesh)
    return [
        _placed(name, f"fibula_{side}", side, points, weight, sign * axis)
        for name, sign in (("fibular_head", 1.0), ("malleolus_lateral", -1.0))
        if _is_end(mesh, axis, sign)
    ]


def _condyles(points: Array, axes: Axes) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Which points are medial and which lateral condyle, and the groove's middle along lateral."""
    x, y = points @ axes.lateral, points @ axes.posterior
    widest = 0.5 * (x.min() + x.max())
    # behind, the groove is where the bone reaches back the least
    bins = np.arange(widest - 14.0, widest + 14.1, 1.0)
    reach = np.array([y[np.abs(x - b) < 1.5].max(initial=-1e4) for b in bins])
    groove = float(bins[int(np.argmin(np.where(reach > -1e4, reach, np.inf)))])
    sides = [float(x[m][int(np.argmax(y[m]))]) if m.any() else widest for m in (x < groove - 3.0, x > groove + 3.0)]
    middle = 0.5 * (sides[0] + sides[1])
    return x < middle - 3.0, x > middle + 3.0, middle


def _notch(points: Array, axes: Axes, middle: float) -> Array | None:
    """The knee's centre: the front edge of the notch, where the groove's outline from front to back turns upward."""
    x, y, z = points @ axes.lateral, points @ axes.posterior, points @ axes.cranial
    groove = np.abs(x - middle) < GROOVE_MM
    if not groove.any():
        return None
    lowest = float(y[groove][int(np.argmin(z[groove]))])
    bins = np.arange(lowest, lowest + 22.0, 1.0)
    outline = np.array([z[groove & (np.abs(y - b) < 0.9)].min(initial=1e4) for b in bins])
    steep = np.flatnonzero(outline[2:] - outline[:-2] > 2.0 * TURNED)
    at = bins[int(steep[0]) + 1] if len(steep) else lowest
    edge = groove & (np.abs(y - at) < 1.2)
    edge &= z < z[edge].min() + 1.0
    return np.asarray(points[edge].mean(axis=0))


def _end(points: Array, cranial: Array, depth_mm: float) -> Array:
    h = points @ cranial
    return np.asarray(h < h.min() + depth_mm)


def _is_end(mesh: TriangleMesh[Patient], axis: Array, sign: float) -> bool:
    """Whether the bone ends there in a joint: a cut by the scan's edge leaves a flat lid as wide as what it cuts."""
    corners = mesh.vertices_mm[mesh.triangles]
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(twice, axis=1)
    middle = corners.mean(axis=1)
    h = sign * (middle @ axis)
    last = (h > h.max() - LID_REACH_MM) & (sign * (twice @ axis) > 1.8 * area)
    if not last.any():
        return True
    normal = twice[last].sum(axis=0)
    normal = normal / np.linalg.norm(normal)
    height = middle[last] @ normal
    out = height - np.median(height) > LID_TOP_MM
    if sign > 0.0 and out.any():
        inner = middle[last] - np.average(middle[last], axis=0, weights=area[last])
        inner = inner - np.outer(inner @ normal, normal)
        if np.average(np.linalg.norm(inner[out], axis=1), weights=area[last][out]) < SPINES_MM:
            return True
    lid = float(area[last][np.abs(height - np.median(height)) < LID_MM].sum())
    used = np.unique(mesh.triangles[h > h.max() - LID_REACH_MM])
    across = mesh.vertices_mm[used] - np.outer(mesh.vertices_mm[used] @ axis, axis)
    width = np.sort(np.ptp(across, axis=0))[1:]
    return bool(lid < LID_SHARE * float(width[0] * width[1]))


def _furthest(points: Array, weight: Array, direction: Array) -> Array:
    """The point furthest along a direction; of a flat place its middle."""
    h = points @ direction
    last = h > h.max() - NEAR_MM
    return np.asarray(np.average(points[last], axis=0, weights=weight[last]))


def _vertex_areas(mesh: TriangleMesh[Patient]) -> Array:
    corners = mesh.vertices_mm[mesh.triangles]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    out = np.zeros(len(mesh.vertices_mm))
    for corner in range(3):
        np.add.at(out, mesh.triangles[:, corner], area / 3.0)
    return np.maximum(out, 1e-9)


def _placed(name: str, bone: str, side: Side, points: Array, weight: Array, direction: Array) -> Landmark:
    """The furthest point as a landmark, with the way that it is furthest; its spread is the extent of what is as far to
    within NEAR_MM, so it holds across that way: along it the surface's own error is all.
    """
    at = _furthest(points, weight, direction)
    h = points @ direction
    last = points[h > h.max() - NEAR_MM]
    spread = float(np.sqrt(((last - at) ** 2).sum(axis=1).mean() / 3.0))
    return _mark(name, bone, side, at, max(LEAST_SD_MM, spread), direction)


def _mark(name: str, bone: str, side: Side, position: Array, sd_mm: float, direction: Array | None = None) -> Landmark:
    way = None if direction is None else Directions[Patient](direction)
    return Landmark(name, bone, side, Points[Patient](position), way, float(sd_mm))
