"""What every command shares: one JSON object on stdout, words and progress on stderr, one line an error.

With `--json` an error is also `{"error": {"kind", "message"}}` on stdout. Exit 0 done, 1 bad content or a limit broken,
2 wrong use, a missing choice or a missing package, 130 cancelled.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import typer

from spatial.faults import Fault
from spatial.progress import Progress

R = TypeVar("R")


class FileTrouble(Fault):
    """The system refused a file or a folder that a command needed: no right, no room, no such disk."""


def emit(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


TOO_DEEP = "one of the files is nested too deeply to be read; is it damaged, or not what it says?"


def tell(*lines: str) -> None:
    """Print a command's result in words on stdout (without `--json`)."""
    for line in lines:
        sys.stdout.write(line + "\n")


def say(*lines: str) -> None:
    """Print words about the work (progress, warnings, errors) on stderr."""
    for line in lines:
        sys.stderr.write(line + "\n")


def at_keyboard() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def command(function: Callable[..., R]) -> Callable[..., R]:
    """Turn faults and Ctrl-C into one line and an exit code; reads the function's `as_json` argument."""

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> R:
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None
        except (Fault, OSError) as error:
            fault = error if isinstance(error, Fault) else _trouble(error)
            if kwargs.get("as_json"):
                emit({"error": {"kind": fault.kind, "message": str(fault)}})
            say(str(fault))
            raise typer.Exit(fault.exit_code) from None
        except RecursionError:  # thousands of brackets: no file of ours, and no parser's to survive
            if kwargs.get("as_json"):
                emit({"error": {"kind": "TooDeep", "message": TOO_DEEP}})
            say(f"TooDeep: {TOO_DEEP}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            say("Cancelled.")
            raise typer.Exit(130) from None

    return guarded


def _trouble(error: OSError) -> FileTrouble:
    """What the rooms did not foresee, in one line all the same."""
    name = error.filename if isinstance(error.filename, str) else None
    return FileTrouble(error.strerror or str(error), path=name)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on stderr that a room's `progress` argument drives; plain lines where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        last = [""]

        def lines(what: str, fraction: float) -> None:
            if what != last[0]:
                last[0] = what
                say(f"{title}: {what} ({fraction:.0%})")

        yield lines
        return
    with Bar(
        TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"), TimeElapsedColumn(),
        console=console, transient=True, redirect_stdout=sys.stdout.isatty(),  # else results would end on stderr
    ) as bar:  # fmt: skip
        task = bar.add_task(title, total=1.0, what="")
        yield lambda what, fraction: bar.update(task, completed=fraction, what=what)
