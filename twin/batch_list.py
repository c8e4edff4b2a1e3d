"""A list of twins to build, as a CSV file: checked whole before any work."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from spatial.faults import Misuse
from twin.anatomy.site import load_site
from twin.case import Case
from twin.recipe import Recipe
from twin.scan.numbering import NUMBERINGS

NEEDED = ("source", "case")
COLUMNS = (*NEEDED, "series", "labels", "segmenter", "surgery_since", "numbering")
TOLD = 8  # problems in one message; the rest is counted


class BadList(Misuse):
    """A list that can't be worked off: each problem by its row."""


@dataclass(frozen=True)
class Row:
    """A line of the list (the header is line 1): what to build, and where the case goes."""

    line: int
    recipe: Recipe
    case: Path


def read_list(
    path: Path, segmenters: Sequence[str], *, site: Path | None = None, replace: bool = False
) -> tuple[Row, ...]:
    """The rows of a list, paths taken from the list's folder. Raises BadList with everything that is wrong.

    An existing case is no problem: it may be this row's from an earlier run. `site` is for all rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = tuple(reader.fieldnames or ())
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadList(f"the list cannot be read ({error})", path=path) from None
    missing = [name for name in NEEDED if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing or unknown or len(set(header)) < len(header):
        raise BadList(f"columns {', '.join(header) or 'none'}; there are {', '.join(COLUMNS)} (the first two needed)")
    if site is not None:
        load_site(site)  # a wrong file is told before the work
    problems: list[str] = []
    rows = []
    for number, line in lines:
        try:
            rows.append(_row(path.parent, number, line, segmenters, site))
        except Misuse as fault:
            problems.append(f"line {number}: {fault.message}")
    problems += _doubled(rows)
    for row in rows:
        if row.case.exists() and not (row.case / "case.json").is_file():
            try:
                Case.ensure_free(row.case, replace=replace)
            except Misuse as fault:
                problems.append(f"line {row.line}: {row.case.name}: {fault.message}")
    if problems:
        more = f" (and {len(problems) - TOLD} more)" if len(problems) > TOLD else ""
        raise BadList("; ".join(problems[:TOLD]) + more, path=path)
    if not rows:
        raise BadList("the list has no row", path=path)
    return tuple(rows)


def _row(folder: Path, number: int, line: dict[str, str | None], segmenters: Sequence[str], site: Path | None) -> Row:
    if None in line or any(value is None for value in line.values()):
        raise BadList("more or fewer cells than the header")
    cells = {name: (value or "").strip() for name, value in line.items()}
    for name in NEEDED:
        if not cells[name]:
            raise BadList(f"no {name}")
    source, labels = folder / cells["source"], cells.get("labels") or None
    for what, place in (("source", source), ("labels", None if labels is None else folder / labels)):
        if place is not None and not place.exists():
            raise BadList(f"the {what} {place} does not exist")
    segmenter = cells.get("segmenter") or "default"
    if segmenter not in segmenters:
        raise BadList(f"no segmenter {segmenter!r}; there is {', '.join(sorted(segmenters))}")
    day = cells.get("surgery_since") or None
    try:
        since = None if day is None else date.fromisoformat(day)
    except ValueError:
        raise BadList(f"surgery_since {day!r} is no day; write 2026-03-01") from None
    given = None if labels is None else folder / labels
    numbering = cells.get("numbering") or None
    if numbering is not None and numbering not in NUMBERINGS:
        raise BadList(f"no numbering {numbering!r}; there are {', '.join(NUMBERINGS)}")
    recipe = Recipe(source, cells.get("series") or None, given, segmenter, since, numbering, site)
    return Row(number, recipe, folder / cells["case"])


def _doubled(rows: Sequence[Row]) -> list[str]:
    """Rows that would write into one another's case."""
    problems = []
    seen: dict[Path, int] = {}
    for row in rows:
        place = row.case.resolve()
        inside = next((other for other in (place, *place.parents) if other in seen), None)
        if inside is not None:
            how = "the same case as" if inside == place else "inside the case of"
            problems.append(f"line {row.line}: {row.case} is {how} line {seen[inside]}")
        seen.setdefault(place, row.line)
    return problems
