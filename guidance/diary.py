"""What a guidance session leaves in the case's journal: start, changes of trust, end; never a line a frame.

Pure: a diary and a read-out in, a diary and an entry to write (or None) out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from guidance.loop import Guided
from guidance.session import Trust

QUIET_NS = 1_000_000_000  # at most one entry a second, however the trust flickers


@dataclass(frozen=True)
class Diary:
    """Which trust was last written and when; changes that fell into the quiet second are counted, none is lost."""

    written: Trust | None = None
    last: Trust | None = None
    written_ns: int = 0
    changes: int = 0
    frames: Mapping[str, int] = field(default_factory=dict)
    reference_seen: int = 0

    def after(self, guided: Guided) -> tuple[Diary, dict[str, Any] | None]:
        """The diary with this frame in it, and the payload of a `guidance_trust` entry where one is due."""
        trust, t_ns = guided.readout.trust, guided.frame.t_ns + (guided.readout.age_ns or 0)
        seen = guided.is_new and guided.state.seen.raw_at(guided.frame.t_ns).how == "EXACT"
        diary = replace(
            self,
            last=trust,
            changes=self.changes + (trust is not self.last),
            frames=dict(Counter(self.frames) + Counter({str(trust): 1})),
            reference_seen=self.reference_seen + seen,
        )
        if trust is self.written or (self.written is not None and t_ns - self.written_ns < QUIET_NS):
            return diary, None
        entry = {
            "trust": str(trust),
            "how": guided.readout.how,
            "cause": guided.readout.cause,
            "reason": guided.readout.reason,
            "frame": guided.frame.index,
            "frame_t_ns": guided.frame.t_ns,
            "changes": diary.changes,
        }
        return replace(diary, written=trust, written_ns=t_ns, changes=0), entry

    @property
    def shown(self) -> int:
        """How many frames there were."""
        return sum(self.frames.values())
