"""The history on a real hand: a stylus carried from landmark to landmark, recorded by a tracker 15 times a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.data import shared_data
from tracking.calibration.recording import load_recording
from tracking.history.history import PoseHistory
from tracking.pose.sighting import Sighting

FILE = "tracker_landmark_registration/EightLandmarkPointsTrackedForPhantomRegistration.igs.mha"


def test_a_real_hand_is_foretold_one_sample_ahead() -> None:
    recording = load_recording(shared_data(FILE))
    samples = [s for s in recording.track("Stylus") if s.pose is not None]
    history: PoseHistory[Any] = PoseHistory()
    ours, held, drawn, inside, last = [], [], [], [], list[Any]()
    for sample in samples:
        assert sample.pose is not None
        place = sample.pose.pose.translation_mm
        found = history.at(sample.t_ns)
        if found.how == "PREDICTED" and len(last) > 1:
            assert found.pose is not None
            assert found.covariance is not None
            error = place - found.pose.translation_mm
            ours.append(np.linalg.norm(error))
            held.append(np.linalg.norm(place - last[-1]))
            drawn.append(np.linalg.norm(place - 2 * last[-1] + last[-2]))
            spread = found.covariance[3:, 3:] + sample.pose.covariance[3:, 3:]
            inside.append(error @ np.linalg.solve(spread, error) < 7.815)  # 95 % of three
        history.add(Sighting("Stylus", sample.t_ns, "TRACKED", None, sample.pose, None))
        last = [*last[-1:], place]
    assert len(ours) > 0.98 * len(samples)
    assert history.tally.taken == len(samples)  # a hand's quickest moves are no jumps
    assert np.median(ours) < 0.35 * np.median(held)
    assert np.median(ours) < 1.1 * np.median(drawn)
    assert np.percentile(ours, 95) < np.percentile(drawn, 95)
    assert np.mean(inside) > 0.85  # four samples a move: fewer than claimed, and not far fewer
