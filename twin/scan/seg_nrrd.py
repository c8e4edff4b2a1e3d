"""3D Slicer's segmentations (`.seg.nrrd`): named segments, also in overlapping layers.

Format: Slicer documentation, developer guide, "Segmentations module: file format"; NRRD as in `twin.scan.nrrd`.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.scan import codes
from twin.scan.label_layer import Layer, coded
from twin.scan.label_names import nrrd_fields
from twin.scan.numbering import bone_named
from twin.scan.orientation import Turn
from twin.scan.refusals import BadLabels, BrokenFile

LIMIT_BYTES = 8 << 30
TYPES = {
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1", "signed char": "i1", "int8": "i1",
    "short": "i2", "int16": "i2", "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "int": "i4", "int32": "i4",
}  # fmt: skip
LPS_FROM = {
    "left-posterior-superior": (1.0, 1.0, 1.0), "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0), "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0), "las": (1.0, -1.0, 1.0),
}  # fmt: skip


def is_segmentation(path: Path) -> bool:
    """Whether an NRRD file names segments as Slicer does."""
    return path.name.lower().endswith((".nrrd", ".nhdr")) and "Segment0_ID" in nrrd_fields(path)[1]


def read_segmentation(path: Path, notes: list[str]) -> tuple[Layer, ...]:
    """The layers of a segmentation, each with its segments' names. Raises BadLabels, BrokenFile."""
    fields, pairs, length = nrrd_fields(path)
    values, matrix = _voxels(path, fields, length)
    words: dict[int, dict[int, str]] = {}
    count = len([key for key in pairs if re.fullmatch(r"Segment\d+_ID", key)])
    for n in range(count):
        try:
            layer, number = int(pairs.get(f"Segment{n}_Layer", "0")), int(pairs.get(f"Segment{n}_LabelValue", "1"))
        except ValueError:
            raise BadLabels(f"Segment{n} has no number for its layer or label", path=path) from None
        name = pairs.get(f"Segment{n}_Name", pairs[f"Segment{n}_ID"])
        words.setdefault(layer, {})[number] = meant(name, *_terms(pairs.get(f"Segment{n}_Tags", "")), path)
    layers = []
    for layer, block in enumerate(values):
        if layer not in words:
            notes.append(f"layer {layer} of the segmentation has no segment and is left out")
            continue
        codes_here, numbers = coded(np.ascontiguousarray(block), path)
        named = {code: words[layer][number] for code, number in numbers.items() if number in words[layer]}
        if len(named) < len(numbers):
            notes.append(f"{len(numbers) - len(named)} numbers of layer {layer} belong to no segment and are left out")
        layers.append(Layer(codes_here, matrix, {code: numbers[code] for code in named}, named))
    return tuple(layers)


def meant(label: str, kind: codes.Term | None, modifiers: list[codes.Term], path: Path) -> str:
    """What a segment is: its coded term where we know it, else its label; raises BadLabels when they name two bones."""
    by_label = bone_named(label)
    by_code = None if kind is None else codes.named(kind, modifiers)
    coded_bone = bone_named(by_code or "")
    if by_label and coded_bone and by_label != coded_bone:
        raise BadLabels(f"a segment is called {by_label} but its code says {coded_bone}; which is it?", path=path)
    return by_label or by_code or label


def _terms(tags: str) -> tuple[codes.Term | None, list[codes.Term]]:
    """Type and modifier of a terminology entry: `context~category~type~modifier~region context~region~modifier`."""
    entry = next((t.partition(":")[2] for t in tags.split("|") if t.startswith("TerminologyEntry:")), "")
    parts = [part.split("^") for part in entry.split("~")]
    terms = [codes.Term(p[0], p[1], p[2]) if len(p) == 3 and p[1] else None for p in parts]
    kind = terms[2] if len(terms) > 2 else None
    return kind, [term for term in terms[3:4] if term is not None]


def _voxels(path: Path, fields: dict[str, str], length: int) -> tuple[NDArray[Any], Array]:
    """Voxels (layer, k, j, i), right-handed, and their (4, 4) map."""
    try:
        sizes = [int(n) for n in fields["sizes"].split()]
        kinds = fields.get("kinds", "").split() or ["domain"] * len(sizes)
        dtype = np.dtype(TYPES[fields["type"].lower()]).newbyteorder("<" if fields.get("endian") != "big" else ">")
        sign = np.array(LPS_FROM[fields["space"].lower()])
        steps = [
            np.array([float(x) for x in text.split(",")])
            for text in re.findall(r"\(([^)]*)\)", fields["space directions"])
        ]
        origin = np.array([float(x) for x in fields["space origin"].strip("() ").split(",")])
        encoding = fields["encoding"].lower()
    except (KeyError, ValueError) as error:
        raise BadLabels(f"the header lacks or spoils {error}; was it made by 3D Slicer?", path=path) from None
    listed = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space")]
    if len(sizes) - len(listed) != 3 or len(steps) != 3 or len(listed) > 1 or "data file" in fields:
        raise BadLabels(
            f"{len(sizes)} axes ({' '.join(kinds)}) in one file; three in space and layers can be", path=path
        )
    if encoding not in ("raw", "gzip", "gz"):
        raise BadLabels(f"encoding {encoding}; raw or gzip can be read", path=path)
    need = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    if min(sizes) < 1 or need > LIMIT_BYTES:
        raise BadLabels(f"{' x '.join(map(str, sizes))} voxels; the limit is {LIMIT_BYTES >> 30} GB", path=path)
    with path.open("rb") as file:
        file.seek(length)
        data = file.read(need + 1) if encoding == "raw" else b""
        if encoding != "raw":
            unpack = zlib.decompressobj(31)
            try:
                data = unpack.decompress(file.read(), need + 1)
            except zlib.error as error:
                raise BrokenFile(f"the compressed data are damaged ({error})", path=path) from None
    if len(data) < need:
        raise BrokenFile(f"voxels need {need} bytes, {len(data)} are there; is the copy complete?", path=path)
    values = np.frombuffer(data, dtype, need // dtype.itemsize).reshape(sizes[::-1])
    values = np.moveaxis(values, len(sizes) - 1 - listed[0], 0) if listed else values[None]
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(steps) * sign[:, None]
    matrix[:3, 3] = origin * sign
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise BadLabels("the space directions span no volume; is the header damaged?", path=path)
    if np.linalg.det(matrix[:3, :3]) < 0:
        mirror = Turn((0, 1, 2), (True, False, False))
        matrix = mirror.affine(values.shape[:0:-1], matrix)
        values = values[..., ::-1]
    return values, matrix
