"""Spines and legs written down as landmarks from the angles that they shall have: truth for what measures them."""

import math

import numpy as np

from spatial.frames import Patient
from spatial.rigid import Directions, Points, rotation_exp
from twin.anatomy.bone import Landmark


def mark(name, bone, position, direction=None, side=None, sd_mm=0.3, sd_deg=0.5):
    """A landmark with a spread."""
    way = None if direction is None else Directions[Patient](direction)
    return Landmark(name, bone, side, Points[Patient](position), way, sd_mm, sd_deg if way is not None else None)


def pelvis(tilt_deg, slope_deg, distance_mm=110.0, width_mm=180.0):
    """Femoral heads about the origin and the S1 endplate, of a wanted pelvic tilt and sacral slope; patient LPS."""
    t, s = math.radians(tilt_deg), math.radians(slope_deg)
    plate = distance_mm * np.array([0.0, math.sin(t), math.cos(t)])
    return [
        mark("femoral_head", "femur_left", [width_mm / 2, 0.0, 0.0], side="left"),
        mark("femoral_head", "femur_right", [-width_mm / 2, 0.0, 0.0], side="right"),
        mark("endplate_superior", "sacrum", plate, [0.0, -math.sin(s), math.cos(s)]),
        mark("posterior_corner", "sacrum", plate + 16.0 * np.array([0.0, math.cos(s), math.sin(s)])),
    ]


def vertebra(level, middle_mm, forward_deg=0.0, right_deg=0.0, wedge_deg=0.0, height_mm=26.0):
    """Both endplates of a vertebra whose axis leans forward and to the right; `wedge_deg` more at its upper plate."""
    middle, found = np.asarray(middle_mm, float), []
    for name, sign in (("endplate_superior", 1.0), ("endplate_inferior", -1.0)):
        lean = math.radians(forward_deg + (wedge_deg if sign > 0 else 0.0))
        aside = math.radians(right_deg)
        normal = np.array([-math.tan(aside), -math.tan(lean), 1.0])
        normal /= np.linalg.norm(normal)
        found.append(mark(name, f"vertebrae_{level}", middle + sign * height_mm / 2 * normal, normal))
    return found


def leg(side, *, mldfa=88.0, mpta=87.0, jlca=1.0, version=15.0, torsion=30.0, slope=7.0, lpfa=90.0, ldta=89.0,
        femur_mm=430.0, tibia_mm=370.0, turn_deg=0.0):  # fmt: skip
    """A leg's landmarks from its angles. The femur's knee centre is the origin before `turn_deg` (foot outward) and a
    shift; x lateral, y back, z up, mirrored for the right leg.
    """
    out = 1.0 if side == "left" else -1.0
    femur, tibia, fibula = f"femur_{side}", f"tibia_{side}", f"fibula_{side}"
    rise = math.radians(90.0 - mldfa)
    line = np.array([math.cos(rise), 0.0, math.sin(rise)])
    head = np.array([0.0, 0.0, femur_mm])
    v = math.radians(version)
    neck = head + 25.0 * np.array([math.cos(v), math.sin(v), -0.8])
    tip = math.radians(lpfa - 90.0)
    trochanter = head + 50.0 * np.array([math.cos(tip), 0.0, math.sin(tip)]) + [0.0, 12.0, 0.0]
    # the plateau line falls short of the condyle line by the JLCA, the tibia's axis leans to have its MPTA
    flat = rise - math.radians(jlca)
    lean = flat - math.radians(90.0 - mpta)
    across = np.array([math.cos(lean), 0.0, math.sin(lean)])
    up = np.array([-math.sin(lean), 0.0, math.cos(lean)])
    plateau = np.array([math.cos(flat), 0.0, math.sin(flat)])
    knee = -5.0 * up
    ankle = knee - tibia_mm * up
    s, t, plafond = math.radians(slope), math.radians(torsion), math.radians(90.0 - ldta)
    back = np.array([0.0, 1.0, 0.0])
    face = math.cos(s) * up + math.sin(s) * back
    roof = math.cos(plafond) * up - math.sin(plafond) * across
    tips = math.cos(t) * across + math.sin(t) * back
    rows = [
        ("femoral_head", femur, head, None), ("femoral_neck", femur, neck, None),
        ("greater_trochanter", femur, trochanter, None), ("intercondylar_notch", femur, np.zeros(3), None),
        ("condyle_distal_medial", femur, -23.0 * line, None), ("condyle_distal_lateral", femur, 23.0 * line, None),
        ("condyle_posterior_medial", femur, [-24.0, 28.0, 20.0], None),
        ("condyle_posterior_lateral", femur, [24.0, 28.0, 20.0], None),
        ("plateau_medial", tibia, knee - 21.0 * plateau, face), ("plateau_lateral", tibia, knee + 21.0 * plateau, face),
        ("plateau_edge_medial", tibia, knee - 37.0 * plateau, None),
        ("plateau_edge_lateral", tibia, knee + 37.0 * plateau, None),
        ("ankle_centre", tibia, ankle, roof), ("malleolus_medial", tibia, ankle - 24.0 * tips - 12.0 * up, None),
        ("malleolus_lateral", fibula, ankle + 28.0 * tips - 18.0 * up, None),
    ]  # fmt: skip
    a = math.radians(turn_deg)
    spin = np.array([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0], [0.0, 0.0, 1.0]])
    mirror = np.diag([out, 1.0, 1.0])
    shift = np.array([85.0 * out, 10.0, -500.0])
    found = []
    for name, bone, point, way in rows:
        place = mirror @ spin @ np.asarray(point, float) + shift
        found.append(mark(name, bone, place, None if way is None else mirror @ spin @ way, side))
    return found


def bent(marks, side, bone, below_z_mm, angle_deg, at_mm):
    """What lies below a height turned in the leg's own coronal plane about a point, varus +: a malunion."""
    out = 1.0 if side == "left" else -1.0
    turn = rotation_exp(np.array([0.0, out, 0.0]) * math.radians(angle_deg))
    found = []
    for m in marks:
        low = m.bone.endswith(side) and m.position.mm[2] < below_z_mm
        if not low:
            found.append(m)
            continue
        way = None if m.direction is None else turn @ m.direction.unit
        found.append(mark(m.name, m.bone, at_mm + turn @ (m.position.mm - at_mm), way, m.side))
    return found
