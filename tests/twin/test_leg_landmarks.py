"""Leg landmarks on a real cadaver's meshes, against five raters with four trials each."""

import json
from typing import Any

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.data import shared_data
from twin.anatomy import landmarks, limbs
from twin.anatomy.bone import Landmark
from twin.anatomy.build import twin_from_meshes

RATED = {
    ("femur_left", "condyle_posterior_medial"): "Posterior Medial Condyle (PMC)",
    ("femur_left", "condyle_posterior_lateral"): "Posterior Lateral Condyle (PLC)",
    ("femur_left", "condyle_distal_medial"): "Distal Medial Condyle (DMC)",
    ("femur_left", "condyle_distal_lateral"): "Distal Lateral Condyle (DLC)",
    ("femur_left", "epicondyle_medial"): "Medial Epicondyle (MEC)",
    ("femur_left", "epicondyle_lateral"): "Lateral Epicondyle (LEC)",
    ("femur_left", "intercondylar_notch"): "Intercondylar Notch (ICN)",
    ("hip_left", "asis_left"): "Left ASIS",
    ("hip_right", "asis_right"): "Right ASIS",
}
LEGS = [f"{bone}_{side}" for bone in ("hip", "femur", "tibia", "fibula") for side in ("left", "right")]
Meshes = dict[str, TriangleMesh[Patient]]


@pytest.fixture(scope="module")
def meshes() -> Meshes:
    from scipy.io import loadmat

    bones = loadmat(shared_data("bones_vsd_z013/z013.mat"), simplify_cells=True)["B"]
    found = {}
    for bone in bones:
        kind, _, side = bone["name"].partition("_")
        name = kind.lower() + {"L": "_left", "R": "_right", "": ""}[side]
        mesh = bone["mesh"]
        found[name] = TriangleMesh[Patient](
            np.asarray(mesh["vertices"], float), np.asarray(mesh["faces"], np.int32) - 1
        )
    return {name: mesh for name, mesh in found.items() if name in LEGS or name == "sacrum"}


@pytest.fixture(scope="module")
def marks(meshes: Meshes) -> dict[tuple[str, str], Landmark]:
    return {(m.bone, m.name): m for m in landmarks.measure(meshes)[0]}


@pytest.fixture(scope="module")
def raters() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(shared_data("bones_vsd_z013/landmarks_z013.json").read_text())
    return value


def spread(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean, and the standard deviation of the distance from it, over all trials of all raters."""
    middle = points.mean(axis=0)
    return middle, float(np.sqrt(((points - middle) ** 2).sum() / (len(points) - 1)))


def trials(raters: dict[str, Any], part: str) -> list[dict[str, list[float]]]:
    return [trial for rater in raters[part].values() for trial in rater]


def sphere_centre(points: np.ndarray) -> np.ndarray:
    A = np.column_stack([2 * points, np.ones(len(points))])
    return np.linalg.lstsq(A, (points**2).sum(axis=1), rcond=None)[0][:3]


@pytest.mark.parametrize(("bone", "name"), RATED)
def test_within_twice_the_raters_spread(
    marks: dict[tuple[str, str], Landmark], raters: dict[str, Any], bone: str, name: str
) -> None:
    part = "pelvis" if bone.startswith("hip") else "femur"
    middle, sd = spread(np.array([trial[RATED[bone, name]] for trial in trials(raters, part)]))
    assert np.linalg.norm(marks[bone, name].position.mm - middle) < 2.0 * sd


def test_the_head_s_centre_is_the_raters(marks: dict[tuple[str, str], Landmark], raters: dict[str, Any]) -> None:
    heads = [[p for name, p in trial.items() if "Femoral Head" in name] for trial in trials(raters, "femur")]
    middle, sd = spread(np.array([sphere_centre(np.array(points)) for points in heads]))
    assert np.linalg.norm(marks["femur_left", "femoral_head"].position.mm - middle) < 2.0 * sd


def test_both_legs_have_the_same_lengths(marks: dict[tuple[str, str], Landmark]) -> None:
    for bone, upper, lower, mm in (
        ("femur", "femoral_head", "intercondylar_notch", 390.0),
        ("tibia", "plateau_medial", "malleolus_medial", 332.0),
        ("fibula", "fibular_head", "malleolus_lateral", 326.0),
    ):
        lengths = [
            float(
                np.linalg.norm(marks[f"{bone}_{side}", upper].position.mm - marks[f"{bone}_{side}", lower].position.mm)
            )
            for side in ("left", "right")
        ]
        assert lengths[0] == pytest.approx(lengths[1], abs=4.0)
        assert lengths[0] == pytest.approx(mm, abs=8.0)


def test_plateaus_look_up_and_malleoli_point_down(marks: dict[tuple[str, str], Landmark]) -> None:
    for side in ("left", "right"):
        plateau = marks[f"tibia_{side}", "plateau_medial"]
        assert plateau.direction is not None
        assert plateau.direction.unit[2] > 0.97
        assert (
            marks[f"tibia_{side}", "malleolus_medial"].position.mm[2]
            < marks[f"tibia_{side}", "ankle_centre"].position.mm[2]
        )
        aside = marks[f"fibula_{side}", "malleolus_lateral"].position.mm - plateau.position.mm
        assert aside @ limbs.LATERAL["left" if side == "left" else "right"] > 10.0


def test_a_turned_leg_has_turned_landmarks(meshes: Meshes, marks: dict[tuple[str, str], Landmark]) -> None:
    """Ten degrees of flexion and of rotation change no place on the bone by more than the place is sure."""
    mesh = meshes["femur_left"]
    a, b = np.radians(10.0), np.radians(-10.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turn = about_z @ about_x
    turned = TriangleMesh[Patient](mesh.vertices_mm @ turn.T, mesh.triangles)
    head = turn @ marks["femur_left", "femoral_head"].position.mm
    for mark in limbs.femur(turned, "left", head):
        assert np.linalg.norm(mark.position.mm - turn @ marks["femur_left", mark.name].position.mm) < 1.5, mark.name


def test_a_cut_femur_has_no_condyles(meshes: Meshes) -> None:
    """The lower half cut away and closed flat, as the edge of a scan leaves it."""
    mesh = meshes["femur_left"]
    points = mesh.vertices_mm.copy()
    cut_z = float(np.median(points[:, 2]))
    points[:, 2] = np.maximum(points[:, 2], cut_z)
    kept = ~(points[mesh.triangles][:, :, 2] == cut_z).all(axis=1)
    ring = points[np.unique(mesh.triangles[kept])]
    ring = ring[ring[:, 2] < cut_z + 1e-9]
    middle = ring.mean(axis=0)
    # every lid triangle shrinks to the section's outline: a fan about its middle
    around = ring[np.argsort(np.arctan2(*(ring - middle)[:, [1, 0]].T))]
    n, m = len(points), len(around)
    fan = [[n, n + 1 + (i + 1) % m, n + 1 + i] for i in range(m)]
    every = np.concatenate([points, middle[None], around])
    used, triangles = np.unique(np.concatenate([mesh.triangles[kept], np.array(fan)]), return_inverse=True)
    half = TriangleMesh[Patient](every[used], triangles.reshape(-1, 3).astype(np.int32))
    assert limbs.femur(half, "left", None) == []


def test_the_route_by_meshes_keeps_them(meshes: Meshes) -> None:
    twin = twin_from_meshes({"tibia_left": meshes["tibia_left"], "fibula_left": meshes["fibula_left"]})
    assert twin.landmark("malleolus_medial", "tibia_left", "left").sd_mm is None  # the scan behind is not known
    assert twin.landmark("malleolus_lateral", "fibula_left").position.mm[2] < -1300.0


def test_a_femur_that_the_scan_cuts_at_the_shaft_has_no_condyles():
    import manifold3d as m3

    from tests.twin.plan.bodies import to_mesh

    ball = m3.Manifold.sphere(24.0, 64).translate((-40.0, 0.0, 0.0))
    neck = m3.Manifold.cylinder(60.0, 11.0, circular_segments=48).rotate((0.0, 90.0, 0.0)).translate((-45.0, 0.0, 0.0))
    shaft = m3.Manifold.cylinder(120.0, 15.0, 14.0, 48).translate((10.0, 0.0, -115.0))
    rough = m3.Manifold.sphere(16.0, 32).translate((10.0, 0.0, -110.0))  # a cut that is not quite flat
    assert limbs.femur(to_mesh(ball + neck + shaft + rough), "left", np.array([-40.0, 0.0, 0.0])) == []


def test_a_stump_below_the_trochanters_that_is_as_broad_as_a_knee_has_no_condyles():
    import manifold3d as m3

    from tests.twin.plan.bodies import to_mesh

    ball = m3.Manifold.sphere(24.0, 64).translate((-40.0, 0.0, 0.0))
    block = m3.Manifold.cylinder(70.0, 30.0, 32.0, 64).scale((1.0, 0.7, 1.0)).translate((5.0, 0.0, -80.0))
    ends = [m3.Manifold.sphere(16.0, 32).translate((x, 6.0, -74.0)) for x in (-16.0, 26.0)]  # a rough cut, two humps
    bone = to_mesh(ball + block + ends[0] + ends[1])
    assert limbs.femur(bone, "left", np.array([-40.0, 0.0, 0.0])) == []
    assert limbs.femur(bone, "left", None) != []  # without the head nothing tells how long it is
