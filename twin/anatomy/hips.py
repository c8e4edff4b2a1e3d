"""The pelvis: marrow that no threshold shows, markers for sacrum, hip bones and femora, and the hip joint as a sphere.

The sacroiliac joint is halved by markers on both of its sides: the ilium's outer face, and the sacrum as far sideways
as it always reaches. The hip joint is the fitted head's sphere: inside is femur, outside is hip, but for the
neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy import marrow
from twin.anatomy.canal import Canal
from twin.anatomy.discs import Disc
from twin.anatomy.heads import Head, neck_axis
from twin.anatomy.markers import Marker, Spine, endplate_frame
from twin.anatomy.surface import bounding_boxes
from twin.anatomy.working import Working
from twin.scan.volume import Grid

WING_MM = (64.0, 150.0)  # iliac wing, beside every ala
OUTER_MM = 4.5  # of the ilium's outer face, in rows where it hides the sacrum from the side
OUTER_LATERAL_MM = (34.0, 48.0)  # there; and lower down, where the sacrum itself may be the outermost bone
OUTER_DEPTH_MM = 30.0  # below S1 the joint narrows and the sacrum shows behind it
PELVIS_MM = 150.0  # from the middle to either side
PELVIS_SHARE = 0.86  # of the rays from marrow that meet bone
SACRUM_MM = (60.0, 120.0)  # to either side; from S1 to the coccyx, and some
SACRUM_SHARE = 0.77  # its foramina let rays out
CANAL_MM = (10.0, 7.0)  # half of what stays free, from side to side and from front to back
ALA_MM = ((8.0, 30.0), 38.0, (-16.0, 6.0))  # below S1, beside the middle, in front of the endplate's middle
LATERAL_MASS_MM = ((34.0, 58.0), 28.0, (-45.0, -8.0))
LOWER_MASS_MM = ((58.0, 85.0), 24.0, (-70.0, 0.0))
NECK_COSINE = 0.55  # directions from the head's centre nearer than this to the neck's belong to the femur
SOCKET_MM = 12.0  # how far outside the head what is no neck is hip
FINE_MM = 1.6  # voxels that show the joint space themselves
ROUGH_MM = 2.2  # no head is a sphere to less; a thin skin of it is no hip
GAP_MM = (0.5, 4.5)  # the joint space outside the head's sphere
GAP_VALLEY_HU = 350  # how deep a valley that space counts as, where the CT shows none


@dataclass(frozen=True, eq=False)
class Pelvis:
    """Where the pelvis stands: the S1 endplate (centre, anterior, cranial (3,)), the crest's height, the heads."""

    s1_mm: Array
    anterior: Array
    cranial: Array
    crest_z_mm: float
    heads: tuple[Head, ...]

    @classmethod
    def under(cls, canal: Canal, top: Disc, crest: Disc, heads: tuple[Head, ...]) -> Pelvis:
        """Below the lowest disc `top`; the iliac crests end at about the disc `crest`."""
        centre, anterior, cranial = endplate_frame(canal, top)
        crest_z = float(canal.points(np.array([crest.along_mm, 0.0, 22.0]))[2])
        return cls(centre, anterior, cranial, crest_z, heads)

    @property
    def middle_x_mm(self) -> float:
        """The mid-plane, at S1."""
        return float(self.s1_mm[0])


def spongiosa(coarse: Working, bone: NDArray[np.bool_], canal: Canal, pelvis: Pelvis) -> NDArray[np.bool_]:
    """Working voxels of dark marrow in sacrum, hips and femora, for scans whose voxels hide the cortex; the canal stays
    free.
    """
    found = np.zeros_like(bone)
    s1 = pelvis.s1_mm
    bottom = float(coarse.origin_mm[2]) if pelvis.heads else s1[2] - SACRUM_MM[1]
    for aside, floor, share in (
        (SACRUM_MM[0], s1[2] - SACRUM_MM[1], SACRUM_SHARE),
        (PELVIS_MM, bottom, PELVIS_SHARE),
    ):
        corners = np.array([s1 - PELVIS_MM, s1 + PELVIS_MM])
        corners[:, 0] = s1[0] - aside, s1[0] + aside
        corners[:, 2] = floor, s1[2] + 12.0
        at = coarse.index_from_patient(corners)
        low = np.clip(np.floor(at[0]), 0, coarse.hu.shape).astype(np.int64)
        high = np.clip(np.ceil(at[1]), 0, coarse.hu.shape).astype(np.int64)
        found |= marrow.enclosed(coarse, bone, low, high, share)
    zyx = np.argwhere(found)
    points = coarse.patient_from_index(zyx)
    local = canal.coordinates(points)
    free = (np.hypot(local[:, 1] / CANAL_MM[0], local[:, 2] / CANAL_MM[1]) < 1.0) & (local[:, 0] > -40.0)
    free |= (points - pelvis.s1_mm) @ pelvis.cranial > 0.0  # the disc above
    found[tuple(zyx[free].T)] = False
    return found


def markers(coarse: Working, near: Spine, bone: NDArray[np.bool_], pelvis: Pelvis) -> list[Marker]:
    """Sacrum, hips and femora (by head)."""
    d = coarse.patient_from_index(near.zyx) - pelvis.s1_mm
    depth, front, aside = -d @ pelvis.cranial, d @ pelvis.anterior, np.abs(d[:, 0])
    lower = (aside < 13.0) & (depth > 30.0) & (depth < 105.0) & (front < 10.0) & (front > -75.0)
    chosen = lower
    for (top, bottom), width, (rear, fore) in (ALA_MM, LATERAL_MASS_MM, LOWER_MASS_MM):
        chosen |= (depth > top) & (depth < bottom) & (aside < width) & (front > rear) & (front < fore)
    found = [Marker("sacrum", near.zyx[chosen])]
    zyx = np.argwhere(bone)
    points = coarse.patient_from_index(zyx)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        head = next((h for h in pelvis.heads if h.side == side), None)
        lateral = sign * (points[:, 0] - pelvis.middle_x_mm)
        floor = pelvis.s1_mm[2] - 60.0 if head is None else head.centre_mm[2] + 1.35 * head.radius_mm
        high = (points[:, 2] > floor) & (points[:, 2] < pelvis.crest_z_mm) & (lateral < WING_MM[1])
        found.append(Marker(f"hip_{side}", zyx[high & (lateral > WING_MM[0])]))
        found.append(Marker(f"hip_{side}", _outer_face(zyx[high], points[high], lateral[high], pelvis)))
        if head is not None:
            found += _joint_markers(zyx, points, head, pelvis.middle_x_mm)
    return [m for m in found if len(m.zyx)]


def _outer_face(zyx: NDArray[np.int64], points: Array, lateral: Array, pelvis: Pelvis) -> NDArray[np.int64]:
    """The bone nearest to the patient's side in each row, where that is the ilium."""
    if not len(zyx):
        return zyx
    start = zyx[:, :2].min(axis=0)
    outermost = np.full(np.ptp(zyx[:, :2], axis=0) + 1, -np.inf)
    row = tuple((zyx[:, :2] - start).T)
    np.maximum.at(outermost, row, lateral)
    least = np.where(pelvis.s1_mm[2] - points[:, 2] < OUTER_DEPTH_MM, *OUTER_LATERAL_MM)
    face = (lateral > outermost[row] - OUTER_MM) & (outermost[row] > least) & (lateral > least - OUTER_MM)
    return np.asarray(zyx[face])


def _joint_markers(zyx: NDArray[np.int64], points: Array, head: Head, middle_x_mm: float) -> list[Marker]:
    sign = 1.0 if head.side == "left" else -1.0
    d = points - head.centre_mm
    far = np.linalg.norm(d, axis=1)
    r = head.radius_mm
    toward_neck = (d @ neck_axis(head.side)) / np.maximum(far, 1e-6)
    shaft = (d[:, 2] < -50.0) & (sign * d[:, 0] > 0.0) & (sign * d[:, 0] < 75.0) & (np.abs(d[:, 1]) < 60.0)
    socket = (far > r + 5.0) & (far < r + 11.0) & (toward_neck < -0.25)
    ischium = (d[:, 2] < -25.0) & (sign * d[:, 0] < -r) & (sign * (points[:, 0] - middle_x_mm) > 22.0)
    femur, hip = f"femur_{head.side}", f"hip_{head.side}"
    return [
        Marker(femur, zyx[far < 0.6 * r]),
        Marker(femur, zyx[shaft]),
        Marker(hip, zyx[socket]),
        Marker(hip, zyx[ischium]),
    ]


def deepen(valley: NDArray[np.int16], grid: Grid, head: Head) -> None:
    """Count the joint space around a femoral head as a valley, except toward the neck."""
    around = _around(grid, head, head.radius_mm + GAP_MM[1])
    if around is not None:
        box, far, toward_neck = around
        shell = (far > head.radius_mm + GAP_MM[0]) & (toward_neck < NECK_COSINE * far)
        block = valley[box]
        block[shell] = np.maximum(block[shell], GAP_VALLEY_HU)


def seat(labels: NDArray[np.uint8], grid: Grid, head: Head, femur: int, hip: int) -> None:
    """Give the head's sphere to the femur and what lies around it to the hip, except toward the neck; in place.

    Pieces of femur that this cuts off are hip.
    """
    import cc3d

    around = _around(grid, head, head.radius_mm + SOCKET_MM)
    if around is None:
        return
    box, far, toward_neck = around
    block = labels[box]
    neck = toward_neck > NECK_COSINE * far
    block[(block == hip) & (far < head.radius_mm)] = femur
    fine = float(grid.spacing_mm.max()) < FINE_MM
    outside = far > head.radius_mm + (ROUGH_MM if fine else GAP_MM[0])
    block[(block == femur) & ~neck & outside & (far < head.radius_mm + SOCKET_MM)] = hip
    whole = bounding_boxes(labels).get(femur)
    if whole is None:
        return
    block = labels[whole]
    pieces = cc3d.connected_components((block == femur).astype(np.uint8), connectivity=6)
    size = np.bincount(pieces.ravel())
    if len(size) > 2:
        size[0] = 0
        block[(pieces > 0) & (pieces != int(np.argmax(size)))] = hip


def _around(grid: Grid, head: Head, reach_mm: float) -> tuple[tuple[slice, slice, slice], Array, Array] | None:
    """The box (k, j, i) about a head; how far its voxels lie from the centre, and how far toward the neck (mm)."""
    centre = grid.index_from_patient(Points[Patient](head.centre_mm))
    reach = reach_mm / grid.spacing_mm
    low = np.clip(np.floor(centre - reach), 0, grid.size).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, grid.size).astype(int)
    if (high <= low).any():
        return None
    k, j, i = np.ogrid[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    along = [(n - centre[a]) * grid.spacing_mm[a] for a, n in enumerate((i, j, k))]
    neck = neck_axis(head.side) @ grid.axes
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    far = np.sqrt(sum(d**2 for d in along))
    return box, far, sum(d * share for d, share in zip(along, neck, strict=True))
