"""Surfaces as a source: a file, or a folder of files, each a bone by its name; a twin without CT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.scan.names import NUMBERS, is_safe
from twin.scan.refusals import BadSurface
from twin.surfaces.obj import read_obj
from twin.surfaces.ply import read_ply
from twin.surfaces.stl import read_stl
from twin.surfaces.vtk import read_vtk

READERS: dict[str, Callable[[Path], TriangleMesh[Patient]]] = {
    ".ply": read_ply,
    ".stl": read_stl,
    ".obj": read_obj,
    ".vtk": read_vtk,
}
SMALLEST_MM = 3.0  # the largest extent of a bone is above this; below it the file is surely in metres


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Meshes by bone, and words of warning (unknown names, open surfaces)."""

    meshes: dict[str, TriangleMesh[Patient]]
    warnings: tuple[str, ...]


def surface_files(source: Path) -> tuple[Path, ...]:
    """The surface files of a source: itself, or those directly in the folder."""
    if source.is_file():
        return (source,) if source.suffix.lower() in READERS else ()
    if not source.is_dir():
        return ()
    return tuple(p for p in sorted(source.iterdir()) if p.is_file() and p.suffix.lower() in READERS)


def load_surfaces(source: Path) -> Surfaces:
    """Meshes by bone name with warnings, coordinates taken as LPS mm; inside-out surfaces are turned.

    Raises BadSurface, BadSurfaceFile.
    """
    files = surface_files(source)
    if not files:
        raise BadSurface("no surface file (.ply, .stl, .obj, .vtk) here", path=source)
    meshes: dict[str, TriangleMesh[Patient]] = {}
    notes: list[str] = []
    for path in files:
        name = path.stem
        if not is_safe(name):
            raise BadSurface(f"{name!r} can't be a bone's name; letters, digits, _ - . are allowed", path=path)
        if name in meshes:
            raise BadSurface(f"two files for the bone {name}", path=path)
        mesh = READERS[path.suffix.lower()](path)
        if not len(mesh.triangles):
            raise BadSurface("the surface has no triangles", path=path)
        low, high = mesh.bounds_mm
        if float((high - low).max()) < SMALLEST_MM:
            raise BadSurface(f"the surface is {float((high - low).max()):.3g} mm across; is it in metres?", path=path)
        if name not in NUMBERS:
            notes.append(
                f"{name} is no TotalSegmentator bone name; kept, but levels and landmarks are not known for it"
            )
        if not mesh.is_closed:
            notes.append(f"{name} is not closed: its volume is approximate, and it cannot be cut watertight")
        elif mesh.volume_ml < 0:
            mesh = TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[:, ::-1])
            notes.append(f"{name} was inside out; its triangles were turned")
        meshes[name] = mesh
    return Surfaces(meshes, tuple(notes))
