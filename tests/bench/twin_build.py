"""A DICOM series to labelled closed bones with two coarser copies each, against SimpleITK and VTK doing the same.

The peer labels by component alone, so bones in contact are one; it finds no canal, no levels, no sub-voxel edge. It is
given the best of it: cavities filled before the surface (half the triangles), the second copy made from the first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from spatial.mesh import TriangleMesh
from spatial.progress import silent
from tests.bench.measure import Job, Judgement, Side
from twin.anatomy import bones, segmentation
from twin.anatomy.bones import Bones
from twin.scan.load import load_volume
from twin.scan.phantom.dicom_series import write_series
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.voxels import ScanGrid, scan_grid, synthesise
from twin.scan.volume import LabelMap

SLICES, PIXEL_MM, SLICE_MM = 400, 0.74, 0.8
LOWEST = 115  # slice of the whole phantom: from the femoral heads to T12
PEER_HU = 226
DETAIL = (0.25, 0.06)
LEAST_ML = 1.0
TRIED = 20_000  # vertices whose distance to the truth is taken
MEMORY = """
import json, sys
from pathlib import Path
sys.path.insert(0, {checkout!r})
import cc3d, edt, open3d, pydicom, scipy.ndimage
from tests.bench import twin_build
def peak():  # of this process alone: what getrusage tells begins with the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
before = peak()
twin_build.ours(Path({folder!r}))
print(json.dumps([before, peak()]))
"""


@dataclass(frozen=True, eq=False)
class Component:
    """What the peer makes of one component: its surface and two coarser ones."""

    surface: TriangleMesh[Any]
    levels_of_detail: tuple[TriangleMesh[Any], ...]


def jobs() -> Iterator[Job]:
    """The speed with the accuracy of what came out, and the memory it took."""
    with TemporaryDirectory(prefix="osteotwin-bench-") as name:
        folder = Path(name)
        _write(folder)
        yield _pipeline(folder)
        yield _memory(folder)


@cache
def phantom() -> Phantom:
    """The one that is scanned."""
    return Phantom.make(1)


def ours(folder: Path) -> tuple[Bones, LabelMap]:
    """Read, segment, name, mesh, find the edge, make coarser copies, write what lies inside as labels."""
    volume = load_volume(folder)
    found = segmentation.segment(volume)
    made = bones.from_scan(volume, found.labels, silent)
    return made, bones.labels_inside(made.meshes, found.labels)


def peer(folder: Path) -> list[Component]:
    """GDCM's sorting, threshold, components, flying edges, windowed sinc, quadric decimation."""
    import SimpleITK
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkQuadricDecimation, vtkWindowedSincPolyDataFilter

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    parts = SimpleITK.ConnectedComponent(SimpleITK.BinaryThreshold(image, PEER_HU, 32767, 1, 0))
    parts = SimpleITK.RelabelComponent(parts, minimumObjectSize=int(1000 * LEAST_ML / np.prod(image.GetSpacing())))
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(parts)
    found = []
    for number in shapes.GetLabels():
        x, y, z, *size = shapes.GetBoundingBox(number)
        box = SimpleITK.ConstantPad(SimpleITK.RegionOfInterest(parts, size, (x, y, z)) == number, (1, 1, 1), (1, 1, 1))
        mask = SimpleITK.GetArrayFromImage(SimpleITK.BinaryFillhole(box))
        grid = vtkImageData()
        grid.SetDimensions(*box.GetSize())
        grid.SetSpacing(*box.GetSpacing())
        grid.SetOrigin(*box.TransformIndexToPhysicalPoint((0, 0, 0)))
        grid.GetPointData().SetScalars(numpy_to_vtk(mask.ravel()))
        edges = vtkFlyingEdges3D()
        edges.SetInputData(grid)
        edges.SetValue(0, 0.5)
        edges.ComputeNormalsOff()
        smooth = vtkWindowedSincPolyDataFilter()
        smooth.SetInputConnection(edges.GetOutputPort())
        smooth.SetNumberOfIterations(20)
        smooth.SetPassBand(0.1)
        smooth.NormalizeCoordinatesOn()
        smooth.BoundarySmoothingOff()
        smooth.FeatureEdgeSmoothingOff()
        smooth.NonManifoldSmoothingOn()
        smooth.Update()
        stages = [smooth.GetOutput()]
        for share in (DETAIL[0], DETAIL[1] / DETAIL[0]):
            fewer = vtkQuadricDecimation()
            fewer.SetInputData(stages[-1])
            fewer.SetTargetReduction(1.0 - share)
            fewer.Update()
            stages.append(fewer.GetOutput())
        first, *others = (_mesh(stage) for stage in stages)
        found.append(Component(first, tuple(others)))
    return found


def _mesh(data: Any) -> TriangleMesh[Any]:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    points = vtk_to_numpy(data.GetPoints().GetData()).astype(np.float64)
    return TriangleMesh(points, vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3))


def _write(folder: Path) -> None:
    whole = scan_grid(phantom(), slice_mm=SLICE_MM, pixel_mm=PIXEL_MM)
    grid = ScanGrid(
        (512, 512, SLICES), PIXEL_MM, SLICE_MM, whole.origin_mm + LOWEST * whole.step_mm, whole.row, whole.column,
        whole.step_mm,
    )  # fmt: skip
    write_series(synthesise(phantom(), grid), folder, seed=1, description="bench", identity="bench")


def _pipeline(folder: Path) -> Job:
    def judge(a: tuple[Bones, LabelMap], b: list[Component] | None) -> Judgement:
        made, _ = a
        vertebrae = [n for n in made.bones if n.startswith("vertebrae_L")]
        errors = {n: np.abs(phantom().distance_mm(n, _some(made.bones[n].surface))) for n in vertebrae}
        closed = all(m.is_closed for bone in made.bones.values() for m in (bone.surface, *bone.levels_of_detail))
        figures = {f"{n}_mean_mm": float(e.mean()) for n, e in errors.items()}
        figures |= {f"{n}_p95_mm": float(np.quantile(e, 0.95)) for n, e in errors.items()}
        volume_ml = sum(bone.volume_ml for bone in made.bones.values())
        triangles = sum(len(bone.surface.triangles) for bone in made.bones.values())
        figures |= {"ours_ml": volume_ml, "ours_triangles": triangles, "ours_bones": len(made.bones)}
        worst = max(errors, key=lambda n: errors[n].mean())
        words = (
            f"{len(made.bones)} named bones, {triangles // 1000}k triangles, {'all' if closed else 'NOT ALL'} closed; "
            f"lumbar vertebrae off the true surface by {np.mean([e.mean() for e in errors.values()]):.3f} mm on "
            f"average, worst {worst[10:]} {errors[worst].mean():.3f} (95 %: {np.quantile(errors[worst], 0.95):.2f})"
        )
        if b is None:
            return Judgement(closed, words, figures)
        theirs_ml = sum(part.surface.volume_ml for part in b)
        theirs = sum(len(part.surface.triangles) for part in b)
        tight = sum(m.is_closed for part in b for m in (part.surface, *part.levels_of_detail))
        off = np.concatenate([_off(_some(part.surface, len(b)), list(phantom().bone_names)) for part in b])
        figures |= {"peer_ml": theirs_ml, "peer_triangles": theirs, "peer_mean_mm": float(off.mean())}
        words += (
            f"; peer: {len(b)} components without names, {theirs // 1000}k triangles, {tight} of {3 * len(b)} meshes "
            f"closed, off the nearest bone by {off.mean():.3f}, volume {theirs_ml / volume_ml:.2f} of ours"
        )
        # the peer's marrow stays hollow wherever a thin cortex has a hole, so its bones are lighter
        return Judgement(closed and 0.5 < theirs_ml / volume_ml < 1.25, words, figures)

    missing = find_spec("vtkmodules") is None
    return Job(
        "twin", f"{SLICES} raw DICOM slices of 512 x 512 to labelled closed bones with two coarser copies",
        Side("load, segment, bones.from_scan, labels inside", lambda: ours(folder)),
        None if missing else Side("SimpleITK + VTK: components, flying edges, sinc, quadric", lambda: peer(folder)),
        judge, rounds=1,
        no_peer="vtk is not installed (pip install --group bench)" if missing else None,
    )  # fmt: skip


def _off(points: Any, names: list[str]) -> Any:
    """Distance to the nearest of the bones."""
    return np.min([np.abs(phantom().distance_mm(name, points)) for name in names], axis=0)


def _some(mesh: TriangleMesh[Any], share: int = 1) -> Any:
    return mesh.vertices_mm[:: max(1, share * len(mesh.vertices_mm) // TRIED)]


def _memory(folder: Path) -> Job:
    volume_mb = SLICES * 512 * 512 * 2 / 2**20
    script = MEMORY.format(checkout=str(Path(__file__).resolve().parents[2]), folder=str(folder))

    def run() -> tuple[float, float]:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        before, after = json.loads(done.stdout.splitlines()[-1])
        return before, after

    def judge(peak: tuple[float, float], _: None) -> Judgement:
        share = (peak[1] - peak[0]) / volume_mb
        return Judgement(
            True, f"{peak[1] - peak[0]:.0f} MB above the imports ({peak[0]:.0f} MB), {share:.1f} times the volume",
            {"above_imports_mb": peak[1] - peak[0], "volumes": share},
        )  # fmt: skip

    return Job(
        "twin", "memory of the same in a process of its own", Side("high-water mark", run), None, judge, rounds=1,
        no_peer="a process of its own, start-up included",
    )  # fmt: skip
