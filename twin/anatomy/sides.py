"""Left and right, checked three ways: what the scan says of itself, what each bone's shape says, and where it lies.

None of them confirms a side, and a skeleton mirrored as a whole is caught by the scan's own words alone: bones look the
same in the mirror, each like its neighbour of the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import chirality
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.twin import SideEvidence

LEAST_APART_MM = 10.0  # a pair's middles, and a bone's from the spine
WORDS = {"L": "left", "LEFT": "left", "R": "right", "RIGHT": "right"}
MIDDLE = ("sacrum", "skull", "sternum", "vertebrae")


def check_sides(
    surfaces: Mapping[str, TriangleMesh[Patient]], landmarks: Sequence[Landmark], about: Mapping[str, Any] | None = None
) -> tuple[SideEvidence, ...]:
    """The three checks of a twin's left and right; `about` is the CT's (`Volume.about`), None for meshes."""
    return (_laterality(surfaces, about or {}), _chirality(surfaces, landmarks), _order(surfaces))


def warnings(evidence: Sequence[SideEvidence]) -> tuple[str, ...]:
    """A loud word for each check that contradicts the names."""
    return tuple(
        f"LEFT AND RIGHT MAY BE EXCHANGED ({found.check}): {found.words}" for found in evidence if found.agrees is False
    )


def _laterality(surfaces: Mapping[str, TriangleMesh[Patient]], about: Mapping[str, Any]) -> SideEvidence:
    sides = {name.rsplit("_", 1)[-1] for name in surfaces if _side(name) and not name.startswith("rib")}
    said = {WORDS[text] for key in ("laterality", "image_laterality") if (text := _upper(about.get(key))) in WORDS}
    if len(said) > 1:
        return SideEvidence("laterality", False, "the scan calls itself left and right at once")
    turned = _turned(about)
    if turned is not None:
        return SideEvidence("laterality", False, turned)
    if said and sides:
        side = said.pop()
        agrees = side in sides
        return SideEvidence("laterality", agrees, f"the scan says {side}, the bones are {' and '.join(sorted(sides))}")
    if about.get("patient_orientation"):
        return SideEvidence("laterality", True, "the scan's patient orientation and its image axes agree")
    return SideEvidence("laterality", None, "the scan says nothing of its side")


def _turned(about: Mapping[str, Any]) -> str | None:
    """A contradiction between the words for the rows' and columns' directions and the numbers; None: there is none."""
    words, axes = about.get("patient_orientation"), about.get("image_orientation")
    if not words or not axes:
        return None
    letters = {"L": (0, 1.0), "R": (0, -1.0), "P": (1, 1.0), "A": (1, -1.0), "H": (2, 1.0), "F": (2, -1.0)}
    numbers = [float(text) for text in str(axes).split("\\")]
    for word, way, name in zip(str(words).split("\\"), (numbers[:3], numbers[3:]), ("rows", "columns"), strict=False):
        main = letters.get(word.strip().upper()[:1])
        if main is not None and way[main[0]] * main[1] < -0.5:
            return f"the {name} run to {word.strip()} in words, and the other way in numbers: was the image flipped?"
    return None


def _chirality(surfaces: Mapping[str, TriangleMesh[Patient]], landmarks: Sequence[Landmark]) -> SideEvidence:
    heads = {mark.side: mark.position.mm for mark in landmarks if mark.name == "femoral_head"}
    shapes: dict[str, Side] = {}
    sides: tuple[Side, Side] = ("left", "right")
    for side in sides:
        femur, hip, tibia, fibula = (surfaces.get(f"{bone}_{side}") for bone in ("femur", "hip", "tibia", "fibula"))
        found: dict[str, Side | None] = {}
        if femur is not None:
            found[f"femur_{side}"] = chirality.femur(femur)
            if found[f"femur_{side}"] is None and side in heads:
                found[f"femur_{side}"] = chirality.by_head(femur, heads[side])
        if hip is not None and side in heads:
            found[f"hip_{side}"] = chirality.hip(hip, heads[side])
        if tibia is not None and fibula is not None:
            found[f"tibia_{side}"] = chirality.shank(tibia, fibula) or chirality.by_fibula(tibia, fibula)
        shapes |= {name: shape for name, shape in found.items() if shape is not None}
    if not shapes:
        return SideEvidence("chirality", None, "no bone in the scan has a side of its own shape")
    wrong = [f"{name} is shaped like a {shape} one" for name, shape in sorted(shapes.items()) if _side(name) != shape]
    if wrong:
        return SideEvidence("chirality", False, "; ".join(wrong))
    return SideEvidence("chirality", True, f"shaped as named: {', '.join(sorted(shapes))}")


def _order(surfaces: Mapping[str, TriangleMesh[Patient]]) -> SideEvidence:
    middle = {name: _middle(mesh) for name, mesh in surfaces.items()}
    axis = [at[0] for name, at in middle.items() if name.startswith(MIDDLE)]
    wrong: list[str] = []
    right: list[str] = []
    for name in sorted(name for name in middle if _side(name) == "left"):
        other = name.replace("_left", "_right")
        if other in middle and abs(middle[name][0] - middle[other][0]) > LEAST_APART_MM:
            # Patient: +x is left
            (right if middle[name][0] > middle[other][0] else wrong).append(f"{name} and {other}")
    if axis:
        for name in sorted(middle):
            side, lateral = _side(name), float(middle[name][0] - np.mean(axis))
            if side is not None and abs(lateral) > LEAST_APART_MM:
                (right if (lateral > 0) == (side == "left") else wrong).append(name)
    if wrong:
        return SideEvidence("order", False, f"on the other side of the body: {', '.join(wrong)}")
    if right:
        return SideEvidence("order", True, "left bones lie on the patient's left")
    return SideEvidence("order", None, "no pair of bones and no spine to compare a side with")


def _side(name: str) -> Side | None:
    if "_left" in name:
        return "left"
    return "right" if "_right" in name else None


def _middle(mesh: TriangleMesh[Patient]) -> Array:
    low, high = mesh.bounds_mm
    return np.asarray(0.5 * (low + high))


def _upper(text: object) -> str:
    return str(text or "").strip().upper()
