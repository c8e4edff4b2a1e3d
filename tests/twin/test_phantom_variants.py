"""What the phantom can be besides ordinary: scoliotic, one vertebra more or fewer, thoracic, a leg, with metal."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest

from spatial.faults import Misuse
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.dicom_series import write_series
from twin.scan.phantom.kernels import KERNELS, SHARP, SOFT, in_plane, noise
from twin.scan.phantom.limb_measures import leg_angles, leg_landmarks
from twin.scan.phantom.measures import LandmarkTruth, endplate, pedicle, scoliosis, volume_ml
from twin.scan.phantom.morphometry import PEDICLES
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import voxelise
from twin.scan.phantom.solids import Placed
from twin.scan.phantom.streaks import PIXEL_MM, streaks
from twin.scan.phantom.voxels import LABELS, scan_grid, synthesise

VARIANTS = {
    "scoliosis": {"scoliosis_deg": 40.0},
    "T13": {"transitional": "T13"},
    "L4": {"transitional": "L4"},
    "L6 scoliosis": {"transitional": "L6", "scoliosis_deg": 30.0},
    "thoracic": {"anatomy": "thoracic"},
    "leg": {"anatomy": "leg"},
    "hip": {"anatomy": "pelvis", "metal": "hip"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_bones_never_overlap(name: str) -> None:
    """On a 1 mm lattice, wherever the surfaces of two bones come within one cell of 3 mm of each other."""
    phantom = Phantom.make(3, **VARIANTS[name])
    cells = phantom.cells(range(len(phantom.bone_names)))
    first = cells.entry[cells.entry >= 0]
    shared = np.argwhere(cells.entry >= 0)[~cells.entry_last[first]]
    assert len(shared) > 20
    fine = (np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5) / 3
    owners: dict[int, list[np.ndarray]] = {}
    for cell in shared:
        e = int(cells.entry[tuple(cell)])
        points = cells.corner_mm + (cell + fine) * cells.cell_mm
        while True:
            owners.setdefault(int(cells.entry_bone[e]), []).append(points)
            if cells.entry_last[e]:
                break
            e += 1
    seen: set[tuple[float, ...]] = set()
    for bone, blocks in owners.items():
        points = np.concatenate(blocks)
        inside = {tuple(p) for p in points[phantom.bones.value(bone, points) < 0].round(3)}
        assert not inside & seen, phantom.bone_names[bone]
        seen |= inside
    assert seen


def _endplates(phantom: Phantom) -> list[LandmarkTruth]:
    marks = []
    for stand in phantom.stands:
        bone, size = f"vertebrae_{stand.size.level}", stand.size
        for name, frame, up in (("superior", stand.superior, 1.0), ("inferior", stand.inferior, -1.0)):
            plate = endplate(phantom, bone, frame.moved(0.0, 0.0, -8.0 * up), size.width_mm, size.depth_mm, up)
            marks.append(LandmarkTruth(f"endplate_{name}", bone, None, *plate))
    return marks


@pytest.mark.parametrize(("seed", "asked_deg"), [(1, 12.0), (3, 40.0)])
def test_cobb_angle_on_the_surfaces_is_the_one_asked_for(seed: int, asked_deg: float) -> None:
    phantom = Phantom.make(seed, scoliosis_deg=asked_deg)
    curve = scoliosis(_endplates(phantom))
    assert curve.projected_deg == pytest.approx(asked_deg, abs=0.3)
    assert curve.spatial_deg > asked_deg  # the sagittal bend comes on top
    x = [s.body.origin[0] - phantom.s1.origin[0] for s in phantom.stands]
    apex = int(np.argmax(np.abs(x)))
    assert (x[apex] > 0) == (curve.convex == "left") == phantom.anatomy.convex_left
    front = -phantom.stands[apex].body.rotation[:, 1]  # bodies turn to the convex side
    turned_deg = np.degrees(np.arctan2(front[0], -front[1])) * np.sign(x[apex])
    assert 0.2 * asked_deg < turned_deg < 0.5 * asked_deg
    straight = {s.size.level: s.size for s in Phantom.make(seed).stands}
    assert all(straight[s.size.level] == s.size for s in phantom.stands)


def test_cobb_angle_can_be_measured_on_the_voxels() -> None:
    phantom = Phantom.make(3, scoliosis_deg=35.0)
    leans = []
    for level, plate, up in (("T11", "superior", 1.0), ("L4", "inferior", -1.0)):
        bone, stand = f"vertebrae_{level}", phantom.stand(level)
        _, labels = voxelise(phantom, crop_mm=bone, noise_hu=0.0)
        number = next(n for n, name in labels.names.items() if name == bone)
        ijk = np.argwhere(labels.labels == number)[:, ::-1]
        points = labels.grid.patient_from_index(ijk).mm
        frame: Placed = getattr(stand, plate)
        local = (points - frame.origin) @ frame.rotation
        # the outermost voxel of each column over the body's middle
        middle = local[(np.abs(local[:, 0]) < 15.0) & (np.abs(local[:, 1]) < 11.0) & (np.abs(local[:, 2]) < 8.0)]
        columns = {}
        for x, y, z in middle:
            key = (round(x), round(y))
            columns[key] = max(columns.get(key, -99.0), up * z)
        xy = np.array(list(columns))
        fit = np.linalg.lstsq(
            np.column_stack([xy, np.ones(len(xy))]), up * np.array(list(columns.values())), rcond=None
        )
        normal = frame.rotation @ np.array([-fit[0][0], -fit[0][1], 1.0])
        leans.append(np.degrees(np.arctan2(normal[0], normal[2])))
    assert abs(leans[1] - leans[0]) == pytest.approx(35.0, abs=1.5)


def test_transitional_spines_have_the_vertebrae_and_ribs_that_they_name() -> None:
    for kind, lumbar, ribs in (("L6", 6, 2), ("T13", 5, 3), ("L4", 4, 2), (None, 5, 2)):
        phantom = Phantom.make(2, transitional=kind)
        names = [n.removeprefix("vertebrae_") for n in phantom.bone_names if n.startswith("vertebrae")]
        assert sum(n.startswith("L") for n in names) == lumbar
        assert sum(n.startswith("rib_left") for n in phantom.bone_names) == ribs
        assert [s.size.level for s in phantom.stands] == names[::-1]
        heights = [s.body.origin[2] for s in phantom.stands]
        assert (np.diff(heights) > 20.0).all()
        lean_deg = np.degrees(np.arctan2(-phantom.stand("L1").superior.rotation[1, 2], 1.0))
        usual_deg = np.degrees(np.arctan2(-Phantom.make(2).stand("L1").superior.rotation[1, 2], 1.0))
        assert lean_deg == pytest.approx(usual_deg, abs=3.0)  # the lordosis stays
    assert LABELS["vertebrae_L6"] == 201
    assert LABELS["vertebrae_T13"] == 202
    _, labels = voxelise(Phantom.make(2, transitional="T13"), 4.0, 3.0)
    assert {202, 203, 204} <= set(np.unique(labels.labels).tolist())
    assert labels.names[203] == "rib_left_13"


def test_thoracic_pedicles_are_as_narrow_as_published() -> None:
    phantom = Phantom.make(1, anatomy="thoracic")
    assert {f"rib_{s}_{n}" for s in ("left", "right") for n in range(1, 13)} <= set(phantom.bone_names)
    assert "sacrum" not in phantom.bone_names
    for level in ("T2", "T4", "T5", "T6", "T9"):
        size = phantom.stand(level).size
        for i, side in enumerate(("left", "right")):
            neck = pedicle(phantom, f"vertebrae_{level}", side, *phantom.pedicle_frame(level, side))
            assert neck.width_mm == pytest.approx(size.pedicle_width_mm[i], abs=0.4)
            assert abs(neck.width_mm - PEDICLES[level].width_mm) < 1.3 * PEDICLES[level].width_sd_mm + 0.4
    narrow = [min(Anatomy.sample(seed).vertebrae[12].pedicle_width_mm) for seed in range(30)]
    assert Anatomy.sample(1).vertebrae[12].level == "T5"
    assert np.mean(np.array(narrow) * 0.8 < 4.0) > 0.4  # no screw of 4 mm keeps its wall
    marks = {(m.name, m.bone): m.direction for m in _endplates(phantom)}
    top, foot = marks["endplate_superior", "vertebrae_T4"], marks["endplate_inferior", "vertebrae_T12"]
    assert 30 < np.degrees(np.arctan2(-foot[1], foot[2]) - np.arctan2(-top[1], top[2])) * -1.0 < 55  # kyphosis


@pytest.mark.parametrize("seed", [4])
def test_leg_angles_on_the_surfaces_are_those_drawn(seed: int) -> None:
    phantom = Phantom.make(seed, anatomy="leg")
    marks = leg_landmarks(phantom)
    for leg in phantom.legs:
        found = leg_angles(phantom, leg, [m for m in marks if m.side == leg.side])
        assert found["mLDFA_deg"] == pytest.approx(leg.size.mldfa_deg, abs=0.4)
        assert found["MPTA_deg"] == pytest.approx(leg.size.mpta_deg, abs=0.5)
        assert found["JLCA_deg"] == pytest.approx(leg.size.joint_line_deg, abs=0.5)
        assert found["femoral_version_deg"] == pytest.approx(leg.size.version_deg, abs=1.0)
        assert found["tibial_slope_deg"] == pytest.approx(leg.size.slope_deg, abs=1.5)
        assert found["femur_length_mm"] == pytest.approx(leg.size.femur_mm, abs=0.5)
        assert 172 < found["mFTA_deg"] < 184
        at = {(m.name, m.bone): m.position_mm for m in marks}
        outward = 1.0 if leg.side == "left" else -1.0
        femur, tibia = f"femur_{leg.side}", f"tibia_{leg.side}"
        outer = at["malleolus_lateral", f"fibula_{leg.side}"]
        assert outward * (outer - at["malleolus_medial", tibia])[0] > 25
        assert outer[2] < at["malleolus_medial", tibia][2]
        assert outward * (at["epicondyle_lateral", femur] - at["epicondyle_medial", femur])[0] > 60
        for name in ("condyle_distal_medial", "epicondyle_lateral", "condyle_posterior_lateral"):
            assert abs(phantom.value(femur, at[name, femur])) < 1e-4
    widths = {leg.side: leg.size.mldfa_deg for leg in phantom.legs}
    assert widths["left"] != widths["right"]


def test_a_single_leg_is_the_same_leg() -> None:
    both, one = Phantom.make(2, anatomy="tibia"), Phantom.make(2, anatomy="tibia", sides=("right",))
    assert set(one.bone_names) == {f"{b}_right" for b in ("femur", "patella", "tibia", "fibula")}
    n, m = both.index("tibia_right"), one.index("tibia_right")
    a = both.bones.table[both.bones.starts[n] : both.bones.starts[n + 1]]
    assert np.array_equal(a, one.bones.table[one.bones.starts[m] : one.bones.starts[m + 1]])
    with pytest.raises(Misuse, match="sides to choose"):
        Phantom.make(2, sides=("left",))


def test_metal_saturates_where_the_truth_has_it_and_streaks_across_its_own_slices() -> None:
    plain, metal = Phantom.make(1), Phantom.make(1, metal="screws")
    assert metal.metal is not None
    level = metal.metal.pieces[1].bone
    assert level is not None
    middle = metal.stand(level.removeprefix("vertebrae_")).body.origin
    box = (middle - [60.0, 45.0, 12.0], middle + np.array([60.0, 75.0, 12.0]))
    grid = scan_grid(metal, slice_mm=4.0, pixel_mm=1.0, box_mm=box)
    with_metal, without = (synthesise(p, grid, noise_hu=0.0) for p in (metal, plain))
    assert np.array_equal(with_metal.labels, without.labels)
    assert with_metal.metal is not None
    mask = with_metal.metal
    assert (with_metal.hu[mask] == 3071).mean() > 0.98
    k, j, i = np.argwhere(mask).T
    points = grid.origin_mm + np.column_stack([i, j, 4.0 * k])
    shapes = metal.metal.shapes
    nearest = np.min([shapes.value(n, points) for n in range(len(shapes.names))], axis=0)
    assert nearest.max() < 2.0
    away = ~mask & (without.labels == 0) & (without.hu > 0) & (without.hu < 100)
    change = (with_metal.hu.astype(int) - without.hu)[away]
    assert 3.0 < np.abs(change).mean() < 120.0
    assert change.min() < -100  # dark bands
    volumes = [volume_ml(_only_metal(metal), p.name) for p in metal.metal.pieces if p.kind == "pedicle screw"]
    assert all(1.0 < v < 5.0 for v in volumes)


def _only_metal(phantom: Phantom) -> Phantom:
    from dataclasses import replace

    assert phantom.metal is not None
    return replace(phantom, bones=phantom.metal.shapes, _grids={}, _distances={})


def test_two_rods_in_water_leave_a_dark_band_between_them() -> None:
    rows, columns = 120, 160
    j, i = np.mgrid[:rows, :columns] - np.array([rows, columns])[:, None, None] / 2
    water = np.where(np.hypot(i, j) * PIXEL_MM < 90.0, 0.0, -1000.0).astype(np.float32)
    rods = sum((np.hypot(i - x, j) * PIXEL_MM < 8.0).astype(np.float32) for x in (-22, 22))
    found = streaks(water, [rods, np.zeros_like(rods)], 1, 0)
    between = np.abs(i) < 10
    band, beside = found[between & (np.abs(j) < 2)], found[between & (np.abs(j) > 15) & (np.abs(j) < 30)]
    assert band.mean() < -80.0
    assert abs(beside.mean()) < 0.3 * abs(band.mean())
    assert not streaks(water, [np.zeros_like(rods)] * 2, 1, 0).any()


def test_a_replaced_hip_has_no_bony_head() -> None:
    phantom = Phantom.make(2, anatomy="pelvis", metal="hip")
    assert phantom.metal is not None
    side = phantom.metal.pieces[0].side
    head = phantom.pelvis.head(1.0 if side == "left" else -1.0)
    other = "right" if side == "left" else "left"
    assert phantom.value(f"femur_{side}", head) > 5.0
    assert phantom.value(f"femur_{other}", phantom.pelvis.head(-1.0 if side == "left" else 1.0)) < -15.0
    cup = phantom.metal.shapes.names.index(f"hip_cup_{side}")
    lattice = head + np.stack(np.meshgrid(*[np.arange(-30.0, 31.0, 2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert phantom.value(f"hip_{side}", lattice[phantom.metal.shapes.value(cup, lattice) < 0]).min() > 0.0
    with pytest.raises(Misuse, match="goes with"):
        Phantom.make(1, anatomy="thoracic", metal="hip")


def test_kernels_differ_in_noise_and_edges_and_say_who_they_are(phantom: Phantom, tmp_path: Path) -> None:
    soft, sharp = (noise(k, (256, 256), 0.74, 20.0, 1, 0) for k in (SOFT, SHARP))
    neighbours = [np.corrcoef(n[:, 1:].ravel(), n[:, :-1].ravel())[0, 1] for n in (soft, sharp)]
    assert soft.std() == pytest.approx(20.0, rel=0.1)
    assert sharp.std() == pytest.approx(20.0, rel=0.1)
    assert neighbours[0] > 0.6 > 0.4 > neighbours[1]
    middle = phantom.stand("L3").body.origin
    grid = scan_grid(phantom, pixel_mm=0.5, slice_mm=1.0, box_mm=(middle - [30, 24, 4], middle + np.array([30, 24, 4])))
    scans = {name: synthesise(phantom, grid, kernel=k, noise_hu=0.0) for name, k in KERNELS.items()}
    rise = {name: float(np.abs(np.diff(s.hu.astype(int), axis=2)).max()) for name, s in scans.items()}
    assert rise["soft"] < 0.8 * rise["standard"] < 0.8 * rise["sharp"]
    weights = in_plane(SHARP, 0.3)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() < -0.01 < 0.0 < in_plane(SOFT, 0.3).min()  # undershoot beside an edge
    write_series(scans["sharp"], tmp_path, seed=1, description="sharp", identity="sharp")
    header = pydicom.dcmread(next(tmp_path.iterdir()))
    assert (header.Manufacturer, header.ConvolutionKernel, header.KVP) == (SHARP.manufacturer, SHARP.convolution, 120)


def test_voxels_in_memory_are_those_of_the_scan(phantom: Phantom) -> None:
    volume, labels = voxelise(phantom, 2.0, 1.5, crop_mm=["vertebrae_L2", "vertebrae_L3"])
    assert volume.grid is labels.grid
    centre = phantom.stand("L2").body.origin
    i, j, k = np.round((centre - volume.grid.origin_mm) / volume.grid.spacing_mm).astype(int)
    assert labels.names[int(labels.labels[k, j, i])] == "vertebrae_L2"
    low = phantom.bones.low_mm[[phantom.index("vertebrae_L2"), phantom.index("vertebrae_L3")]].min(axis=0)
    assert volume.grid.origin_mm == pytest.approx(low - 12.0, abs=0.01)
    for other, again in itertools.pairwise([voxelise(phantom, 2.0, 1.5, crop_mm="vertebrae_L2")[0] for _ in range(2)]):
        assert np.array_equal(other.hu, again.hu)


def test_contrast_fills_vessels_and_kidneys_and_leaves_the_bones(phantom: Phantom) -> None:
    filled = Phantom.make(1, contrast=True)
    assert np.array_equal(filled.bones.table, phantom.bones.table)
    middle = phantom.stand("L2").body.origin
    box = (middle - [110.0, 60.0, 4.0], middle + np.array([110.0, 60.0, 4.0]))
    dye, plain = (
        synthesise(p, scan_grid(p, pixel_mm=1.5, slice_mm=2.0, box_mm=box), noise_hu=0.0) for p in (filled, phantom)
    )
    assert np.array_equal(dye.labels, plain.labels)
    soft = (dye.labels == 0) & (plain.hu < 300)
    assert ((dye.hu > 280) & soft).sum() * 4.5 / 1000 == pytest.approx(np.pi * 0.81 * 0.8, rel=0.35)  # the aorta, mL
    assert ((dye.hu > 165) & (dye.hu < 215) & soft).sum() > 1000  # kidneys
