"""Laws of rigid motions, and covariance transport against sampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial.faults import Fault
from spatial.frames import Camera, Patient, Reference, Stage
from spatial.rigid import (
    Directions,
    NotFinite,
    NotRigid,
    Points,
    Rigid,
    Similarity,
    UncertainRigid,
    mean_rigid,
    rotation_exp,
    rotation_log,
)

component = st.floats(-300, 300, allow_nan=False).map(lambda v: round(v, 6))
vector = st.tuples(component, component, component).map(np.array)
unit = vector.filter(lambda v: np.linalg.norm(v) > 1e-3).map(lambda v: v / np.linalg.norm(v))
angle = st.one_of(st.floats(0, np.pi - 1e-6), st.sampled_from([0.0, 1e-12, 1e-9, 1e-5, 1e-3, np.pi / 2]))


@st.composite
def rigids(draw):
    return Rigid[Camera, Patient].exp(draw(unit) * draw(angle), draw(vector))


@given(rigids(), rigids(), vector)
def test_composition_maps_points_as_two_steps_do(a, b, p):
    b_then = Rigid[Patient, Reference](b.rotation, b.translation_mm)
    points = Points[Reference](p)
    assert np.allclose(((a @ b_then) @ points).mm, (a @ (b_then @ points)).mm, atol=1e-9)


@given(rigids())
def test_inverse_cancels_both_ways(a):
    for product in (a @ a.inverse(), a.inverse() @ a):
        assert np.allclose(product.matrix(), np.eye(4), atol=1e-9)


@given(rigids())
def test_log_inverts_exp_and_determinant_stays_one(a):
    rotvec, translation = a.log()
    again = Rigid[Camera, Patient].exp(rotvec, translation)
    assert np.allclose(again.matrix(), a.matrix(), atol=1e-9)
    assert np.linalg.det(a.rotation) == pytest.approx(1.0, abs=1e-12)


@given(unit)
def test_log_holds_at_half_a_turn(u):
    rotvec = rotation_log(rotation_exp(u * np.pi))
    assert np.linalg.norm(rotvec) == pytest.approx(np.pi, abs=1e-7)
    assert np.allclose(rotation_exp(rotvec), rotation_exp(u * np.pi), atol=1e-7)


def test_rotation_follows_the_right_hand_rule():
    quarter = Rigid[Camera, Patient].exp((0, 0, np.pi / 2))
    assert np.allclose((quarter @ Points[Patient]([1, 0, 0])).mm, [0, 1, 0])
    assert np.allclose((quarter @ Directions[Patient]([0, 1, 0])).unit, [-1, 0, 0])


@given(rigids())
def test_json_round_trip_is_exact(a):
    again = Rigid[Camera, Patient].from_json(a.to_json())
    assert np.array_equal(again.rotation, a.rotation)
    assert np.array_equal(again.translation_mm, a.translation_mm)


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.diag([-1.0, 1, 1, 1]), "mirrored"),
        (np.diag([2.0, 2, 2, 1]), "scaled"),
        (np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
        (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 0, 0, 1.0]]), "transposed"),
    ],
)
def test_what_is_no_rigid_motion_is_refused(matrix, word):
    with pytest.raises(NotRigid, match=word):
        Rigid.from_matrix(matrix)


def test_not_a_number_is_refused():
    with pytest.raises(NotFinite):
        Points([0, np.nan, 0])
    with pytest.raises(Fault):
        Directions([0, 0, 0])


def test_values_cannot_be_changed():
    points = Points[Patient](np.zeros((4, 3)))
    with pytest.raises(ValueError, match="read-only"):
        points.mm[0, 0] = 1


def perturbed(pose, rng, covariance):
    d = rng.multivariate_normal(np.zeros(6), covariance)
    return type(pose)(rotation_exp(d[:3]) @ pose.rotation, pose.translation_mm + d[3:])


def decoupled_error(true, estimate):
    return np.concatenate(
        [rotation_log(true.rotation @ estimate.rotation.T), true.translation_mm - estimate.translation_mm]
    )


def random_covariance(rng, rotation_sd=2e-3, translation_sd=0.3):
    L = rng.normal(size=(6, 6)) * np.repeat([rotation_sd, translation_sd], 3)[:, None]
    return L @ L.T / 6


@pytest.mark.parametrize("what", ["compose", "invert", "point"])
def test_covariance_transport_matches_sampling(what):
    rng = np.random.default_rng(7)
    a = UncertainRigid(Rigid[Camera, Reference].exp((0.4, -0.2, 0.9), (10, -40, 600)), random_covariance(rng))
    b = UncertainRigid(Rigid[Reference, Patient].exp((-0.3, 1.1, 0.2), (80, 20, -30)), random_covariance(rng))
    point = Points[Reference]([50.0, -20.0, 90.0])
    if what == "point":
        predicted = a.point_covariance(point)
        samples = [(perturbed(a.pose, rng, a.covariance) @ point).mm for _ in range(20000)]
        measured = np.cov(np.array(samples).T)
    else:
        estimate = a @ b if what == "compose" else a.inverse()
        predicted, errors = estimate.covariance, []
        for _ in range(20000):
            true_a, true_b = perturbed(a.pose, rng, a.covariance), perturbed(b.pose, rng, b.covariance)
            errors.append(decoupled_error(true_a @ true_b if what == "compose" else true_a.inverse(), estimate.pose))
        measured = np.cov(np.array(errors).T)
    scale = np.sqrt(np.outer(np.diag(predicted), np.diag(predicted)))
    assert np.abs((measured - predicted) / scale).max() < 0.05


def test_mean_of_motions_lies_in_the_middle():
    around = [Rigid[Camera, Patient].exp((0, 0, s * 0.2), (s, 0, 0)) for s in (-1, 0, 1)]
    assert np.allclose(mean_rigid(around).matrix(), np.eye(4), atol=1e-12)


@given(rigids(), st.floats(0.05, 20), vector)
def test_similarity_inverts_and_scales(a, scale, p):
    enlarged = Similarity[Stage, Patient](a.rotation, a.translation_mm, scale)
    back = enlarged.inverse() @ (enlarged @ Points[Patient](p))
    assert np.allclose(back.mm, p, atol=1e-7)
    assert np.allclose(np.linalg.det(enlarged.matrix()[:3, :3]), scale**3, rtol=1e-9)
