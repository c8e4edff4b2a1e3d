"""Landmark fits on shapes with known answers."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import rotation_exp
from twin.anatomy import density, endplates, pelvis, sections, surface
from twin.anatomy.bone import Landmark
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
    assert plate is not None
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


@pytest.mark.parametrize(
    ("hu", "words"), [(90.0, "osteoporosis likely"), (140.0, "osteoporosis possible"), (190.0, "osteoporosis unlikely")]
)
def test_density_is_read_by_the_published_thresholds(hu: float, words: str) -> None:
    assert density.reading(hu) == words


def test_no_body_no_density_reading() -> None:
    from twin.scan.volume import Volume

    grid = Grid((8, 8, 8), np.ones(3), np.zeros(3), np.eye(3))
    marks: tuple[Landmark, ...] = ()
    found = density.measure(Volume(grid, np.zeros((8, 8, 8), np.int16)), marks)
    assert found["reading"] is None
    assert found["calibrated"] is False
