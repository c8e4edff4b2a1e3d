"""What goes wrong with a camera, injected: the status and the cause that come of it, never a false pose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from spatial.pinhole import Pinhole
from spatial.rigid import Rigid, rotation_log
from tracking.calibration.camera_file import WrongResolution
from tracking.frame import Frame, Stopped
from tracking.history.timed import TimedPose
from tracking.pose.sighting import Sighting
from tracking.sources.closing import Closing
from tracking.sources.faults import BadPlan, FaultySource, Mishap, plan
from tracking.sources.source import open_source
from tracking.sources.synthetic_source import SyntheticSource
from tracking.sources.watch import watch
from tracking.tracker import Tracker

SOURCE = SyntheticSource("frames=24,size=960x540,f=1100,distance=420,grey=1,fps=30")
STEP_NS = 33_333_333
FALSE_SD = 7.0  # a pose that is further off than so many of its own sd is a false one


class Rendered(Closing):
    """Frames that were rendered already."""

    name = "rendered"
    pinhole = SOURCE.pinhole

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)


@dataclass(frozen=True, eq=False)
class Seen:
    """What came of one event: the sighting (None: the camera had stopped), and the history's pose of that instant."""

    index: int | None
    t_ns: int
    sighting: Sighting[Any] | None
    timed: TimedPose[Any]


@pytest.fixture(scope="module")
def rendered() -> tuple[Rendered, list[Rigid[Any, Any]]]:
    shots = list(SOURCE.shots())
    return Rendered([shot.frame for shot in shots]), [shot.camera_from_body["board"] for shot in shots]


def follow(rendered: Rendered, text: str, pinhole: Pinhole = SOURCE.pinhole) -> tuple[list[Seen], Tracker]:
    source = FaultySource(rendered, plan(text), SOURCE.bodies[0].dictionary)
    with Tracker(pinhole, SOURCE.bodies) as tracker:
        history = tracker.histories["board"]
        out = []
        for event in watch(source):
            if isinstance(event, Stopped):
                tracker.stopped(event)
                out.append(Seen(None, event.t_ns, None, history.at(event.t_ns)))
            else:
                (sighting,) = tracker.see(event)
                out.append(Seen(event.index, event.t_ns, sighting, history.at(event.t_ns)))
    return out, tracker


def error_in_sd(sighting: Sighting[Any], truth: Rigid[Any, Any]) -> float:
    """How far off a pose is in its own sd; the root of six degrees of freedom's mean is 1."""
    found = sighting.camera_from_body
    assert found is not None
    turn = rotation_log(truth.rotation @ found.pose.rotation.T)
    error = np.concatenate([turn, truth.translation_mm - found.pose.translation_mm])
    return float(np.sqrt(error @ np.linalg.solve(found.covariance, error) / 6))


NEVER_FALSE = (
    "drop@5-6", "double@5", "late@5", "freeze@5-7", "unplug@5-12", "cover:1@5-6", "cover:3@5-6", "cover:4@5-8",
    "swap@5", "twin@5", "blur:9@5", "blur:30@5", "glare@5-6", "glare:0.4@5-6", "dark:0.05@5", "mirror@5", "jump@10-40",
    "jump:-5@10-40", "drop~20+freeze~10+cover:2~20+swap~10+mirror~10+glare~10+late~10+double~10",
)  # fmt: skip


@pytest.mark.parametrize("text", NEVER_FALSE)
def test_no_pose_is_false_and_none_is_repeated_silently(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]], text: str
) -> None:
    frames, truth = rendered
    seen, tracker = follow(frames, text)
    poses: dict[bytes, int] = {}
    for one in seen:
        assert one.timed.how in ("EXACT", "INTERPOLATED", "PREDICTED", "STALE", "LOST")
        assert (one.timed.pose is None) == (one.timed.how in ("STALE", "LOST"))
        if one.timed.how != "EXACT":
            assert one.timed.reason
        sighting = one.sighting
        if sighting is None or sighting.camera_from_body is None:
            assert one.timed.how != "EXACT"
            assert sighting is None or (sighting.reason and sighting.cause)
            continue
        assert one.index is not None
        assert error_in_sd(sighting, truth[one.index]) < FALSE_SD
        pose = sighting.camera_from_body.pose
        key = pose.rotation.tobytes() + pose.translation_mm.tobytes()
        assert poses.setdefault(key, one.t_ns) == one.t_ns
    assert tracker.histories["board"].tally.added == sum(one.sighting is not None for one in seen)
    assert seen[-1].sighting is not None or "unplug" in text


@pytest.mark.parametrize(
    ("text", "cause", "words"),
    [
        ("freeze@5-7", "camera stopped", "last picture again"),
        ("cover:4@5-7", "too few markers", "hidden where expected"),
        ("swap@5-7", "residual", ""),
        ("glare@5-7", "glare", "glare"),
        ("blur:40@5-7", None, "0 of 4"),
        ("dark:0.005@5-7", "too few markers", "the whole picture is dark"),
        ("mirror@5-7", "too few markers", "0 of 4"),
    ],
)
def test_what_hides_the_body_is_said(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]], text: str, cause: str | None, words: str
) -> None:
    seen, _ = follow(rendered[0], text)
    for one in seen:
        assert one.sighting is not None
        assert one.index is not None
        if 5 <= one.index <= 7:
            assert one.sighting.status == "LOST"
            assert cause is None or one.sighting.cause == cause
            assert words in (one.sighting.reason or "")
            assert one.timed.how == "PREDICTED"
        else:
            assert one.sighting.status == "TRACKED"
            assert one.timed.how == "EXACT"


def test_an_unplugged_camera_is_lost_at_once_and_back_with_its_first_picture(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]],
) -> None:
    seen, _ = follow(rendered[0], "unplug@5-12")
    away = [one for one in seen if one.sighting is None]
    assert len(away) == 8
    assert {(one.timed.how, one.timed.cause) for one in away} == {("LOST", "camera stopped")}
    assert all("unplugged" in (one.timed.reason or "") for one in away)
    back = next(one for one in seen if one.index == 13)
    assert back.timed.how == "EXACT"


def test_a_finger_over_some_markers_leaves_the_pose_to_the_others(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]],
) -> None:
    seen, _ = follow(rendered[0], "twin@0+cover:2@5-9+twin@12")
    for one in seen:
        assert one.sighting is not None
        assert one.sighting.status == "TRACKED"
        if one.index is not None and 5 <= one.index <= 9:
            assert set(one.sighting.corners_px) == {2, 3}
        if one.index == 0:
            assert 0 not in one.sighting.corners_px  # seen twice: nobody's, until it is known where it has to be


def test_a_late_picture_finds_its_place_and_a_double_counts_once(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]],
) -> None:
    seen, tracker = follow(rendered[0], "late@5+double@9+drop@14-15")
    assert [one.index for one in seen][4:8] == [4, 6, 5, 7]
    history = tracker.histories["board"]
    assert (history.tally.late, history.tally.repeated, history.tally.taken) == (1, 1, 22)
    assert history.at(5 * STEP_NS).how == "EXACT"
    assert history.at(14 * STEP_NS).how == "INTERPOLATED"


def test_several_late_pictures_all_come_after_the_next(rendered: tuple[Rendered, list[Rigid[Any, Any]]]) -> None:
    source = FaultySource(rendered[0], plan("late@5-7+late@23"), SOURCE.bodies[0].dictionary)
    assert [frame.index for frame in source] == [*range(5), 8, 5, 6, 7, *range(9, 24)]


@pytest.mark.parametrize("seconds", [5, -5])
def test_a_clock_that_steps_is_noticed_and_nothing_is_carried_over(
    rendered: tuple[Rendered, list[Rigid[Any, Any]]], seconds: int
) -> None:
    seen, tracker = follow(rendered[0], f"jump:{seconds}@10-40")
    stepped = next(one for one in seen if one.index == 10)
    assert stepped.timed.cause == "clock"
    assert "step" in (stepped.timed.reason or "")
    history = tracker.histories["board"]
    assert history.restarts == 1
    between = history.at(stepped.t_ns - STEP_NS // 2)
    assert between.pose is None


def test_pictures_of_another_size_are_refused(rendered: tuple[Rendered, list[Rigid[Any, Any]]]) -> None:
    with pytest.raises(WrongResolution):
        follow(rendered[0], "resize@5")
    with pytest.raises(WrongResolution):
        follow(rendered[0], "drop@0", replace(SOURCE.pinhole, width_px=1280, height_px=720))


def test_another_cameras_calibration_leaves_a_residual(rendered: tuple[Rendered, list[Rigid[Any, Any]]]) -> None:
    """A flat board hides a focal length; that x and y disagree it can't hide."""
    right = [one.sighting.rms_px for one in follow(rendered[0], "drop@0")[0] if one.sighting is not None]
    wrong = follow(rendered[0], "drop@0", replace(SOURCE.pinhole, fx_px=1400.0))[0]
    lost = [one.sighting for one in wrong if one.sighting is not None and one.sighting.status == "LOST"]
    assert {sighting.cause for sighting in lost} == {"residual"}
    assert np.median([rms for rms in right if rms is not None]) < 0.1
    assert len(lost) > len(wrong) / 2


def test_faults_from_the_command_line() -> None:
    with open_source("synthetic:frames=8,size=320x240,grey=1,faults=unplug@2-3+drop@5,noise=1") as source:
        assert getattr(source, "pinhole").width_px == 320  # noqa: B009 - as the commands ask for it
        events = list(watch(source))
    assert [event.index if isinstance(event, Frame) else "stopped" for event in events] == [
        0, 1, "stopped", "stopped", 4, 6, 7,
    ]  # fmt: skip


def test_a_share_strikes_that_many_and_the_same_ones_again() -> None:
    mishaps = plan("drop~25")
    struck = [k for k in range(4000) if mishaps[0].strikes(k, 0)]
    assert 900 < len(struck) < 1100
    assert struck == [k for k in range(4000) if mishaps[0].strikes(k, 0)]
    assert plan("blur:12@3-9+jump:-2.5@4") == (Mishap("blur", 12.0, 3, 9), Mishap("jump", -2.5, 4, 4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rain@3",
        "drop:2@3",
        "blur:0@3",
        "blur:x@3",
        "drop@9-3",
        "drop@",
        "drop@3-",
        "drop~0",
        "drop~200",
        "glare:nan@1",
    ],
)
def test_wrong_plans_are_named(text: str) -> None:
    with pytest.raises(BadPlan):
        plan(text)
