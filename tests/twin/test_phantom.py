"""The phantom: the same seed the same patient, human proportions, exact distances, honest joints."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from spatial.faults import Misuse
from twin.scan.phantom import shapes
from twin.scan.phantom.measures import alignment, landmarks, pedicles, volume_ml
from twin.scan.phantom.morphometry import PEDICLES
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.solids import Placed, Solid

SPINE = ("vertebrae_T10", "vertebrae_T11", "vertebrae_T12", *(f"vertebrae_L{n}" for n in range(1, 6)), "sacrum")


def test_same_seed_same_patient_and_another_seed_another(phantom: Phantom) -> None:
    again, other = Phantom.make(1), Phantom.make(2)
    assert np.array_equal(again.bones.table, phantom.bones.table)
    assert not np.array_equal(other.bones.table[:5], phantom.bones.table[:5])


def test_osteoporosis_changes_density_but_no_shape(phantom: Phantom) -> None:
    weak = Phantom.make(1, osteoporosis=True)
    shape = np.r_[0:3, 5 : shapes.ROW]
    assert np.array_equal(weak.bones.table[:, shape], phantom.bones.table[:, shape])
    assert 60 <= weak.anatomy.trabecular_hu <= 90 < 150 <= phantom.anatomy.trabecular_hu <= 200
    assert (weak.bones.table[:, 3] < phantom.bones.table[:, 3])[phantom.bones.table[:, 3] > 0].mean() > 0.8


def test_bones_carry_totalsegmentator_names(phantom: Phantom) -> None:
    pairs = {f"{b}_{s}" for b in ("hip", "femur") for s in ("left", "right")}
    ribs = {f"rib_{s}_{n}" for s in ("left", "right") for n in (11, 12)}
    assert set(phantom.bone_names) == {*SPINE, *pairs, *ribs}
    with pytest.raises(Misuse, match="vertebrae_T4"):
        phantom.value("vertebrae_T4", np.zeros(3))


def test_left_is_plus_x_cranial_plus_z_posterior_plus_y(phantom: Phantom, necks, marks) -> None:
    at = {(m.name, m.bone): m for m in marks}
    left, right = (at["femoral_head", f"femur_{s}"].position_mm for s in ("left", "right"))
    assert left[0] > right[0] + 150
    l3 = at["endplate_superior", "vertebrae_L3"].position_mm
    assert at["endplate_superior", "vertebrae_L2"].position_mm[2] > l3[2] + 30
    assert at["spinous_tip", "vertebrae_L3"].position_mm[1] > l3[1] + 50
    for neck in necks:
        middle = phantom.s1.origin[0]
        assert (neck.isthmus_mm[0] > middle) == (neck.side == "left")
        assert neck.direction[1] < -0.7  # anteriorly
    for mark in marks:
        if mark.name.startswith("endplate"):
            assert mark.direction is not None
            assert mark.direction[2] > 0.7
    assert at["asis_left", "hip_left"].position_mm[0] > middle + 90


@pytest.fixture(scope="module")
def necks(phantom: Phantom):
    return pedicles(phantom)


@pytest.fixture(scope="module")
def marks(phantom: Phantom, necks):
    return landmarks(phantom, necks)


def test_measured_pedicles_are_those_that_were_drawn_from_the_morphometry(phantom: Phantom, necks) -> None:
    for stand in phantom.stands:
        level, size = stand.size.level, stand.size
        table = PEDICLES[level]
        for i, side in enumerate(("left", "right")):
            neck = next(n for n in necks if n.bone == f"vertebrae_{level}" and n.side == side)
            assert neck.width_mm == pytest.approx(size.pedicle_width_mm[i], abs=0.35)
            assert neck.height_mm == pytest.approx(size.pedicle_height_mm, abs=0.5)
            assert abs(neck.width_mm - table.width_mm) < 1.3 * table.width_sd_mm
            assert phantom.value(neck.bone, neck.isthmus_mm) < -0.3 * neck.width_mm / 2
    for neck in (n for n in necks if n.bone == "sacrum"):
        assert 15 < neck.width_mm < 30
        assert 15 < neck.height_mm < 30


def test_alignment_is_human_and_pi_is_pt_plus_ss(phantom: Phantom, marks) -> None:
    a = alignment(marks)
    assert a["PI_deg"] == pytest.approx(a["PT_deg"] + a["SS_deg"], abs=1e-6)
    assert 45 < a["PI_deg"] < 60
    assert 46 < a["LL_deg"] < 64
    assert a["SS_deg"] == pytest.approx(phantom.anatomy.sacral_slope_deg, abs=0.5)
    assert a["PT_deg"] == pytest.approx(phantom.anatomy.pelvic_tilt_deg, abs=0.5)


def _dense(phantom: Phantom, bone: str, middle: np.ndarray, half_mm: float, step_mm: float) -> np.ndarray:
    """Surface points by brute force: where lattice lines change sign, by bisection on the raw field."""
    axis = np.arange(-half_mm, half_mm, step_mm)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) + middle
    inside = phantom.value(bone, lattice) < 0
    found = []
    for d in range(3):
        change = np.argwhere(np.diff(inside, axis=d))
        a = lattice[tuple(change.T)]
        b = a.copy()
        b[:, d] += step_mm
        start_in = inside[tuple(change.T)]
        for _ in range(24):
            m = (a + b) / 2
            same = (phantom.value(bone, m) < 0) == start_in
            a, b = np.where(same[:, None], m, a), np.where(same[:, None], b, m)
        found.append((a + b) / 2)
    return np.concatenate(found)


def test_distance_is_the_true_one(phantom: Phantom) -> None:
    from scipy.spatial import cKDTree

    bone = "vertebrae_L3"
    middle = phantom.stand("L3").body.at(14.0, 30.0, 4.0)  # pedicle, facets, lamina: the hardest part
    dense = _dense(phantom, bone, middle, 14.0, 0.2)
    rng = np.random.default_rng(4)
    points = middle + rng.uniform(-6, 6, (3000, 3))
    brute, _ = cKDTree(dense).query(points)
    near = brute < 7.0  # farther feet may lie outside the dense block
    got = phantom.distance_mm(bone, points)
    error = np.abs(got[near]) - brute[near]
    assert error.max() < 1e-4  # never farther than a known surface point
    assert error.min() > -0.13  # nearer only by what the 0.2 mm samples miss
    assert np.array_equal(got < 0, phantom.value(bone, points) < 0)
    # the field itself is no distance: that is why this exists
    assert np.abs(np.abs(phantom.value(bone, points[near])) - brute[near]).max() > 0.3


def test_feet_lie_on_the_surface_and_the_way_there_is_normal_to_it(phantom: Phantom) -> None:
    bone = "sacrum"
    surface = phantom.surface(bone)
    rng = np.random.default_rng(5)
    points = surface.samples_mm[rng.integers(0, len(surface.samples_mm), 500)] + rng.normal(0, 1.5, (500, 3))
    feet = surface.closest(points)
    assert np.abs(phantom.value(bone, feet)).max() < 1e-6
    on = phantom.distance_mm(bone, feet)
    assert np.abs(on).max() < 1e-5


def test_neighbours_never_touch_and_facets_gape_one_to_two_millimetres(phantom: Phantom) -> None:
    for upper, lower in pairwise(SPINE):
        samples = phantom.surface(upper).samples_mm
        coarse, _ = phantom.surface(lower)._tree.query(samples)
        close = samples[np.argsort(coarse)[:400]]
        gap = float(phantom.distance_mm(lower, close).min())
        assert 0.95 < gap < 2.1, (upper, lower, gap)


def test_hip_sacroiliac_and_rib_joints_are_open(phantom: Phantom) -> None:
    for a, b, low, high in (
        ("femur_left", "hip_left", 3.0, 4.0), ("sacrum", "hip_left", 1.5, 4.0), ("rib_left_11", "vertebrae_T11", 1.0,
        6.0), ("rib_right_12", "vertebrae_T12", 1.0, 6.0),
    ):  # fmt: skip
        samples = phantom.surface(a).samples_mm
        coarse, _ = phantom.surface(b)._tree.query(samples)
        gap = float(phantom.distance_mm(b, samples[np.argsort(coarse)[:200]]).min())
        assert low < gap < high, (a, b, gap)


def test_field_changes_no_faster_than_its_bound(phantom: Phantom) -> None:
    rng = np.random.default_rng(6)
    for n, bone in enumerate(phantom.bone_names):
        low, high = phantom.bones.low_mm[n], phantom.bones.high_mm[n]
        a = rng.uniform(low, high, (4000, 3))
        b = a + rng.normal(0, 0.5, a.shape)
        slope = np.abs(phantom.value(bone, a) - phantom.value(bone, b)) / np.linalg.norm(a - b, axis=1)
        assert slope.max() < shapes.LIPSCHITZ, bone
        surface = phantom.bones.value(n, np.stack([low, high]))
        assert (surface > 0).all()


def test_rays_hit_where_marching_says(phantom: Phantom) -> None:
    rng = np.random.default_rng(7)
    target = phantom.stand("L4").body.at(0, 20, 0) + rng.uniform(-30, 30, (400, 3))
    origin = phantom.stand("L4").body.at(260.0, 300.0, 120.0)
    ways = target - origin
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    bones = ("vertebrae_L3", "vertebrae_L4", "vertebrae_L5")
    t, bone, normal = phantom.cast(origin, ways, bones=bones)
    single = np.array([phantom.crossings(b, origin, ways, 1000.0) for b in bones])
    expected = single.min(axis=0)
    hit = np.isfinite(t)
    assert hit.mean() > 0.4
    # where the two differ a ray only grazes (less than the smallest step of either)
    agree = np.isfinite(expected) == hit
    assert agree.mean() > 0.99
    both = hit & np.isfinite(expected)
    assert np.mean(np.abs(t[both] - expected[both]) < 1e-3) > 0.99
    assert all(phantom.bone_names[b] == bones[k] for b, k in zip(bone[both], single.argmin(axis=0)[both], strict=True))
    assert (np.sum(normal[both] * ways[both], axis=1) < 0.05).all()
    assert np.allclose(np.linalg.norm(normal[hit], axis=1), 1.0)
    assert (bone[~hit] == -1).all()


def test_volume_integral_is_exact_on_a_ball() -> None:
    from dataclasses import replace

    from twin.scan.phantom.field import Bones

    solid = Solid("vertebrae_L3")
    solid.ellipsoid((1.0, 2.0, 3.0), np.eye(3), (20.0, 15.0, 10.0))
    ball = replace(Phantom.make(1), bones=Bones.pack([solid]), _grids={}, _distances={})
    assert volume_ml(ball, "vertebrae_L3") == pytest.approx(4 / 3 * np.pi * 3.0, rel=3e-4)


def test_volumes_are_human(phantom: Phantom) -> None:
    assert 35 < volume_ml(phantom, "vertebrae_L1") < 60
    assert 45 < volume_ml(phantom, "vertebrae_L3") < 75
    assert 150 < volume_ml(phantom, "sacrum") < 300


def test_frames_are_right_handed_on_both_sides(phantom: Phantom) -> None:
    for level in ("L1", "L5"):
        for side in ("left", "right"):
            assert np.linalg.det(phantom.pedicle_frame(level, side)[1]) == pytest.approx(1.0)
    turned = Placed(np.eye(3), np.zeros(3)).turned(30.0)
    assert turned.rotation[1, 2] == pytest.approx(-0.5)  # forward: the upper end moves anteriorly
