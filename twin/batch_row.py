"""One row of a batch in a process of its own: what it costs, leaks or crashes ends with it.

The parent starts `python -m twin.batch_row`, writes the row as one line of JSON and keeps the pipe open; the child
answers with lines `{"progress": [what, fraction]}` and one `{"result": ...}`. A child whose pipe closes (its parent was
killed) stops as if by Ctrl-C, so nothing half-made is left and nobody builds the same case beside the next attempt.
"""

from __future__ import annotations

import _thread
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from spatial.faults import Fault
from spatial.progress import Progress
from twin.batch_list import Row
from twin.recipe import Recipe

STOP_S = 30.0  # a child finishes the array operation it is in, then it tidies up
POLL_S = 0.3
ATTEMPTS = 2  # a process that died without a word is tried once more: it may have been the machine's memory


_answers = sys.stdout


def row_json(row: Row, *, replace: bool) -> dict[str, Any]:
    """The row as it travels to another process or machine: absolute paths."""
    recipe = row.recipe
    return {
        "line": row.line,
        "case": str(row.case.absolute()),
        "source": str(recipe.source.absolute()),
        "series": recipe.series,
        "labels": None if recipe.labels is None else str(recipe.labels.absolute()),
        "segmenter": recipe.segmenter,
        "surgery_since": None if recipe.surgery_since is None else recipe.surgery_since.isoformat(),
        "numbering": recipe.numbering,
        "site": None if recipe.site is None else str(recipe.site.absolute()),
        "replace": replace,
    }


def run_row(
    row: Mapping[str, Any], told: Progress, is_cancelled: Callable[[], bool] = lambda: False, threads: int | None = None
) -> dict[str, Any]:
    """Build one row in a child process, and say how it went: `built`, `skipped`, `failed` or `cancelled`.

    A child that dies without an answer is started again.
    """
    began = time.perf_counter()
    attempts = 0
    while attempts < ATTEMPTS:
        attempts += 1
        code, result = _child(row, told, is_cancelled, threads)
        if result is not None or is_cancelled():
            break
    if result is None and is_cancelled():
        result = {"status": "cancelled"}
    elif result is None:
        message = f"the process ended with code {code} and without a word, {ATTEMPTS} times; did the memory run out?"
        result = {"status": "failed", "error": {"kind": "ProcessDied", "message": message}}
    seconds = round(time.perf_counter() - began, 3)
    return {"line": row["line"], "case": row["case"], **result, "attempts": attempts, "seconds": seconds}


def _child(
    row: Mapping[str, Any], told: Progress, is_cancelled: Callable[[], bool], threads: int | None
) -> tuple[int, dict[str, Any] | None]:
    environment = dict(os.environ)
    if threads is not None:
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "twin.batch_row"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        start_new_session=True,  # Ctrl-C is for the parent, who ends the rows in order
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    result: dict[str, Any] | None = None
    watch = threading.Thread(target=_stop_when, args=(process, is_cancelled), daemon=True)
    try:
        with suppress(OSError):
            process.stdin.write(json.dumps(row) + "\n")
            process.stdin.flush()
        watch.start()
        for line in process.stdout:
            said = json.loads(line)
            if "progress" in said:
                told(*said["progress"])
            result = said.get("result", result)
    finally:
        _end(process)
        process.stdout.close()
    return process.returncode, result


def _stop_when(process: subprocess.Popen[str], is_cancelled: Callable[[], bool]) -> None:
    while process.poll() is None:
        if is_cancelled():
            _end(process)
            return
        time.sleep(POLL_S)


def _end(process: subprocess.Popen[str]) -> None:
    """Close the pipe, which stops the child in order; kill one that does not listen."""
    assert process.stdin is not None
    with suppress(OSError, ValueError):
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """The child: one row from stdin, lines of JSON on stdout."""
    global _answers
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    row = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        result = _built(row)
    except Fault as fault:
        result = {"status": "failed", "error": {"kind": fault.kind, "message": str(fault)}}
    except OSError as error:
        result = {"status": "failed", "error": {"kind": "FileTrouble", "message": error.strerror or str(error)}}
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a defect of ours ends one row, with its name, and not the batch
        result = {"status": "failed", "error": {"kind": type(error).__name__, "message": str(error)}}
    _say({"result": result})
    return 0


def _built(row: Mapping[str, Any]) -> dict[str, Any]:
    labels, day, folder = row["labels"], row["surgery_since"], Path(row["case"])
    recipe = Recipe(
        Path(row["source"]), row["series"], None if labels is None else Path(labels), row["segmenter"],
        None if day is None else date.fromisoformat(day), row["numbering"],
        None if row["site"] is None else Path(row["site"]),
    )  # fmt: skip
    if recipe.is_done(folder):
        return {"status": "skipped", "reason": "built before from the same input with the same settings"}
    with recipe.build(folder, replace_old=row["replace"], progress=_tell) as case:
        twin = case.twin
        return {
            "status": "built",
            "twin_id": twin.twin_id,
            "bones": len(twin.bones),
            "levels": {"confidence": twin.levels.confidence, "confirmed_by": twin.levels.confirmed_by},
            "warnings": list(twin.warnings),
        }


def _leave_with_parent() -> None:
    sys.stdin.read()
    _thread.interrupt_main()


def _tell(what: str, fraction: float) -> None:
    _say({"progress": [what, round(fraction, 4)]})


def _say(value: dict[str, Any]) -> None:
    _answers.write(json.dumps(value) + "\n")
    _answers.flush()


if __name__ == "__main__":
    os._exit(main())  # not sys.exit: the waiting thread holds stdin
