"""A planned cut drawn by its planes: for every kind, the room that is left away holds what the real cut takes."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from render.anatomy import bone_parts
from render.planning import MOVES, TAKEN, cut_preview
from render.scene import MeshPart
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points, Rigid
from tests.twin.plan.bodies import block_spine
from tests.twin.plan.limbs import box_legs
from twin.anatomy.twin import Twin
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.pieces import pieces_of

L3, L4, TIBIA = "vertebrae_L3", "vertebrae_L4", "tibia_left"
# kind, bone, options, which piece the see-through part shows
CASES = {
    "PSO": ("PSO", L3, None, "wedge"),
    "SPO": ("SPO", L3, None, "wedge"),
    "closing": ("close-wedge", TIBIA, None, "wedge"),
    "derotation with kerf": ("derotation", TIBIA, Options(target_deg=10.0, kerf_mm=2.0), "wedge"),
    "opening": ("open-wedge", TIBIA, None, "moving"),
    "plane": ("plane", TIBIA, None, "moving"),
    "biplanar": ("open-wedge", TIBIA, Options(biplanar=True), "staying"),
    "within a box": ("plane", TIBIA, Options(box_mm=(30.0, 20.0), at="proximal", kerf_mm=1.5), "wedge"),
}


@cache
def planned(name: str) -> tuple[Twin, Osteotomy]:
    kind, bone, options, _ = CASES[name]
    twin = block_spine() if bone == L3 else box_legs()
    return twin, make(twin, kind, bone, math.radians(20.0) if bone == L3 else None, options=options)


def within_mm(part: MeshPart[Patient], mesh: TriangleMesh[Patient]) -> Array:
    """How deep each corner lies in the room that is taken."""
    assert part.cut_away is not None
    return np.asarray(
        np.min([p.signed_distance_mm(Points[Patient](mesh.vertices_mm)) for p in part.cut_away.planes], axis=0)
    )


@pytest.mark.parametrize(("name", "bone"), [(n, CASES[n][1]) for n in CASES] + [("SPO", L4)])
def test_the_room_holds_what_the_real_cut_takes_and_no_more(name: str, bone: str) -> None:
    twin, cut = planned(name)
    if name == "SPO":  # the blocks' arches end far from the disc: bring the planes to them
        cut = cut.shifted(Rigid.exp((0.0, 0.0, 0.0), (0.0, 0.0, 12.0 if bone == L3 else -12.0)))
    (part,) = bone_parts(twin, names=[bone])
    left, ghost = cut_preview(part, cut)
    pieces = pieces_of(twin, cut, bone)
    which = CASES[name][3]
    shown = {piece: getattr(pieces, piece) for piece in ("moving", "staying", "wedge")}
    taken = shown.pop(which)
    assert taken.volume_ml > 0.1
    assert within_mm(left, taken).min() > -1e-4, "manifold3d rounds to float32"
    others = [piece for piece in shown.values() if len(piece.triangles)]
    assert others
    assert all(within_mm(left, piece).max() < 1e-4 for piece in others)
    assert left.cut_away is not None
    assert ghost.cut_away is not None
    assert (left.cut_away.shows, ghost.cut_away.shows) == ("rest", "taken")
    assert ghost.material is (TAKEN if which == "wedge" else MOVES)
    assert left.mesh is ghost.mesh, "one mesh on the GPU for both"


def test_bones_that_are_not_cut_stay_as_they_are() -> None:
    twin, cut = planned("PSO")
    (part,) = bone_parts(twin, names=[L4])
    assert cut_preview(part, cut) == (part,)


def test_a_resected_vertebra_is_a_ghost_altogether() -> None:
    spine = block_spine()
    (part,) = bone_parts(spine, names=[L3])
    (ghost,) = cut_preview(part, make(spine, "VCR", L3, math.radians(10.0)))
    assert ghost.material is TAKEN
    assert ghost.cut_away is None
    assert ghost.name != part.name


def test_an_outline_that_planes_can_not_bound_is_not_drawn() -> None:
    """Rather no preview than a wrong one."""
    twin, cut = planned("within a box")
    (part,) = bone_parts(twin, names=[TIBIA])
    a, b, c, d = np.asarray(cut.outline_mm)
    dented = replace(cut, outline_mm=np.array([a, b, c, (a + b + c + d) / 4 + 0.2 * (b - d)]))
    assert cut_preview(part, dented) == (part,)
    turned = replace(cut, outline_mm=np.array([d, c, b, a]))
    piece = pieces_of(twin, cut, TIBIA).wedge
    assert within_mm(cut_preview(part, turned)[0], piece).min() > -1e-4
