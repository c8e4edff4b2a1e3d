"""Where one stack ends and damage begins: a change of protocol is resampled, a lost slice is refused; stray slices."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from tests.data import shared_data
from tests.twin.test_scan_geometry import assert_in_place
from tests.twin.written_series import plane_points, scene_hu, write_series
from twin.scan.load import load_volume
from twin.scan.refusals import DuplicateSlices, IrregularSlices, MixedSeries, SeriesChoice
from twin.scan.series import list_series


def stack(folder, gaps, thicknesses=None, *, tilt_deg=0.0, numbers=True, lost=()):
    """Slices of the balls at these distances along the normal; each as thick as its run unless said otherwise."""
    tilt = np.radians(tilt_deg)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
    normal = np.cross(row, column)
    heights = np.concatenate([[0.0], np.cumsum(gaps)]) - sum(gaps) / 2
    thicknesses = thicknesses or [*gaps, gaps[-1]]
    shape, spacing = (100, 92), (1.0, 1.0)

    def at(data, k):
        data.skip_this = k in lost
        along = heights[k] / np.cos(tilt)
        origin = np.array([0, 0, along]) - row * (shape[1] - 1) / 2 - column * (shape[0] - 1) / 2
        data.ImagePositionPatient = [f"{x:.6f}" for x in origin]
        data.SliceThickness = thicknesses[k]
        data.InstanceNumber = k + 1 if numbers else None
        data.PixelData = (
            np.rint(scene_hu(plane_points(row, column, origin, spacing, shape)) + 1024).astype("<u2").tobytes()
        )

    assert normal[2] > 0
    write_series(folder, row=row, column=column, slices=len(heights), spacing_mm=spacing, shape=shape, mutate=at)
    return folder


FINE_THEN_COARSE = ([1.0] * 40 + [1.3] + [1.6] * 25, [1.0] * 41 + [1.6] * 26)


@pytest.mark.parametrize("tilt_deg", [0.0, 12.0])
def test_a_change_of_protocol_is_resampled_in_place(tmp_path, tilt_deg):
    volume = load_volume(stack(tmp_path, *FINE_THEN_COARSE, tilt_deg=tilt_deg))
    assert volume.grid.spacing_mm == pytest.approx([1.0, 1.0, 1.0])
    assert volume.about["resampled_from_mm"] == pytest.approx([1.0, 1.3, 1.6])
    assert any(
        "1.00 and 1.30 and 1.60 mm apart (the protocol changed); resampled to 1.00 mm" in n for n in volume.warnings
    )
    assert_in_place(volume, 0.1)
    assert volume.fitness is not None
    assert any("interpolated" in reason for reason in volume.fitness.guide.reasons)
    points = volume.grid.patient_from_index(np.stack(np.indices(volume.hu.shape)[::-1], -1)).mm
    inside = np.linalg.norm(points, axis=-1) < 31
    error = np.abs(volume.hu - scene_hu(points))[inside]
    assert error.mean() < 12  # HU, of edges of 900 HU that are 2 mm wide


def test_the_order_of_the_runs_and_a_step_between_do_not_matter(tmp_path):
    gaps = [2.0] * 20 + [0.7] + [1.0] * 30
    volume = load_volume(stack(tmp_path, gaps, [2.0] * 21 + [1.0] * 31))
    assert volume.about["resampled_from_mm"] == pytest.approx([2.0, 0.7, 1.0])
    assert_in_place(volume, 0.12)


LOST = {
    "a slice in the fine run": (*FINE_THEN_COARSE, {"lost": (20,)}, "apart"),
    "a slice in the coarse run": (*FINE_THEN_COARSE, {"lost": (55,)}, "apart"),
    "the slice at the change": (*FINE_THEN_COARSE, {"lost": (40,)}, "apart"),
    "every second of the last ones": ([1.0] * 30 + [2.0] * 20, [1.0] * 51, {}, "apart"),
    "every second, numbers tell": (
        [1.0] * 30 + [2.0] * 20, [2.0] * 51, {"numbers": False}, "apart"
    ),
    "two slices only of another pitch": ([1.0] * 30 + [2.0] * 2, [1.0] * 31 + [2.0] * 2, {}, "apart"),
    "a drifting pitch": (list(np.linspace(1.0, 2.0, 40)), None, {}, "apart"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_lost_slices_are_never_resampled_over(tmp_path, name):
    gaps, thicknesses, options, words = LOST[name]
    with pytest.raises(IrregularSlices, match=words):
        load_volume(stack(tmp_path, gaps, thicknesses, **options))


def test_the_real_head_is_made_upright_and_unfit(tmp_path):
    zipfile.ZipFile(shared_data("ct_head_gantry_tilt_dicom/GE_HiSpeed_head_28slices.zip")).extractall(tmp_path)
    volume = load_volume(tmp_path)
    assert volume.grid.size == (512, 611, 37)
    assert volume.fitness is not None
    assert not volume.fitness.plan.fit
    assert not volume.fitness.guide.fit
    skull = (
        volume.hu > 300
    )  # its forehead stays within the roundness of a head; sheared the wrong way it runs off by 50 mm
    fronts = [np.flatnonzero(plane.any(axis=1))[0] for plane in skull[8:28]]
    assert np.ptp(fronts) * 0.488 < 15


def test_the_last_slice_under_another_uid_is_missed(tmp_path):
    files = write_series(tmp_path, slices=10, series_uid="1.2.3.4")
    data = files[9].read_bytes()
    assert data.count(b"1.2.3.4\0") == 1
    files[9].write_bytes(data.replace(b"1.2.3.4\0", b"1.2.3.5\0"))
    with pytest.raises(MixedSeries, match="lies where this one goes on") as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[9]
    volume = load_volume(tmp_path, series_uid="1.2.3.4")  # asked for by name: loaded, and said
    assert volume.grid.size[2] == 9
    assert any("lies where this one goes on" in note for note in volume.warnings)


def test_a_lone_slice_elsewhere_is_no_stray(tmp_path):
    write_series(tmp_path, slices=10, series_uid="1.2.3.4")
    write_series(tmp_path, slices=1, series_uid="1.2.3.5", name="other{}.dcm".format)
    assert load_volume(tmp_path).grid.size[2] == 10


def test_two_acquisitions_under_one_uid_are_a_choice(tmp_path):
    def phase(number, hu):
        def mutate(data, _k):
            data.AcquisitionNumber = number
            data.PixelData = (np.frombuffer(data.PixelData, "<u2") + hu).astype("<u2").tobytes()

        return mutate

    write_series(tmp_path, slices=8, series_uid="1.2.3", mutate=phase(1, 0), name="a{}.dcm".format)
    write_series(tmp_path, slices=8, series_uid="1.2.3", mutate=phase(2, 50), name="b{}.dcm".format)
    assert [one.uid for one in list_series(tmp_path)] == ["1.2.3#1", "1.2.3#2"]
    with pytest.raises(SeriesChoice, match="2 CT series"):
        load_volume(tmp_path)
    first, second = load_volume(tmp_path, series_uid="1.2.3#1"), load_volume(tmp_path, series_uid="1.2.3#2")
    assert int((second.hu - first.hu).min()) == int((second.hu - first.hu).max()) == 50


def test_phases_that_nothing_tells_apart_are_refused(tmp_path):
    write_series(tmp_path, slices=8, series_uid="1.2.3", name="a{}.dcm".format)
    write_series(
        tmp_path, slices=8, series_uid="1.2.3", name="b{}.dcm".format,
        mutate=lambda d, _: setattr(d, "PixelData", (np.frombuffer(d.PixelData, "<u2") + 9).astype("<u2").tobytes()),
    )  # fmt: skip
    with pytest.raises(DuplicateSlices, match="2 different slices at one position"):
        load_volume(tmp_path)
