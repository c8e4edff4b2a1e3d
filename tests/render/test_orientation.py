"""Letters by the DICOM rule in every standard view; the marker's arms point where the patient's do."""

from typing import Any

import numpy as np
import pytest

from render.offscreen import Offscreen
from render.orientation import direction_letters, edge_letters, orientation_axes, orientation_labels, orientation_marker
from render.scene import Scene, View
from spatial.frames import Camera, Patient, Stage
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid, Similarity

UP = (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("toward_eye", "left", "right", "top", "bottom"),
    [
        ((0.0, -1.0, 0.0), "R", "L", "H", "F"),  # anterior: as a radiograph hangs
        ((0.0, 1.0, 0.0), "L", "R", "H", "F"),  # posterior: as the surgeon stands
        ((1.0, 0.0, 0.0), "A", "P", "H", "F"),  # from the patient's left
        ((-1.0, 0.0, 0.0), "P", "A", "H", "F"),  # from the patient's right
    ],
)
def test_standard_views(toward_eye: Any, left: str, right: str, top: str, bottom: str) -> None:
    view: View[Patient] = View.looking((0, 0, 0), 500.0 * np.array(toward_eye), UP, 400, 300)
    assert edge_letters(view.rotation) == {"left": left, "right": right, "top": top, "bottom": bottom}
    texts = orientation_labels(view)
    assert [t.text for t in texts] == [left, right, top, bottom]
    assert texts[0].position_px[0] < 40 < 360 < texts[1].position_px[0]
    assert texts[2].position_px[1] < 40 < 260 < texts[3].position_px[1]


def test_an_axial_view_from_the_feet() -> None:
    view: View[Patient] = View.looking((0, 0, 0), (0, 0, -500.0), (0, -1, 0), 400, 300)
    assert edge_letters(view.rotation) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


@pytest.mark.parametrize(
    ("direction", "letters"),
    [((1, 0, 0), "L"), ((-1, 0, 0.1), "R"), ((0, 1, -1.2), "FP"), ((-0.8, -0.7, 0.6), "RAH"), ((0, -1, 0.3), "A")],
)
def test_letters_by_share(direction: Any, letters: str) -> None:
    assert direction_letters(np.array(direction, dtype=float)) == letters


def test_the_letters_tell_the_truth_about_drawn_points() -> None:
    """Whatever the view, going toward the letter L in the patient goes toward that edge in the picture."""
    rng = np.random.default_rng(3)
    axis_of = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
    for _ in range(40):
        toward = rng.normal(size=3)
        view: View[Patient] = View.looking((0, 0, 0), 400 * toward / np.linalg.norm(toward), UP, 400, 300)
        origin = view.pixels(Points[Patient](np.zeros(3)))
        for edge, letters in edge_letters(view.rotation).items():
            axis, sign = axis_of[letters[0]]
            moved = view.pixels(Points[Patient](sign * 5.0 * np.eye(3)[axis])) - origin
            assert {"left": -moved[0], "right": moved[0], "top": -moved[1], "bottom": moved[1]}[edge] > 0


def test_other_worlds_know_where_the_patient_lies() -> None:
    """Over a camera that looks at the back of a prone patient, head to the picture's right."""
    camera_from_patient: Rigid[Camera, Patient] = Rigid(
        np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) @ np.diag([1.0, 1.0, 1.0]),
        np.array([0, 0, 500.0]),
    )
    view: View[Camera] = View.from_pinhole(Pinhole(400, 300, 500, 500, 200, 150), Rigid.identity())
    letters = [t.text for t in orientation_labels(view, camera_from_patient)]
    assert letters == ["F", "H", "R", "L"]
    stage_from_patient: Similarity[Stage, Patient] = Similarity(camera_from_patient.rotation, np.zeros(3), 2.0)
    stage: View[Stage] = View.looking((0, 0, 0), (0, 0, -500), (0, -1, 0), 400, 300)
    assert [t.text for t in orientation_labels(stage, stage_from_patient)] == letters


@pytest.mark.parametrize("parallel", [False, True])
def test_the_axes_stand_in_their_corner_and_point_right(offscreen: Offscreen, parallel: bool) -> None:
    view: View[Patient] = (
        View.parallel((0, 0, 0), (0, -500, 0), UP, 400, 300, span_mm=200.0)
        if parallel
        else View.looking((0, 0, 0), (0, -500, 0), UP, 400, 300)
    )
    axes = orientation_axes(view, size_px=30.0)
    place = {label.text: view.pixels(Points[Patient](label.position_mm)) for label in axes.labels}
    assert set(place) == set("LRPAHF")
    centre = np.array([60.0, 300 - 1 - 60.0])
    assert np.abs(place["L"] - centre - (30, 0)).max() < 1.0
    assert np.abs(place["H"] - centre - (0, -30)).max() < 1.0
    ink = offscreen.picture(
        Scene(lines=axes.lines, labels=axes.labels, background_rgb=(0, 0, 0), background_top_rgb=None), view
    ).max(axis=2)
    v, u = np.nonzero(ink > 100)
    assert len(u) > 60
    assert (u.max(), v.min()) < (110, 300)
    assert v.min() > 180


def test_the_marker_of_a_stage_turns_with_the_patient(offscreen: Offscreen) -> None:
    stage_from_patient: Similarity[Stage, Patient] = Similarity(Rigid.exp((0, 0, np.pi / 2)).rotation, np.zeros(3), 3.0)
    marker = orientation_marker(stage_from_patient, np.array([0.0, 1000.0, -500.0]), 60.0)
    place = {label.text: label.position_mm for label in marker.labels}
    assert np.abs(place["L"] - (0, 1060, -500)).max() < 1e-9
    view: View[Stage] = View.looking((0, 1000, -500), (0, 1100, 0), (0, 1, 0), 200, 200)
    assert offscreen.mask(Scene(meshes=marker.meshes), view).any()
