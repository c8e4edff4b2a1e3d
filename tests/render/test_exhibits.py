"""The pictures of a case: names that do not overlap, slices that are smooth and true, groups that hold every bone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from render.callouts import Callout, draw_callouts, placed
from render.exhibits import Exhibit, Standing, groups_of
from render.group_plates import group_plates
from render.offscreen import Offscreen
from render.plate import deepest
from render.slice_plates import slice_plates
from render.slices import Slice, Voxels, slice_picture
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip
WINDOW = (400.0, 1800.0)
STANDING = Standing("Levels NOT confirmed by a person (confidence 50%)", True)


def exhibit(name, centre_mm, label=None, role="bone", half_mm=10.0):
    mesh = TriangleMesh[Patient](CUBE * half_mm + np.asarray(centre_mm), FACES)
    return Exhibit(name, label or name, mesh, mesh, (0.9, 0.8, 0.7), (0.3, 0.8, 0.9), np.array(centre_mm, float), role)


def spine():
    return [exhibit(f"vertebrae_L{n}", (0.0, 0.0, -30.0 * n), f"L{n}") for n in range(1, 6)]


@pytest.mark.parametrize("seed", range(20))
def test_names_in_a_column_keep_their_order_and_their_distance(seed):
    wanted = np.sort(np.random.default_rng(seed).uniform(0, 500, 17))
    callouts = [Callout(str(n), (3.0, float(y)), (1, 1, 1)) for n, y in enumerate(wanted)]
    laid = placed(callouts, 0.0, 500.0, 25.0, (0.0, 600.0))
    heights = np.array([one.y_px for one in laid])
    assert [one.text for one in laid] == [str(n) for n in range(17)]
    assert np.diff(heights).min() >= 25.0 - 1e-9
    assert heights.min() >= 0.0
    assert heights.max() <= 500.0


@pytest.mark.parametrize("seed", range(20))
def test_no_two_lines_to_one_column_cross(seed):
    points = np.random.default_rng(seed).uniform((0, 150), (500, 250), (12, 2))
    callouts = [Callout(str(n), (float(x), float(y)), (1, 1, 1)) for n, (x, y) in enumerate(points)]
    laid = placed(callouts, 0.0, 400.0, 25.0, (0.0, 600.0))
    for one, other in combinations(laid, 2):
        a, b = np.array(one.at_px), np.array([600.0, one.y_px])
        c, d = np.array(other.at_px), np.array([600.0, other.y_px])
        apart = [_turn(a, b, c) * _turn(a, b, d), _turn(c, d, a) * _turn(c, d, b)]
        assert not (apart[0] < 0 and apart[1] < 0)


def _turn(a, b, c):
    return float(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))


def test_names_that_have_room_stay_beside_their_things():
    callouts = [Callout("a", (0.0, 100.0), (1, 1, 1)), Callout("b", (0.0, 300.0), (1, 1, 1), "left")]
    assert [one.y_px for one in placed(callouts, 0.0, 400.0, 25.0, (0.0, 600.0))] == [300.0, 100.0]
    too_many = [Callout(str(n), (0.0, 5.0), (1, 1, 1)) for n in range(40)]
    heights = [one.y_px for one in placed(too_many, 0.0, 400.0, 25.0, (0.0, 600.0))]
    assert np.diff(heights) == pytest.approx(10.0)


def test_a_callout_is_drawn_from_its_words_to_its_thing():
    image = Image.new("RGB", (300, 100))
    draw_callouts(image, [Callout("L3", (150.0, 50.0), (1.0, 0.0, 0.0), y_px=50.0)], (20.0, 250.0), 19)
    pixels = np.asarray(image)
    assert tuple(pixels[50, 150]) == (255, 0, 0)
    assert pixels[50, 160:240].max(axis=1).min() > 60  # the line
    assert pixels[40:60, 252:280].max() > 200  # the words
    assert pixels[:, :140].max() == 0


def test_every_bone_is_in_a_group():
    names = ["skull", "sacrum", "hip_left", "rib_left_3", "femur_right", "DeciPelvis", "scapula_left"]
    exhibits = [exhibit(name, (0, 0, 0)) for name in names] + spine() + [exhibit("canal", (0, 0, 0), role="critical")]
    groups = groups_of(exhibits)
    assert set(groups) == {"skull", "spine", "pelvis", "ribs", "legs", "shoulders", "other"}
    assert {one.name for own in groups.values() for one in own} == {*names, *(one.name for one in spine())}
    assert {one.name for one in groups["pelvis"]} == {"sacrum", "hip_left"}
    assert list(groups_of([exhibit("sacrum", (0, 0, 0)), exhibit("hip_left", (0, 0, 0))])) == ["pelvis"]
    assert list(groups_of([*spine(), exhibit("sacrum", (0, 0, 0))])) == ["spine"]


def test_the_deepest_place_of_a_flat_shape_is_its_middle():
    mask = np.zeros((60, 200), bool)
    mask[20:40, 10:190] = True
    x, y, depth = deepest(mask)
    assert (x, y) == pytest.approx((99.5, 29.5), abs=1.0)
    assert depth >= 8.0


def test_smooth_slices_are_nearer_to_the_truth_than_trilinear_ones():
    """A wave of 8 voxels a period on a 3 mm grid: cubic splines err by less than a tenth of what straight lines do."""
    axis = np.arange(40)
    wave = 500 * np.sin(axis * 2 * np.pi / 8)
    hu = (wave[:, None, None] + wave[None, :, None] + wave[None, None, :]).astype(np.int16)
    voxels = Voxels(hu, np.column_stack([np.eye(3) / 3.0, np.zeros(3)]))
    mm = np.random.default_rng(2).uniform(30, 85, (500, 3))
    truth = (500 * np.sin(mm / 3.0 * 2 * np.pi / 8)).sum(axis=1)
    linear = np.abs(voxels.at(Points[Patient](mm)) - truth).max()
    cubic = np.abs(voxels.at(Points[Patient](mm), smooth=True) - truth).max()
    assert cubic < 0.1 * linear
    picture = slice_picture(voxels, Slice.axial([60, 60, 60], 300, 200, 200), title="", smooth=True)
    assert tuple(picture[5, 100]) == (14, 17, 20)  # outside the scan is not air's black


def test_a_block_of_the_scan_gives_what_the_whole_gives():
    hu = np.random.default_rng(3).integers(-500, 1500, (50, 60, 70)).astype(np.int16)
    voxels = Voxels(hu, np.column_stack([np.eye(3), np.zeros(3)]))
    from scipy import ndimage

    mm = np.random.default_rng(4).uniform(20, 26, (300, 3))
    whole = ndimage.map_coordinates(hu, mm[:, ::-1].T, output=np.float64, order=3, mode="nearest")
    assert np.abs(voxels.at(Points[Patient](mm), smooth=True) - whole).max() < 0.5


def test_slices_show_what_they_cut_at_true_size():
    plates = dict(slice_plates(spine(), None, STANDING, WINDOW))
    assert set(plates) == {"axial", "coronal", "sagittal"}
    for picture in plates.values():
        assert picture.dtype == np.uint8
        bar = picture.std(axis=2) > 25
        assert bar.any()  # outlines in colour
    colour = (np.abs(plates["coronal"].astype(int) - [77, 204, 230]).sum(axis=2) < 60).any(axis=1)
    rows = np.nonzero(colour)[0]
    span_mm = 4 * 30.0 + 20.0
    px_mm = (span_mm + 2 * 14.0) / 1000.0
    assert (rows.max() - rows.min()) * px_mm == pytest.approx(span_mm, abs=1.0)


def test_the_canal_is_followed_where_the_spine_bends():
    """A canal that leans 20 mm to the left over the spine: the plate along it cuts the canal at every height."""
    points = []
    for z in np.arange(-160.0, -19.0, 2.0):
        turn = np.linspace(0, 2 * np.pi, 13)[:-1]
        points.append(np.stack([z / 7.0 + 6 * np.cos(turn), 20 + 6 * np.sin(turn), np.full(12, z)], axis=1))
    rings = np.concatenate(points)
    faces = []
    for r in range(len(points) - 1):
        for c in range(12):
            a, b = 12 * r + c, 12 * r + (c + 1) % 12
            faces += [[a, b, a + 12], [b, b + 12, a + 12]]
    tube = TriangleMesh[Patient](rings, np.array(faces))
    canal = Exhibit("spinal_canal", "canal", tube, tube, (1, 1, 0), (1, 0.9, 0.1), rings.mean(axis=0), "critical")
    hu = np.zeros((100, 50, 60), np.int16)
    voxels = Voxels(hu, np.column_stack([np.eye(3) / 2.0, [30.0, 10.0, 90.0]]))
    plates = dict(slice_plates([*spine(), canal], voxels, STANDING, WINDOW))
    assert set(plates) == {"axial", "coronal", "sagittal", "canal"}

    def rows(picture):
        return (np.abs(picture.astype(int) - [255, 230, 26]).sum(axis=2) < 60).any(axis=1).sum()

    assert rows(plates["canal"]) > 1.5 * rows(plates["sagittal"])


@pytest.mark.usefixtures("graphics")
def test_group_pictures_name_all_bones_and_show_structures():
    canal = exhibit("canal", (0.0, 0.0, -90.0), role="critical", half_mm=4.0)
    exhibits = [*spine(), exhibit("skull", (0, 0, 200))]
    with Offscreen() as screen:
        bare = dict(group_plates(exhibits, screen, STANDING))
        plates = dict(group_plates([*exhibits, canal], screen, STANDING))
    assert list(plates) == ["skull", "spine"]
    assert plates["spine"].shape[1] > 1.2 * bare["spine"].shape[1]  # a third panel
    assert plates["skull"].shape == bare["skull"].shape  # no structure lies there
    for picture in plates.values():
        assert picture.std() > 8
