"""Where each vertebra surely is: the markers from which parting grows, on the working grid.

All are read in canal coordinates. Body: between its endplates, in front of the canal. Arch: behind the canal, in the
lower half of the body's height, where every lamina stands. Pedicles: beside the canal, in the upper half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.discs import Disc
from twin.anatomy.levels import Segment
from twin.anatomy.working import Working

BODY_MM = ((12.0, 30.0), 10.0)  # anterior from the canal, half width
NEAR_MM = 200.0
LEAST_PARTIAL_MM = 2.0  # of a body that the scan cuts off
ARCH_MM = ((-15.0, -6.0), 7.0)
ARCH_SHARE = (0.05, 0.45)  # of the body's height from below
PEDICLE_MM = ((-1.0, 9.0), (9.0, 19.0))  # anterior from the canal (further back stand the facets), lateral
PEDICLE_SHARE = (0.5, 0.95)
TRANSVERSE_MM = ((0.0, 14.0), (19.0, 34.0))
TRANSVERSE_SHARE = (0.45, 0.95)


@dataclass(frozen=True, eq=False)
class Marker:
    """Voxels (N, 3) in array order z, y, x that surely belong to `bone`; a bone may have several markers."""

    bone: str
    zyx: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spine:
    """Bone voxels of the working grid near the spine with their canal coordinates: zyx (N, 3), at (N, 3) mm."""

    zyx: NDArray[np.int64]
    at: Array


def around(working: Working, canal: Canal, bone: NDArray[np.bool_]) -> Spine:
    """The bone voxels within NEAR_MM of the canal, in its coordinates."""
    zyx = np.argwhere(bone)
    points = working.patient_from_index(zyx)
    near = np.abs(points[:, 0] - np.interp(points[:, 2], canal.centre_mm[:, 2], canal.centre_mm[:, 0])) < NEAR_MM
    zyx, points = zyx[near], points[near]
    return Spine(zyx, canal.coordinates(points))


def column(spine: Spine) -> Spine:
    """Those of them that may be marked as a vertebra's."""
    _, lateral, anterior = spine.at.T
    near = (np.abs(lateral) < TRANSVERSE_MM[1][1]) & (anterior > ARCH_MM[0][0]) & (anterior < BODY_MM[0][1])
    return Spine(spine.zyx[near], spine.at[near])


def vertebral(spine: Spine, segment: Segment, name: str, *, beside_ilium: bool = False) -> list[Marker]:
    """Body, pedicles and arch of one vertebra; the body alone of the sacrum. Empty when the scan holds too little
    of it. The transverse processes are marked as well where they come near the ilium.
    """
    up, down = segment.heights_mm(spine.at)
    s, lateral, anterior = spine.at.T
    (near, far), half = BODY_MM
    whole = segment.below is not None and segment.above is not None
    margin = 3.0 if whole else 1.0  # of a body cut by the scan's edge every voxel counts
    in_body = (up > margin) & (down > margin) & (anterior > near) & (anterior < far)
    if segment.is_sacrum:
        in_body &= (down < 20.0) & (np.abs(lateral) < 16.0)
        root = (down > 3.0) & (down < 18.0) & (anterior > 0.0) & (anterior < 12.0)
        root &= (np.abs(lateral) > 13.0) & (np.abs(lateral) < 28.0)
        return [Marker(name, spine.zyx[in_body]), Marker(name, spine.zyx[root])]
    in_body &= np.abs(lateral) < half
    if segment.below is None:
        in_body &= down < 26.0
    if segment.above is None:
        in_body &= up < 26.0
    body = spine.zyx[in_body]
    if segment.below is None and (len(body) == 0 or np.ptp(s[in_body]) < LEAST_PARTIAL_MM):
        return []
    markers = [Marker(name, body)]
    (rear, front), half = ARCH_MM
    if segment.below is not None or segment.above is not None:
        share = segment.share(spine.at)
        (near, far), (inner, outer) = PEDICLE_MM
        pedicle = (share > PEDICLE_SHARE[0]) & (share < PEDICLE_SHARE[1]) & (anterior > near) & (anterior < far)
        pedicle &= (np.abs(lateral) > inner) & (np.abs(lateral) < outer)
        markers.append(Marker(name, spine.zyx[pedicle]))
        if beside_ilium:
            (near, far), (inner, outer) = TRANSVERSE_MM
            process = (share > TRANSVERSE_SHARE[0]) & (share < TRANSVERSE_SHARE[1])
            process &= (anterior > near) & (anterior < far) & (np.abs(lateral) > inner) & (np.abs(lateral) < outer)
            markers.append(Marker(name, spine.zyx[process]))
        arch = (share > ARCH_SHARE[0]) & (share < ARCH_SHARE[1]) & (np.abs(lateral) < half)
        arch &= (anterior > rear) & (anterior < front)
        markers.append(Marker(name, spine.zyx[arch]))
    return markers


def endplate_frame(canal: Canal, disc: Disc) -> tuple[Array, Array, Array]:
    """The endplate under a disc: its centre, anterior and cranial directions (3,), Patient."""
    slope = np.tan(disc.lower_tilt_rad)
    front, back = canal.points(
        np.array([[disc.lower_mm + 8.0 * slope, 0.0, 30.0], [disc.lower_mm - 8.0 * slope, 0.0, 14.0]])
    )
    left = canal.points(np.array([disc.lower_mm, 8.0, 22.0])) - canal.points(np.array([disc.lower_mm, -8.0, 22.0]))
    anterior = (front - back) / np.linalg.norm(front - back)
    normal = np.cross(anterior, left)
    return 0.5 * (front + back), anterior, normal / np.linalg.norm(normal)
