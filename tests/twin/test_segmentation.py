"""Finding bones without help: the patient apart from the table, metal apart from bone, outlines, hard spines."""

from dataclasses import dataclass

import numpy as np
import pytest

from spatial.faults import Misuse
from spatial.rigid import Array
from tests.bench import twin_real
from twin.anatomy import bodies, body, levels, metal, segmentation, turning
from twin.anatomy.canal import Canal
from twin.anatomy.discs import Disc
from twin.anatomy.levels import Segment
from twin.anatomy.segmentation import Segmented
from twin.anatomy.working import Working
from twin.scan.names import NUMBERS
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import box_of, voxelise
from twin.scan.volume import Grid, LabelMap, Volume

SPACING_MM = 1.5


def painted(shape_mm: tuple[float, float, float]) -> tuple[np.ndarray, Array]:
    """Air on a working grid of this size (z, y, x), and the x, y, z of its voxels, the middle at the origin."""
    size = [round(mm / SPACING_MM) for mm in shape_mm]
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * SPACING_MM for n in size), indexing="ij")
    return np.full(size, -1000.0, np.float32), np.stack([x, y, z], axis=-1)


def as_working(hu: np.ndarray) -> Working:
    origin = -(np.array(hu.shape[::-1]) - 1) / 2 * SPACING_MM
    return Working(hu.astype(np.float32), SPACING_MM, origin)


def straight_canal(length_mm: float) -> Canal:
    s = np.arange(0.0, length_mm, 1.0)
    one = np.ones((len(s), 1))
    centre = np.column_stack([0 * s, 0 * s, s - length_mm / 2])
    return Canal(centre, one * [0.0, 0.0, 1.0], one * [1.0, 0.0, 0.0], one * [0.0, -1.0, 0.0], s, np.ones(len(s)))


def test_the_table_is_no_patient_and_an_arm_is_a_part_of_its_own() -> None:
    hu, at = painted((60.0, 300.0, 420.0))
    x, y = at[..., 0], at[..., 1]
    trunk = (x / 140.0) ** 2 + (y / 95.0) ** 2 < 1.0
    lung = ((x - 60.0) / 40.0) ** 2 + (y / 50.0) ** 2 < 1.0
    arm = np.hypot(x - 180.0, y) < 30.0
    table = (np.abs(y - 110.0) < 3.0) & (np.abs(x) < 190.0)
    hu[trunk | arm] = 40.0
    hu[lung] = -850.0
    hu[table] = 300.0
    parts = body.parts(as_working(hu))
    assert not parts[table].any()
    assert (parts[trunk] == 1).mean() > 0.98
    assert (parts[lung] == 1).all()
    assert (parts[arm] == 2).mean() > 0.95
    bare = body.patient(as_working(hu))
    assert (bare.hu[table] < -1000).all()
    assert (bare.hu[lung] == -850.0).all()


def test_a_piece_of_bone_without_skin_is_left_as_it_is() -> None:
    hu = np.full((8, 8, 8), -1000.0, np.float32)
    hu[3:5, 3:5, 3:5] = 500.0
    assert np.array_equal(body.patient(as_working(hu)).hu, hu)


def test_metal_is_found_and_bone_closes_over_a_shaft_alone() -> None:
    hu, at = painted((60.0, 90.0, 90.0))
    bone = np.linalg.norm(at, axis=-1) < 25.0
    rod = (np.hypot(at[..., 0], at[..., 2]) < 2.6) & (at[..., 1] > -8.0)  # from inside the ball to far outside
    hu[:] = 40.0
    hu[bone] = 300.0
    hu[rod] = 3071.0
    working = as_working(hu)
    volume = Volume(Grid(hu.shape[::-1], np.full(3, SPACING_MM), np.zeros(3), np.eye(3)), hu.astype(np.int16))
    found = metal.find(volume, working)
    assert found is not None
    assert found.volume_ml == pytest.approx(rod.sum() * SPACING_MM**3 / 1000.0)
    assert found.mask[rod].all()
    inside = metal.inside_bone(bone & ~rod, found, SPACING_MM)
    deep, out = np.linalg.norm(at, axis=-1) < 20.0, np.linalg.norm(at, axis=-1) > 30.0
    assert inside[rod & deep].all()
    assert not inside[out].any()
    assert (metal.replaced(working, found, metal.IN_JOINT_HU).hu[found.mask] < 100.0).all()
    assert metal.find(Volume(volume.grid, np.where(bone, np.int16(1800), np.int16(40))), as_working(hu)) is None


def test_bone_surrounds_a_stem_and_marrow_behind_the_metals_hole_is_filled() -> None:
    hu, at = painted((120.0, 90.0, 150.0))
    canal = straight_canal(120.0)
    x, y, z = at[..., 0] - 40.0, at[..., 1], at[..., 2]
    tube = (np.hypot(x, y) < 15.0) & (np.hypot(x, y) > 11.0) & (z < 20.0)
    tube |= (np.hypot(x, y) < 15.0) & (np.abs(z - 18.0) < 2.0) & (np.hypot(x, y) > 8.0)  # the lid, with a hole
    stem = (np.hypot(x, y) < 6.5) & (z > -40.0) & (z < 50.0)
    hu[:] = 40.0
    hu[tube] = 900.0
    hu[stem] = 3071.0
    volume = Volume(Grid(hu.shape[::-1], np.full(3, SPACING_MM), np.zeros(3), np.eye(3)), hu.astype(np.int16))
    found = metal.find(volume, as_working(hu))
    assert found is not None
    nothing = np.zeros(hu.shape, np.bool_)
    tube[:3] |= np.hypot(x, y)[:3] < 15.0  # its lower end
    sure, never = metal.settled(tube, nothing, nothing, nothing, found, as_working(hu), canal, ())
    assert sure[stem & (z < 14.0)].all()
    marrow = (np.hypot(x, y) < 10.0) & ~found.mask & (z > -50.0) & (z < 10.0)
    assert sure[marrow].mean() > 0.95
    assert never[stem & (z > 24.0)].all()
    assert not (never & sure).any()


def test_a_ball_in_its_cup_is_a_prosthetic_head_and_no_bone() -> None:
    hu, at = painted((150.0, 120.0, 300.0))
    centre = np.array([90.0, 5.0, -20.0])
    d = at - centre
    far = np.linalg.norm(d, axis=-1)
    opening = np.array([0.7, 0.3, -0.65])
    cup = (far < 26.0) & (far > 21.5) & (d @ opening < 0.0)
    hu[:] = 40.0
    hu[(far < 16.0) | cup] = 3071.0
    working = as_working(hu)
    volume = Volume(Grid(hu.shape[::-1], np.full(3, SPACING_MM), np.zeros(3), np.eye(3)), hu.astype(np.int16))
    found = metal.find(volume, working)
    (head,) = metal.heads_beside(working, found, 0.0, 60.0)
    assert found is not None
    assert head.prosthetic
    assert head.side == "left"
    assert np.linalg.norm(head.centre_mm - centre) < 1.0
    assert head.radius_mm == pytest.approx(26.0, abs=1.5)
    bone = (far > 26.0) & (far < 34.0) & (d @ opening < 0.0)
    nothing = np.zeros(hu.shape, np.bool_)
    sure, never = metal.settled(bone, nothing, nothing, nothing, found, working, straight_canal(150.0), (head,))
    assert never[far < 24.0].all()
    assert not sure[far < 24.0].any()
    assert not never[(far > 29.0) & bone].any()


def test_an_outline_takes_dark_marrow_in_and_leaves_a_bright_vessel_out() -> None:
    hu, at = painted((75.0, 120.0, 120.0))
    x, front, z = at[..., 0], -at[..., 1], at[..., 2]
    radius = np.hypot(x, front - 22.0)
    high = np.abs(z) < 13.0
    hu[:] = 30.0
    hu[(radius < 18.0) & (front > 7.0) & high] = 20.0  # fat marrow, darker than muscle
    shell = (np.abs(radius - 17.0) < 1.2) | ((np.abs(front - 8.0) < 1.2) & (radius < 17.0))
    hu[shell & (front > 6.8) & high] = 350.0
    vessel = np.hypot(x + 10.0, front - 51.0) < 12.0  # against the body's right front
    hu[vessel & (radius > 18.2)] = 330.0
    plate = Disc(50.5, 54.0, 50.5, 0.0, 0.0, 100.0)
    below = Disc(20.0, 24.5, 20.0, 0.0, 0.0, 100.0)
    canal = straight_canal(75.0)
    outlines = bodies.find(as_working(hu), canal, (Segment(None, below, is_sacrum=True), Segment(below, plate)))
    assert outlines[0] is None
    assert outlines[1] is not None
    assert np.abs(outlines[1].radius_mm[:, :8] - 18.0).max() < 1.6
    sure, never = bodies.fill_and_clear(as_working(hu), canal, outlines)
    middle = (np.abs(z) < 10.0) & (front > 10.0) & (radius < 14.5)
    assert sure[middle].mean() > 0.98
    assert not sure[radius > 19.5].any()
    beyond = vessel & (np.abs(z) < 10.0) & (radius > 24.0) & (radius < 36.0)
    assert never[beyond].mean() > 0.95
    assert not never[radius < 19.0].any()


@pytest.mark.parametrize("shell", [True, False])
def test_alae_with_a_cortex_are_a_sacrum_and_even_kidneys_are_not(shell: bool) -> None:
    hu, at = painted((90.0, 120.0, 160.0))
    x, front, z = np.abs(at[..., 0]), -at[..., 1], at[..., 2]
    low = (x > 38.0) & (x < 68.0) & (front > 8.0) & (front < 38.0) & (z > -30.0) & (z < 0.0)
    hu[:] = 40.0
    hu[low] = 220.0
    if shell:
        hu[low & (np.abs(x - 53.0) > 11.0)] = 600.0
    plate = Disc(50.0, 54.0, 46.0, 0.0, 0.0, 100.0)
    spine = levels.segments(as_working(hu), straight_canal(90.0), (plate,), 120.0)
    assert spine[0].is_sacrum is shell


@pytest.mark.parametrize("turn_deg", [0.0, 15.0, -24.0])
def test_a_turned_vertebra_turns_the_canals_frame(turn_deg: float) -> None:
    hu, at = painted((90.0, 120.0, 120.0))
    a = np.radians(turn_deg)
    # the vertebra's own axes: anterior turned toward the patient's left
    left = at[..., 0] * np.cos(a) + at[..., 1] * np.sin(a)
    front = at[..., 0] * np.sin(a) - at[..., 1] * np.cos(a)
    bone = (np.hypot(left, front - 22.0) < 16.0) | ((np.abs(left) < 3.0) & (front < -8.0) & (front > -36.0))
    bone |= (np.abs(front + 4.0) < 3.0) & (np.abs(left) > 9.0) & (np.abs(left) < 34.0)
    hu[:] = 40.0
    hu[bone] = 350.0
    canal, most_deg = turning.turned(as_working(hu), straight_canal(90.0), 150.0)
    assert most_deg == pytest.approx(abs(turn_deg), abs=1.6)
    middle = canal.anterior[len(canal.anterior) // 2]
    assert np.degrees(np.arctan2(middle[0], -middle[1])) == pytest.approx(turn_deg, abs=1.6)


def test_methods_are_listed_to_whoever_names_another() -> None:
    volume = Volume(Grid((4, 4, 4), np.ones(3), np.zeros(3), np.eye(3)), np.zeros((4, 4, 4), np.int16))
    with pytest.raises(Misuse, match="default"):
        segmentation.segment(volume, "magic")


@dataclass(frozen=True)
class Hard:
    """A hard spine, segmented without knowing the truth."""

    truth: LabelMap
    found: Segmented


@pytest.fixture(scope="module")
def hard() -> Hard:
    """A 40 degree scoliosis with six lumbar vertebrae and osteoporosis; the spine and the sacrum at 1.6 mm."""
    patient = Phantom.make(7, scoliosis_deg=40.0, transitional="L6", osteoporosis=True)
    low, high = box_of(patient, [b for b in patient.bone_names if b.startswith(("vertebrae", "sacrum", "rib"))], 10.0)
    volume, truth = voxelise(patient, 1.6, 1.6, crop_mm=(low, high))
    return Hard(truth, segmentation.segment(volume))


@pytest.mark.slow
def test_a_scoliotic_spine_with_six_lumbar_vertebrae_is_named(hard: Hard) -> None:
    rows = twin_real.rows("hard", hard.found.labels, hard.truth)
    assert hard.found.transitional == "vertebrae_L6"
    assert hard.found.settings["turn_deg"] > 5.0
    assert any("sacrum" in line for line in hard.found.evidence)
    assert hard.found.confidence < 0.9
    worst = twin_real.worst(rows)
    assert worst.dice > 0.8, worst
    assert NUMBERS["vertebrae_L6"] == 201
