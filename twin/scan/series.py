"""The series in a folder, each with what stands against loading it; nothing is read but headers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from spatial.faults import Fault
from spatial.progress import Progress, silent
from twin.scan.dicomdir import Referenced, is_dicomdir, referenced
from twin.scan.facts import facts_of
from twin.scan.fitness import Fitness, judge_fitness
from twin.scan.geometry import judge
from twin.scan.headers import CT_CLASSES, Header, begins_as_dicom, headers_of, is_dicom, read_headers
from twin.scan.layout import Verdict
from twin.scan.refusals import BadContainer, BrokenFile, DuplicateSlices, MixedSeries, NoCT, NoScan, SeriesChoice
from twin.scan.strays import strays

MOST_STACKS = 64


@dataclass(frozen=True, eq=False)
class Series:
    """Slices that share a SeriesInstanceUID (or, where it is blank, a folder and series number), unsorted.

    `broken` are files that belong here but cannot be read: they forbid loading, since a slice may be among them.
    `strays` are lone slices of other series that would continue this one: it loads only when it is asked for by UID.
    """

    uid: str
    headers: tuple[Header, ...]
    broken: tuple[BrokenFile, ...] = ()
    strays: tuple[MixedSeries, ...] = ()

    @property
    def description(self) -> str:
        """The scanner's words for it."""
        return self.headers[0].description if self.headers else ""

    @property
    def modality(self) -> str:
        """CT, MR, …"""
        return self.headers[0].modality if self.headers else ""

    @property
    def is_ct(self) -> bool:
        """Whether its images are CT, whatever their state."""
        return any(h.modality == "CT" or h.sop_class in CT_CLASSES for h in self.headers) or not self.headers

    @property
    def is_stack(self) -> bool:
        """Whether it is worth choosing: a CT of several slices with places, not a scout or a dose report."""
        placed = [h for h in self.headers if not h.is_localizer and h.position_mm is not None]
        return self.is_ct and len(placed) > 1

    @property
    def fitness(self) -> Fitness | None:
        """What it is fit for as far as the headers tell; None when it can't be loaded."""
        layout = self.verdict.layout
        return None if layout is None else judge_fitness(facts_of(layout), today=date.today())

    @cached_property
    def verdict(self) -> Verdict:
        """Geometry and identity, judged from the headers."""
        verdict = judge(self.headers) if self.headers else Verdict(None, (), ())
        if self.broken:
            return replace(verdict, layout=None, faults=(*self.broken, *verdict.faults))
        return verdict

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each: first what forbids loading (`Kind: …`), then what only needs saying."""
        return tuple(str(fault) for fault in (*self.verdict.faults, *self.strays)) + self.verdict.warnings

    def to_json(self) -> dict[str, Any]:
        """As `scan list --json` prints it."""
        layout = self.verdict.layout
        first = next((h for h in self.headers if h.pixels is not None), None)
        size: list[int] | None = None
        spacing: list[float] | None = None
        if layout is not None:
            size, spacing = list(layout.grid.size), layout.grid.spacing_mm.tolist()
        elif first is not None and first.pixels is not None:
            size = [first.pixels.columns, first.pixels.rows, len(self.headers)]
            if first.spacing_mm is not None:
                spacing = [float(first.spacing_mm[1]), float(first.spacing_mm[0])]
        return {
            "uid": self.uid,
            "description": self.description,
            "modality": self.modality,
            "slices": len(self.headers),
            "size": size,
            "spacing_mm": spacing,
            "usable": layout is not None,
            "problems": list(self.problems),
            "fitness": None if self.fitness is None else self.fitness.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Survey:
    """Everything under a path: the series, and how many files were passed over."""

    series: tuple[Series, ...]
    not_dicom: int
    not_images: int


def list_series(path: Path, progress: Progress = silent) -> tuple[Series, ...]:
    """The series under a folder, or the one of a single file. Raises NoScan when there is nothing to read."""
    return survey(path, progress).series


def survey(path: Path, progress: Progress = silent) -> Survey:
    """Read every header under `path` (a file: its whole series from the same folder). Raises NoScan."""
    if not path.exists():
        raise NoScan("there is no such file or folder", path=path)
    if path.is_file() and is_dicomdir(path):
        return _of_dicomdir(path, progress)
    if path.is_file():
        return _of_file(path, progress)
    if not path.is_dir():
        raise NoScan("neither a file nor a folder", path=path)
    files = list(_files(path))
    if not files:
        raise NoScan("the folder is empty", path=path)
    found = _read(files, progress)
    directory = next((file for file in files if file.parent == path and is_dicomdir(file)), None)
    if directory is not None:
        with suppress(BadContainer):  # the folder is read whole, so a directory that is damaged takes nothing away
            found = _with_lost(found, referenced(directory))
    if not found.series:
        raise NoScan(f"none of {len(files)} files is a DICOM image; give the NIfTI, NRRD or MHA file itself", path=path)
    return found


def choose(found: Survey, series_uid: str | None, path: Path) -> Series:
    """The series to load: the one asked for, or the only stack of CT slices. Raises SeriesChoice, NoCT."""
    if series_uid is not None:
        matching = [s for s in found.series if s.uid == series_uid]
        if len(matching) == 1:
            return matching[0]
        wrong = f"{len(matching)} series are" if matching else "no series is"
        raise SeriesChoice(f"{wrong} called {series_uid!r}; there are: {_listed(found.series)}", path=path)
    stacks = [s for s in found.series if s.is_stack]
    candidates = stacks or [s for s in found.series if s.is_ct]
    if not candidates:
        kinds = sorted({s.modality or "unknown" for s in found.series})
        raise NoCT(f"{len(found.series)} series of modality {', '.join(kinds)}; no CT among them", path=path)
    if len(candidates) > 1:
        raise SeriesChoice(
            f"{len(candidates)} CT series; choose one with --series UID: {_listed(candidates)}", path=path
        )
    return candidates[0]


def _listed(series: Sequence[Series]) -> str:
    return "; ".join(f"{s.uid or '(blank)'} {s.description!r} {s.modality} {len(s.headers)} slices" for s in series)


def _of_file(path: Path, progress: Progress) -> Survey:
    """One file stands for its series: slices of the same series beside it are taken along."""
    if path.stat().st_size == 0:
        raise BrokenFile("the file is empty; was the copy interrupted?", path=path)
    if not is_dicom(path):
        raise NoScan("not DICOM, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd)", path=path)
    headers = read_headers(path)
    if not headers:
        raise NoScan("a DICOM object without an image (a report, a structure set, a directory?)", path=path)
    if len(headers) > 1:
        return Survey(_parted(Series(headers[0].series_uid, headers)), 0, 0)
    beside = _read([p for p in sorted(path.parent.iterdir()) if p.is_file()], progress)
    mine = [s for s in beside.series if any(h.path == path for h in s.headers)]
    return replace(beside, series=tuple(mine))


def _of_dicomdir(path: Path, progress: Progress) -> Survey:
    """What the disc's directory names; a file that is not there forbids its series."""
    named = referenced(path)
    found = _with_lost(_read([one.path for one in named if one.is_there], progress), named)
    if not found.series:
        raise NoScan(f"none of the {len(named)} files that the DICOMDIR names is an image", path=path)
    return found


def _with_lost(found: Survey, named: Sequence[Referenced]) -> Survey:
    """The series, each forbidden by the files that a DICOMDIR names for it and that are not there."""
    series = list(found.series)
    for one in (one for one in named if not one.is_there):
        lost = BrokenFile("the DICOMDIR names this file, and it is not there; is the copy complete?", path=one.path)
        at = next((n for n, mine in enumerate(series) if mine.uid.partition("#")[0] == one.series_uid), len(series))
        mine = series[at] if at < len(series) else Series(one.series_uid, ())
        series[at : at + 1] = [replace(mine, broken=(*mine.broken, lost))]
    return replace(found, series=tuple(series))


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(root, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _read(files: Sequence[Path], progress: Progress) -> Survey:
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    broken: list[BrokenFile] = []
    empty: list[Path] = []
    not_dicom = not_images = 0
    for number, path in enumerate(files):
        if number % 16 == 0:
            progress("reading headers", number / len(files))
        try:
            if path.stat().st_size == 0:
                empty.append(path)
                continue
            with path.open("rb", buffering=0) as file:
                if not begins_as_dicom(file.read(132)):
                    not_dicom += 1
                    continue
                file.seek(0)
                headers = headers_of(file, path)
        except BrokenFile as fault:
            broken.append(fault)
            continue
        except Fault as fault:
            broken.append(BrokenFile(fault.message, path=path))
            continue
        except OSError as error:
            broken.append(BrokenFile(f"cannot be opened ({error.strerror})", path=path))
            continue
        not_images += not headers
        for header in headers:
            uid = header.series_uid
            key = (uid,) if uid else ("", str(path.parent), header.study_uid, header.series_number, header.modality)
            groups[key].append(header)
    endings = {h.path.suffix for headers in groups.values() for h in headers} | {
        f.path.suffix for f in broken if f.path
    }
    for path in empty:  # an empty file that is named like a slice was one
        if path.suffix in endings:
            broken.append(BrokenFile("the file is empty; was the copy interrupted?", path=path))
        else:
            not_dicom += 1
    whole = (Series(key[0], tuple(headers), _nearby(broken, headers)) for key, headers in sorted(groups.items()))
    series = _with_strays([part for one in whole for part in _parted(one)])
    if not series and broken:
        raise broken[0]
    return Survey(series, not_dicom, not_images)


def _with_strays(series: Sequence[Series]) -> tuple[Series, ...]:
    """Each series with the lone slices that would continue it."""
    if len(series) < 2:
        return tuple(series)
    out = []
    for one in series:
        layout = one.verdict.layout
        lost = () if layout is None else strays(layout, [other.headers for other in series if other is not one])
        words = (
            "a lone slice of another series lies where this one goes on, or nowhere; is its UID damaged? See --series"
        )
        found = tuple(MixedSeries(words, path=header.path) for header in lost)
        out.append(replace(one, strays=found) if found else one)
    return tuple(out)


def _parted(series: Series) -> tuple[Series, ...]:
    """Several stacks or phases under one UID as series of their own (`UID#1` …), if together they are no stack.

    They are told apart by what the scanner says: stack and temporal position, or acquisition number. Where that does
    not part them into sound stacks, the series stays whole and is refused.
    """
    stacks = sorted({h.stack for h in series.headers})
    if not 2 <= len(stacks) <= MOST_STACKS or series.broken:
        return (series,)
    if not any(isinstance(fault, (DuplicateSlices, MixedSeries)) for fault in series.verdict.faults):
        return (series,)
    parts = tuple(
        Series(f"{series.uid}#{number}", tuple(h for h in series.headers if h.stack == stack))
        for number, stack in enumerate(stacks, 1)
    )
    is_better = all(part.verdict.layout is not None or not part.is_stack for part in parts)
    return parts if is_better and any(part.is_stack for part in parts) else (series,)


def _nearby(broken: Sequence[BrokenFile], headers: Sequence[Header]) -> tuple[BrokenFile, ...]:
    """Broken files in the folders of a series: any of them may be one of its slices."""
    folders = {h.path.parent for h in headers}
    return tuple(fault for fault in broken if fault.path is not None and fault.path.parent in folders)
