"""`osteotwin twin build`: one twin, or a list of them."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from commands.twin_words import summary, tell_summary
from spatial.faults import Misuse
from spatial.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; with --batch, one a row.")]


@command
def build(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE", help="DICOM folder or file, NIfTI, NRRD, MHA; or closed meshes named by bone."
        ),
    ] = None,
    case: Annotated[Path | None, typer.Option("--case", metavar="DIR", help="Where the case goes.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Which DICOM series, if there are several.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Bones that are segmented already: a label map, or a folder with a mask a bone."
        ),
    ] = None,
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="How bones are found where no labels are given.")
    ] = "default",
    numbering: Annotated[
        str | None,
        typer.Option(
            metavar="totalsegmentator|verse",
            help="What the numbers of --labels mean, where the file names none and they fit several tables.",
        ),
    ] = None,
    surgery_since: Annotated[
        datetime | None,
        typer.Option(
            metavar="DATE",
            formats=["%Y-%m-%d"],
            help="The day of the last operation on this anatomy, if there was one.",
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="The hospital's settings: density thresholds, calibration."),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST.csv",
            help="Build a list: columns source, case; if wanted series, labels, segmenter, surgery_since, numbering.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|dask|dask://HOST:PORT", help="Where a list is worked off.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many rows at once; by cores and memory if left out.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the case that is there, with its plans and journal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a twin from a CT (or from meshes) and write it as a case; on failure or Ctrl-C nothing is written.

    With --batch, rows that were built before from the same input are skipped, so a stopped batch goes on.
    """
    if batch is not None:
        given = {
            "SOURCE": source,
            "--case": case,
            "--series": series,
            "--labels": labels,
            "--numbering": numbering,
            "--surgery-since": surgery_since,
        }
        if any(value is not None for value in given.values()) or segmenter != "default":
            names = [name for name, value in given.items() if value is not None] or ["--segmenter"]
            raise Misuse(f"{', '.join(names)} belong to one twin; a list has columns for them")
        _build_list(batch, engine, workers, site, force, as_json)
        return
    if source is None or case is None:
        raise Misuse("give SOURCE and --case DIR, or --batch LIST.csv")
    if engine != "local" or workers is not None:
        raise Misuse("--engine and --workers belong to --batch")
    if numbering is not None and labels is None:
        raise Misuse("--numbering is about the numbers of --labels")
    _build_one(source, case, series, labels, segmenter, surgery_since, numbering, site, force, as_json)


def _build_one(
    source: Path,
    folder: Path,
    series: str | None,
    labels: Path | None,
    segmenter: str,
    surgery_since: datetime | None,
    numbering: str | None,
    site: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from twin.recipe import Recipe

    day: date | None = None if surgery_since is None else surgery_since.date()
    recipe = Recipe(source, series, labels, segmenter, day, numbering, site)
    started = time.perf_counter()
    with progress_bar("twin") as progress:
        built = recipe.build(folder, replace_old=force, progress=progress)
    found = summary(built)
    found |= {"seconds": round(time.perf_counter() - started, 3), "peak_memory_mb": _peak_memory_mb()}
    if as_json:
        emit(found)
        return
    tell_summary(found)
    tell(f"Case written to {folder} in {found['seconds']:.1f} s.")


def _build_list(path: Path, engine: str, workers: int | None, site: Path | None, force: bool, as_json: bool) -> None:
    """Work a list off; each row's result is told as it finishes and kept beside the list."""
    from twin.anatomy.segmentation import METHODS
    from twin.batch import run_batch
    from twin.batch_list import read_list

    rows = read_list(path, sorted(METHODS), site=site, replace=force)
    kept = path.with_suffix(".results.jsonl")
    counts = {"built": 0, "skipped": 0, "failed": 0}
    started = time.perf_counter()
    with progress_bar("batch") as progress, kept.open("w", encoding="utf-8") as file:
        told = _Shares(progress, len(rows))
        results = run_batch(rows, engine, told, replace=force, workers=workers)
        with closing(results) as finished:
            for result in finished:
                counts[result["status"]] = counts.get(result["status"], 0) + 1
                told.finished(result["line"])
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
                file.flush()
                _tell_row(result, as_json)
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        emit({"rows": len(rows), **counts, "results": str(kept), "seconds": seconds})
    else:
        words = ", ".join(f"{number} {status}" for status, number in counts.items())
        tell(f"{len(rows)} rows in {seconds:.1f} s: {words}. Each result is in {kept}.")
    if counts["failed"]:
        raise typer.Exit(1)


class _Shares:
    """Progress of a batch: every row has the same share."""

    def __init__(self, progress: Progress, rows: int) -> None:
        self.progress, self.rows = progress, rows
        self.shares: dict[int, float] = {}

    def __call__(self, line: int, what: str, fraction: float) -> None:
        self.shares[line] = max(self.shares.get(line, 0.0), fraction)
        self.progress(f"line {line}: {what}", sum(self.shares.values()) / self.rows)

    def finished(self, line: int) -> None:
        self(line, "done", 1.0)


def _tell_row(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(result)
        return
    more = {
        "built": f"{result.get('bones')} bones in {result.get('seconds', 0.0):.1f} s",
        "skipped": str(result.get("reason")),
        "failed": result.get("error", {}).get("message", ""),
    }.get(result["status"], "")
    (say if result["status"] == "failed" else tell)(
        f"line {result['line']}: {result['status']} {result['case']}: {more}"
    )


def _peak_memory_mb() -> float:
    """The most memory this process and its finished children held (an upper bound: their peaks are added)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(sum(peaks) * unit / 2**20, 1)
