"""A 3-D image file (NIfTI, NRRD, MetaImage): voxels and their place, right-handed, whatever the file's axes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.progress import Progress, silent
from spatial.rigid import Array
from twin.scan.coverage import bone_at_edge
from twin.scan.digest import content_sha256
from twin.scan.fitness import Facts, judge_fitness
from twin.scan.gaps import coarse
from twin.scan.metaimage import read_metaimage
from twin.scan.nifti import read_nifti
from twin.scan.nrrd_image import read_nrrd_image
from twin.scan.orientation import Turn, lps_volume
from twin.scan.refusals import BadImage, BrokenFile, NoScan, NotHounsfield
from twin.scan.stored import AIR_HU
from twin.scan.volume import Grid, Volume
from twin.scan.voxels import check_range

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
SHEAR_LIMIT = 1e-3


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels (k, j, i) of any number type on a right-handed grid, with words of warning."""

    grid: Grid
    values: NDArray[Any]
    warnings: tuple[str, ...] = ()


def is_image_file(path: Path) -> bool:
    """Whether the name is that of a NIfTI, NRRD or MetaImage file."""
    return path.name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """The file's name without `.nii.gz` or whatever it ends with."""
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(e)), "")
    return path.name[: len(path.name) - len(ending)]


def read_placed(path: Path) -> tuple[NDArray[Any], Array, tuple[str, ...]]:
    """Voxels (k, j, i), the (4, 4) map from (i, j, k) to LPS mm (it may shear, but does not mirror), words of warning.

    A left-handed file is flipped along i. Raises BadImage, BrokenFile, NoScan.
    """
    if not path.is_file():
        raise NoScan("there is no such file", path=path)
    if path.stat().st_size == 0:
        raise BrokenFile("the file is empty; was the copy interrupted?", path=path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        values, matrix, notes = read_nifti(path)
    else:
        is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
        values, matrix, notes = read_nrrd_image(path) if is_nrrd else read_metaimage(path)
    if np.linalg.det(matrix[:3, :3]) < 0:
        mirror = Turn((0, 1, 2), (True, False, False))
        matrix = mirror.affine(values.shape[::-1], matrix)
        values = mirror.array(values)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or (spacing <= 1e-6).any():
        raise BadImage(f"voxel spacing {np.round(spacing, 6).tolist()} mm; is the header damaged?", path=path)
    return values, matrix, notes


def read_image(path: Path) -> Image:
    """Read any of the formats onto a grid. Raises BadImage (a sheared file too), BrokenFile, NoScan."""
    values, matrix, notes = read_placed(path)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = matrix[:3, :3] / spacing
    skewed = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if skewed > SHEAR_LIMIT:
        raise BadImage(
            f"axes are {np.degrees(np.arcsin(min(1.0, skewed))):.1f} degrees off perpendicular (a gantry tilt kept as "
            "shear?); resample it upright or give the DICOM series",
            path=path,
        )
    u, _, vt = np.linalg.svd(axes)
    size = (values.shape[2], values.shape[1], values.shape[0])
    return Image(Grid(size, spacing, matrix[:3, 3], u @ vt), values, notes)


def load_image(
    path: Path, progress: Progress = silent, *, surgery_since: date | None = None, today: date | None = None
) -> Volume:
    """A CT from an image file. Raises NotHounsfield when its values can't be HU, SingleSlice-like faults by shape."""
    progress("reading image", 0.1)
    image = read_image(path)
    if image.values.shape[0] < 2 or min(image.values.shape) < 2:
        raise BadImage(f"{image.values.shape[::-1]} voxels; one slice is no volume", path=path)
    values, notes = image.values, list(image.warnings)
    if values.dtype.kind == "f":
        lost = ~np.isfinite(values)
        share = float(lost.mean())
        if share > 0.5:
            raise BadImage(f"{share:.0%} of the voxels are not finite", path=path)
        if share > 0:
            notes.append(f"{int(lost.sum())} voxels are not finite; set to {AIR_HU} HU")
        values = np.rint(np.where(lost, AIR_HU, values))
    low, high = float(values.min()), float(values.max())
    if low < -32768 or high > 32767:
        raise NotHounsfield(f"values from {low:.0f} to {high:.0f}, HU lie between -32768 and 32767", path=path)
    hu = np.ascontiguousarray(values, np.int16)
    if not hu.flags.owndata or not hu.flags.writeable:
        hu = hu.copy()
    try:
        notes.extend(check_range(hu))
    except NotHounsfield as fault:
        raise NotHounsfield(fault.message, path=path) from None
    progress("reading image", 1.0)
    about = {
        "format": {".gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD"}.get(
            path.suffix.lower(), "MetaImage"
        ),
        "stored_as": str(image.values.dtype),
        "slices": hu.shape[0],
        "content_sha256": content_sha256(image.grid, hu),
    }
    notes.extend(coarse(float(image.grid.spacing_mm.max())))
    spacing = image.grid.spacing_mm
    facts = Facts(
        slice_mm=float(spacing.max()),
        pixel_mm=float(np.sort(spacing)[1]),
        cover_mm=float(spacing[2] * hu.shape[0]),
        slices=hu.shape[0],
        edge_share=bone_at_edge(hu),
    )
    fitness = judge_fitness(facts, today=today or date.today(), surgery_since=surgery_since)
    return Volume(image.grid, hu, about, tuple(notes), fitness)


def describe_image(path: Path, thumbnail: Path | None = None) -> dict[str, Any]:
    """An image file in the form of `scan list --json`: a series without UID, with its problems; draws `thumbnail`."""
    entry: dict[str, Any] = {"uid": "", "description": path.name, "modality": "CT", "slices": 0, "size": None}
    try:
        volume = load_image(path)
    except Fault as fault:
        return entry | {"spacing_mm": None, "usable": False, "problems": [str(fault)], "fitness": None}
    grid = volume.grid
    entry |= {"slices": grid.size[2], "size": list(grid.size), "spacing_mm": grid.spacing_mm.tolist()}
    fitness = None if volume.fitness is None else volume.fitness.to_json()
    if thumbnail is not None:
        from twin.scan.thumbnails import draw_volume_thumbnail

        upright = lps_volume(volume)
        draw_volume_thumbnail(upright.hu, upright.grid.spacing_mm.tolist(), thumbnail)
        entry["thumbnail"] = str(thumbnail)
    return entry | {"usable": True, "problems": list(volume.warnings), "fitness": fitness}
