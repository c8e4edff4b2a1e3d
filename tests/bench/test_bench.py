"""Each pair of the bench gives the same result on both sides. Times are never asserted."""

import pytest

from commands.bench import ROOMS, machine, room_jobs
from tests.bench.measure import judged

pytestmark = pytest.mark.bench


@pytest.mark.filterwarnings("default::DeprecationWarning")  # the peers' own
@pytest.mark.parametrize("room", ROOMS)
def test_both_sides_did_the_same_job(room: str) -> None:
    seen = 0
    for job in room_jobs(room):
        judgement = judged(job)
        assert judgement.agrees, f"{job.what}: {judgement.words}"
        assert job.peer or job.no_peer, f"{job.what}: no peer and no reason"
        seen += 1
    assert seen


def test_the_machine_is_named() -> None:
    assert machine()["cpu_count"] >= 1
