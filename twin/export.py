"""A twin for other programs: a label map on the CT's grid, or its surfaces, in LPS millimetres."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault, Misuse
from spatial.mesh import TriangleMesh
from twin.case import Case
from twin.scan.names import numbered
from twin.scan.nifti import write_nifti
from twin.surfaces.glb import glb_bytes
from twin.surfaces.obj import obj_bytes
from twin.surfaces.ply import ply_bytes
from twin.surfaces.stl import stl_bytes

FORMS = ("nifti", "stl", "ply", "obj", "glb")
_SURFACES: dict[str, Callable[[TriangleMesh[Any], str], bytes]] = {
    "stl": lambda mesh, _name: stl_bytes(mesh),
    "ply": lambda mesh, _name: ply_bytes(mesh),
    "obj": obj_bytes,
}


class CannotExport(Fault):
    """The file or folder could not be written."""


def export_case(case: Case, form: str, out: Path) -> list[Path]:
    """Write `form` to `out` and say which files. Raises Misuse on an unsuitable name, CannotExport, NoVoxels."""
    try:
        if form == "nifti":
            return [_labels(case, out)]
        out.parent.mkdir(parents=True, exist_ok=True)
        if form == "glb":
            if out.is_dir():
                raise Misuse("glb is one file; give a name like bones.glb", path=out)
            _write(out, glb_bytes(case.twin.surfaces()))
            return [out]
        out.mkdir(exist_ok=True)
        files = []
        for name, mesh in case.twin.surfaces().items():
            files.append(out / f"{name}.{form}")
            _write(files[-1], _SURFACES[form](mesh, name))
        return files
    except OSError as error:
        raise CannotExport(f"cannot write ({error.strerror})", path=out) from None


def _labels(case: Case, out: Path) -> Path:
    """One label map with TotalSegmentator v2 numbers and names, on the CT's grid."""
    if not out.name.endswith((".nii", ".nii.gz")):
        raise Misuse(f"nifti is one file called .nii or .nii.gz, not {out.name!r}", path=out)
    label_map = case.labels()
    numbers = numbered(list(label_map.names.values()))
    if max(numbers.values()) > 255:
        raise CannotExport(f"{len(numbers)} bones without a number of their own do not fit into 8 bits", path=out)
    table = np.zeros(int(label_map.labels.max()) + 1, np.uint8)
    for old, name in label_map.names.items():
        if old < len(table):
            table[old] = numbers[name]
    out.parent.mkdir(parents=True, exist_ok=True)
    names = dict(sorted((number, name) for name, number in numbers.items()))
    write_nifti(out, table[label_map.labels], label_map.grid, names)
    return out


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
