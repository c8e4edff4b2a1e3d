"""Reading a series, a bone's surface, its coarser copies, the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open3d as o3d
import pydicom
import SimpleITK
from scipy import ndimage

from spatial.mesh import TriangleMesh
from tests.bench import twin_build, twin_landmarks, twin_real
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import BONE, as_open3d, scanned
from tests.bench.patient import twin as phantom_twin
from twin.anatomy import decimation, edges, surface
from twin.journal import Journal, canonical_json
from twin.scan.load import load_volume
from twin.scan.phantom.dicom_series import write_series
from twin.scan.phantom.voxels import Scan, ScanGrid
from twin.scan.volume import Volume

SLICES = 120
GLOBAL_HU = 226.0  # the threshold of most planning programs
ENTRIES = 40


def jobs() -> Iterator[Job]:
    """The room's jobs; files and meshes live as long as their job."""
    with TemporaryDirectory(prefix="osteotwin-bench-") as folder:
        yield from series(Path(folder))
    yield from twin_build.jobs()
    yield surface_of_a_bone()
    yield decimated_bone()
    with TemporaryDirectory(prefix="osteotwin-bench-") as folder:
        yield journal(Path(folder))
    yield from twin_landmarks.jobs()
    for scan in twin_real.REAL:
        yield labelling(scan, lambda scan=scan: twin_real.real(scan))
    for kind in twin_real.HARD:
        yield labelling(f"phantom, {kind}", lambda kind=kind: twin_real.phantom(kind))


def series(folder: Path) -> Iterator[Job]:
    """A DICOM folder against SimpleITK's series reader and a loop over pydicom."""
    hu = np.random.default_rng(1).integers(-1000, 1500, (SLICES, 512, 512), dtype=np.int16)
    grid = ScanGrid(
        (512, 512, SLICES), 0.7, 0.8, np.array([-180.0, -150.0, -300.0]), *np.eye(3)[:2], np.array([0, 0, 0.8])
    )
    write_series(Scan(hu, np.zeros(0, np.uint8), grid), folder, seed=1, description="bench", identity="bench")

    def itk() -> tuple[Any, Any, Any]:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        return SimpleITK.GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin()

    def loop() -> tuple[Any, Any, Any]:
        slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
        stack = np.stack(
            [s.pixel_array.astype(np.int16) * int(s.RescaleSlope) + int(s.RescaleIntercept) for s in slices]
        )
        first = slices[0]
        step = float(slices[1].ImagePositionPatient[2] - first.ImagePositionPatient[2])
        return stack, (*map(float, first.PixelSpacing), step), tuple(map(float, first.ImagePositionPatient))

    def judge(ours: Volume, peer: tuple[Any, Any, Any]) -> Judgement:
        voxels, spacing, origin = peer
        off = max(np.abs(ours.grid.spacing_mm - spacing).max(), np.abs(ours.grid.origin_mm - origin).max())
        same = np.array_equal(ours.hu, voxels)
        return Judgement(
            bool(same and off < 1e-4), f"voxels {'equal' if same else 'DIFFERENT'}, grid within {off:.0e} mm"
        )

    ours = Side("load_volume (checks every header, hashes)", lambda: load_volume(folder))
    what = f"read a DICOM series, {SLICES} slices of 512 x 512"
    yield Job("twin", what, ours, Side("SimpleITK + GDCM sorting", itk), judge)
    yield Job("twin", what, ours, Side("pydicom loop", loop), judge)


def surface_of_a_bone() -> Job:
    """Label to surface at the true edge, against an isosurface at one HU for all."""
    scan = scanned()
    number = next(n for n, name in scan.labels.names.items() if name == BONE)
    box = surface.bounding_boxes(scan.labels.labels)[number]
    mask, hu, grid = surface.cropped(scan.volume, scan.labels, box, number)

    def ours() -> TriangleMesh[Any]:
        mesh = surface.rough(scan.labels, number, box)
        voxels, whole = scan.volume.hu, scan.volume.grid
        return edges.refine(mesh, voxels, whole, edges.calibrate([mesh], voxels, whole))

    def threshold() -> TriangleMesh[Any]:
        bone = (hu > GLOBAL_HU) & ndimage.binary_dilation(mask, iterations=2)
        parts, _ = ndimage.label(bone)
        bone = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        whole = ndimage.binary_fill_holes(bone)
        field = np.where(whole, np.where(bone, hu, 1000), np.minimum(hu, GLOBAL_HU)).astype(np.float32)
        mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor(field), [GLOBAL_HU + 0.5])
        points = grid.patient_from_index(mesh.vertex.positions.numpy().astype(float)).mm
        return TriangleMesh(points, mesh.triangle.indices.numpy().astype(np.int32))

    def judge(a: TriangleMesh[Any], b: TriangleMesh[Any]) -> Judgement:
        figures = {}
        for name, mesh in (("ours", a), ("peer", b)):
            error = scan.error_mm(mesh.vertices_mm)
            figures |= {f"{name}_mean_mm": float(error.mean()), f"{name}_p95_mm": float(np.quantile(error, 0.95))}
        close = figures["ours_mean_mm"] < 1.0 and figures["peer_mean_mm"] < 1.0
        words = "; ".join(
            f"{name} {figures[f'{name}_mean_mm']:.3f} mm off the true surface (95 %: {figures[f'{name}_p95_mm']:.2f})"
            for name in ("ours", "peer")
        )
        return Judgement(close, words, figures)

    return Job(
        "twin", "surface of L3, 0.5 x 0.5 x 0.8 mm", Side("edge fitted along profiles", ours),
        Side(f"fill + open3d isosurface at {GLOBAL_HU:.0f} HU", threshold), judge, rounds=3,
    )  # fmt: skip


def labelling(scan: str, run: Callable[[], list[twin_real.Row]]) -> Job:
    """The default segmenter, no labels and no seeds, against the truth or published masks."""

    def judge(found: list[twin_real.Row], _: None) -> Judgement:
        figures = {row.bone: row.dice for row in found}
        spine = [row.dice for row in found if row.bone.startswith("vertebrae")]
        others = ", ".join(
            f"{row.bone} {row.dice:.2f}" for row in found if row.bone in ("sacrum", "hip_left", "femur_right")
        )
        lowest = twin_real.worst(found)
        words = f"Dice of {len(spine)} vertebrae {np.mean(spine):.3f}, lowest {lowest.bone[10:]} {lowest.dice:.3f}"
        return Judgement(True, f"{words}; {others}", figures)

    return Job(
        "twin", f"label {scan}", Side("build_twin", run), None, judge, rounds=1,
        no_peer="none does it without trained weights",
    )  # fmt: skip


def decimated_bone() -> Job:
    """A quarter of the triangles: our own edge collapse against open3d's."""
    mesh = phantom_twin().bone(BONE).surface
    wanted = len(mesh.triangles) // 4
    legacy = as_open3d(mesh)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(legacy))

    def quadric() -> TriangleMesh[Any]:
        small = legacy.simplify_quadric_decimation(wanted)
        return TriangleMesh(np.asarray(small.vertices), np.asarray(small.triangles))

    def judge(a: TriangleMesh[Any], b: TriangleMesh[Any]) -> Judgement:
        figures: dict[str, float] = {}
        for name, small in (("ours", a), ("peer", b)):
            middles = small.vertices_mm[small.triangles].mean(axis=1)
            off = scene.compute_distance(o3d.core.Tensor(middles.astype(np.float32))).numpy()
            figures |= {f"{name}_triangles": len(small.triangles), f"{name}_mean_mm": float(off.mean())}
            figures[f"{name}_closed"] = float(small.is_closed)
        alike = all(
            abs(figures[f"{n}_triangles"] - wanted) < 0.05 * wanted and figures[f"{n}_mean_mm"] < 0.05
            for n in ("ours", "peer")
        )
        words = "; ".join(
            f"{n} {1e3 * figures[f'{n}_mean_mm']:.0f} um off, {'closed' if figures[f'{n}_closed'] else 'NOT CLOSED'}"
            for n in ("ours", "peer")
        )
        return Judgement(alike, words, figures)

    return Job(
        "twin", f"decimate {len(mesh.triangles) // 1000}k triangles to a quarter",
        Side("decimated", lambda: decimation.decimated(mesh, (wanted,))[0]),
        Side("open3d quadric", quadric), judge, rounds=3,
    )  # fmt: skip


def journal(folder: Path) -> Job:
    """Entries that are on the disk when `append` returns; the peer is a database that promises the same."""
    number = count()
    payloads = [
        {"kind": "move_screw", "id": f"L{n % 5 + 1}-left", "entry_mm": [n * 0.1, -3.25, 88.0]} for n in range(ENTRIES)
    ]

    def chain() -> list[Any]:
        with Journal(folder / f"{next(number)}.jsonl") as log:
            for payload in payloads:
                log.append("bench", "edit", payload)
            return [entry.payload for entry in log.entries()]

    def database() -> list[Any]:
        base = sqlite3.connect(folder / f"{next(number)}.db", isolation_level=None)
        try:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=FULL")
            base.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, author TEXT, kind TEXT, payload BLOB)")
            for payload in payloads:
                base.execute(
                    "INSERT INTO log (author, kind, payload) VALUES (?, ?, ?)",
                    ("bench", "edit", canonical_json(payload)),
                )
            rows = base.execute("SELECT payload FROM log ORDER BY seq").fetchall()
        finally:
            base.close()
        return [row[0] for row in rows]

    def judge(ours: list[Any], peer: list[Any]) -> Judgement:
        same = [canonical_json(p) for p in ours] == [bytes(p) for p in peer]
        return Judgement(same, f"{len(ours)} payloads read back {'equal' if same else 'DIFFERENT'}")

    return Job(
        "twin", f"log {ENTRIES} edits, each on the disk before the next", Side("journal (hash-chained, fsync)", chain),
        Side("sqlite3 WAL, synchronous=FULL", database), judge,
    )  # fmt: skip
