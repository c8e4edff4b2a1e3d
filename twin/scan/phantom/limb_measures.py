"""The legs' truth, measured on their surfaces: joint points and the angles that an osteotomy plan starts from.

Angles are read in each bone's own mechanical frame: the femur's coronal plane holds its mechanical axis and is
parallel to the line of the most posterior condyle points; the tibia's to the line through the middles of its plateaus.
"""

from __future__ import annotations

import math

import numpy as np

from twin.scan.phantom.limbs import Leg, ankle_frame, condyle
from twin.scan.phantom.measures import LandmarkTruth
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.solids import F64, unit

METHODS = {
    "mLDFA_deg": "lateral angle of the mechanical axis (head centre to knee centre) to the most distal condyle points",
    "MPTA_deg": "medial angle of the axis (knee to ankle centre) to the line through the middles of the plateaus",
    "JLCA_deg": "condyle line to plateau line in the femur's coronal plane, opening laterally +",
    "mFTA_deg": "hip, knee, ankle in the femur's coronal plane: 180 straight, varus below",
    "femoral_version_deg": "neck axis (head centre to neck base) to posterior condyle line, across the mechanical axis",
    "tibial_torsion_deg": "line through the middles of the plateaus to the line of the malleolar tips, outward +",
    "tibial_slope_deg": "plane of the medial plateau's middle in the tibia's sagittal plane, falling backward +",
}


def _furthest(phantom: Phantom, bone: str, way: F64, near: F64, radius_mm: float) -> F64:
    surface = phantom.surface(bone)
    points = surface.samples_mm
    points = points[np.linalg.norm(points - near, axis=1) < radius_mm]
    return np.asarray(surface.closest((points[int(np.argmax(points @ way))] + 40.0 * unit(way))[None])[0])


def leg_landmarks(phantom: Phantom) -> list[LandmarkTruth]:
    """Knee, condyle, plateau and ankle points of every leg in the scan."""
    found: list[LandmarkTruth] = []
    for leg in phantom.legs:
        found.extend(_femur(phantom, leg))
        found.extend(_tibia(phantom, leg))
    return found


def _femur(phantom: Phantom, leg: Leg) -> list[LandmarkTruth]:
    bone, k, s = f"femur_{leg.side}", leg.knee, leg.size.width_mm / 82.0
    found = [LandmarkTruth("knee_centre", bone, leg.side, k.origin)]
    for name, outward in (("medial", -1.0), ("lateral", 1.0)):
        local, half = condyle(leg, outward)
        centre = k.at(*local)
        down = _furthest(phantom, bone, k.along(0, 0, -1), centre, 1.25 * max(half))
        back = _furthest(phantom, bone, k.along(0, 1, 0), centre, 1.25 * max(half))
        # the circle of the condyle's back and underside in the sagittal plane
        samples = (phantom.surface(bone).samples_mm - centre) @ k.rotation
        rim = samples[(np.abs(samples[:, 0]) < 3.0 * s) & (samples[:, 1] > 4.0) & (samples[:, 2] < -4.0)]
        rim = rim[np.hypot(rim[:, 1], rim[:, 2]) < 1.2 * max(half)]
        a = np.column_stack([2 * rim[:, 1:], np.ones(len(rim))])
        (y, z, c), *_ = np.linalg.lstsq(a, (rim[:, 1:] ** 2).sum(axis=1), rcond=None)
        radius = math.sqrt(c + y * y + z * z)
        found.append(LandmarkTruth(f"condyle_distal_{name}", bone, leg.side, down))
        found.append(LandmarkTruth(f"condyle_posterior_{name}", bone, leg.side, back))
        middle = centre + k.along(0.0, float(y), float(z))
        found.append(LandmarkTruth(f"condyle_centre_{name}", bone, leg.side, middle, radius_mm=radius))
        near = k.at(outward * leg.size.width_mm / 2, 5.0 * s, 25.0 * s)
        tip = _furthest(phantom, bone, k.along(outward, 0, 0), near, 18.0 * s)
        found.append(LandmarkTruth(f"epicondyle_{name}", bone, leg.side, tip))
    return found


def _tibia(phantom: Phantom, leg: Leg) -> list[LandmarkTruth]:
    bone, p, s = f"tibia_{leg.side}", leg.plateau, leg.size.width_mm / 82.0
    found = [LandmarkTruth("knee_centre", bone, leg.side, p.origin)]
    for name, outward in (("medial", -1.0), ("lateral", 1.0)):
        middle, normal = _plateau(phantom, leg, outward)
        found.append(LandmarkTruth(f"plateau_{name}", bone, leg.side, middle, normal))
    if phantom.anatomy.region == "femur":
        return found
    foot, down = ankle_frame(leg), leg.shin.along(0.0, 0.0, -1.0)
    from_below = foot.at(0.0, 0.0, -30.0)
    way = foot.along(0.0, 0.0, 1.0)
    reach = float(phantom.crossings(bone, from_below, way[None], 60.0)[0])
    found.append(LandmarkTruth("ankle_centre", bone, leg.side, from_below + reach * way))
    inner = _furthest(phantom, bone, down, foot.at(-21.0 * s, -1.0 * s, -8.0 * s), 18.0 * s)
    outer = _furthest(phantom, f"fibula_{leg.side}", down, foot.at(31.0 * s, 5.0 * s, -17.0 * s), 20.0 * s)
    found.append(LandmarkTruth("malleolus_medial", bone, leg.side, inner))
    found.append(LandmarkTruth("malleolus_lateral", f"fibula_{leg.side}", leg.side, outer))
    return found


def _plateau(phantom: Phantom, leg: Leg, outward: float) -> tuple[F64, F64]:
    # centre and normal of a plateau's middle, seen from above
    p, s = leg.plateau, leg.size.width_mm / 82.0
    g = np.linspace(-1.0, 1.0, 15)
    x, y = (a.ravel() for a in np.meshgrid(g, g))
    keep = x * x + y * y <= 1.0
    start = np.array(
        [
            p.at((outward * 21.0 + 6.0 * u) * s, (3.0 + 10.0 * v) * s, 25.0)
            for u, v in zip(x[keep], y[keep], strict=True)
        ]
    )
    way = np.broadcast_to(p.along(0.0, 0.0, -1.0), start.shape)
    points = start + phantom.crossings(f"tibia_{leg.side}", start, way, 80.0)[:, None] * way
    centre = points.mean(axis=0)
    normal = np.linalg.svd(points - centre)[2][2]
    return centre, normal if normal @ p.rotation[:, 2] > 0 else -normal


def leg_angles(phantom: Phantom, leg: Leg, marks: list[LandmarkTruth]) -> dict[str, float]:
    """One leg's angles in degrees and lengths in mm, from its landmarks; what the scan doesn't hold is left out."""
    at = {(m.name, m.bone): m for m in marks}
    femur, tibia = f"femur_{leg.side}", f"tibia_{leg.side}"

    def point(name: str, bone: str) -> F64:
        return at[name, bone].position_mm

    values: dict[str, float] = {}
    line = point("condyle_distal_lateral", femur) - point("condyle_distal_medial", femur)
    plateau = point("plateau_lateral", tibia) - point("plateau_medial", tibia)
    back = point("condyle_posterior_lateral", femur) - point("condyle_posterior_medial", femur)
    whole_femur, whole_tibia = phantom.anatomy.region != "tibia", phantom.anatomy.region != "femur"
    if whole_femur:
        knee, head = point("knee_centre", femur), leg.head
        up = unit(head - knee)
        across = unit(back - (back @ up) * up)
        values["mLDFA_deg"] = 90.0 - math.degrees(math.atan2(line @ up, line @ across))
        values["JLCA_deg"] = math.degrees(
            math.atan2(line @ up, line @ across) - math.atan2(plateau @ up, plateau @ across)
        )  # fmt: skip
        neck = leg.knee.rotation @ np.array(
            [math.cos(math.radians(leg.size.version_deg)), math.sin(math.radians(leg.size.version_deg)), 0.0]
        )  # fmt: skip
        behind = leg.knee.rotation[:, 1] - (leg.knee.rotation[:, 1] @ up) * up
        behind = unit(behind - (behind @ across) * across)
        values["femoral_version_deg"] = math.degrees(math.atan2(neck @ behind, neck @ across))
        values["femur_length_mm"] = float(np.linalg.norm(head - knee))
    if whole_tibia:
        knee, ankle = point("knee_centre", tibia), point("ankle_centre", tibia)
        up = unit(knee - ankle)
        flat = unit(plateau - (plateau @ up) * up)
        values["MPTA_deg"] = 90.0 - math.degrees(math.atan2(plateau @ up, plateau @ flat))
        hind = np.cross(up, flat) * (1.0 if leg.side == "left" else -1.0)
        normal = at["plateau_medial", tibia].direction
        assert normal is not None
        values["tibial_slope_deg"] = math.degrees(math.atan2(normal @ hind, normal @ up))
        ankles = point("malleolus_lateral", f"fibula_{leg.side}") - point("malleolus_medial", tibia)
        values["tibial_torsion_deg"] = math.degrees(math.atan2(ankles @ hind, ankles @ flat))
        values["tibia_length_mm"] = float(np.linalg.norm(knee - ankle))
    if whole_femur and whole_tibia:
        knee = point("knee_centre", femur)
        thigh, shin = unit(leg.head - knee), unit(point("ankle_centre", tibia) - knee)
        across = unit(back - (back @ thigh) * thigh)
        bend = math.degrees(math.atan2(shin @ across, -(shin @ thigh)))
        values["mFTA_deg"] = 180.0 + bend
    return values
