"""Landmark fits on shapes with known answers."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Rigid, rotation_exp
from twin.anatomy import endplates, landmarks, local_frame, pelvis, sections, spread, surface
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin
from twin.anatomy.vertebral_frame import axes_from
from twin.scan.volume import Grid


def meshed(inside, size_mm: float = 60.0, step_mm: float = 1.0) -> TriangleMesh[Patient]:
    """The surface of a region given by a function of points (..., 3) about the origin."""
    n = round(size_mm / step_mm) + 1
    grid = Grid((n, n, n), np.full(3, step_mm), np.full(3, -size_mm / 2), np.eye(3))
    k, j, i = np.meshgrid(*(np.arange(n),) * 3, indexing="ij")
    points = grid.patient_from_index(np.stack([i, j, k], axis=-1)).mm
    return surface.from_mask(inside(points), grid)


def test_axes_are_right_handed_on_both_sides() -> None:
    axes = axes_from(np.array([0.1, 0.2, 1.0]), np.array([0.0, -1.0, 0.0]))
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[0, 0] < -0.9  # the patient's right is -x


@pytest.mark.parametrize("outward", [1.0, -1.0])
def test_an_endplate_is_found_to_a_fraction_of_a_degree(outward: float) -> None:
    R = rotation_exp([0.2, -0.1, 0.0])
    body = meshed(lambda p: (np.hypot((p @ R)[..., 0] / 1.3, (p @ R)[..., 1]) < 17) & (np.abs((p @ R)[..., 2]) < 13))
    axes = axes_from(np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0]))
    plate = endplates.fit(body, np.zeros(3), axes, outward)
    assert isinstance(plate, endplates.Endplate)
    assert np.degrees(np.arccos(min(1.0, plate.normal @ R[:, 2]))) < 0.5
    assert np.linalg.norm(plate.centre_mm - outward * 13 * R[:, 2]) < 0.6


def test_a_section_has_the_area_and_centroid_of_its_outline() -> None:
    tube = meshed(lambda p: (np.hypot(p[..., 0] - 4, p[..., 1]) < 9) & (np.abs(p[..., 2]) < 20), step_mm=0.8)
    found = sections.loops(tube, np.array([4.0, 0.0, 1.3]), np.array([0.0, 0.0, 1.0]))
    assert len(found) == 1
    assert found[0].area_mm2 == pytest.approx(np.pi * 81, rel=0.02)
    assert np.linalg.norm(found[0].centroid_mm - [4.0, 0.0, 1.3]) < 0.1


def test_a_femoral_head_is_fitted_beside_its_neck() -> None:
    centre = np.array([3.0, -2.0, 8.0])
    neck = np.array([0.75, 0.15, -0.65]) / np.linalg.norm([0.75, 0.15, -0.65])

    def inside(p: np.ndarray) -> np.ndarray:
        d = p - centre
        along = d @ neck
        tube = (along > 0) & (along < 45) & (np.linalg.norm(d - along[..., None] * neck, axis=-1) < 13)
        return (np.linalg.norm(d, axis=-1) < 23) | tube

    head = pelvis.femoral_head(meshed(inside, 110.0), np.array([-1.0, 0.0, 0.0]))
    assert head is not None
    assert np.linalg.norm(head.centre_mm - centre) < 0.5
    assert head.radius_mm == pytest.approx(23.0, abs=0.4)


def test_a_shaft_alone_has_no_head() -> None:
    shaft = meshed(lambda p: (np.hypot(p[..., 0], p[..., 1]) < 14) & (np.abs(p[..., 2]) < 45), 110.0)
    assert pelvis.femoral_head(shaft, np.array([-1.0, 0.0, 0.0])) is None


def vertebra(p: np.ndarray) -> np.ndarray:
    """A body 46 x 32 x 26 mm, two pedicles 9 x 14 mm that converge by 12 degrees, an arch round a canal, a process."""
    x, y, z = p[..., 0], p[..., 1] + 16.0, p[..., 2]
    inside = (np.hypot(x / 23.0, y / 16.0) < 1) & (np.abs(z) < 13)
    for side in (-1.0, 1.0):
        a = np.radians(12.0)
        across = (x - side * 16.0) * np.cos(a) - side * (y - 19.0) * np.sin(a)
        along = side * (x - side * 16.0) * np.sin(a) + (y - 19.0) * np.cos(a)
        inside |= (np.hypot(across / 4.5, (z - 4.0) / 7.0) < 1.0 + 0.004 * along**2) & (np.abs(along) < 10)
    inside |= (np.hypot(x, y - 26) < 22) & (np.hypot(x, y - 26) > 13) & (y > 27) & (np.abs(z) < 10)
    return inside | ((np.abs(x) < 4) & (y > 45) & (y < 66) & (np.abs(z + 3) < 8))


def turned(R: np.ndarray):
    return lambda p: vertebra(p @ R)


@pytest.fixture(scope="module")
def marks() -> dict[tuple[str, str], Landmark]:
    R = rotation_exp([0.15, -0.1, 0.08])
    found, missing = landmarks.measure({"vertebrae_L3": meshed(turned(R), 130.0, 1.0)})
    assert not missing
    return {(m.bone, m.name): m for m in found}


def test_a_vertebra_has_its_landmarks_where_it_was_made(marks) -> None:
    R = rotation_exp([0.15, -0.1, 0.08])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pedicle = marks["vertebrae_L3", f"pedicle_{side}"]
        way = R @ [-sign * np.sin(np.radians(12.0)), -np.cos(np.radians(12.0)), 0.0]
        assert np.degrees(np.arccos(min(1.0, pedicle.direction.unit @ way))) < 1.5
        assert np.linalg.norm(np.cross(pedicle.position.mm - R @ [sign * 16.0, 3.0, 4.0], way)) < 0.5
    for name, z in (("superior", 13.0), ("inferior", -13.0)):
        plate = marks["vertebrae_L3", f"endplate_{name}"]
        assert np.degrees(np.arccos(min(1.0, plate.direction.unit @ R[:, 2]))) < 0.5
        assert np.linalg.norm(plate.position.mm - R @ [0.0, -16.0, z]) < 0.5
    assert np.linalg.norm(marks["vertebrae_L3", "spinous_tip"].position.mm - R @ [0.0, 49.0, -3.0]) < 1.5


@pytest.mark.parametrize("without", [(), ("pedicle_left",), ("pedicle_left", "canal_centre")])
def test_the_local_frame_is_right_handed_and_turns_with_the_bone(marks, without) -> None:
    mesh = meshed(vertebra, 130.0, 3.0)
    kept = tuple(m for m in marks.values() if m.name not in without)
    twin = Twin("t", {"vertebrae_L3": Bone("vertebrae_L3", mesh)}, kept, Levels(1.0))
    frame = local_frame.local_frame(twin, "vertebrae_L3")
    R = rotation_exp([0.15, -0.1, 0.08]) @ np.diag([-1.0, -1.0, 1.0])  # right is -x, anterior -y
    assert np.linalg.det(frame.patient_from_bone.rotation) == pytest.approx(1.0)
    off = frame.patient_from_bone.rotation.T @ R
    limit = {0: 1.0, 1: 4.0, 2: 8.0}[len(without)]  # the canal is a shorter lever, the patient's right none
    assert np.degrees(np.arccos(np.clip((np.trace(off) - 1) / 2, -1, 1))) < limit
    assert frame.sides == ("pedicles", "canal to body", "the patient's")[len(without)]
    assert local_frame.local_frames(twin)["vertebrae_L3"]["from"]["sides"] == frame.sides


def test_a_mirrored_vertebra_has_mirrored_pedicles_and_a_right_handed_frame(marks) -> None:
    R = rotation_exp([0.15, -0.1, 0.08])
    M = np.diag([-1.0, 1.0, 1.0])
    found, _ = landmarks.measure({"vertebrae_L3": meshed(lambda p: vertebra((p @ M) @ R), 130.0, 1.0)})
    at = {m.name: m for m in found}
    left, right = at["pedicle_left"].position.mm, marks["vertebrae_L3", "pedicle_right"].position.mm
    assert np.linalg.norm(left - M @ right) < 0.3
    twin = Twin("t", {"vertebrae_L3": Bone("vertebrae_L3", meshed(vertebra, 130.0, 3.0))}, found, Levels(1.0))
    axes = local_frame.bone_frame(twin, "vertebrae_L3").rotation
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[0, 0] < -0.9


def test_a_cut_or_broken_vertebra_is_named_with_the_reason_not_measured_wrong() -> None:
    def half(p: np.ndarray) -> np.ndarray:
        return vertebra(p) & (p[..., 1] < 8.0)

    found, missing = landmarks.measure({"vertebrae_L3": meshed(half, 130.0, 1.5)})
    assert not found
    assert any("no vertebral foramen" in text for text in missing)

    def wedged(p: np.ndarray) -> np.ndarray:
        front = (p[..., 1] < 0) & (p[..., 2] > 13.0 + 0.9 * (p[..., 1] + 2.0))
        return vertebra(p) & ~front

    found, missing = landmarks.measure({"vertebrae_L3": meshed(wedged, 130.0, 1.5)})
    assert not [m for m in found if m.name.startswith("endplate")]
    assert any("lean" in text or "uneven" in text or "% of the face" in text for text in missing)


def test_the_stump_of_a_rib_beside_the_body_is_no_pedicle(marks) -> None:
    """What stays of a rib on the bone is thinner than the pedicle, but does not stand at the canal."""

    def stumped(p: np.ndarray) -> np.ndarray:
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        rod = (np.hypot(np.abs(x) - 24.0, z - 5.0) < 2.5) & (y > -14.0) & (y < 9.0)
        return vertebra(p) | rod

    R = rotation_exp([0.15, -0.1, 0.08])
    found, _ = landmarks.measure({"vertebrae_L3": meshed(lambda p: stumped(p @ R), 130.0, 1.0)})
    for mark in found:
        if mark.name.startswith("pedicle"):
            alone = marks["vertebrae_L3", mark.name]
            assert np.linalg.norm(np.cross(mark.position.mm - alone.position.mm, alone.direction.unit)) < 0.5
            assert mark.direction.unit @ alone.direction.unit > np.cos(np.radians(2.0))
    assert {m.name for m in found} >= {"pedicle_left", "pedicle_right"}


def test_an_endplate_with_something_grown_on_is_measured_by_its_fellow() -> None:
    def spurred(p: np.ndarray) -> np.ndarray:
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        return vertebra(p) | ((np.abs(z - 11.0) < 2.0) & (np.abs(y + 16.0) < 5.0) & (x > 0.0) & (x < 60.0))

    found, missing = landmarks.measure({"vertebrae_L3": meshed(spurred, 130.0, 1.0)})
    assert not missing
    for mark in found:
        if mark.name.startswith("endplate"):
            assert np.degrees(np.arccos(min(1.0, mark.direction.unit[2]))) < 3.0
            assert "too large" in mark.note


def test_facing_joints_are_found_and_missing_ones_said() -> None:
    def lower(p: np.ndarray) -> np.ndarray:
        posts = (np.hypot(np.abs(p[..., 0]) - 17, p[..., 1] - 12) < 4) & (p[..., 2] > 0) & (p[..., 2] < 22)
        return vertebra(p) | posts

    def upper(p: np.ndarray) -> np.ndarray:
        posts = (np.hypot(np.abs(p[..., 0]) - 17, p[..., 1] - 22) < 4) & (p[..., 2] < 36) & (p[..., 2] > 8)
        return vertebra(p - np.array([0, 0, 36.0])) | posts

    meshes = {"vertebrae_L4": meshed(lower, 130.0, 1.3), "vertebrae_L3": meshed(upper, 130.0, 1.3)}
    found, _ = landmarks.measure(meshes)
    at = {(m.bone, m.name): m for m in found}
    face = at["vertebrae_L4", "facet_superior_left"]
    assert face.side == "left"
    assert abs(face.position.mm[0] - 17.0) < 1.0
    assert face.direction.unit[1] > 0.8  # it looks back
    assert at["vertebrae_L3", "facet_inferior_left"].direction.unit @ face.direction.unit < -0.95
    meshes["vertebrae_L3"] = meshes["vertebrae_L3"].moved(Rigid(np.eye(3), [0.0, 0.0, 30.0]))
    _, missing = landmarks.measure(meshes)
    assert any("facet joint left of vertebrae_L3 and vertebrae_L4" in text for text in missing)


def test_a_spread_grows_with_the_voxel_and_is_none_with_a_reason_where_nothing_was_measured(marks) -> None:
    mark = marks["vertebrae_L3", "pedicle_left"]
    fine, coarse = spread.with_spread(mark, [0.8] * 3), spread.with_spread(mark, [3.0] * 3)
    assert 0 < fine.sd_mm < coarse.sd_mm < 1.5
    assert 0 < fine.sd_deg < coarse.sd_deg
    assert spread.with_spread(mark, [0.8] * 3, drawn=True).sd_mm > fine.sd_mm
    unknown = spread.with_spread(mark, [1.0, 1.0, 6.0])
    assert unknown.sd_mm is None
    assert "6 mm" in unknown.note
    assert spread.without_spread(mark).note
    again = Landmark.from_json(unknown.to_json())
    assert (again.sd_mm, again.sd_deg, again.note) == (None, None, unknown.note)
