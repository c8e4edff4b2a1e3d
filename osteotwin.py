"""The front door: one command line, a sub-command a room. Wiring only; each room's commands live in `commands/`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

ROOMS = {  # sub-command: (module, one line for --help); a module is imported when its command is asked for
    "doctor": ("commands.doctor", "What this machine can do, and what to install for the rest."),
    "demo": ("commands.demo", "The whole line on a digital phantom or on your CT."),
    "phantom": ("commands.phantom", "Write a synthetic CT of known anatomy, with its truth."),
    "scan": ("commands.scan", "List the series in a folder and what is wrong with each."),
    "twin": ("commands.twin", "Build, inspect, export, check and confirm a patient twin."),
    "plan": ("commands.plan", "Screws and osteotomies, graded on the twin."),
    "audit": ("commands.audit", "Check a case's journal; say who decided what."),
    "rehearse": ("commands.rehearse", "Practise the plan: headset, window, or a script."),
    "replay": ("commands.replay", "Recompute a recorded rehearsal and compare the state."),
    "markers": ("commands.markers", "Print marker bodies at true scale; convert other programs' files."),
    "calibrate": ("commands.calibrate", "Measure a camera, a rig, an instrument, a body, a delay; or refuse."),
    "track": ("commands.track", "Poses of marker bodies in a video, a folder or a camera."),
    "register": ("commands.register", "Fit the twin to the patient's reference body, with its predicted error."),
    "guide": ("commands.guide", "Lay the twin and the plan over the live picture."),
    "igtl": ("commands.igtl", "OpenIGTLink: a case to 3D Slicer, a look at a wire, trajectories as candidates."),
    "bench": ("commands.bench", "Time our jobs against peers, side by side on this machine."),
}


class Rooms(TyperGroup):
    """Sub-commands that are imported on demand, so that `--help` answers at once."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the work."""
        return list(ROOMS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the room that was asked for; None for an unknown name."""
        if cmd_name not in ROOMS:
            return None
        command = typer.main.get_command(importlib.import_module(ROOMS[cmd_name][0]).app)
        command.name = cmd_name
        return command

    def main(self, args: Any = None, *rest: Any, **more: Any) -> Any:
        """As typer does; with `--json` wrong use is told as every other error is: an object and one line, exit 2."""
        given = sys.argv[1:] if args is None else list(args)
        if "--json" not in given or not more.get("standalone_mode", True):
            return super().main(args, *rest, **more)
        try:
            code = super().main(given, *rest, **more | {"standalone_mode": False})
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer keeps the class of its usage errors private
                raise
            from commands.console import emit, say
            from spatial.faults import Misuse

            fault = Misuse(" ".join(error.format_message().split()))
            emit({"error": {"kind": fault.kind, "message": str(fault)}})
            say(str(fault))
            code = fault.exit_code
        sys.exit(code if isinstance(code, int) else 0)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One line a room, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in ROOMS.items()])


app = typer.Typer(
    cls=Rooms,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def front() -> None:
    """Osteotwin: patient twin, rehearsal and guidance for bone surgery.

    A research tool, not a medical device: nothing here may steer the treatment of a patient.
    """


def main() -> None:
    """Entry point of the `osteotwin` command."""
    app(prog_name="osteotwin")


if __name__ == "__main__":
    main()
