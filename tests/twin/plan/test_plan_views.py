"""`osteotwin plan approach` and `plan pictures` from the outside, on vertebrae of blocks in a trunk of muscle."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.twin.plan.bodies import REAR, block_spine
from tests.twin.plan.desk import run
from tests.twin.plan.test_approach import RADII_MM, trunk
from twin.case import Case

SCREWS = (("left", "12"), ("right", "-12"))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Two screws and a wedge in L3, with a CT around it."""
    folder = tmp_path_factory.mktemp("views") / "case"
    Case.create(folder, block_spine(), trunk(slices=110), None, ())
    for side, x in SCREWS:
        place = ("--entry", f"{x},60,4", "--target", f"{x},-10,4", "--diameter", "6", "--length", "40")
        run(folder, "screw", "--bone", "vertebrae_L3", "--side", side, *place)
    run(folder, "osteotomy", "--kind", "close-wedge", "--bone", "vertebrae_L4", "--angle-deg", "10")
    return folder


def test_approach_tells_the_way_to_each_screw(case):
    found = json.loads(run(case, "approach", "--json").stdout)
    assert [way["screw"] for way in found["ways"]] == ["L3-left", "L3-right"]
    skin_y = RADII_MM[1] * np.sqrt(1 - (12 / RADII_MM[0]) ** 2)
    for way in found["ways"]:
        assert way["depth_mm"] == pytest.approx(skin_y - REAR, abs=1.5)
        assert abs(way["axial_deg"]) < 0.1
        assert way["depth_sd_mm"] > 0
    (cut,) = found["cuts"]
    around = np.radians(np.linspace(0, 360, 3601))
    skin = np.column_stack([RADII_MM[0] * np.cos(around), RADII_MM[1] * np.sin(around)])
    corner = np.array([22.3, REAR + 0.2])  # of the arch's rear wall
    assert cut["shallow_mm"] == pytest.approx(np.linalg.norm(skin - corner, axis=1).min(), abs=0.5)
    assert cut["deep_mm"] > cut["shallow_mm"] + 20
    sizes = [(s["diameter_mm"], s["length_mm"], s["planned"], s["count"]) for s in found["tray"]["screws"]]
    assert sizes == [(6.0, 40.0, 2, 3)]
    assert found["minutes"]["least"] < found["minutes"]["usual"] < found["minutes"]["most"]
    assert "not measured" in found["held"]
    words = run(case, "approach").stdout
    assert "skin to bone" in words
    assert "Camera at the foot: 2 of 2" in words


def test_approach_without_a_ct_says_that_the_skin_is_not_known(tmp_path):
    Case.create(tmp_path / "case", block_spine(), None, None, ())
    place = ("--entry", "12,60,4", "--target", "12,-10,4", "--diameter", "6", "--length", "40")
    run(tmp_path / "case", "screw", "--bone", "vertebrae_L3", "--side", "left", *place)
    result = run(tmp_path / "case", "approach", "--json")
    assert json.loads(result.stdout)["ways"][0]["depth_mm"] is None
    assert "no CT" in result.stderr


@pytest.mark.parametrize(("name", "options"), [("approach", ()), ("pictures", ("--out", "{}"))])
def test_a_plan_that_is_not_there_or_empty_is_refused(case, tmp_path, name, options):
    options = [o.format(tmp_path) for o in options]
    assert "no plan 'other'" in run(case, name, *options, "--plan", "other", code=2).stderr
    place = ("--entry", "12,60,42", "--target", "12,-10,42", "--diameter", "6", "--length", "40")
    run(case, "screw", "--bone", "vertebrae_L2", "--side", "left", *place, "--plan", f"gone-{name}")
    run(case, "undo", "--plan", f"gone-{name}")
    assert f"gone-{name}" in run(case, name, *options, "--plan", f"gone-{name}", code=1).stderr


@pytest.mark.usefixtures("graphics")
def test_pictures_show_construct_screws_cut_and_way_in(case, tmp_path):
    found = json.loads(run(case, "pictures", "--out", str(tmp_path), "--json").stdout)
    names = {file.rpartition("/")[2] for file in found["pictures"]}
    assert {"construct.png", "way-in.png", "screw-L3-left.png", "screw-L3-right.png"} <= names
    assert any(name.startswith("osteotomy-") for name in names)
    for file in found["pictures"]:
        picture = np.asarray(Image.open(file)).astype(int)
        assert picture[..., :3].std() > 5.0  # something was drawn
    construct = np.asarray(Image.open(tmp_path / "construct.png")).astype(int)
    green = (construct[..., 1] - construct[..., 0] > 25) & (construct[..., 1] > 60)
    assert green.sum() > 300  # both screws are grade A
