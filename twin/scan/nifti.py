"""NIfTI-1 (.nii, .nii.gz), read and written here because a truncated file must be refused, not padded with zeros.

NIfTI is RAS; everything that leaves this module is LPS. Reference: nifti1.h (NIMH, 2003); label names are stored as
TotalSegmentator stores them, in a header extension with a Caret label table.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array, quaternion_from_rotation, rotation_from_quaternion
from twin.scan.image_data import MOST_VOXELS, SLACK_BYTES, check_extent, inflate
from twin.scan.orientation import patient_from_index
from twin.scan.refusals import BadImage, BrokenFile
from twin.scan.volume import Grid

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
DISAGREEMENT_MM = 0.1
MOST_CODE = 5
FARTHEST_MM = 1e9  # beyond, a number is damage; it also keeps squares from overflowing
TURNED = 0.996  # cosine of 5 degrees: beyond, two matrices do not mean the same axes


def read_nifti(path: Path) -> tuple[NDArray[Any], Array, tuple[str, ...]]:
    """Voxels (k, j, i) with `scl_slope` applied, the (4, 4) map from (i, j, k) to LPS mm, and words of warning.

    Raises BrokenFile when bytes are missing, BadImage when it is not 3-D, of an odd type, or has no orientation.
    """
    data = _bytes(path)
    if len(data) < 348:
        raise BrokenFile(f"{len(data)} bytes, a NIfTI header has 348; is the copy complete?", path=path)
    order = next((o for o in "<>" if struct.unpack_from(o + "i", data)[0] == 348), None)
    if order is None or data[344:347] not in (b"n+1", b"ni1"):
        version2 = struct.unpack_from("<i", data)[0] == 540
        raise BadImage("NIfTI-2; convert it to NIfTI-1" if version2 else "no NIfTI-1 header", path=path)
    if data[344:347] == b"ni1":
        raise BadImage("header and voxels in two files (.hdr, .img); convert to one .nii.gz", path=path)
    dim = struct.unpack_from(order + "8h", data, 40)
    kind, bits = struct.unpack_from(order + "2h", data, 70)
    pixdim = struct.unpack_from(order + "8f", data, 76)
    offset, slope, intercept = struct.unpack_from(order + "3f", data, 108)
    if not 1 <= dim[0] <= 7:
        raise BadImage(f"{dim[0]} dimensions; is the header damaged?", path=path)
    extent = list(dim[1 : 1 + dim[0]])
    while len(extent) > 3 and extent[-1] == 1:
        extent.pop()
    check_extent(tuple(extent), path)
    if kind not in TYPES:
        raise BadImage(f"data type {kind} (colour, complex or bits); whole numbers or floats are needed", path=path)
    dtype = np.dtype(order + TYPES[kind])
    if bits != dtype.itemsize * 8:
        raise BadImage(f"{bits} bits a voxel for a type of {dtype.itemsize * 8}; is the header damaged?", path=path)
    if not all(np.isfinite(pixdim[:4])):
        raise BadImage("the voxel spacing (pixdim) is not finite", path=path)
    need = int(np.prod(extent, dtype=np.int64)) * dtype.itemsize
    if not np.isfinite(offset) or offset < 348 or len(data) - int(offset) < need:
        raise BrokenFile(
            f"voxels need {need} bytes, {max(0, len(data) - 352)} are there; is the copy complete?", path=path
        )
    values = np.frombuffer(data, dtype, int(np.prod(extent)), int(offset)).reshape(extent[::-1])
    if np.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0):
        values = values * np.float64(slope) + np.float64(intercept)
    matrix, notes = _matrix(data, order, pixdim, extent, path)
    scale = UNITS_MM.get(data[123] & 7, 1.0)
    if scale != 1.0:
        notes = (*notes, f"lengths are not in mm in the file; multiplied by {scale:g}")
    matrix[:3] *= scale
    return values, RAS_FROM_LPS @ matrix, notes


def write_nifti(path: Path, values: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (k, j, i) voxels on their grid (sform and qform alike), gzipped if the name ends so; atomic.

    `names` are written as a Caret label table, which TotalSegmentator and 3D Slicer read.
    """
    matrix = RAS_FROM_LPS @ patient_from_index(grid)
    code = next(k for k, t in TYPES.items() if np.dtype(t) == values.dtype)
    extension = b"" if names is None else _label_table(names)
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *grid.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, values.dtype.itemsize * 8)
    rotation = matrix[:3, :3] / grid.spacing_mm
    qfac = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    struct.pack_into("<8f", header, 76, qfac, *grid.spacing_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352 + len(extension), 1.0, 0.0)
    header[123] = 2  # mm
    quaternion = quaternion_from_rotation(rotation @ np.diag([1, 1, qfac]))
    quaternion = quaternion if quaternion[0] >= 0 else -quaternion
    struct.pack_into("<2h", header, 252, 1, 1)
    struct.pack_into("<6f", header, 256, *quaternion[1:], *matrix[:3, 3])
    struct.pack_into("<12f", header, 280, *matrix[:3].ravel())
    header[344:348] = b"n+1\0"
    payload = bytes(header) + (b"\1\0\0\0" if extension else b"\0\0\0\0") + extension
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    packed.write(payload)
                    packed.write(np.ascontiguousarray(values).data)
            else:
                raw.write(payload)
                raw.write(np.ascontiguousarray(values).data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes:
    """The file, inflated as far as its header announces voxels. Raises BrokenFile when the stream is cut or damaged."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return file.read(MOST_VOXELS * 8)
        head = inflate(file, 348, path)
        need = _announced(head)
        file.seek(0)
        data = inflate(file, need + SLACK_BYTES, path)
    if len(data) > need + SLACK_BYTES:
        raise BadImage(
            f"more voxels than the {need} bytes that the header announces; is the size in it wrong?", path=path
        )
    return data


def _announced(head: bytes) -> int:
    """Bytes from the file's start to the last voxel, by the header; little more than a header when it is none."""
    order = next((o for o in "<>" if len(head) >= 348 and struct.unpack_from(o + "i", head)[0] == 348), None)
    if order is None:
        return 1 << 20
    dim = struct.unpack_from(order + "8h", head, 40)
    bits = int(struct.unpack_from(order + "h", head, 72)[0])
    offset = float(struct.unpack_from(order + "f", head, 108)[0])
    voxels = min(MOST_VOXELS, int(np.prod([max(1, n) for n in dim[1 : 1 + max(0, min(dim[0], 7))]], dtype=object)))
    return int(offset if np.isfinite(offset) and 0 <= offset < 1 << 30 else 0) + voxels * max(0, min(bits, 128)) // 8


def _matrix(
    data: bytes, order: str, pixdim: tuple[float, ...], extent: list[int], path: Path
) -> tuple[Array, tuple[str, ...]]:
    """The RAS matrix: sform before qform (nifti1.h, method 3 before 2), with a word if they disagree."""
    qcode, scode = struct.unpack_from(order + "2h", data, 252)
    found: dict[str, Array] = {}
    if not (0 <= qcode <= MOST_CODE and 0 <= scode <= MOST_CODE):
        raise BadImage(f"qform code {qcode}, sform code {scode}; 0 to {MOST_CODE} can be", path=path)
    if scode > 0:
        found["sform"] = np.eye(4)
        found["sform"][:3] = np.array(struct.unpack_from(order + "12f", data, 280)).reshape(3, 4)
        if not np.isfinite(found["sform"]).all() or np.abs(found["sform"]).max() > FARTHEST_MM:
            raise BadImage("the orientation matrix holds values that are not finite", path=path)
    if qcode > 0:
        b, c, d, x, y, z = struct.unpack_from(order + "6f", data, 256)
        if not np.isfinite([b, c, d, x, y, z]).all() or max(abs(b), abs(c), abs(d)) > 1.001:
            raise BadImage("the qform is no rotation; is the header damaged?", path=path)
        a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
        matrix = np.eye(4)
        qfac = -1.0 if pixdim[0] < 0 else 1.0
        steps = np.array([pixdim[1], pixdim[2], pixdim[3] * qfac])
        matrix[:3, :3] = rotation_from_quaternion([a, b, c, d]) * steps
        matrix[:3, 3] = x, y, z
        found["qform"] = matrix
    if not found:
        raise BadImage(
            "neither sform nor qform is set, so left and right are unknown; export it again with orientation", path=path
        )
    if "sform" in found:
        _check_spacing(found["sform"], pixdim, path)
    notes: tuple[str, ...] = ()
    if len(found) == 2:
        corners = np.array(
            [[i, j, k, 1.0] for i in (0, extent[0] - 1) for j in (0, extent[1] - 1) for k in (0, extent[2] - 1)]
        )
        apart = float(np.linalg.norm((corners @ (found["sform"] - found["qform"]).T)[:, :3], axis=1).max())
        turned = found["sform"][:3, :3].T @ found["qform"][:3, :3]
        likeness = np.diag(turned) / np.maximum(
            np.linalg.norm(found["sform"][:3, :3], axis=0) * np.linalg.norm(found["qform"][:3, :3], axis=0), 1e-12
        )
        if (likeness < TURNED).any():
            raise BadImage(
                "sform and qform give the axes other directions, so left and right are unknown; export it again",
                path=path,
            )
        if apart > DISAGREEMENT_MM:
            notes = (f"sform and qform disagree by up to {apart:.1f} mm; the sform was taken",)
    return next(iter(found.values())), notes


def _check_spacing(sform: Array, pixdim: tuple[float, ...], path: Path) -> None:
    """Raise BadImage when the sform's steps are not those of `pixdim` (a sheared sform has its own)."""
    steps = np.linalg.norm(sform[:3, :3], axis=0)
    axes = sform[:3, :3] / np.maximum(steps, 1e-12)
    is_sheared = np.abs(axes.T @ axes - np.eye(3)).max() > 0.01
    given = np.abs(np.array(pixdim[1:4]))
    if not is_sheared and (np.abs(steps - given) > 1e-3 * np.maximum(steps, given)).any():
        said = f"pixdim {np.round(given, 4).tolist()} mm, sform {np.round(steps, 4).tolist()} mm"
        raise BadImage(f"the voxel spacing is told in two ways ({said}); which is right?", path=path)


def _label_table(names: Mapping[int, str]) -> bytes:
    colours = [(230, 205, 165), (205, 120, 95), (130, 170, 205), (170, 200, 130), (215, 180, 90), (175, 140, 195)]
    rows = []
    for number, name in names.items():
        r, g, b = (c / 255 for c in colours[number % len(colours)])
        rows.append(
            f'<Label Key="{number}" Red="{r:.4f}" Green="{g:.4f}" Blue="{b:.4f}" Alpha="1">'
            f"<![CDATA[{escape(name)}]]></Label>"
        )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        + "\n".join(rows)
        + "\n</LabelTable><StudyMetaDataLinkSet></StudyMetaDataLinkSet><VolumeType><![CDATA[Label]]></VolumeType>"
        "</VolumeInformation></CaretExtension>"
    ).encode()
    size = -(-(len(xml) + 8) // 16) * 16  # extensions come in multiples of 16 bytes
    return struct.pack("<ii", size, 0) + xml.ljust(size - 8)
