"""What became of the sightings of a body: counts that sum up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """What became of the sightings that were added; the numbers sum up to how many there were.

    `taken` by the filter (`late` of them behind a newer one), `lost` (had no pose), `held` back until another agrees,
    `refused` (held back, and none agreed), `repeated` (a stamp that its source had given before), `expired` (older than
    anything that is kept). `restarts` counts new starts of the filter after a jump of the pose or of the clock.
    """

    taken: int = 0
    lost: int = 0
    held: int = 0
    refused: int = 0
    repeated: int = 0
    expired: int = 0
    late: int = 0
    restarts: int = 0

    @property
    def added(self) -> int:
        """How many sightings there were."""
        return self.taken + self.lost + self.held + self.refused + self.repeated + self.expired
