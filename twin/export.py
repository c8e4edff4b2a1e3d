"""A twin for other programs: a label map on the CT's grid, or its surfaces, in LPS millimetres.

Everything is written aside and moved to its place when it is whole: a failure or Ctrl-C leaves what was there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault, Misuse
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, silent
from twin.anatomy.twin import Twin
from twin.case import Case
from twin.scan.names import numbered
from twin.scan.nifti import write_nifti
from twin.surfaces.colours import Rgba, bone_rgba, role_rgba
from twin.surfaces.glb import glb_bytes
from twin.surfaces.obj import mtl_bytes, obj_bytes
from twin.surfaces.ply import ply_bytes
from twin.surfaces.stl import stl_bytes

FORMS = ("nifti", "stl", "ply", "obj", "glb")


class CannotExport(Fault):
    """The file or folder could not be written."""


@dataclass(frozen=True, eq=False)
class Part:
    """A surface on its way out; structures go into a folder of their own. `role` is None for a bone."""

    name: str
    mesh: TriangleMesh[Any]
    rgba: Rgba
    role: str | None

    def files(self, form: str) -> dict[str, bytes]:
        """Its files in a folder, by their paths."""
        folder = "" if self.role is None else "structures/"
        if form == "obj":
            library = f"{self.name}.mtl"
            return {
                f"{folder}{self.name}.obj": obj_bytes(self.mesh, self.name, library),
                f"{folder}{library}": mtl_bytes(self.name, self.rgba),
            }
        data = stl_bytes(self.mesh) if form == "stl" else ply_bytes(self.mesh)
        return {f"{folder}{self.name}.{form}": data}


def export_case(
    case: Case, form: str, out: Path, *, names: Collection[str] | None = None, progress: Progress = silent
) -> list[Path]:
    """Write `form` to `out` and say which files; `names` chooses bones and structures (None: all there are).

    Raises Misuse on an unsuitable name, NoBone, CannotExport, NoVoxels.
    """
    try:
        if form == "nifti":
            progress("writing labels", 0.0)
            return [_labels(case, out, names)]
        parts = parts_of(case.twin, names)
        out.parent.mkdir(parents=True, exist_ok=True)
        if form == "glb":
            if out.is_dir():
                raise Misuse("glb is one file; give a name like bones.glb", path=out)
            progress("writing surfaces", 0.0)
            _write(out, _glb(parts))
            return [out]
        return _folder(parts, form, out, progress)
    except OSError as error:
        raise CannotExport(f"cannot write ({error.strerror})", path=out) from None


def parts_of(twin: Twin, names: Collection[str] | None = None) -> list[Part]:
    """Bones and structures to be exported. Raises NoBone for a name that is neither."""
    for name in names or ():
        if name not in twin.structures:
            twin.bone(name)
    bones = [Part(n, mesh, bone_rgba(n), None) for n, mesh in twin.surfaces().items() if names is None or n in names]
    return bones + [
        Part(n, one.surface, role_rgba(one.role), one.role)
        for n, one in twin.structures.items()
        if names is None or n in names
    ]


def _glb(parts: list[Part]) -> bytes:
    return glb_bytes(
        {part.name: part.mesh for part in parts},
        {part.name: part.rgba for part in parts},
        {
            part.name: {"kind": "bone"} if part.role is None else {"kind": "structure", "role": part.role}
            for part in parts
        },
    )


def _folder(parts: list[Part], form: str, out: Path, progress: Progress) -> list[Path]:
    """A file a surface: into a new folder at once, or file by file into one that is there."""
    if out.exists() and not out.is_dir():
        raise Misuse(f"{form} is a folder with a file a bone, and there is a file of this name", path=out)
    aside = out.with_name(f".{out.name}.exporting-{os.getpid()}")
    written: list[str] = []
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for number, part in enumerate(parts):
            progress(f"writing {part.name}", number / len(parts))
            for name, data in part.files(form).items():
                (aside / name).parent.mkdir(exist_ok=True)
                (aside / name).write_bytes(data)
                written.append(name)
        if not out.exists():
            aside.rename(out)
        else:
            for name in written:
                (out / name).parent.mkdir(exist_ok=True)
                (aside / name).replace(out / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [out / name for name in written]


def _labels(case: Case, out: Path, names: Collection[str] | None) -> Path:
    """One label map with TotalSegmentator v2 numbers and names, on the CT's grid."""
    if not out.name.endswith((".nii", ".nii.gz")):
        raise Misuse(f"nifti is one file called .nii or .nii.gz, not {out.name!r}", path=out)
    for name in names or ():
        case.twin.bone(name)
    label_map = case.labels()
    numbers = numbered(list(label_map.names.values()))
    if max(numbers.values()) > 255:
        raise CannotExport(f"{len(numbers)} bones without a number of their own do not fit into 8 bits", path=out)
    table = np.zeros(int(label_map.labels.max()) + 1, np.uint8)
    for old, name in label_map.names.items():
        if old < len(table) and (names is None or name in names):
            table[old] = numbers[name]
    out.parent.mkdir(parents=True, exist_ok=True)
    told = {number: name for name, number in numbers.items() if names is None or name in names}
    write_nifti(out, table[label_map.labels], label_map.grid, dict(sorted(told.items())))
    return out


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
