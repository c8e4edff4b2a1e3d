"""`osteotwin track` at a wire: a tracker's poses come in (igtl://HOST:PORT), or ours go out (--igtl PORT)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from commands.console import say
from spatial.faults import Fault

if TYPE_CHECKING:
    from interop.openigtlink.source import WireSource
    from tracking.history.timed import TimedPose
    from tracking.pose.sighting import Sighting

T = TypeVar("T")
Send = Callable[[Sequence["Sighting[Any]"]], None]
Put = Callable[[int | None, "Sighting[Any]", "TimedPose[Any]"], None]
NOTICE_S = 5.0
WAIT_S = 30.0


class NothingCame(Fault):
    """A line to a tracker, and not one pose over it."""


def until(items: Iterable[T], seconds: float | None) -> Iterator[T]:
    """The items that come in so many seconds; all of them without a limit."""
    stop = math.inf if seconds is None else time.monotonic() + seconds
    for item in items:
        if time.monotonic() >= stop:
            return
        yield item


def nothing(_: Sequence[Sighting[Any]]) -> None:
    """Send to nobody."""


def follow(address: str, seconds: float | None, put: Put) -> None:
    """`put` what the tracker says, a body and a message. Raises NoTracker, NothingCame, BadAddress."""
    from interop.openigtlink.address import read_address
    from interop.openigtlink.source import WireSource
    from tracking.history.history import PoseHistory

    read = read_address(address)
    tracked: dict[str, int] = {}
    histories: dict[str, PoseHistory[Any]] = {}
    with WireSource(read) as source:
        if source.tracker.assumed:
            say(
                "The tracker's spread is assumed (sd 0.2 mm along and 0.3 degrees about each axis); state the maker's: "
                f"'{source.name}?sd_mm=…&sd_deg=…'"
            )
        try:
            for index, sighting in enumerate(_noticing(source, seconds)):
                tracked[sighting.body] = tracked.get(sighting.body, 0) + (sighting.status == "TRACKED")
                history = histories.setdefault(sighting.body, PoseHistory())
                history.add(sighting)
                put(index, sighting, history.at(sighting.t_ns))
        finally:
            say(*_tally(source, tracked))
    if seconds is not None and not any(tracked.values()):
        cause = source.trouble or "does it stream by itself (else ?stream=tdata), and are the tools in view?"
        raise NothingCame(f"not one pose in {seconds:g} s from {source.name}; {cause}")


def _noticing(source: WireSource, seconds: float | None) -> Iterator[Sighting[Any]]:
    """Sightings; says so when a line stays silent. A source without bodies yet gives none, so time is watched here."""
    begun, said = time.monotonic(), False
    for batch in source.batches():
        now = time.monotonic()
        if seconds is not None and now - begun >= seconds:
            return
        if batch:
            said = True
            yield from batch
        elif source.has_line and not said and now - begun > NOTICE_S:
            said = True
            say(f"{source.name}: a line, but no pose yet; some servers wait to be asked (?stream=tdata)")


def _tally(source: WireSource, tracked: dict[str, int]) -> list[str]:
    tracker = source.tracker
    out = [f"{body}: {count} poses" for body, count in tracked.items()]
    if tracker.to is not None:
        out.append(f"poses are in the coordinates of {tracker.to}")
    for name, count in tracker.tally.elsewhere.items():
        out.append(f"{name}: {count} not used, other coordinates (?to=… chooses)")
    for name, count in tracker.tally.unasked.items():
        out.append(f"{name}: {count} not asked for")
    if tracker.tally.repeated:
        out.append(f"{tracker.tally.repeated} messages said the same measurement once more")
    if source.client.breaks:
        out.append(f"the line broke {source.client.breaks} times")
    if source.dropped:
        out.append(f"{source.dropped} messages came faster than they were taken")
    if tracker.clock.steps:
        out.append(f"the sender's clock stepped {tracker.clock.steps} times")
    return out


@contextmanager
def sending(port: int | None, host: str, bodies: Sequence[str], *, paced: bool) -> Iterator[Send]:
    """A function that sends the sightings of one frame; it does nothing without a port.

    `paced`: a recording, which waits for a listener and is sent at the pace of its stamps. Raises PortTaken, NoPort,
    LongName.
    """
    if port is None:
        yield nothing
        return
    from interop.openigtlink.broadcast import Broadcast
    from interop.openigtlink.outgoing import WirePose, device_name

    names = {body: device_name(body, "Camera") for body in bodies}

    def send(sightings: Sequence[Sighting[Any]]) -> None:
        poses = []
        for one in sightings:
            if one.body not in names:
                names[one.body] = device_name(one.body, "Camera")
            how = "EXACT" if one.camera_from_body else "STALE"
            poses.append(WirePose(names[one.body], one.t_ns, one.camera_from_body, how, one.reason, one.cause))
        wire.poses(poses, paced=paced)

    with Broadcast(port, host, told=lambda words: say(f"OpenIGTLink: {words}")) as wire:
        say(f"Sending poses by OpenIGTLink on {host}:{wire.port}")
        if paced:
            say(f"It is a recording: waiting for somebody to connect, {WAIT_S:g} s at most")
            stop = time.monotonic() + WAIT_S
            while not wire.clients and time.monotonic() < stop:
                time.sleep(0.01)
        yield send
    say(f"OpenIGTLink: {wire.messages} messages, {wire.displaced} displaced by newer ones at slow receivers")
