"""Truth read off the analytic surfaces: endplates, pedicle necks, landmarks, alignment, volumes. No mesh, no voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatial.compiled import njit_parallel, prange
from twin.scan.phantom import shapes
from twin.scan.phantom.field import I32
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.pelvis import wing_landmark
from twin.scan.phantom.solids import F64, Placed, axes_along, unit
from twin.scan.phantom.vertebra import SIDES

NECK_MM = 3.0  # walls within this of the narrowest section make a pedicle's axis
NECK_SLOPE = 0.6


@dataclass(frozen=True)
class PedicleTruth:
    """One pedicle: centre of its narrowest section, axis pointing anteriorly, width and height of that section, mm."""

    bone: str
    side: str
    isthmus_mm: F64
    direction: F64
    width_mm: float
    height_mm: float


@dataclass(frozen=True)
class LandmarkTruth:
    """A named point of a bone, with a direction or a radius where it has one."""

    name: str
    bone: str
    side: str | None
    position_mm: F64
    direction: F64 | None = None
    radius_mm: float | None = None


def endplate(phantom: Phantom, bone: str, at: Placed, width_mm: float, depth_mm: float, up: float) -> tuple[F64, F64]:
    """Centre and cranial normal of an endplate: least-squares plane over its middle (70 % of both axes).

    `at`: a frame inside the bone (z toward the plate times `up`).
    """
    g = np.linspace(-0.7, 0.7, 29)
    x, y = (a.ravel() for a in np.meshgrid(g, g))
    keep = x * x + y * y <= 0.49
    start = (
        at.origin
        + np.column_stack([x[keep] * width_mm / 2, y[keep] * depth_mm / 2, np.zeros(keep.sum())]) @ at.rotation.T
    )
    way = np.broadcast_to(at.rotation[:, 2] * up, start.shape)
    t = phantom.crossings(bone, start, way, 60.0)
    points = start + t[:, None] * way
    centre = points.mean(axis=0)
    normal = np.linalg.svd(points - centre)[2][2]
    return centre, normal if normal @ at.rotation[:, 2] > 0 else -normal


def section(
    phantom: Phantom, bone: str, centre: F64, frame: F64, reach_mm: float, rays: int = 120
) -> tuple[float, F64]:
    """Area and centroid of the bone's section through a point, across the frame's z, as far as rays from it see."""
    areas, centroids = sections(phantom, bone, centre[None], frame, reach_mm, rays)
    return float(areas[0]), centroids[0]


def sections(
    phantom: Phantom, bone: str, centres: F64, frame: F64, reach_mm: float, rays: int = 120
) -> tuple[F64, F64]:
    """The same for many points (N, 3) at once: areas (N,), centroids (N, 3)."""
    a = np.arange(rays) * 2 * np.pi / rays
    ways = np.outer(np.cos(a), frame[:, 0]) + np.outer(np.sin(a), frame[:, 1])
    starts = np.repeat(centres, rays, axis=0)
    t = phantom.crossings(bone, starts, np.tile(ways, (len(centres), 1)), reach_mm + 1.0)
    r = np.minimum(t.reshape(len(centres), rays), reach_mm)
    u, v = r * np.cos(a), r * np.sin(a)
    un, vn = np.roll(u, -1, axis=1), np.roll(v, -1, axis=1)
    cross = u * vn - v * un
    area = cross.sum(axis=1) / 2
    cu = ((u + un) * cross).sum(axis=1) / (6 * area)
    cv = ((v + vn) * cross).sum(axis=1) / (6 * area)
    return area, centres + cu[:, None] * frame[:, 0] + cv[:, None] * frame[:, 1]


def neck_axis(phantom: Phantom, bone: str, middle: F64, frame: F64, reach_mm: float) -> F64:
    """The frame turned so that its z is the direction most square to the neck's walls near its middle.

    A modelled axis is none of the finished bone: body, arch and processes run into the neck from both ends, another way
    on each wall. Walls count within NECK_MM of the middle, the nearer the more; one that leans over by more than
    NECK_SLOPE along the axis is a shoulder.
    """
    s = np.arange(-NECK_MM, NECK_MM + 0.1, 0.75)
    a = np.arange(60) * 2 * np.pi / 60
    fall = (1.0 - (s / NECK_MM) ** 2)[:, None]
    for _ in range(4):
        ways = np.outer(np.cos(a), frame[:, 0]) + np.outer(np.sin(a), frame[:, 1])
        origins = np.repeat(middle + s[:, None] * frame[:, 2], len(a), axis=0)
        t = phantom.crossings(bone, origins, np.tile(ways, (len(s), 1)), reach_mm + 1.0).reshape(len(s), len(a))
        seen = np.minimum(t, reach_mm)
        points = np.stack([seen * np.cos(a), seen * np.sin(a), np.broadcast_to(s[:, None], t.shape)], axis=-1)
        around = (np.roll(points, -1, axis=1) - np.roll(points, 1, axis=1)) / 2
        patch = np.cross(around, np.gradient(points, axis=0))  # a wall's normal, as long as the wall's piece is large
        area = np.linalg.norm(patch, axis=-1)
        normal = patch / area[..., None]
        weight = np.where((np.abs(normal[..., 2]) < NECK_SLOPE) & (t < reach_mm), fall * area, 0.0)
        n, w = normal.reshape(-1, 3), weight.reshape(-1, 1)
        turn = -np.linalg.solve((n[:, :2] * w).T @ n[:, :2], (n[:, :2] * w).T @ n[:, 2])
        # half the step: which walls are seen turns with the axis, and a whole one swings about a tall narrow neck's
        # axis by up to 3 degrees for ever
        frame = axes_along(frame[:, 2] + 0.5 * frame[:, :2] @ turn, frame[:, 0])
    return frame


def pedicle(phantom: Phantom, bone: str, side: str, centre: F64, frame: F64, reach_mm: float = 16.0) -> PedicleTruth:
    """The neck near a modelled centre and axis: the smallest section within 5 mm, square to the axis of its walls there
    (`neck_axis`), its centroid, its two widths.
    """
    ways_mm = np.arange(-5.0, 5.01, 0.5)
    for _ in range(2):
        areas = sections(phantom, bone, centre + ways_mm[:, None] * frame[:, 2], frame, reach_mm)[0]
        least = ways_mm[int(np.argmin(areas))]
        near = np.abs(ways_mm - least) < 1.6
        bend, slope, _ = np.polyfit(ways_mm[near] - least, areas[near], 2)
        shift = float(np.clip(-slope / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
        middle = section(phantom, bone, centre + (least + shift) * frame[:, 2], frame, reach_mm)[1]
        centre, frame = middle, neck_axis(phantom, bone, middle, frame, reach_mm)
    middle = section(phantom, bone, middle, frame, reach_mm)[1]
    ways = np.array([frame[:, 0], -frame[:, 0], frame[:, 1], -frame[:, 1]])
    t = phantom.crossings(bone, middle, ways, 60.0)
    return PedicleTruth(bone, side, middle, frame[:, 2], float(t[0] + t[1]), float(t[2] + t[3]))


def pedicles(phantom: Phantom) -> list[PedicleTruth]:
    """Every pedicle, vertebrae from T10 downward, then S1.

    The S1 neck has no lateral wall (the ala goes on), so its width is twice the way from the axis to the canal's wall.
    """
    found = []
    for stand in reversed(phantom.stands):
        for side, _ in SIDES:
            centre, frame = phantom.pedicle_frame(stand.size.level, side)
            found.append(pedicle(phantom, f"vertebrae_{stand.size.level}", side, centre, frame))
    if "sacrum" not in phantom.bone_names:
        return found
    s = phantom.pelvis.scale
    for side, sign in SIDES:
        a = np.radians(32.0)
        axis = phantom.s1.along(-sign * np.sin(a), -np.cos(a), 0.05)
        frame = axes_along(axis, phantom.s1.along(sign, 0.0, 0.0))
        middle = phantom.s1.at(sign * 24.0 * s, 17.0 * s, -12.0 * s)
        for _ in range(2):  # midway between the upper surface and the first foramen's roof
            up, down = phantom.crossings("sacrum", middle, np.array([frame[:, 1], -frame[:, 1]]), 60.0)
            middle = middle + frame[:, 1] * (up - down) / 2
        beside = middle + phantom.s1.along(0.0, 8.0 * s, 0.0)  # level with the canal
        inward = float(phantom.crossings("sacrum", beside, phantom.s1.along(-sign, 0.0, 0.0)[None], 60.0)[0])
        found.append(
            PedicleTruth("sacrum", side, middle, frame[:, 2], 2.0 * inward * float(np.cos(a)), float(up + down))
        )
    return found


def landmarks(phantom: Phantom, necks: list[PedicleTruth]) -> list[LandmarkTruth]:
    """Landmarks as `twin inspect` names them, measured on the surfaces."""
    found = [LandmarkTruth(f"pedicle_{n.side}", n.bone, n.side, n.isthmus_mm, n.direction) for n in necks]
    for stand in reversed(phantom.stands):
        bone, size = f"vertebrae_{stand.size.level}", stand.size
        for name, frame, up in (("superior", stand.superior, 1.0), ("inferior", stand.inferior, -1.0)):
            inside = frame.moved(0.0, 0.0, -8.0 * up)  # under the face's own middle: a wedge's faces tilt away from it
            centre, normal = endplate(phantom, bone, inside, size.width_mm, size.depth_mm, up)
            found.append(LandmarkTruth(f"endplate_{name}", bone, None, centre, normal))
        found.append(LandmarkTruth("spinous_tip", bone, None, _end(phantom, bone, stand.body.along(0, 1, 0))))
    if "sacrum" in phantom.bone_names:
        s = phantom.pelvis.scale
        centre, normal = endplate(phantom, "sacrum", phantom.s1.moved(0, 0, -9.0), 50.0 * s, 33.0 * s, 1.0)
        found.append(LandmarkTruth("endplate_superior", "sacrum", None, centre, normal))
        found.append(LandmarkTruth("promontory", "sacrum", None, _promontory(phantom, centre, normal)))
    found += facets(phantom)
    for side, sign in SIDES:
        if f"femur_{side}" in phantom.bone_names and phantom.anatomy.region != "tibia":
            centre, radius = phantom.pelvis.head(sign), phantom.anatomy.head_radius_mm
            found.append(LandmarkTruth("femoral_head", f"femur_{side}", side, centre, radius_mm=radius))
        if f"hip_{side}" in phantom.bone_names:
            near = wing_landmark(phantom.pelvis, sign)
            tip = _furthest(phantom, f"hip_{side}", np.array([0.0, -1.0, 0.0]), near, 22.0)
            found.append(LandmarkTruth(f"asis_{side}", f"hip_{side}", side, tip))
    return found


def facets(phantom: Phantom, gap_mm: float = 4.0) -> list[LandmarkTruth]:
    """Both faces of every facet joint: what looks at the neighbour's surface across no more than the gap, behind the
    canal's front wall. Centre and mean outward normal.
    """
    found = []
    stands = list(phantom.stands)  # from the lowest upward
    for n, stand in enumerate(stands):
        upper = f"vertebrae_{stand.size.level}"
        lower = f"vertebrae_{stands[n - 1].size.level}" if n else "sacrum"
        if lower not in phantom.bone_names:
            continue
        at = stand.body
        for side, sign in SIDES:
            for name, bone, other in (("inferior", upper, lower), ("superior", lower, upper)):
                points = phantom.surface(bone).samples_mm
                local = (points - at.origin) @ at.rotation
                behind = (local[:, 1] > stand.size.depth_mm / 2 + 2.0) & (sign * local[:, 0] > 2.0)
                points = points[behind & (np.linalg.norm(local, axis=1) < 60.0)]
                points = points[:: max(1, len(points) // 1500)]
                samples = phantom.surface(other).samples_mm
                gap, which = (np.asarray(v) for v in cKDTree(samples).query(points, distance_upper_bound=gap_mm))
                near = np.isfinite(gap)
                points, to = points[near], (samples[which[near]] - points[near]) / gap[near, None]
                if not len(points):
                    continue
                step = 0.01 * np.eye(3)
                normals = np.stack(
                    [phantom.value(bone, points + e) - phantom.value(bone, points - e) for e in step], -1
                )
                normals /= np.linalg.norm(normals, axis=1, keepdims=True)
                seen = (normals * to).sum(axis=1) > 0.6
                mean = unit(normals[seen].mean(axis=0))
                found.append(LandmarkTruth(f"facet_{name}_{side}", bone, side, points[seen].mean(axis=0), mean))
    return found


def _end(phantom: Phantom, bone: str, way: F64, last_mm: float = 2.0) -> F64:
    """The middle of a bone's last piece that way: a blunt end has no single last point."""
    points = phantom.surface(bone).samples_mm
    along = points @ unit(way)
    return np.asarray(points[along > along.max() - last_mm].mean(axis=0))


def _promontory(phantom: Phantom, centre: F64, normal: F64) -> F64:
    """The S1 endplate's front edge in the mid-plane: furthest along the bisector of plate and front wall."""
    anterior = unit(np.cross(normal, phantom.s1.along(-1, 0, 0)))
    if anterior[1] > 0:
        anterior = -anterior
    local = phantom.surface("sacrum").samples_mm - centre
    edge = (np.abs(local @ phantom.s1.along(1, 0, 0)) < 3.0) & (np.abs(local @ normal + 1.5) < 6.5)
    edge &= local @ anterior > 0
    along = local[edge] @ (normal + anterior)
    return np.asarray(centre + local[edge][along > along.max() - 0.5].mean(axis=0))


def _furthest(phantom: Phantom, bone: str, way: F64, near: F64 | None = None, radius_mm: float = 0.0) -> F64:
    surface = phantom.surface(bone)
    points = surface.samples_mm
    if near is not None:
        points = points[np.linalg.norm(points - near, axis=1) < radius_mm]
    first = points[int(np.argmax(points @ way))]
    return np.asarray(surface.closest((first + 40.0 * unit(way))[None])[0])


def alignment(marks: list[LandmarkTruth]) -> dict[str, float]:
    """Alignment from the landmarks, degrees and mm, supine; only what the scan holds.

    PI is measured on its own, not as PT + SS. `scoliosis` has the coronal plane.
    """
    at = {(m.name, m.bone): m for m in marks}

    def tilt(name: str, bone: str) -> float:
        n = at[name, bone].direction
        assert n is not None
        return math.degrees(math.atan2(-n[1], n[2]))

    values: dict[str, float] = {}
    top, bottom = "endplate_superior", "endplate_inferior"
    if (top, "sacrum") in at:
        slope = tilt(top, "sacrum")
        for name, bone in (("LL_deg", "vertebrae_L1"), ("L4S1_deg", "vertebrae_L4")):
            if (top, bone) in at:
                values[name] = slope - tilt(top, bone)
    heads = [at[key].position_mm for key in (("femoral_head", f"femur_{side}") for side, _ in SIDES) if key in at]
    if (top, "sacrum") in at and len(heads) == 2:
        s1 = at[top, "sacrum"]
        assert s1.direction is not None
        hips = (heads[0] + heads[1]) / 2
        up = s1.position_mm - hips
        down, to_hips = unit(-s1.direction[1:]), unit(-up[1:])
        values["PI_deg"] = math.degrees(math.acos(float(np.clip(down @ to_hips, -1, 1))))
        values["PT_deg"] = math.degrees(math.atan2(up[1], up[2]))
        values["SS_deg"] = slope
    for name, low, high in (
        ("T10L2_deg", "vertebrae_L2", "vertebrae_T10"),
        ("TK_T4T12_deg", "vertebrae_T12", "vertebrae_T4"),
    ):
        if (bottom, low) in at and (top, high) in at:
            values[name] = tilt(bottom, low) - tilt(top, high)
    if "PI_deg" in values:
        values["sacrum_hip_mm"] = float(np.linalg.norm(up[1:]))
    return values


@dataclass(frozen=True)
class Cobb:
    """A coronal curve: the two end vertebrae and the angle between their outer endplates."""

    upper: str
    lower: str
    projected_deg: float  # on the patient's coronal plane, as a radiograph shows it
    spatial_deg: float  # between the normals in space: it holds the sagittal bend as well
    convex: str


def scoliosis(marks: list[LandmarkTruth]) -> Cobb:
    """The largest angle between an upper endplate and one farther down, in the coronal projection."""
    plates = {(m.name, m.bone): m for m in marks if m.name.startswith("endplate") and m.direction is not None}

    def lean(mark: LandmarkTruth) -> float:
        assert mark.direction is not None
        return math.degrees(math.atan2(mark.direction[0], mark.direction[2]))

    best: Cobb | None = None
    tops = [m for (name, bone), m in plates.items() if name == "endplate_superior" and bone != "sacrum"]
    feet = [m for (name, _), m in plates.items() if name == "endplate_inferior"]
    for upper in tops:
        for lower in feet:
            if lower.position_mm[2] >= upper.position_mm[2]:
                continue
            bend = lean(lower) - lean(upper)
            if best is None or abs(bend) > best.projected_deg:
                assert upper.direction is not None
                assert lower.direction is not None
                spatial = math.degrees(math.acos(float(np.clip(upper.direction @ lower.direction, -1.0, 1.0))))
                best = Cobb(upper.bone, lower.bone, abs(bend), spatial, "left" if bend > 0 else "right")
    if best is None:
        raise ValueError("two vertebrae at least are needed for a coronal curve")
    return best


@njit_parallel
def _volumes(
    table: F64, outline: F64, program: I32, entry_start: I32, corners: F64, cell: float, parts: int, out: F64
) -> None:
    # mm3 of bone in each marked cell: sub-voxels, each cut by its tangent plane (one entry a cell: a single bone's
    # grid)
    h = cell / parts
    for n in prange(corners.shape[0]):
        total = 0.0
        for i in range(parts):
            for j in range(parts):
                for k in range(parts):
                    x = corners[n, 0] + (i + 0.5) * h
                    y = corners[n, 1] + (j + 0.5) * h
                    z = corners[n, 2] + (k + 0.5) * h
                    a, b = entry_start[n], entry_start[n + 1]
                    f = shapes.fold(table, outline, program, a, b, x, y, z)[0]
                    if f > 1.3 * h:
                        continue
                    if f < -1.3 * h:
                        total += 1.0
                        continue
                    gx, gy, gz = shapes.gradient(table, outline, program, a, b, x, y, z)
                    g = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9
                    total += shapes.below(f / g, abs(gx) / g * h, abs(gy) / g * h, abs(gz) / g * h)
        out[n] = total * h * h * h


def volume_ml(phantom: Phantom, bone: str) -> float:
    """A bone's volume by integration over its 3 mm cells, cut in 2 and in 4 and extrapolated; good to 0.1 %."""
    bones = phantom.bones
    grid = phantom.cells([phantom.index(bone)])
    marked = np.argwhere(grid.entry >= 0)
    corners = np.empty((len(marked), 3))
    corners[grid.entry[tuple(marked.T)]] = grid.corner_mm + marked * grid.cell_mm
    full: NDArray[np.bool_] = (grid.entry < 0) & (grid.inside >= 0)
    found = []
    for parts in (2, 4):  # tangent planes overfill convex bone by an error that falls with the square of the step
        out = np.empty(len(marked))
        _volumes(bones.table, bones.outline, grid.program, grid.entry_start, corners, grid.cell_mm, parts, out)
        found.append(float(out.sum() + grid.cell_mm**3 * full.sum()) / 1000.0)
    return found[1] + (found[1] - found[0]) / 3.0
