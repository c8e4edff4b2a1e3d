"""The way in: skin, depth, sleeves, camera places, on bodies of known shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from spatial.frames import Patient
from spatial.rigid import Directions, Points
from spatial.shapes import Line
from tests.twin.plan import bodies
from twin.anatomy.bone import Bone
from twin.anatomy.skin import NoSkin, Skin
from twin.anatomy.twin import Levels, Twin
from twin.plan.approach import _gap, camera_views, meetings, way_in
from twin.plan.screws.screw import Screw
from twin.plan.theatre import BUILT_IN, BadTheatre, Instrument, load_theatre
from twin.scan.volume import Grid, Volume

RADII_MM = np.array([120.0, 90.0])  # of the trunk, an elliptic tube along z
SLEEVE = Instrument("sleeve", sleeve_mm=10.0, reach_mm=100.0, marker_mm=150.0)


def trunk(*, padded=False, gas=False, shift_mm=0.0, slices=50):
    """A tube of muscle in air, on a table, its CT 2 x 2 x 3 mm; `shift_mm` moves it out of the field of view."""
    size, spacing = np.array([160, 140, slices]), np.array([2.0, 2.0, 3.0])
    origin = -spacing * (size - 1) / 2
    x, y, z = (origin[a] + spacing[a] * np.arange(size[a]) for a in range(3))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    depth = (1 - np.hypot((xx - shift_mm) / RADII_MM[0], yy / RADII_MM[1])) * RADII_MM.min()  # about mm at the surface
    hu = np.clip(-500 + 550 * depth, -1000, 50)
    if gas:
        hu[(np.hypot(xx, yy + 30) < 20) & (abs(zz) < 40)] = -1000
    hu[(yy > 96) & (yy < 100)] = 200  # a table behind the back
    if padded:
        hu[np.hypot(xx, yy) > 110] = -3024
    grid = Grid((160, 140, slices), spacing, origin, np.eye(3))
    return Volume(grid, hu.astype(np.int16))


def boxes(**beside):
    """A bone `block` of 30 x 60 x 30 mm about the origin, and others by name: (centre, half sizes)."""
    solids = {"block": ((0.0, 0.0, 0.0), (15.0, 30.0, 15.0)), **beside}
    made = {
        name: Bone(name, bodies.to_mesh(bodies.block(np.subtract(at, half), np.add(at, half))))
        for name, (at, half) in solids.items()
    }
    return Twin("boxes", made, (), Levels(1.0))


def screw(entry=(0.0, 30.0, 0.0), target=(0.0, 0.0, 0.0), kind="left", name="one"):
    return Screw(name, "block", kind, Points[Patient](entry), Points[Patient](target), 6.0, 40.0)


@pytest.fixture(scope="module")
def skin():
    return Skin.of(trunk(gas=True))


def test_skin_is_closed_and_where_the_tube_ends(skin):
    assert skin.surface.is_closed
    middle = skin.surface.vertices_mm[np.abs(skin.surface.vertices_mm[:, 2]) < 60]
    off = (np.hypot(middle[:, 0] / RADII_MM[0], middle[:, 1] / RADII_MM[1]) - 1) * RADII_MM.min()
    assert np.abs(off).mean() < 0.3
    assert np.abs(off).max() < 1.5  # gas inside the body and the table behind it left no surface


@given(st.floats(-0.6, 0.6), st.floats(-0.3, 0.3))
def test_depth_along_an_oblique_way_is_that_of_the_ellipse(skin, aside, up):
    start = np.array([5.0, 40.0, 0.0])
    way = np.array([aside, 1.0, up]) / np.linalg.norm([aside, 1.0, up])
    found = skin.out_of(Points[Patient](start), Directions[Patient](way))
    a, b = start[:2] / RADII_MM, way[:2] / RADII_MM
    true = (-(a @ b) + np.sqrt((a @ b) ** 2 - (b @ b) * (a @ a - 1))) / (b @ b)
    assert found is not None
    assert found[1] == pytest.approx(true, abs=1.0)


def test_a_way_that_leaves_the_scan_finds_no_skin(skin):
    up = Directions[Patient](np.array([0.0, 0.3, 1.0]))
    assert skin.out_of(Points[Patient]([0.0, 40.0, 0.0]), up) is None
    cut = Skin.of(trunk(shift_mm=80.0))  # the left flank lies outside the field of view
    assert cut.out_of(Points[Patient]([80.0, 0.0, 0.0]), Directions[Patient](np.array([1.0, 0.0, 0.0]))) is None
    assert cut.out_of(Points[Patient]([80.0, 0.0, 0.0]), Directions[Patient](np.array([0.0, 1.0, 0.0]))) is not None


def test_the_scanners_padding_is_not_taken_for_air():
    skin = Skin.of(trunk(padded=True))
    assert skin.out_of(Points[Patient]([60.0, 0.0, 0.0]), Directions[Patient](np.array([1.0, 0.0, 0.0]))) is None


def test_air_alone_has_no_skin():
    grid = Grid((40, 40, 40), np.full(3, 3.0), np.zeros(3), np.eye(3))
    with pytest.raises(NoSkin, match="no patient"):
        Skin.of(Volume(grid, np.full((40, 40, 40), -1000, dtype=np.int16)))


def test_way_in_tells_skin_reach_and_lean(skin):
    twin = boxes()
    way = way_in(twin, screw(), SLEEVE, skin)
    assert way.depth_mm == pytest.approx(60.0, abs=1.0)
    assert way.spare_reach_mm == pytest.approx(100.0 - 60.0 - 10.0, abs=1.0)
    assert way.skin.mm == pytest.approx([0.0, 90.0, 0.0], abs=1.0)
    assert way.axial_deg == pytest.approx(0.0, abs=1e-9)
    assert way.incision_mm == pytest.approx(np.pi * 5.0)
    assert way.is_free
    assert not way_in(twin, screw(), Instrument("short", 10.0, 60.0, 100.0), skin).is_free
    leaning = way_in(twin, screw(target=(-10.0, 0.0, 5.0)), SLEEVE, skin)  # a left screw that converges and drops
    assert leaning.axial_deg == pytest.approx(np.degrees(np.arctan2(10, 30)))
    assert leaning.sagittal_deg == pytest.approx(-np.degrees(np.arctan2(5, 30)))


@pytest.mark.parametrize("aside_mm", [3.0, 8.0, 9.5])
def test_a_neighbour_beside_the_sleeve_is_told_with_its_clearance(skin, aside_mm):
    twin = boxes(neighbour=((aside_mm + 10.0, 60.0, 0.0), (10.0, 5.0, 10.0)))
    found = {o.name: o for o in way_in(twin, screw(), SLEEVE, skin).obstacles}
    assert found["neighbour"].distance_mm == pytest.approx(aside_mm - 5.0, abs=0.15)
    assert 25.0 - 1e-9 <= found["neighbour"].above_mm <= 35.0 + 1e-9
    assert "block" not in found  # its own flat bone lies square to the sleeve, which stands 3 mm off


coordinates = st.floats(-50, 50)


@given(st.lists(coordinates, min_size=12, max_size=12), st.floats(1, 80), st.floats(1, 80))
def test_the_gap_of_two_segments_is_the_smallest_distance(numbers, a_mm, b_mm):
    values = np.array(numbers).reshape(4, 3)
    if min(np.linalg.norm(values[1]), np.linalg.norm(values[3])) < 1.0:
        return
    one, other = Line[Patient](values[0], values[1]), Line[Patient](values[2], values[3])
    gap, s, t = _gap(one, a_mm, other, b_mm)
    assert gap == pytest.approx(np.linalg.norm(one.at(s).mm - other.at(t).mm))
    best = minimize(
        lambda x: ((one.at(x[0]).mm - other.at(x[1]).mm) ** 2).sum(), (a_mm / 2, b_mm / 2),
        bounds=((0, a_mm), (0, b_mm)), tol=1e-14,
    )  # fmt: skip
    assert gap <= np.sqrt(max(best.fun, 0.0)) + 1e-4
    grid = np.linalg.norm(
        one.at(np.linspace(0, a_mm, 40)).mm[:, None] - other.at(np.linspace(0, b_mm, 40)).mm[None], axis=-1
    )
    assert gap <= grid.min() + 1e-9


def test_sleeves_that_cross_above_the_skin_meet(skin):
    twin = boxes()
    left = way_in(twin, screw((10.0, 30.0, 0.0), (18.0, 0.0, 0.0), "left", "a"), SLEEVE, skin)
    right = way_in(twin, screw((-10.0, 30.0, 0.0), (-18.0, 0.0, 0.0), "right", "b"), SLEEVE, skin)
    (meeting,) = meetings([left, right])
    assert meeting.screws == ("a", "b")
    assert meeting.overlap_mm == pytest.approx(10.0, abs=0.1)  # the axes cross: both radii overlap
    far = way_in(twin, screw((12.0, 30.0, 0.0), (6.0, 0.0, 0.0), "left", "c"), SLEEVE, skin)
    assert meetings([far, right]) == ()


def test_a_camera_under_the_table_sees_nothing_and_one_above_all(skin, tmp_path):
    text = BUILT_IN.read_text()
    foot = "posterior_mm = 700.0\ncranial_mm = -900.0"
    assert foot in text
    text = text.replace(foot, "posterior_mm = -900.0\ncranial_mm = 0.0")
    file = tmp_path / "theatre.toml"
    file.write_text(text)
    twin = boxes()
    views = {v.name: v for v in camera_views([way_in(twin, screw(), SLEEVE, skin)], load_theatre(file), skin)}
    assert views["foot"].hidden == {"one": "the patient's body"}
    assert views["head"].hidden == {}
    assert views["head"].worst_incidence_deg == pytest.approx(
        np.degrees(np.arctan2(700.0 + 30.0 - 180.0, 900.0)), abs=0.5
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("spares = 1", "spares = -1", "spares -1"),
        ("sleeve_mm = 14.0", "sleeve_mm = 0.0", r"instruments.pedicle.sleeve_mm is 0; limits 1 to 3000"),
        ("sleeve_mm = 14.0", "sleeve = 14.0", "has 'sleeve'; known are name"),
        ('per = "case"', 'per = "patient"', "per 'patient'; one of case"),
        ("minutes = [8, 12, 20]", "minutes = [12, 8, 20]", "three numbers that rise"),
        ("most_incidence_deg = 60.0", 'most_incidence_deg = "steep"', "must be a number"),
        ("[camera]", "[camera", "no TOML"),
    ],
)
def test_a_theatre_file_that_is_wrong_is_refused_by_name(tmp_path, old, new, said):
    text = BUILT_IN.read_text()
    assert old in text
    file = tmp_path / "theatre.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(BadTheatre, match=said):
        load_theatre(file)


def test_minutes_and_instruments_are_those_of_the_steps_that_occur():
    theatre = load_theatre()
    least, usual, most = theatre.minutes({"case": 1, "screw": 4})
    by_hand = [s for s in theatre.steps if s.per in ("case", "screw")]
    assert usual == pytest.approx(sum(s.minutes[1] * (4 if s.per == "screw" else 1) for s in by_hand))
    assert least < usual < most
    assert "rod bender" not in theatre.needed({"case": 1, "screw": 4})
    assert "rod bender" in theatre.needed({"case": 1, "screw": 4, "rod": 2})
