"""Fifteen seconds of the soak (tests/bench/tracking_soak.py): all counts add up, nothing grows, nothing hangs."""

from __future__ import annotations

import pytest

from tests.bench.tracking_soak import Script, soak


@pytest.fixture(scope="module")
def script() -> Script:
    return Script.make("640x360")


def test_every_fault_of_the_plan_is_told(script: Script) -> None:
    soak(script, 2.0)  # compilers and caches are warm before memory is watched
    found = soak(script, 15.0)
    assert found.adds_up
    first_half = [event for event in script.events if event.t_ns < 5e9]
    assert found.pictures + found.stops == len(script.events) + len(first_half)
    assert found.stops == script.injected["unplug"]
    assert found.statuses["LOST: camera stopped"] == 2 * script.injected["freeze"]
    assert found.statuses["LOST: glare"] > 0
    assert found.statuses["TRACKED"] > 0.85 * found.pictures
    assert found.hows["LOST"] >= found.stops
    assert found.tally.repeated == 2 * script.injected["double"]
    assert found.repeated_poses == 0
    assert found.growth_mb < 200  # a slope over fifteen seconds, carried on to ten minutes: a leak of pictures is 10 GB


def test_a_live_source_at_its_own_pace_loses_count_of_nothing(script: Script) -> None:
    found = soak(script, 2.5, paced=True)
    assert found.adds_up
    assert found.source is not None
    assert found.source.received > 100
    assert found.took_s < 20
