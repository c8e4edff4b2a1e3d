"""Left and right, three ways: on a digital leg, its mirror images, and real bones."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.data import shared_data
from tests.twin.legs import Scanned, scanned
from twin.anatomy import chirality, landmarks, sides
from twin.anatomy.build import twin_from_meshes
from twin.anatomy.twin import SideEvidence
from twin.scan.phantom.patient import Phantom

Meshes = dict[str, TriangleMesh[Patient]]
BONES = {"Hip": "hip", "Femur": "femur", "Tibia": "tibia", "Fibula": "fibula"}


@pytest.fixture(scope="module")
def leg() -> Scanned:
    phantom = Phantom.make(1, anatomy="leg", sides=("left",))
    return scanned(phantom, (-10.0, -75.0, -1365.0), (170.0, 75.0, -470.0))


@pytest.fixture(scope="module")
def skeleton() -> Meshes:
    from scipy.io import loadmat

    found = {}
    for bone in loadmat(shared_data("bones_vsd_z013/z013.mat"), simplify_cells=True)["B"]:
        kind, _, side = bone["name"].partition("_")
        if kind in BONES:
            name = f"{BONES[kind]}_{'left' if side == 'L' else 'right'}"
            corners, faces = np.asarray(bone["mesh"]["vertices"], float), np.asarray(bone["mesh"]["faces"], np.int32)
            found[name] = TriangleMesh[Patient](corners, faces - 1)
    return found


def moved(meshes: Meshes, by: np.ndarray) -> Meshes:
    """Every mesh under a rotation or a reflection, still the right way out."""
    turn = slice(None, None, 1 if np.linalg.det(by) > 0 else -1)
    return {
        name: TriangleMesh[Patient](mesh.vertices_mm @ by.T, np.ascontiguousarray(mesh.triangles[:, turn]))
        for name, mesh in meshes.items()
    }


def checked(meshes: Meshes, about: dict[str, str] | None = None) -> dict[str, SideEvidence]:
    return {e.check: e for e in sides.check_sides(meshes, landmarks.measure(meshes)[0], about)}


def test_a_leg_is_what_it_is_called(leg: Scanned) -> None:
    found = checked(leg.meshes(), {"laterality": "L"})
    assert [found[check].agrees for check in ("laterality", "chirality", "order")] == [True, True, True]
    assert sides.warnings(tuple(found.values())) == ()


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirrored_scan_is_caught_by_shape_though_the_order_agrees(leg: Scanned, axis: int) -> None:
    """Slices stacked in reverse, or rows from behind: left bones still lie at +x."""
    found = checked(leg.flipped(axis).meshes())
    assert found["order"].agrees is True
    assert found["chirality"].agrees is False
    assert "femur_left is shaped like a right one" in found["chirality"].words
    assert any("LEFT AND RIGHT" in text for text in sides.warnings(tuple(found.values())))


def test_columns_in_reverse_are_caught_by_shape_and_order(leg: Scanned) -> None:
    found = checked(leg.flipped(0).meshes())
    assert found["chirality"].agrees is False
    assert found["order"].agrees is False


def test_the_scan_s_own_words_contradict(leg: Scanned) -> None:
    meshes = {name: mesh for name, mesh in leg.meshes().items() if name.startswith(("tibia", "fibula"))}
    assert checked(meshes, {"laterality": "R"})["laterality"].agrees is False
    assert checked(meshes, {"image_laterality": "L", "laterality": "R"})["laterality"].agrees is False
    assert checked(meshes)["laterality"].agrees is None
    words = {"patient_orientation": "L\\P", "image_orientation": "1\\0\\0\\0\\1\\0"}
    assert checked(meshes, words)["laterality"].agrees is True
    flipped = words | {"image_orientation": "-1\\0\\0\\0\\1\\0"}
    assert "flipped" in checked(meshes, flipped)["laterality"].words


def test_real_bones_have_their_side_however_they_lie(skeleton: Meshes) -> None:
    heads = {m.side: m.position.mm for m in landmarks.measure(skeleton)[0] if m.name == "femoral_head"}
    rng = np.random.default_rng(7)
    mirror = np.diag([1.0, 1.0, -1.0])
    for _ in range(4):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        for by, same in ((turn, True), (turn @ mirror, False)):
            meshes = moved(skeleton, by)
            for side in ("left", "right"):
                other = "right" if side == "left" else "left"
                wanted = side if same else other
                assert chirality.femur(meshes[f"femur_{side}"]) == wanted
                assert chirality.shank(meshes[f"tibia_{side}"], meshes[f"fibula_{side}"]) == wanted
                assert chirality.hip(meshes[f"hip_{side}"], by @ heads["left" if side == "left" else "right"]) == wanted


def test_a_real_skeleton_agrees_and_its_exchanged_names_do_not(skeleton: Meshes) -> None:
    assert [e.agrees for e in checked(skeleton).values()] == [None, True, True]
    exchanged = {
        name.replace("left", "#").replace("right", "left").replace("#", "right"): mesh
        for name, mesh in skeleton.items()
    }
    found = checked(exchanged)
    assert found["chirality"].agrees is False
    assert found["order"].agrees is False


def test_the_twin_carries_the_evidence(leg: Scanned) -> None:
    meshes = {name: mesh for name, mesh in leg.meshes().items() if name.startswith(("tibia", "fibula"))}
    twin = twin_from_meshes(moved(meshes, np.diag([-1.0, 1.0, 1.0])))
    assert [e.check for e in twin.sides] == ["laterality", "chirality", "order"]
    assert twin.sides[1].agrees is False
    assert twin.warnings[0].startswith("LEFT AND RIGHT MAY BE EXCHANGED (chirality)")
