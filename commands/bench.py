"""`osteotwin bench`: our jobs and a peer's side by side on this machine, and whether both gave the same result."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Fault, MissingPackage, Misuse
from spatial.progress import Progress

ROOMS = ("twin", "plan", "render", "rehearsal", "tracking", "guidance")
CHECKOUT = Path(__file__).resolve().parent.parent  # the comparisons stand beside the tests, whose oracles they share

app = typer.Typer(add_completion=False)


class Disagreement(Fault):
    """A peer came to another result, so its time says nothing."""


def room_jobs(room: str) -> Iterator[Any]:
    """The jobs of one room, made as they are asked for. Raises Misuse for a room without any, MissingPackage."""
    if room not in ROOMS:
        raise Misuse(f"no comparisons for {room!r}; there are {', '.join(ROOMS)}")
    if not (CHECKOUT / "tests" / "bench").is_dir():
        raise MissingPackage("the comparisons are part of the source checkout (tests/bench); run them from there")
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    jobs: Iterator[Any] = importlib.import_module(f"tests.bench.{room}").jobs()
    return jobs


def machine() -> dict[str, Any]:
    """What the times were taken on."""
    from render.offscreen import gl_info

    try:
        gl: dict[str, str] | None = gl_info()
    except Fault:
        gl = None
    return {"cpu_count": os.cpu_count(), "gl": gl, "system": platform.platform(), "python": platform.python_version()}


@app.command()
@command
def bench(
    rooms: Annotated[
        list[str] | None, typer.Argument(metavar="[ROOM]...", help=f"{' | '.join(ROOMS)}; default all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Time our jobs against a peer's, side by side in one run.

    The two take turns; the ratio is peer / ours, the median over the rounds: above 1 ours is faster. Read ratios, not
    milliseconds. Where the results differ there is no ratio, and the command ends with 1.
    """
    chosen = list(dict.fromkeys(rooms or ROOMS))
    for room in chosen:
        if room not in ROOMS:
            room_jobs(room)
    found = []
    with progress_bar("bench") as progress:
        for n, room in enumerate(chosen):
            jobs = room_jobs(room)
            while result := _next(jobs, progress, n / len(chosen)):
                found.append(result)
                if not as_json:  # what a long run has found so far is there if it breaks off
                    tell(*_table(result))
                    sys.stdout.flush()
    here = machine()
    if as_json:
        emit({"machine": here, "results": [result.to_json() for result in found]})
    else:
        tell("", _words(here))
    differing = [result.job.what for result in found if not result.judgement.agrees]
    for what in differing:
        say(str(Disagreement(f"{what}: ours and the peer's results differ, so there is no ratio")))
    if differing:
        raise typer.Exit(Disagreement.exit_code)


def _next(jobs: Iterator[Any], progress: Progress, share: float) -> Any | None:
    """The result of the next job; None after the last."""
    with _libraries_on_stderr():
        job = next(jobs, None)
        if job is None:
            return None
        progress(f"{job.room}: {job.what}", share)
        return importlib.import_module("tests.bench.measure").measured(job)


def _table(result: Any) -> list[str]:
    """A job in some lines: what, who took how long, how well both agree."""
    job = result.job
    lines = [f"{job.room}: {job.what}"]
    times = f"  ours  {_ms(result.ours_ms)}  {job.ours.who}"
    if job.peer is None:
        lines.append(f"{times}; no peer: {job.no_peer}")
    else:
        lines += [times, f"  peer  {_ms(result.peer_ms)}  {job.peer.who}"]
    if result.ratio is not None:
        low, high = result.ratio_range
        verdict = "ours is faster" if low > 1 else "ours is slower" if high < 1 else "no clear difference"
        lines.append(f"  ratio {result.ratio:7.2f} x   {verdict} ({low:.2f} to {high:.2f} over {job.rounds} rounds)")
    lines.append(f"  {'result' if result.judgement.agrees else 'DISAGREE'}  {result.judgement.words}")
    return lines


def _ms(ms: float) -> str:
    return f"{ms:8.3f} ms" if ms < 10 else f"{ms:8.1f} ms"


def _words(here: dict[str, Any]) -> str:
    gl = here["gl"]["renderer"] if here["gl"] else "none"
    return f"{here['cpu_count']} processor cores, OpenGL {gl}, Python {here['python']}. Read ratios, not milliseconds."


@contextmanager
def _libraries_on_stderr() -> Iterator[None]:
    """What peers print from C goes to stderr, so that stdout holds the result alone."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
