"""What an osteotomy means for the bone: bridge, gaps, shortening, and the turn in words. All of geometry.

Limits that come from practice and not from a source that was read ([M] in the fact sheet) are said to be unverified:
they warn and stop nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spatial.frames import Patient
from spatial.rigid import Array, rotation_log
from spatial.shapes import Line
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.cuts.chain import is_limb, part_names
from twin.plan.cuts.limb_cuts import Limb
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy
from twin.plan.cuts.section import Section

MOST_OPENING_MM = 12.0
LEAST_BRIDGE_MM = 5.0
NAMED_DEG = 0.05  # smaller turns are not worth a word
OPPOSITE = {"valgus": "varus", "flexion": "extension", "external": "internal"}


@dataclass(frozen=True)
class Caution:
    """A limit that is passed, and whether its number was verified."""

    words: str
    value_mm: float
    limit_mm: float
    status: str = "unverified"

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        return {"words": self.words, "value_mm": self.value_mm, "limit_mm": self.limit_mm, "status": self.status}


@dataclass(frozen=True)
class Hinge:
    """The hinge in the bone: its length in bone, and the bridge beyond it, least over the middle half of the hinge."""

    length_mm: float
    bridge_mm: float
    bridge_mm2: float


@dataclass(frozen=True)
class Consequences:
    """Of one osteotomy, on its own. `gap_mm` by place: the opening (or the wedge's base) at the far cortex, and a
    fifth of the hinge's length from its front and back end. `turn_deg` by direction of the moving part.
    """

    turn_deg: dict[str, float]
    words: str
    hinge: Hinge | None = None
    gap_mm: dict[str, float] = field(default_factory=dict)
    graft_ml: float | None = None
    cortex_offset_mm: float | None = None
    shortening_mm: float | None = None
    cautions: tuple[Caution, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        return {
            "turn_deg": self.turn_deg,
            "words": self.words,
            "hinge_length_mm": None if self.hinge is None else self.hinge.length_mm,
            "bridge_mm": None if self.hinge is None else self.hinge.bridge_mm,
            "bridge_mm2": None if self.hinge is None else self.hinge.bridge_mm2,
            "gap_mm": self.gap_mm,
            "graft_ml": self.graft_ml,
            "cortex_offset_mm": self.cortex_offset_mm,
            "shortening_mm": self.shortening_mm,
            "cautions": [caution.to_json() for caution in self.cautions],
        }


def consequences(twin: Twin, cut: Osteotomy) -> Consequences:
    """Of one osteotomy. Raises NoBone."""
    turn = turn_deg(twin, cut)
    words = turn_words(cut, turn)
    wedge = cut.kind in ("open-wedge", "close-wedge", "PSO", "SPO")
    hinge, gap, graft = None, {}, None
    if wedge:
        gap = {
            "disc in front" if cut.kind == "SPO" else "far cortex": cut.wedge_height_mm
            + (cut.kerf_mm if cut.kind == "open-wedge" else 0.0)
        }
    if wedge and is_limb(cut.bone):
        plane, out = cut.bisector, opening_way(cut)
        section = Section.of(twin.bone(cut.bone).surface, plane, cut.hinge.point_mm)
        hinge = _hinge(section, cut.hinge, out)
        gap |= _gaps(section, cut, out)
        if cut.kind == "open-wedge":
            graft = section.opening_ml(cut.hinge, out, cut.angle_rad)
    offset = cut.depth_mm * cut.angle_rad if cut.kind == "derotation" else None
    short = -float(cut.shift_mm @ cut.bisector.normal)
    return Consequences(
        turn, words, hinge, gap, graft, offset, short if abs(short) > 1e-9 else None, _cautions(cut, hinge, gap)
    )


def turn_deg(twin: Twin, cut: Osteotomy) -> dict[str, float]:
    """The turn of the moving part by direction, in the cut bone's axes: the rotation vector's components, degrees.

    Limbs: valgus, flexion, external. Spine: extension (lordosis), to the right, turned to the left. The directions are
    those of the part that moves.
    """
    log = np.degrees(rotation_log(cut.motion.rotation))
    if is_limb(cut.bone):
        try:
            axes = Limb.of(twin, cut.bone).turns()
        except (NoLandmark, BadOsteotomy):
            return {}
    elif cut.kind == "PAO":
        axes = pelvic_turns(cut)
    else:
        try:
            frame = bone_frame(twin, cut.bone).rotation
        except NoLandmark:
            return {}
        # a positive turn about forward tips the top to the right
        axes = {"extension": frame[:, 0], "to the right": frame[:, 1], "turned left": frame[:, 2]}
    return {name: float(log @ axis) for name, axis in axes.items()}


def turn_words(cut: Osteotomy, turn: dict[str, float]) -> str:
    """The same in words: `distal part 15.0° external`."""
    opposite = OPPOSITE | {"extension": "flexion", "to the right": "to the left", "turned left": "turned right"}
    if is_limb(cut.bone):
        opposite |= {"flexion": "extension"}
    said = [
        f"{abs(value):.1f}\u00b0 {name if value > 0 else opposite.get(name, f'against {name}')}"
        for name, value in sorted(turn.items(), key=lambda item: -abs(item[1]))
        if abs(value) >= NAMED_DEG
    ]
    part = part_names(cut)[0]
    return f"{part} part {', '.join(said)}" if said else f"{part} part does not turn"


def pelvic_turns(cut: Osteotomy) -> dict[str, Array]:
    """Axes of the acetabular fragment's turn: about the way forward its roof goes outward, about the way outward its
    front comes down.
    """
    outward = np.array([1.0 if cut.bone.endswith("left") else -1.0, 0.0, 0.0])
    back, up = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    return {"lateral cover": np.cross(up, outward), "anterior cover": np.cross(up, -back)}


def opening_way(cut: Osteotomy) -> Array:
    """From the hinge to the far cortex (3,), along the middle of the wedge."""
    normal, axis = cut.bisector.normal, cut.hinge.direction
    out = np.cross(normal, axis) if cut.kind == "open-wedge" else np.cross(axis, normal)
    return np.asarray(out / np.linalg.norm(out))


def gap_mm(distance_mm: float, angle_rad: float) -> float:
    """The gap at a distance from the hinge axis: 2 d sin(a/2)."""
    return 2.0 * distance_mm * math.sin(angle_rad / 2.0)


def _hinge(section: Section, hinge: Line[Patient], out: Array) -> Hinge | None:
    ends = section.chord_mm(hinge)
    if ends is None:
        return None
    middle, length = (ends[0] + ends[1]) / 2, ends[1] - ends[0]
    places = [hinge.point_mm + (middle + share * length) * hinge.direction for share in np.linspace(-0.25, 0.25, 11)]
    bridge = min(section.reach_mm(place, -out) for place in places)
    # first moment over a unit angle is no area: count the area beyond by strips along the hinge
    strips = np.linspace(ends[0], ends[1], 200)
    widths = [section.reach_mm(hinge.point_mm + s * hinge.direction, -out) for s in strips]
    return Hinge(length, bridge, float(np.trapezoid(widths, strips)))


def _gaps(section: Section, cut: Osteotomy, out: Array) -> dict[str, float]:
    ends = section.chord_mm(cut.hinge)
    if ends is None:
        return {}
    front_first = float(cut.hinge.direction[1]) > 0  # Patient's y runs backward
    found = {}
    for share, name in ((0.2, "anterior"), (0.8, "posterior")):
        share = share if front_first else 1.0 - share
        place = cut.hinge.point_mm + (ends[0] + share * (ends[1] - ends[0])) * cut.hinge.direction
        found[name] = gap_mm(section.reach_mm(place, out), cut.angle_rad)
    return found


def _cautions(cut: Osteotomy, hinge: Hinge | None, gap: dict[str, float]) -> tuple[Caution, ...]:
    found = []
    opening = gap.get("far cortex", 0.0)
    if cut.kind == "open-wedge" and is_limb(cut.bone) and opening > MOST_OPENING_MM:
        words = f"opens by {opening:.1f} mm, more than {MOST_OPENING_MM:g}: the hinge may break"
        found.append(Caution(words, opening, MOST_OPENING_MM))
    if hinge is not None and hinge.bridge_mm < LEAST_BRIDGE_MM:
        words = f"a bridge of {hinge.bridge_mm:.1f} mm is left, less than {LEAST_BRIDGE_MM:g}: the hinge may break"
        found.append(Caution(words, hinge.bridge_mm, LEAST_BRIDGE_MM))
    return tuple(found)
