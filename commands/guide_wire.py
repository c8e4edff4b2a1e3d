"""`osteotwin guide` at a wire: a tracker's poses instead of a camera's (igtl://…), and guidance shown to 3D Slicer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.console import say
from commands.track_wire import until
from spatial.faults import Misuse

if TYPE_CHECKING:
    from guidance.loop import Guided
    from guidance.session import Readout, State
    from guidance.stages import Stages
    from interop.openigtlink.outgoing import WirePose
    from tracking.pose.sighting import Sighting
    from twin.anatomy.twin import Twin

Show = Callable[[Generator["Guided"]], Generator["Guided"]]
MAX_TRIANGLES = 60_000


@contextmanager
def by_tracker(
    address: str, state: State, stages: Stages, seconds: float | None
) -> Iterator[tuple[Generator[Guided], None]]:
    """Guidance by a tracker at the end of a wire. Raises BadAddress, NoTracker.

    The tools are those of the session, by their bodies' names, unless the address says how they are called there.
    """
    from guidance.by_tracker import guide_by_tracker
    from interop.openigtlink.address import read_address
    from interop.openigtlink.source import WireSource

    read = read_address(address)
    names = [state.reference.name, *([state.instrument.name] if state.instrument else [])]
    if not read.tools:
        read = replace(read, tools={name: name for name in names})
    missing = [name for name in names if name not in read.tools.values()]
    if missing:
        raise Misuse(f"no tool=…:{missing[0]} in {address}; the address gives {', '.join(read.tools.values())}")
    with WireSource(read) as source:
        if source.tracker.assumed:
            say(
                "The tracker's spread is assumed (sd 0.2 mm along and 0.3 degrees about each axis), and so are the "
                "errors shown: state the maker's with ?sd_mm=…&sd_deg=…"
            )
        with closing(guide_by_tracker(until(source.batches(), seconds), state, stages=stages)) as guided:
            yield guided, None


@contextmanager
def beside(address: str | None, hand_eye: Path | None, state: State) -> Iterator[Callable[[], Sequence[Sighting[Any]]]]:
    """A function that gives what a tracker has seen since it was asked last, in the camera's axes; nothing without one.

    The tools are the reference and the body that the camera sits on, unless the address names others. Raises
    BadAddress, BadPlacing; a tracker that is not there makes its bodies LOST, the camera goes on.
    """
    if address is None or hand_eye is None:
        yield tuple
        return
    from interop.openigtlink.address import read_address
    from interop.openigtlink.placed import PlacedTracker, load_placing
    from interop.openigtlink.source import WireSource

    placing = load_placing(hand_eye)
    read = read_address(address)
    names = [state.reference.name, *([] if placing.hand is None else [placing.hand])]
    if not read.tools:
        read = replace(read, tools={name: name for name in names})
    missing = [name for name in names if name not in read.tools.values()]
    if missing:
        raise Misuse(f"no tool=…:{missing[0]} in {address}; the address gives {', '.join(read.tools.values())}")
    placed = PlacedTracker(placing)
    with WireSource(read) as source:
        yield lambda: placed.turned(source.pending())


@contextmanager
def shown_to(port: int | None, host: str, state: State, twin: Twin, sensor: str) -> Iterator[Show]:
    """A function that passes guided frames on and sends what they know; it only passes on without a port.

    3D Slicer gets the bones and the plan's screws (RAS) on arrival; then the tool in the patient, `NAMEToPatient`, and
    `PatientToCamera` (or `PatientToTracker`: the `sensor`). Nothing is sent for what is not known, but a STATUS with
    the reason. Raises PortTaken, LongName.
    """
    if port is None:
        yield lambda frames: frames
        return
    from interop.openigtlink import scene
    from interop.openigtlink.broadcast import Broadcast
    from interop.openigtlink.outgoing import device_name

    tool = None if state.instrument is None else device_name(state.instrument.name, "Patient")
    standing = scene.bones(twin, max_triangles=MAX_TRIANGLES)
    if state.screws:
        standing.append(scene.trajectories("plan", state.screws))
    with Broadcast(port, host, standing=standing, told=lambda words: say(f"OpenIGTLink: {words}")) as wire:
        say(f"Showing guidance by OpenIGTLink on {host}:{wire.port}")

        def show(frames: Generator[Guided]) -> Generator[Guided]:
            trust = None
            for guided in frames:
                readout = guided.readout
                wire.poses(_poses(readout, tool, sensor))
                if readout.trust is not trust:
                    trust = readout.trust
                    wire.say(f"{trust}" + (f": {readout.reason}" if readout.reason else ""))
                yield guided

        yield show


def _poses(readout: Readout, tool: str | None, sensor: str) -> list[WirePose]:
    """What a read-out knows, in RAS at the ends that are the patient's."""
    from interop.axes import uncertain_out
    from interop.openigtlink.outgoing import WirePose

    patient, found = readout.camera_from_patient, readout.patient_from_instrument
    age_ns = readout.pose_age_ns or 0
    turned = None if patient is None else uncertain_out(patient, "RAS", from_patient=True)
    poses = [
        WirePose(f"PatientTo{sensor}", readout.t_ns, turned, readout.how, readout.reason, readout.cause, age_ns),
    ]
    if tool is not None:
        moved = None if found is None else uncertain_out(found, "RAS", to_patient=True)
        why = readout.instrument_reason if patient is not None else readout.reason
        cause = readout.instrument_cause if patient is not None else readout.cause
        how = readout.instrument_how or readout.how
        poses.append(WirePose(tool, readout.t_ns, moved, how, why, cause, age_ns))
    return poses
