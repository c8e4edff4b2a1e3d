"""glTF 2.0 binary (.glb), for viewers: a node a bone. The format prescribes metres and y up; the root node converts."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spatial.mesh import TriangleMesh

BONE_RGBA = [0.89, 0.85, 0.76, 1.0]
GLTF_FROM_PATIENT = np.array(  # x left, y cranial, z anterior, metres: a patient who faces the viewer (glTF 2.0, 3.4)
    [[0.001, 0, 0, 0], [0, 0, 0.001, 0], [0, -0.001, 0, 0], [0, 0, 0, 1.0]]
)


def glb_bytes(
    meshes: Mapping[str, TriangleMesh[Any]],
    rgba: Mapping[str, Sequence[float]] | None = None,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
) -> bytes:
    """All meshes in one file; vertices stay LPS mm (float32), named by bone, each with its material.

    `rgba` are colours as a display shows them (glTF wants them linear), `notes` become the nodes' `extras`.
    """
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    materials: list[dict[str, Any]] = []
    payload = bytearray()

    def add(values: Any, target: int, component: int, kind: str, bounds: bool) -> int:
        views.append({"buffer": 0, "byteOffset": len(payload), "byteLength": values.nbytes, "target": target})
        payload.extend(values.tobytes())
        accessor: dict[str, Any] = {"bufferView": len(views) - 1, "componentType": component, "type": kind}
        accessor["count"] = len(values)
        if bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        accessors.append(accessor)
        return len(accessors) - 1

    for name, mesh in meshes.items():
        positions = np.ascontiguousarray(mesh.vertices_mm, "<f4")
        normals = np.ascontiguousarray(mesh.vertex_normals, "<f4")
        attributes = {
            "POSITION": add(positions, 34962, 5126, "VEC3", True),
            "NORMAL": add(normals, 34962, 5126, "VEC3", False),
        }
        indices = add(np.ascontiguousarray(mesh.triangles.ravel(), "<u4"), 34963, 5125, "SCALAR", False)
        shapes.append(
            {"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": len(materials)}]}
        )
        materials.append(_material(name, BONE_RGBA if rgba is None else rgba.get(name, BONE_RGBA)))
        more = {} if notes is None or name not in notes else {"extras": dict(notes[name])}
        nodes.append({"name": name, "mesh": len(shapes) - 1, **more})
    root = {"name": "patient", "children": list(range(len(nodes))), "matrix": GLTF_FROM_PATIENT.T.ravel().tolist()}
    document = {
        "asset": {"version": "2.0", "generator": "osteotwin"},
        "scene": 0,
        "scenes": [{"nodes": [len(nodes)]}],
        "nodes": [*nodes, {**root, "extras": {"mesh_frame": "DICOM patient LPS", "mesh_unit": "mm"}}],
        "meshes": shapes,
        "materials": materials,
        "buffers": [{"byteLength": len(payload)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    payload.extend(b"\0" * (-len(payload) % 4))
    total = 12 + 8 + len(text) + 8 + len(payload)
    return (
        struct.pack("<4sII", b"glTF", 2, total)
        + struct.pack("<I4s", len(text), b"JSON") + text
        + struct.pack("<I4s", len(payload), b"BIN\0") + bytes(payload)
    )  # fmt: skip


def _material(name: str, rgba: Sequence[float]) -> dict[str, Any]:
    """glTF 2.0, 3.9: base colours are linear; what is seen through is blended and has no back to hide."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    made: dict[str, Any] = {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorFactor": [*(round(c, 6) for c in linear), rgba[3]],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.7,
        },
    }
    return made if rgba[3] == 1.0 else {**made, "alphaMode": "BLEND", "doubleSided": True}
