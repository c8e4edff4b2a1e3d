"""The pose of a body at any instant, how it was got, and how far to trust it.

A filter on R x R^3 (tracking/history/kernels) follows the sightings, each with its own covariance. `at` answers with
the filter's pose: smoothed by the sightings that followed where there are some, predicted beyond the last one with a
covariance that grows as such predictions turned out before. `raw_at` answers with what the sightings themselves said.
Nothing is ever repeated silently: a pose has an age, and a missing one has a cause.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from copy import copy
from dataclasses import dataclass, fields
from typing import Generic

import numpy as np

from spatial.faults import Misuse
from spatial.frames import B, Camera
from spatial.rigid import Array, Rigid
from tracking.history import kernels
from tracking.history.entry import Entry, Seen, Why, jump_words, straight_between
from tracking.history.tally import Tally
from tracking.history.timed import How, TimedPose
from tracking.pose.motion import Motion
from tracking.pose.sighting import Cause, Sighting

IMPOSSIBLE = 45.0  # squared distance of a sighting that no hand explains: 5e-8 of them, were errors Gaussian
HORIZONS_NS = (33_000_000, 100_000_000)  # of the predictions whose claims are compared with what was seen
HALF_STEP_NS = 4_000_000  # how much longer than that a prediction may be
TOLD_NS = 1_000_000_000  # for so long after a jump of the pose it is said
SETTLED = 8  # sightings before the filter's claims are judged


@dataclass(frozen=True)
class Limits:
    """How far sightings may be stretched.

    A pose is predicted for `predict_ns`, then STALE, and LOST after `lost_ns`. Gaps up to `gap_ns` are bridged; after a
    longer one the filter starts anew. Stamps that step by more than `jump_ns` are a clock's. A past instant is smoothed
    by up to `lag` sightings after it.
    """

    predict_ns: int = 100_000_000
    gap_ns: int = 150_000_000
    exact_ns: int = 1_000
    jump_ns: int = 1_000_000_000
    lost_ns: int = 1_000_000_000
    lag: int = 5
    capacity: int = 256

    def __post_init__(self) -> None:
        """Refuse limits that are none."""
        in_order = 0 <= self.exact_ns < self.predict_ns <= self.lost_ns
        if not in_order or min(self.gap_ns, self.jump_ns, self.capacity) < 1 or self.lag < 0:
            raise Misuse(f"{self}: exact, predict and lost in order, the others above zero")


class PoseHistory(Generic[B]):
    """The recent sightings of one body, from one source or several, in the order of their stamps; bounded.

    A late sighting is put in its place and the filter runs again from there. One that no motion explains is held back
    until the next one agrees with it; then the filter starts anew. A clock that steps does the same. All sources must
    give their poses in the same frame and stamp them by the same clock.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        """Start with nothing seen."""
        self.limits = limits or Limits()
        self._entries: list[Entry[B]] = []
        self._stamps: list[int] = []
        self._held: Seen[B] | None = None
        self._jump: tuple[int, str] | None = None
        self._newest_ns: int | None = None
        self._newest_of: dict[str, int] = {}
        self._repeated: deque[tuple[int, str]] = deque(maxlen=2 * self.limits.capacity)
        self._reason: str | None = None
        self._cause: Cause | None = None
        self._stopped: tuple[int, str] | None = None
        self._counts = dict.fromkeys((field.name for field in fields(Tally)), 0)

    def __len__(self) -> int:
        """How many poses are kept."""
        return len(self._entries)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sighting, lost ones too."""
        return self._newest_ns

    @property
    def tally(self) -> Tally:
        """What became of the sightings so far."""
        return Tally(**self._counts)

    @property
    def restarts(self) -> int:
        """How often the filter started anew after a jump of the pose or of the clock."""
        return self._counts["restarts"]

    @property
    def odds(self) -> float:
        """How much likelier the newest pose is than its mirror image (a flat body has one); inf: there is none."""
        return self._entries[-1].seen.odds if self._entries else float("inf")

    @property
    def lost_cause(self) -> Cause | None:
        """Why the newest sighting had no pose that could be used; None when it had one."""
        return self._cause

    def plus(self, sighting: Sighting[B], source: str = "") -> PoseHistory[B]:
        """A history with one sighting more; this one stays as it is."""
        other = copy(self)
        other._entries, other._stamps = self._entries.copy(), self._stamps.copy()
        other._newest_of, other._repeated = self._newest_of.copy(), self._repeated.copy()
        other._counts = self._counts.copy()
        other.add(sighting, source)
        return other

    def add(self, sighting: Sighting[B], source: str = "") -> None:
        """Take in a sighting; a LOST one only tells why. `source`: which of several cameras or trackers gave it."""
        t_ns = sighting.t_ns
        note: Why = (None, None)
        before_ns = self._newest_of.get(source)
        if before_ns is not None and t_ns < before_ns - self.limits.jump_ns:
            note = f"the time stamps step back by {(before_ns - t_ns) / 1e9:.1f} s", "clock"
            self._refuse()
            self._forget()
        elif before_ns is not None and t_ns > before_ns + self.limits.jump_ns and self._stopped is None:
            note = (
                f"the time stamps step ahead by {(t_ns - before_ns) / 1e9:.1f} s: pictures missing, or the clock set",
                "clock",
            )
            self._counts["restarts"] += 1
        elif (t_ns, source) in self._repeated:
            self._counts["repeated"] += 1
            return
        self._repeated.append((t_ns, source))
        is_newest = self._newest_ns is None or t_ns >= self._newest_ns
        if is_newest:
            self._newest_ns = t_ns
            is_lost = sighting.camera_from_body is None
            self._reason, self._cause = (sighting.reason, sighting.cause) if is_lost else (None, None)
            if self._stopped is not None and t_ns > self._stopped[0]:
                self._stopped = None
        self._newest_of[source] = max(t_ns, self._newest_of.get(source, t_ns))
        if sighting.camera_from_body is not None:
            self._take(Seen[B].of(sighting, sighting.camera_from_body, source), note)
            return
        self._counts["lost"] += 1
        if note[0]:
            self._reason, self._cause = note

    def camera_stopped(self, t_ns: int, reason: str) -> None:
        """No picture comes any more: LOST from `t_ns` on, until a sighting that is newer."""
        self._stopped = (t_ns, reason)

    def at(self, t_ns: int) -> TimedPose[B]:
        """The filter's pose at an instant, or STALE or LOST with the reason."""
        found, how, age_ns, systematic = self._belief_at(t_ns)
        if found is None:
            return self._missing(t_ns, how)
        P = found[kernels.RATES : kernels.ERRORS].reshape(18, 18)[:6, :6] + systematic
        pose = Rigid[Camera, B](found[:9].reshape(3, 3), found[9 : kernels.POSE])
        entry = self._entries[bisect_right(self._stamps, t_ns + self.limits.exact_ns) - 1]
        told = {"PREDICTED": self._why(t_ns), "EXACT": entry.note}.get(how, (None, None))
        reason, cause = told if told[0] else entry.seen.doubt
        if reason is None and self._jump is not None and 0 <= t_ns - self._jump[0] < TOLD_NS:
            reason = self._jump[1]
        return TimedPose[B](pose, P, how, age_ns, reason, cause)

    def motion_at(self, t_ns: int, over_ns: int = 0) -> Motion | None:
        """How the body moves at an instant; None when it is STALE or LOST.

        `over_ns`: a picture is read out for so long about the instant; the covariance knows how the velocity changes
        meanwhile.
        """
        found, _, _, _ = self._belief_at(t_ns)
        if found is None:
            return None
        P = found[kernels.RATES : kernels.ERRORS].reshape(18, 18)
        x = found[kernels.POSE : kernels.RATES]
        bend = np.outer(x[6:], x[6:]) + P[12:, 12:]
        return Motion(x[:3], x[3:6], P[6:12, 6:12] + (over_ns * 1e-9 / 4) ** 2 * bend)

    def shake_at(self, t_ns: int, square_s2: float) -> Array:
        """How far (covariance, 6 x 6) the pose of light gathered about an instant is off the pose at the instant.

        `square_s2`: the mean square of how much later or earlier the light was gathered. The body speeds up or turns
        round meanwhile: half its acceleration times that.
        """
        found, _, _, _ = self._belief_at(t_ns)
        if found is None:
            return np.zeros((6, 6))
        a, P = found[kernels.RATES - 6 : kernels.RATES], found[kernels.RATES : kernels.ERRORS].reshape(18, 18)
        return np.asarray((square_s2 / 2) ** 2 * (np.outer(a, a) + P[12:, 12:]))

    def raw_at(self, t_ns: int) -> TimedPose[B]:
        """What the sightings themselves say: one of this instant, or the straight way between two; never a prediction.

        Between sightings the covariance knows of noise, not of how the body may have strayed from the straight way.
        """
        place, how = self._place(t_ns)
        if how == "EXACT":
            seen = self._entries[place].seen.pose
            return TimedPose[B](seen.pose, seen.covariance, "EXACT", abs(t_ns - self._stamps[place]))
        if how != "INTERPOLATED":
            return self._missing(t_ns, "STALE" if how == "PREDICTED" else how)
        return straight_between(self._entries[place].seen, self._entries[place + 1].seen, t_ns)

    def _belief_at(self, t_ns: int) -> tuple[Array | None, How, int, Array]:
        """The belief at an instant (None when STALE or LOST), how it was got, its age, what no filter takes away."""
        place, how = self._place(t_ns)
        if how in ("STALE", "LOST"):
            return None, how, 0, np.zeros((6, 6))
        entry = self._entries[place]
        systematic = entry.seen.systematic
        dt = (t_ns - entry.t_ns) * 1e-9
        if how == "PREDICTED":
            return kernels.ahead(entry.belief, dt), how, t_ns - entry.t_ns, systematic
        last = place + 1
        while last < len(self._entries) and last - place <= self.limits.lag and self._entries[last].run > 0:
            last += 1
        if how == "EXACT":
            found = entry.belief if last == place + 1 else self._smoothed(place, last, 0.0)
            return found, how, abs(t_ns - entry.t_ns), systematic
        age_ns = min(t_ns - entry.t_ns, self._stamps[place + 1] - t_ns)
        return self._smoothed(place, last, dt), how, age_ns, systematic

    def _smoothed(self, first: int, last: int, dt: float) -> Array:
        part = self._entries[first:last]
        steps = np.diff(np.array(self._stamps[first:last]), prepend=part[0].t_ns) * 1e-9
        return kernels.smoothed(np.array([e.belief for e in part]), np.array([e.packed for e in part]), steps, dt)

    def _place(self, t_ns: int) -> tuple[int, How]:
        """The last sighting that is not after an instant, and how the pose of the instant can be got from there on."""
        if not self._stamps or (self._stopped is not None and t_ns >= self._stopped[0]):
            return -1, "LOST"
        place = bisect_right(self._stamps, t_ns + self.limits.exact_ns) - 1
        if place < 0:
            return -1, "STALE"
        age_ns = t_ns - self._stamps[place]
        if age_ns <= self.limits.exact_ns:
            return place, "EXACT"
        if place + 1 < len(self._entries) and self._entries[place + 1].run > 0:
            return place, "INTERPOLATED"
        if age_ns <= self.limits.predict_ns:
            return place, "PREDICTED"
        return place, "STALE" if age_ns <= self.limits.lost_ns else "LOST"

    def _missing(self, t_ns: int, how: How) -> TimedPose[B]:
        """A STALE or LOST instant, in words."""
        place = bisect_right(self._stamps, t_ns) - 1
        age_ns = t_ns - self._stamps[place] if place >= 0 else 0
        if self._stopped is not None and t_ns >= self._stopped[0]:
            return TimedPose[B](None, None, "LOST", age_ns, self._stopped[1], "camera stopped")
        if not self._stamps:
            words = f"never seen: {self._reason}" if self._reason else "never seen"
            return TimedPose[B](None, None, how, 0, words, self._cause or "never seen")
        if place < 0:
            return TimedPose[B](None, None, how, 0, "before the first sighting that is kept")
        reason, cause = self._why(t_ns)
        words = f"not seen for {age_ns / 1e6:.0f} ms" + (f": {reason}" if reason else "")
        return TimedPose[B](None, None, how, age_ns, words, cause)

    def _why(self, t_ns: int) -> Why:
        """Why there is no sighting of this instant: the newest loss, or what the next start of the filter says."""
        place = bisect_right(self._stamps, t_ns)
        if place < len(self._entries):
            return self._entries[place].note
        return self._reason, self._cause

    def _take(self, seen: Seen[B], note: Why = (None, None)) -> None:
        """Into the filter, or held back."""
        last = self._entries[-1] if self._entries else None
        if last is not None and seen.t_ns < last.t_ns:
            self._take_late(seen)
            return
        is_bridged = last is not None and not note[0] and seen.t_ns - last.t_ns <= self.limits.gap_ns
        if is_bridged:
            assert last is not None
            entry, surprise = self._next(last, seen)
            if surprise <= IMPOSSIBLE:
                self._refuse()
                self._append(self._learnt(entry, len(self._entries)))
                return
        held = self._held
        if held is not None and not note[0] and self._agree(held, seen):
            self._counts["restarts"] += 1
            if last is not None:
                words = jump_words(last, held.t_ns, held.packed)
                self._jump = held.t_ns, f"{words}, and the next sighting agreed; another body with the same markers?"
            self._accept(held, ("the pose jumped, and a second sighting agreed", None))
            self._take(seen)
        elif is_bridged:
            assert last is not None
            self._hold(seen)
            words = jump_words(last, seen.t_ns, seen.packed)
            self._reason, self._cause = f"{words}; waiting for another to agree", "ambiguous"
        else:
            self._refuse()
            self._append(Entry(seen, seen.packed, kernels.begin(seen.packed), 0, note))

    def _take_late(self, seen: Seen[B]) -> None:
        """Into its place, and run the filter again from there; what doesn't fit there is held back."""
        place = bisect_right(self._stamps, seen.t_ns)
        if place == 0 and len(self._entries) >= self.limits.capacity:
            self._counts["expired"] += 1
            return
        before, after = self._entries[place - 1] if place else None, self._entries[place]
        if before is None or seen.t_ns - before.t_ns > self.limits.gap_ns:
            entry, surprise = Entry(seen, seen.packed, kernels.begin(seen.packed), 0), 0.0
        else:
            entry, surprise = self._next(before, seen)
        if surprise <= IMPOSSIBLE and not after.note[0] and after.t_ns - seen.t_ns <= self.limits.gap_ns:
            surprise = self._next(entry, after.seen)[1]
        held = self._held
        if surprise <= IMPOSSIBLE:
            self._counts["late"] += 1
            self._counts["taken"] += 1
            self._entries.insert(place, entry)
            self._stamps.insert(place, seen.t_ns)
            self._run_again(place)
            self._trim()
        elif held is not None and held.t_ns < seen.t_ns and self._agree(held, seen):
            why = f"the time stamps step back by {(self._stamps[-1] - held.t_ns) / 1e6:.0f} ms or more"
            self._forget()
            self._newest_ns = self._newest_of[seen.source] = seen.t_ns
            self._accept(held, (why, "clock"))
            self._take(seen)
        else:
            self._hold(seen)

    def _next(self, before: Entry[B], seen: Seen[B]) -> tuple[Entry[B], float]:
        """The entry that a sighting makes after another, and how far off it was."""
        packed = seen.after(before.seen)
        belief, surprise = kernels.update(before.belief, packed, (seen.t_ns - before.t_ns) * 1e-9)
        return Entry(seen, packed, belief, before.run + 1), surprise

    def _agree(self, held: Seen[B], seen: Seen[B]) -> bool:
        """Whether two sightings can be of one motion."""
        if not 0 <= seen.t_ns - held.t_ns <= self.limits.gap_ns:
            return False
        return self._next(Entry(held, held.packed, kernels.begin(held.packed), 0), seen)[1] <= IMPOSSIBLE

    def _hold(self, seen: Seen[B]) -> None:
        self._refuse()
        self._held = seen
        self._counts["held"] += 1

    def _refuse(self) -> None:
        """The sighting that was held back found nobody to agree with it."""
        if self._held is not None:
            self._held = None
            self._counts["held"] -= 1
            self._counts["refused"] += 1

    def _accept(self, held: Seen[B], note: Why) -> None:
        """The filter starts anew with what was held back."""
        self._held = None
        self._counts["held"] -= 1
        self._append(Entry(held, held.packed, kernels.begin(held.packed), 0, note))

    def _append(self, entry: Entry[B]) -> None:
        self._counts["taken"] += 1
        self._entries.append(entry)
        self._stamps.append(entry.t_ns)
        self._trim()

    def _trim(self) -> None:
        if len(self._entries) > self.limits.capacity:
            del self._entries[0], self._stamps[0]

    def _run_again(self, place: int) -> None:
        """Beliefs from the sighting at `place` on."""
        for k in range(max(place, 1), len(self._entries)):
            entry, before = self._entries[k], self._entries[k - 1]
            if entry.note[0] or entry.t_ns - before.t_ns > self.limits.gap_ns:
                packed = entry.seen.packed
                self._entries[k] = Entry(entry.seen, packed, kernels.begin(packed), 0, entry.note)
            else:
                self._entries[k] = self._learnt(self._next(before, entry.seen)[0], k)

    def _learnt(self, entry: Entry[B], place: int) -> Entry[B]:
        """With the claims of predictions that came true at this entry, which stands at `place`."""
        if entry.run > SETTLED:
            step = (entry.t_ns - self._stamps[place - 1]) * 1e-9
            for which, horizon_ns in enumerate(HORIZONS_NS):
                began = max(0, place - entry.run + 1)
                k = bisect_left(self._stamps, entry.t_ns - horizon_ns - HALF_STEP_NS, began, place - 1)
                earlier = self._entries[k]
                dt = (entry.t_ns - earlier.t_ns) * 1e-9
                if dt > 0 and earlier.run > 1:
                    kernels.learn(entry.belief, earlier.belief, entry.packed, dt, step, which)
        return entry

    def _forget(self) -> None:
        """Drop every pose: their stamps mean nothing any more."""
        self._counts["restarts"] += 1
        self._entries.clear()
        self._stamps.clear()
        self._newest_of.clear()
        self._repeated.clear()
        self._newest_ns = self._stopped = None
