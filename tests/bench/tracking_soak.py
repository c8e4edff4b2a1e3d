"""Ten minutes at 60 pictures a second in which everything goes wrong: do the counts add up, does the memory stay flat?

`python -m tests.bench.tracking_soak --minutes 10` runs as fast as it can, `--paced` at the camera's own pace through a
live source that drops what comes too fast. Pictures and their faults are rendered before the clock starts.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from spatial.progress import Progress, silent
from tests.bench.measure import Job, Judgement, Side
from tracking.frame import Frame, Stopped
from tracking.history.tally import Tally
from tracking.sources.closing import CameraSilent, Closing
from tracking.sources.faults import FaultySource, plan
from tracking.sources.live import Counts, LiveSource, Shutter
from tracking.sources.synthetic_source import SyntheticSource
from tracking.sources.watch import watch
from tracking.tracker import Tracker

FPS = 60
PERIOD = 600  # frames after which pictures and faults come again: ten seconds
SWING = 96  # frames after which the board is back: 1.6 s
PLAN = (
    "drop@30-31+double@60+late@90+freeze@120-122+cover:4@150-156+cover:2@180-190+swap@210+twin@240+blur:20@270-272"
    "+glare@300-306+dark:0.01@330-331+mirror@360-362+unplug@400-470+jump:2@520-540"
)
SPEC = f"frames={SWING},fps={FPS},grey=1,speed=150,spin=20,exposure=4,distance=600,noise=3"
FLAT_MB = 20.0  # by how much the memory may grow in ten minutes


class Ring(Closing):
    """The pictures of one swing, again and again, for one period."""

    name = "ring"

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for k in range(PERIOD):
            yield replace(self.frames[k % len(self.frames)], t_ns=round(k * 1e9 / FPS), index=k)


@dataclass(frozen=True)
class Script:
    """One period of events, the lens and the bodies."""

    source: SyntheticSource
    events: tuple[Frame | Stopped, ...]
    injected: Counter[str]

    @classmethod
    def make(cls, size: str = "1920x1080") -> Script:
        """Render it."""
        source = SyntheticSource(f"{SPEC},size={size},f={0.86 * int(size.split('x')[0]):.0f}")
        faulty = FaultySource(Ring(list(source)), plan(PLAN), source.bodies[0].dictionary)
        return cls(source, tuple(faulty.events()), faulty.injected)

    def again(self, frames: int) -> Iterator[Frame | Stopped]:
        """The same events in period after period, until so many frames' time has gone."""
        for loop in range(-(-frames // PERIOD)):
            shift_ns, shift = round(loop * PERIOD * 1e9 / FPS), loop * PERIOD
            for event in self.events:
                if isinstance(event, Stopped):
                    if event.t_ns + shift_ns < frames * 1e9 / FPS:
                        yield replace(event, t_ns=event.t_ns + shift_ns, since_ns=event.since_ns + shift_ns)
                elif event.index + shift < frames:
                    yield replace(event, t_ns=event.t_ns + shift_ns, index=event.index + shift)


class Paced:
    """The pictures of a script as a device that gives them at their own pace."""

    clock_steps = 0

    def __init__(self, script: Script, frames: int) -> None:
        self._left = (event for event in script.again(frames) if isinstance(event, Frame))
        self._start_ns: int | None = None

    def read(self) -> Shutter | None:
        frame = next(self._left, None)
        if frame is None:
            return None
        due_ns = round(frame.index * 1e9 / FPS)
        self._start_ns = time.monotonic_ns() - due_ns if self._start_ns is None else self._start_ns
        time.sleep(max(0.0, (self._start_ns + due_ns - time.monotonic_ns()) * 1e-9))
        return Shutter(self._start_ns + frame.t_ns, frame.picture, frame.exposure_ns, frame.readout_ns)

    def close(self) -> None:
        return None


@dataclass(frozen=True)
class Soak:
    """What a soak came to; times of `Tracker.see` in ms, `growth_mb`: of the memory, carried on to ten minutes."""

    seconds: float
    took_s: float
    paced: bool
    pictures: int
    stops: int
    statuses: dict[str, int]
    hows: dict[str, int]
    tally: Tally
    p50_ms: float
    p99_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float
    worst_ms: float
    growth_mb: float
    repeated_poses: int
    source: Counts | None

    @property
    def adds_up(self) -> bool:
        """Every picture has one status and one fate in the history; a live source's losses are all told."""
        told = self.source is None or (
            self.source.received == self.pictures + self.source.repeated + self.source.belated + self.source.overwritten
        )
        return told and sum(self.statuses.values()) == self.pictures == self.tally.added

    @property
    def holds(self) -> bool:
        """Nothing is lost count of, nothing grows, nothing is said twice."""
        return self.adds_up and self.growth_mb < FLAT_MB and self.repeated_poses == 0

    def words(self) -> str:
        """For people."""
        pace = "at the camera's pace" if self.paced else f"{self.seconds / self.took_s:.1f} times the camera's pace"
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.statuses.items(), key=lambda i: -i[1]))
        return (
            f"{self.pictures} pictures of {self.seconds:.0f} s, {pace}: {counts}; "
            f"{self.p50_ms:.1f} ms median, p99 {self.p99_ms:.1f} (CPU {self.cpu_p50_ms:.1f}, {self.cpu_p99_ms:.1f}); "
            f"memory {self.growth_mb:+.1f} MB in ten minutes"
        )


def soak(script: Script, seconds: float, *, paced: bool = False, progress: Progress = silent) -> Soak:
    """Track `seconds` of a camera's time. `paced` as fast as the camera, else as fast as it goes."""
    frames = round(seconds * FPS)
    body = script.source.bodies[0].name
    statuses: Counter[str] = Counter()
    hows: Counter[str] = Counter()
    wall, cpu = np.zeros(frames + PERIOD), np.zeros(frames + PERIOD)
    memory: list[tuple[float, float]] = []
    process, count, stops, repeated_poses = psutil.Process(), 0, 0, 0
    last_pose: bytes | None = None
    last_ns: int | None = None
    device = [Paced(script, frames)]

    def connect() -> Paced:
        if not device:
            raise CameraSilent("the script is over")
        return device.pop()

    live = LiveSource("soak", connect, give_up_s=0.0) if paced else None
    events = _until_silent(live) if live is not None else script.again(frames)
    gc.collect()
    started = time.perf_counter()
    with Tracker(script.source.pinhole, script.source.bodies, live=paced) as tracker:
        history = tracker.histories[body]
        for event in events:
            if isinstance(event, Stopped):
                stops += 1
                tracker.stopped(event)
                hows[history.at(event.t_ns).how] += 1
                continue
            before, before_cpu = time.perf_counter(), time.thread_time()
            (sighting,) = tracker.see(event)
            wall[count], cpu[count] = time.perf_counter() - before, time.thread_time() - before_cpu
            statuses[sighting.status if sighting.cause is None else f"{sighting.status}: {sighting.cause}"] += 1
            found = sighting.camera_from_body
            if found is not None:
                pose = found.pose.rotation.tobytes() + found.pose.translation_mm.tobytes()
                repeated_poses += pose == last_pose and event.t_ns != last_ns
                last_pose, last_ns = pose, event.t_ns
            hows[history.at(event.t_ns + 33_000_000).how] += 1
            count += 1
            if count % 120 == 0:
                memory.append((event.index / FPS, process.memory_info().rss / 2**20))
                progress("soaking", event.index / frames)
        took_s = time.perf_counter() - started
        tally = history.tally
    wall_ms, cpu_ms = 1e3 * wall[:count], 1e3 * cpu[:count]
    settled = np.array(memory[len(memory) // 5 :])
    growth = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 600 if len(settled) > 2 else 0.0
    p50, p99 = np.percentile(wall_ms, [50, 99]).tolist()
    cpu_p50, cpu_p99 = np.percentile(cpu_ms, [50, 99]).tolist()
    return Soak(
        seconds, took_s, paced, count, stops, dict(statuses), dict(hows), tally, p50, p99, cpu_p50, cpu_p99,
        float(wall_ms.max()), growth, repeated_poses,
        live.counts if live is not None else None,
    )  # fmt: skip


def _until_silent(live: LiveSource) -> Iterator[Frame | Stopped]:
    with live:
        try:
            yield from watch(live, 0.25)
        except CameraSilent:
            return  # the script is over


def jobs() -> Iterator[Job]:
    """A minute of the camera's time; `python -m tests.bench.tracking_soak` runs longer ones."""
    script = Script.make()

    def judge(ours: Soak, _: Any) -> Judgement:
        figures = {"p50_ms": ours.p50_ms, "p99_ms": ours.p99_ms, "growth_mb": ours.growth_mb}
        return Judgement(ours.holds, ours.words(), figures)

    yield Job(
        "tracking", "a minute at 60 pictures a second with all faults, 1920 x 1080",
        Side("Tracker.see", lambda: soak(script, 60.0)), None, judge, rounds=1,
        no_peer="the question is whether counts add up and memory stays flat",
    )  # fmt: skip


def main() -> int:
    """Soak as long as asked; 1 when something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--paced", action="store_true", help="at the camera's pace, through a live source")
    asked = parser.parse_args()
    script = Script.make(asked.size)
    soak(script, 10.0)  # compilers and caches are warm before memory is watched
    found = soak(script, 60 * asked.minutes, paced=asked.paced)
    values = {name: getattr(found, name) for name in found.__dataclass_fields__ if name not in ("tally", "source")}
    sys.stdout.write(
        json.dumps(
            values | {"tally": vars(found.tally), "source": found.source and vars(found.source), "holds": found.holds}
        )
        + "\n"
    )
    sys.stderr.write(found.words() + "\n")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
