"""Who hangs on whom: what an osteotomy takes along, and in which order several are carried out.

The pelvis stays. On the spine everything cranial of a cut moves, on a leg everything distal. Every motion is written
in the patient as scanned, so the cut that is furthest from the pelvis goes first: each then turns about its hinge while
that is still in its place. This is the one place that knows the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spatial.frames import Patient
from spatial.rigid import Points
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.levels import SPINE, level_of, rank

LEG = ("hip", "femur", "patella", "tibia|fibula", "talus|calcaneus|tarsals?", "metatarsals?", "phalanges")


def leg_place(bone: str) -> tuple[int, str] | None:
    """Place of a bone of the leg from the hip (0) to the toes, and its side; None for any other bone."""
    for place, names in enumerate(LEG):
        found = re.fullmatch(rf"(?:{names})_(?:foot_)?(left|right)", bone)
        if found:
            return place, found[1]
    return None


def part_names(cut: Osteotomy) -> tuple[str, str]:
    """What the moving and the staying part of the cut bone are called."""
    if cut.kind == "PAO":
        return "acetabulum", "pelvis"
    return ("distal", "proximal") if leg_place(cut.bone) else ("cranial", "caudal")


def moves(twin: Twin, cut: Osteotomy, bone: str) -> bool:
    """Whether a bone that is not cut rides on the moving part: by the order of spine and leg, else by its place."""
    if cut.kind == "PAO":
        return False
    leg, other_leg = leg_place(cut.bone), leg_place(bone)
    if leg is not None:
        if other_leg is None:
            return rank(bone) is None and _is_beyond(twin, cut, bone)
        # the fibula goes with the foot, from whichever tibia it stands beside
        beside = bone.startswith("fibula") and cut.bone.startswith("tibia")
        return other_leg[1] == leg[1] and (other_leg[0] > leg[0] or beside)
    own, other = rank(cut.bone), rank(bone)
    if other_leg is not None:
        return False
    if own is not None and other is not None:
        # the heads of a pair of ribs sit on the upper half of their vertebra, which moves
        return other < own or (other == own and bone.startswith("rib_"))
    return _is_beyond(twin, cut, bone)


def landmark_moves(twin: Twin, cut: Osteotomy, landmark: Landmark) -> bool:
    """Whether a landmark rides on the moving part; on the cut bone by its place."""
    if landmark.bone == cut.bone:
        return place_moves(cut, cut.bone, landmark.position)
    if landmark.bone in cut.also:
        return False
    if landmark.bone in twin.bones:
        return moves(twin, cut, landmark.bone)
    own, other = rank(cut.bone), rank(landmark.bone)
    return leg_place(cut.bone) is None and own is not None and other is not None and other < own


def place_moves(cut: Osteotomy, bone: str, place: Points[Patient]) -> bool:
    """Whether a place on the cut bone moves. SPO takes facets only, so all of its bone moves."""
    return True if cut.kind == "SPO" and bone == cut.bone else bool(cut.is_moving(place))


def in_turn(cuts: Iterable[Osteotomy]) -> list[Osteotomy]:
    """The order in which cuts are carried out: the furthest from the pelvis first."""
    return sorted(cuts, key=lambda cut: (*_from_pelvis(cut), cut.id))


def _from_pelvis(cut: Osteotomy) -> tuple[int, float]:
    height = float(cut.hinge.point_mm[2])
    leg, own = leg_place(cut.bone), rank(cut.bone)
    if leg is not None:
        return -leg[0], height
    return -(len(SPINE) - (0 if own is None else own)), -height


def _is_beyond(twin: Twin, cut: Osteotomy, bone: str) -> bool:
    centre = Points[Patient](twin.bones[bone].surface.centroid_mm)
    return bool(cut.bisector.signed_distance_mm(centre) > 0)


def is_limb(bone: str) -> bool:
    """Whether a bone is one of the leg, the hip bone apart."""
    place = leg_place(bone)
    return place is not None and place[0] > 0


def is_spine(bone: str) -> bool:
    """Whether a bone is a vertebra that can be cut (not the sacrum)."""
    return level_of(bone) not in (None, "S1")
