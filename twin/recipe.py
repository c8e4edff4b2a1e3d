"""What one twin is built from and how, and the building of its case."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from spatial.faults import Fault, Misuse
from spatial.progress import Progress, part, silent
from twin.anatomy.site import DEFAULT, Site, site_of
from twin.case import Case
from twin.case_document import read_document
from twin.durable import sha256_of
from twin.inputs import input_sha256
from twin.program import program

STEP = "source"


@dataclass(frozen=True)
class Recipe:
    """A source with what the command line may say about it; `surgery_since` is the day of the last operation there.

    `site` is the file with the hospital's settings; None: the environment's, or the built-in ones.
    """

    source: Path
    series: str | None = None
    labels: Path | None = None
    segmenter: str = "default"
    surgery_since: date | None = None
    numbering: str | None = None
    site: Path | None = None

    def settings(self) -> dict[str, Any]:
        """What was asked for, without identifiers: a series is told by the hash of its UID."""
        return {
            "series_sha256": None if self.series is None else sha256_of(self.series.encode()),
            "labels": self.labels is not None,
            "segmenter": None if self.labels is not None else self.segmenter,
            "surgery_since": None if self.surgery_since is None else self.surgery_since.isoformat(),
            **({} if self.numbering is None else {"numbering": self.numbering}),
            **({} if self._site().sha256 is None else {"site_sha256": self._site().sha256}),
        }

    def _site(self) -> Site:
        """The hospital's settings, for a CT: a mesh has no density. Raises Misuse, BadSite."""
        from twin.scan.meshes import surface_files

        return DEFAULT if self.site is None and surface_files(self.source) else site_of(os.environ, self.site)

    def inputs_sha256(self) -> dict[str, str]:
        """The hash of each input. Raises NoInput."""
        found = {"source": self.source, **({} if self.labels is None else {"labels": self.labels})}
        return {what: str(input_sha256(path)["sha256"]) for what, path in found.items()}

    def is_done(self, folder: Path) -> bool:
        """Whether there is a case here that was built from the same bytes with the same settings. Raises NoInput."""
        try:
            document, _stored = read_document(folder)
        except Fault:
            return False
        step: dict[str, Any] = next((s for s in document["provenance"] if s.get("step") == STEP), {})
        return step.get("settings") == self.settings() and step.get("inputs_sha256") == self.inputs_sha256()

    def build(self, folder: Path, *, replace_old: bool = False, progress: Progress = silent) -> Case:
        """Build the case; on failure or Ctrl-C nothing is left. Raises what the rooms raise, CaseExists, NoInput."""
        Case.ensure_free(folder, replace=replace_old)
        self._site()  # a wrong file is told before the work
        with ThreadPoolExecutor(1) as beside:  # hashing needs no interpreter: it runs beside the reading
            hashes = beside.submit(self.inputs_sha256)
            return self._build(folder, hashes.result, replace_old, progress)

    def _build(self, folder: Path, hashes: Any, replace_old: bool, progress: Progress) -> Case:
        from twin.anatomy.build import build_twin, twin_from_meshes
        from twin.scan.load import load_labels, load_volume
        from twin.scan.meshes import surface_files

        def step() -> dict[str, Any]:
            versions = {"osteotwin": program()["version"]}
            return {"step": STEP, "settings": self.settings(), "inputs_sha256": hashes(), "versions": versions}

        writing = part(progress, 0.9, 1.0)
        if surface_files(self.source):
            if any(given is not None for given in (self.labels, self.series, self.surgery_since, self.site)):
                raise Misuse(
                    "the source is meshes: --labels, --series, --surgery-since and --site belong to a CT",
                    path=self.source,
                )
            progress("reading meshes", 0.0)
            built = twin_from_meshes(self.source)
            return Case.create(folder, built, None, None, [step()], replace=replace_old, progress=writing)
        volume = load_volume(
            self.source,
            series_uid=self.series,
            surgery_since=self.surgery_since,
            progress=part(progress, 0.0, 0.2),
        )
        given = None
        if self.labels is not None:
            given = load_labels(
                self.labels, volume.grid, part(progress, 0.2, 0.3), numbering=self.numbering, about=volume.about
            )
        built, label_map = build_twin(
            volume, given, segmenter=self.segmenter, site=self._site(), progress=part(progress, 0.3, 0.9)
        )
        if given is not None:
            built = replace(built, warnings=tuple(dict.fromkeys([*given.warnings, *built.warnings])))
        return Case.create(folder, built, volume, label_map, [step()], replace=replace_old, progress=writing)
