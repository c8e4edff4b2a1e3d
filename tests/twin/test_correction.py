"""Corrections: strokes read strictly, labels told apart where they were touched, surfaces at the true edge."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from twin.anatomy.build import build_twin
from twin.anatomy.correction import corrected, relabelled
from twin.anatomy.strokes import BadStrokes, Stroke, Strokes
from twin.anatomy.twin import Levels, Twin
from twin.scan.names import NUMBERS, OWN_FIRST
from twin.scan.volume import Grid, LabelMap, Volume

SPACING = np.array([0.8, 0.8, 1.0])
GRID = Grid((60, 60, 76), SPACING, np.array([-23.6, -23.6, -37.5]), np.eye(3))
UPPER, LOWER = np.array([0.0, 0.0, 13.5]), np.array([0.0, 0.0, -13.5])
RADIUS_MM = 12.5  # so the gap between the two is 2 mm
L3, L4 = "vertebrae_L3", "vertebrae_L4"
ROOT = Path(__file__).resolve().parents[2]


def distance_mm(centre):
    """Of each voxel's centre (k, j, i) from a place."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij")
    return np.linalg.norm(GRID.patient_from_index(np.stack([i, j, k], axis=-1)).mm - centre, axis=-1)


def balls():
    """Two balls of bone, cortex 900 and marrow 250 HU, blurred as a scanner does, and which voxel is in which."""
    from scipy import ndimage

    hu = np.full(GRID.shape, 40.0)
    for centre in (UPPER, LOWER):
        d = distance_mm(centre)
        hu[d < RADIUS_MM] = 900.0
        hu[d < RADIUS_MM - 2.0] = 250.0
    hu = ndimage.gaussian_filter(hu, 0.5 / SPACING[::-1])
    hu += np.random.default_rng(5).normal(0.0, 8.0, hu.shape)
    truth = np.zeros(GRID.shape, np.uint8)
    truth[distance_mm(UPPER) < RADIUS_MM] = NUMBERS[L3]
    truth[distance_mm(LOWER) < RADIUS_MM] = NUMBERS[L4]
    return Volume(GRID, np.rint(hu).astype(np.int16)), truth


VOLUME, truth_map = balls()


def label_map(labels):
    names = {n: name for name, n in NUMBERS.items()}
    return LabelMap(GRID, labels, {int(n): names[int(n)] for n in np.unique(labels) if n})


def fused():
    """Both balls and what lies between them as one bone."""
    labels = np.where(truth_map > 0, NUMBERS[L3], 0).astype(np.uint8)
    between = np.zeros(GRID.shape, np.bool_)
    between[33:43, 24:37, 24:37] = True
    labels[between & (labels == 0) & (VOLUME.hu > 100)] = NUMBERS[L3]
    return label_map(labels)


def stroke(bone, *points, radius=2.0, **more):
    return {"bone": bone, "points_mm": [list(map(float, p)) for p in points], "radius_mm": radius, **more}


def drawn(*strokes, **more):
    return Strokes.from_json({"strokes": list(strokes), **more})


def moved(place, *by):
    return place + np.array(by)


def number_of(labels, name):
    return next(n for n, known in labels.names.items() if known == name)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def refined(twin: Twin) -> Twin:
    """The twin as if the program had found its bones itself: its corrections look for the edge in the HU."""
    settings = {"refined": True, "cortex_hu": 900.0, "scanner_blur_mm": 0.45}
    steps = [{**s, "settings": settings} if s["step"] == "surfaces" else s for s in twin.provenance]
    return replace(twin, provenance=tuple(steps))


# ---- strokes


def test_a_brush_covers_what_is_near_its_path():
    path = np.array([[-8.0, 3.0, -2.0], [4.0, 6.0, 5.0], [5.0, -9.0, 7.5]])
    box, mask = Stroke(L3, Points[Patient](path), 3.0).covers(GRID)
    k, j, i = np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij")
    places = GRID.patient_from_index(np.stack([i, j, k], axis=-1)).mm
    near = np.full(GRID.shape, np.inf)
    for a, b in pairwise(path):
        for t in np.linspace(0, 1, 30):
            near = np.minimum(near, np.linalg.norm(places - (a + t * (b - a)), axis=-1))
    whole = np.zeros(GRID.shape, np.bool_)
    whole[box] = mask
    assert (whole & (near > 3.02)).sum() == 0
    assert (~whole & (near < 2.98)).sum() == 0
    assert Stroke(L3, Points[Patient](path + 500.0), 3.0).covers(GRID) is None
    edge = Stroke(L3, Points[Patient](np.array([[23.6, 0.0, 0.0]])), 2.0).covers(GRID)
    assert edge is not None


def test_strokes_come_back_from_json():
    value = {
        "strokes": [stroke("L3", UPPER, LOWER, radius=2.5), stroke("none", UPPER, only_bright=False)],
        "joins": [{"bone": "hip left", "into": "hip_right"}],
    }
    found = Strokes.from_json(value)
    assert found.strokes[0].bone == L3
    assert found.strokes[1].bone is None
    assert found.joins == (("hip_left", "hip_right"),)
    again = Strokes.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    assert len(Strokes.from_json(value["strokes"]).strokes) == 2  # a bare list


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ({"bone": "L3", "points_mm": [[0, 0, 0]], "radius": 2}, "lacks radius_mm"),
        ({"bone": "L3", "points_mm": [[0, 0, 0]], "radius_mm": 2, "colour": "red"}, "has colour, which nobody knows"),
        ({"bone": "L3", "points_mm": [[0, 0]], "radius_mm": 2}, "list of 1 to"),
        ({"bone": "L3", "points_mm": [], "radius_mm": 2}, "list of 1 to"),
        ({"bone": "L3", "points_mm": [[0, 0, 1e999]], "radius_mm": 2}, "not finite"),
        ({"bone": "L3", "points_mm": [["x", 0, 1]], "radius_mm": 2}, "list of 1 to"),
        ({"bone": "L3", "points_mm": [[0, 0, 0]], "radius_mm": 0}, "0.2 to 50"),
        ({"bone": "L3", "points_mm": [[0, 0, 0]], "radius_mm": True}, "0.2 to 50"),
        ({"bone": "../x", "points_mm": [[0, 0, 0]], "radius_mm": 2}, "can't be a bone's name"),
        ({"bone": 3, "points_mm": [[0, 0, 0]], "radius_mm": 2}, "can't be a bone's name"),
        ({"bone": "L3", "points_mm": [[0, 0, 0]], "radius_mm": 2, "only_bright": 1}, "true or false"),
        ("L3", "no JSON object"),
    ],
)
def test_what_a_stroke_may_not_say(spoiled, words):
    with pytest.raises(BadStrokes, match=words) as caught:
        Strokes.from_json({"strokes": [stroke("L4", UPPER), spoiled]})
    assert "stroke 2" in caught.value.message
    assert caught.value.exit_code == 2


def test_what_a_file_may_not_be(tmp_path):
    path = tmp_path / "a.json"
    for text, words in (
        ("{", "no JSON"), ("[]", "nothing to correct"), ("3", "no JSON object"),
        ('{"strokes": [], "undo": 1}', "has undo"),
        ('{"strokes": [], "joins": [{"bone": "L3", "into": "vertebrae_L3"}]}', "joined to itself"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(BadStrokes, match=words):
            Strokes.load(path)
    with pytest.raises(BadStrokes, match="cannot be read"):
        Strokes.load(tmp_path / "absent.json")


def test_the_published_schema_is_what_is_read():
    schema = json.loads((ROOT / "docs" / "strokes.schema.json").read_text())
    one = schema["$defs"]["stroke"]
    assert set(schema["properties"]) == {"strokes", "joins"}
    assert set(one["properties"]) == {"bone", "points_mm", "radius_mm", "only_bright"}
    assert set(one["required"]) == {"bone", "points_mm", "radius_mm"}
    assert set(schema["$defs"]["join"]["required"]) == {"bone", "into"}
    assert not any(part["additionalProperties"] for part in (schema, one, schema["$defs"]["join"]))
    assert [one["properties"]["radius_mm"][key] for key in ("minimum", "maximum")] == [0.2, 50.0]


# ---- labels


def test_two_seeds_part_a_fused_bone_at_the_gap():
    found = relabelled(VOLUME, fused(), drawn(stroke("L3", UPPER), stroke("L4", LOWER)))
    assert found.changed == (L3, L4)
    for name in (L3, L4):
        mine = found.labels.labels == number_of(found.labels, name)
        assert dice(mine, truth_map == NUMBERS[name]) > 0.985
    assert not (found.labels.labels[:37] == NUMBERS[L3]).any()  # none of L3 below the middle


def test_a_lone_stroke_paints_only_where_it_is():
    labels = label_map(truth_map.copy())
    found = relabelled(VOLUME, labels, drawn(stroke("L3", LOWER, radius=4.0)))
    brush = distance_mm(LOWER) <= 4.0
    assert np.array_equal(found.labels.labels, np.where(brush, NUMBERS[L3], truth_map))
    assert found.changed == (L3, L4)


def test_painting_spares_soft_tissue_unless_told():
    labels = label_map(np.where(truth_map == NUMBERS[L3], truth_map, 0).astype(np.uint8))
    edge = moved(LOWER, RADIUS_MM, 0.0, 0.0)
    found = relabelled(VOLUME, labels, drawn(stroke("L4", edge, radius=4.0)))
    painted = found.labels.labels == NUMBERS[L4]
    assert painted.any()
    assert VOLUME.hu[painted].min() > 80
    assert (distance_mm(LOWER)[painted] > RADIUS_MM + 1.5).sum() == 0
    everything = relabelled(VOLUME, labels, drawn(stroke("L4", edge, radius=4.0, only_bright=False)))
    assert np.array_equal(everything.labels.labels == NUMBERS[L4], distance_mm(edge) <= 4.0)
    with pytest.raises(BadStrokes, match="covers nothing above"):
        relabelled(VOLUME, labels, drawn(stroke("L4", [0.0, 21.0, 30.0], radius=1.5)))


def test_erasing_a_bone_takes_it_away():
    labels = label_map(truth_map.copy())
    found = relabelled(VOLUME, labels, drawn(stroke("none", LOWER, radius=14.0)))
    assert found.removed == (L4,)
    assert set(found.labels.names.values()) == {L3}
    part = relabelled(VOLUME, labels, drawn(stroke("none", LOWER, radius=3.0)))
    assert part.removed == ()
    assert np.array_equal(part.labels.labels == NUMBERS[L4], (truth_map == NUMBERS[L4]) & (distance_mm(LOWER) > 3.0))


def test_joining_and_a_new_name():
    labels = label_map(truth_map.copy())
    joined = relabelled(VOLUME, labels, drawn(joins=[{"bone": "L4", "into": "L3"}]))
    assert joined.removed == (L4,)
    assert np.array_equal(joined.labels.labels == NUMBERS[L3], truth_map > 0)
    split = relabelled(VOLUME, fused(), drawn(stroke("L3", UPPER), stroke("cement-1", LOWER)))
    assert set(split.labels.names.values()) == {L3, "cement-1"}
    number = number_of(split.labels, "cement-1")
    assert number >= OWN_FIRST
    assert dice(split.labels.labels == number, truth_map == NUMBERS[L4]) > 0.985
    with pytest.raises(BadStrokes, match="no bone 'sacrum' to join; there are vertebrae_L3"):
        relabelled(VOLUME, labels, drawn(joins=[{"bone": "sacrum", "into": "L3"}]))


def test_strokes_that_mean_nothing_are_refused():
    labels = label_map(truth_map.copy())
    with pytest.raises(BadStrokes, match="change nothing"):
        relabelled(VOLUME, labels, drawn(stroke("L3", UPPER)))
    with pytest.raises(BadStrokes, match="stroke 1 covers no voxel"):
        relabelled(VOLUME, labels, drawn(stroke("L3", [300.0, 0.0, 0.0])))
    with pytest.raises(BadStrokes, match="cover each other"):
        relabelled(VOLUME, fused(), drawn(stroke("L3", UPPER), stroke("L4", UPPER)))


# ---- the twin


def test_a_parted_bone_gets_its_true_surface():
    """The new surfaces are found in the HU: within a fifth of a voxel of the balls."""
    twin, labels = build_twin(VOLUME, fused())
    found = corrected(refined(twin), VOLUME, labels, drawn(stroke("L3", UPPER), stroke("L4", LOWER)), "Dr A")
    assert found.changed == (L3, L4)
    for name, centre in ((L3, UPPER), (L4, LOWER)):
        mesh = found.twin.bone(name).surface
        off = np.linalg.norm(mesh.vertices_mm - centre, axis=1) - RADIUS_MM
        assert mesh.is_closed
        assert abs(np.median(off)) < 0.1
        assert np.percentile(np.abs(off), 95) < 0.35
        inside = found.labels.labels == number_of(found.labels, name)
        assert dice(inside, truth_map == NUMBERS[name]) > 0.985
    assert found.twin.twin_id != twin.twin_id
    assert found.twin.provenance[-1]["step"] == "correction"
    assert found.twin.provenance[-1]["by"] == "Dr A"


def test_what_was_not_touched_is_the_same_object():
    twin, labels = build_twin(VOLUME, label_map(truth_map.copy()))
    found = corrected(twin, VOLUME, labels, drawn(stroke("none", moved(LOWER, 0, 0, -12.0), radius=3.0)), "Dr A")
    assert found.twin.bones[L3] is twin.bones[L3]
    assert found.changed == (L4,)
    lost = twin.bone(L4).volume_ml - found.twin.bone(L4).volume_ml
    cap = ((truth_map == NUMBERS[L4]) & (distance_mm(moved(LOWER, 0, 0, -12.0)) <= 3.0)).sum() * GRID.voxel_ml
    assert lost == pytest.approx(cap, rel=0.15)


def test_what_was_erased_stays_erased():
    """The edge search must not creep back over bright bone that a person took away."""
    twin, labels = build_twin(VOLUME, label_map(truth_map.copy()))
    top = moved(LOWER, RADIUS_MM - 1.0, 0.0, 0.0)
    found = corrected(refined(twin), VOLUME, labels, drawn(stroke("none", top, radius=5.0)), "Dr A")
    vertices = found.twin.bone(L4).surface.vertices_mm
    assert np.linalg.norm(vertices - top, axis=1).min() > 5.0 - 0.8
    untouched = np.linalg.norm(vertices - top, axis=1) > 8.0
    off = np.linalg.norm(vertices[untouched] - LOWER, axis=1) - RADIUS_MM
    assert np.percentile(np.abs(off), 95) < 0.35


def test_a_level_more_or_less_unconfirms_the_levels():
    twin, labels = build_twin(VOLUME, fused())
    twin = replace(twin, levels=Levels(0.9, "Dr B", ("the given labels name them",)))
    split = corrected(twin, VOLUME, labels, drawn(stroke("L3", UPPER), stroke("L4", LOWER)), "Dr A").twin
    assert split.levels.confirmed_by is None
    assert split.levels.confidence <= 0.5
    assert split.levels.evidence[-1] == "added by a correction of Dr A: vertebrae_L4"
    painted = corrected(twin, VOLUME, labels, drawn(stroke("none", moved(UPPER, 0, 0, 12.0), radius=3.0)), "Dr A").twin
    assert painted.levels.confirmed_by == "Dr B"
