"""A case folder as version 0.1.0 wrote it (schema 1), byte for byte: the form is fixed here, not shared with twin."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from twin.anatomy.twin import Twin
from twin.journal import Journal, canonical_json
from twin.scan.nrrd import write_nrrd
from twin.scan.volume import LabelMap, Volume
from twin.surfaces.ply import ply_bytes


def write_schema_1(folder: Path, twin: Twin, volume: Volume | None, labels: LabelMap | None) -> None:
    """What `write_case` of 0.1.0 wrote."""

    def pretty(value):
        return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    (folder / "bones").mkdir(parents=True)
    (folder / "plans").mkdir()
    for bone in twin.bones.values():
        for level, mesh in enumerate((bone.surface, *bone.levels_of_detail)):
            (folder / "bones" / f"{bone.name}{f'.lod{level}' if level else ''}.ply").write_bytes(ply_bytes(mesh))
    (folder / "landmarks.json").write_bytes(pretty({"landmarks": [mark.to_json() for mark in twin.landmarks]}))
    steps, warnings = list(twin.provenance), dict.fromkeys(twin.warnings)
    if volume is not None:
        steps.insert(0, {"step": "scan", **volume.about})
        notes = {"osteotwin_about": dict(volume.about), "osteotwin_warnings": list(volume.warnings)}
        write_nrrd(folder / "ct.nrrd", volume.hu, volume.grid, packed=False, notes=notes)
        warnings = dict.fromkeys([*volume.warnings, *warnings])
    if labels is not None:
        names = {"osteotwin_names": {str(n): name for n, name in labels.names.items()}}
        write_nrrd(folder / "labels.nrrd", labels.labels, labels.grid, packed=True, notes=names)
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    with Journal(folder / "journal.jsonl") as journal:
        listed = hashlib.sha256(canonical_json(files)).hexdigest()
        journal.append("osteotwin", "case_built", {"twin_id": twin.twin_id, "files_sha256": listed})
    document = {
        "schema": 1,
        "twin_id": twin.twin_id,
        "levels": {"confidence": twin.levels.confidence, "confirmed_by": twin.levels.confirmed_by},
        "bones": {name: len(bone.levels_of_detail) for name, bone in twin.bones.items()},
        "files": files,
        "density": None if twin.density is None else dict(twin.density),
        "warnings": list(warnings),
        "provenance": [dict(step) for step in steps],
    }
    (folder / "case.json").write_bytes(pretty(document))
