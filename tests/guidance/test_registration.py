"""Paired-point registration: exact on exact data, honest about its error on noisy data."""

import json

import numpy as np
import pytest
from scipy.stats import chi2

from guidance.accuracy import probability_inside, radius95_mm
from guidance.registration import BadPairs, Pair, Registration, WeakPairs, load_pairs, register
from spatial.frames import Patient, Reference
from spatial.rigid import Points, Rigid

TRUTH = Rigid[Reference, Patient].exp((0.4, -1.2, 0.3), (120.0, -40.0, 300.0))
FIDUCIALS = np.array([[0, 0, 0], [45, 10, 0], [-40, 12, 5], [5, 30, 60], [-10, 28, -55], [30, 5, 40]], float)
TARGET = Points[Patient]([5.0, -45.0, 10.0])


def pairs_with_noise(rng, sigma, fiducials=FIDUCIALS):
    touched = (TRUTH @ Points[Patient](fiducials)).mm + rng.normal(0, sigma, fiducials.shape)
    return [Pair(f"p{i}", tuple(a), tuple(b)) for i, (a, b) in enumerate(zip(fiducials, touched, strict=True))]


def fit(pairs, **options):
    return register(pairs, body="reference", twin_id="twin", **options)


def test_exact_touches_give_the_exact_motion():
    found = fit(pairs_with_noise(np.random.default_rng(1), 0.0)).reference_from_patient.pose
    assert np.allclose(found.matrix(), TRUTH.matrix(), atol=1e-9)


@pytest.mark.parametrize("known", [True, False])
def test_predicted_95_percent_radius_holds_95_percent(known):
    rng, sigma, inside = np.random.default_rng(5), 0.25, 0
    runs = 800
    for _ in range(runs):
        found = fit(pairs_with_noise(rng, sigma), fle_mm=sigma * np.sqrt(3) if known else None)
        error = (found.reference_from_patient.pose @ TARGET).mm - (TRUTH @ TARGET).mm
        inside += np.linalg.norm(error) <= found.tre95_mm(TARGET)
    assert inside / runs == pytest.approx(0.95, abs=0.022)


def test_prediction_agrees_with_fitzpatricks_formula():
    sigma = 0.3 / np.sqrt(3)
    found = fit(pairs_with_noise(np.random.default_rng(2), 0.0), fle_mm=0.3)
    centred = FIDUCIALS - FIDUCIALS.mean(axis=0)
    _, _, axes = np.linalg.svd(centred)
    d, f = (TARGET.mm - FIDUCIALS.mean(axis=0)) @ axes.T, centred @ axes.T

    def off(p, k):  # squared distance from principal axis k
        return (p**2).sum(axis=-1) - p[..., k] ** 2

    ratio = sum(off(d, k) / off(f, k).mean() for k in range(3)) / 3
    expected = np.sqrt(3 * sigma**2 / len(FIDUCIALS) * (1 + ratio))
    predicted = np.sqrt(np.trace(found.reference_from_patient.point_covariance(TARGET)))
    assert predicted == pytest.approx(expected, rel=1e-9)


def test_radius_reproduces_chi_square_and_student():
    assert radius95_mm(np.eye(3) * 4.0) == pytest.approx(2 * np.sqrt(chi2.ppf(0.95, 3)), rel=1e-4)
    line = np.diag([1.0, 0.0, 0.0])
    assert radius95_mm(line) == pytest.approx(1.95996, rel=1e-3)
    assert radius95_mm(line, dof=5) == pytest.approx(2.57058, rel=1e-3)  # Student's t, 5 degrees of freedom
    assert radius95_mm(np.diag([1.0, 1.0, 0.0])) == pytest.approx(np.sqrt(chi2.ppf(0.95, 2)), rel=1e-4)


def test_probability_inside_matches_sampling():
    rng, variances = np.random.default_rng(8), np.array([0.04, 1.0, 2.5])
    lengths = np.linalg.norm(rng.normal(size=(400_000, 3)) * np.sqrt(variances), axis=1)
    for radius in (0.5, 1.5, 3.5):
        assert probability_inside(variances, radius)[0] == pytest.approx((lengths <= radius).mean(), abs=2e-3)


def test_few_collinear_confused_and_mirrored_pairs_are_refused():
    rng = np.random.default_rng(3)
    good = pairs_with_noise(rng, 0.1)
    with pytest.raises(WeakPairs, match="2 pairs"):
        fit(good[:2])
    with pytest.raises(WeakPairs, match="one line"):
        fit(pairs_with_noise(rng, 0.1, np.outer(np.arange(5.0), [10, 0, 1])))
    swapped = [
        Pair(a.name, a.patient_mm, b.reference_mm) for a, b in zip(good, [good[1], good[0], *good[2:]], strict=True)
    ]
    with pytest.raises(WeakPairs, match="confused"):
        fit(swapped)
    mirrored = [Pair(p.name, (-p.patient_mm[0], *p.patient_mm[1:]), p.reference_mm) for p in good]
    with pytest.raises(WeakPairs, match="left and right"):
        fit(mirrored)
    with pytest.raises(BadPairs, match="twice"):
        fit([good[0], good[0], good[1]])


def test_a_too_good_promise_is_replaced_by_the_estimate():
    found = fit(pairs_with_noise(np.random.default_rng(4), 0.5), fle_mm=0.1)
    assert found.dof == 12
    assert found.fle_mm > 0.4
    assert "estimate is used" in found.warnings[0]


def test_registration_survives_its_file():
    found = fit(pairs_with_noise(np.random.default_rng(6), 0.2))
    again = Registration.from_json(json.loads(json.dumps(found.to_json({"tip": TARGET}))))
    assert again.tre95_mm(TARGET) == found.tre95_mm(TARGET)
    with pytest.raises(BadPairs, match="covariance"):
        Registration.from_json({"reference_from_patient": TRUTH.to_json()})


def test_pairs_file_errors_name_the_entry(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text('[{"name": "a", "patient_mm": [0, 0, 0], "reference_mm": [0, 0]}]')
    with pytest.raises(BadPairs, match="pair 1"):
        load_pairs(path)
    path.write_text("not json")
    with pytest.raises(BadPairs, match="cannot be read"):
        load_pairs(path)


def test_published_example_of_target_error():
    fiducials = np.array([[0, 0, 0], [50, 0, 0], [0, 40, 10], [30, 30, -15], [-20, 20, 15]], float)
    found = fit(pairs_with_noise(np.random.default_rng(2), 0.0, fiducials), fle_mm=0.3)
    target = Points[Patient]([10.0, 0.0, -60.0])
    rms = np.sqrt(np.trace(found.reference_from_patient.point_covariance(target)))
    assert rms == pytest.approx(0.3678, abs=5e-5)
    assert found.tre95_mm(target) == pytest.approx(0.64, abs=0.01)
