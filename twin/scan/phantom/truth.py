"""truth.json: everything about the phantom that an estimate can be held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.limb_measures import METHODS, leg_angles, leg_landmarks
from twin.scan.phantom.measures import alignment, landmarks, pedicles, scoliosis, volume_ml
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.solids import F64
from twin.scan.phantom.voxels import LABELS

KINDS = ("round_cone", "ellipsoid", "box", "half_space", "body", "pedicle", "sheet", "cylinder", "merge")
OPERATIONS = ("union", "subtract", "intersect", "open")


def options_of(anatomy: Anatomy) -> dict[str, Any]:
    """What a patient was asked to be; what is usual is left out, save for the region and osteoporosis."""
    unusual = {
        "scoliosis_deg": anatomy.scoliosis_deg, "transitional": anatomy.transitional, "metal": anatomy.metal,
        "contrast": anatomy.contrast, "sides": list(anatomy.sides) if len(anatomy.sides) == 1 else None,
    }  # fmt: skip
    return {"anatomy": anatomy.region, "osteoporosis": anatomy.osteoporosis, **{k: v for k, v in unusual.items() if v}}


def _list(values: F64, digits: int = 4) -> list[float]:
    return [round(float(v), digits) for v in values]


def truth(phantom: Phantom, options: dict[str, Any] | None = None, *, surfaces: bool = True) -> dict[str, Any]:
    """The document, ready for JSON. Points are patient LPS mm; directions are unit vectors."""
    necks = pedicles(phantom)
    marks = [*landmarks(phantom, necks), *leg_landmarks(phantom)]
    anatomy = phantom.anatomy
    document: dict[str, Any] = {
        "schema": 1,
        "seed": anatomy.seed,
        "options": {**options_of(anatomy), **(options or {})},
        "pedicles": [
            {
                "bone": n.bone, "side": n.side, "isthmus_mm": _list(n.isthmus_mm), "direction": _list(n.direction, 6),
                "width_mm": round(n.width_mm, 3), "height_mm": round(n.height_mm, 3),
            }
            for n in necks
        ],
        "landmarks": [
            {
                "name": m.name, "bone": m.bone, **({"side": m.side} if m.side else {}),
                "position_mm": _list(m.position_mm),
                **({} if m.direction is None else {"direction": _list(m.direction, 6)}),
                **({} if m.radius_mm is None else {"radius_mm": round(m.radius_mm, 3)}), "sd_mm": 0.0,
            }
            for m in marks
        ],
        "bones": {
            name: {"volume_ml": round(volume_ml(phantom, name), 3), "label": LABELS[name]}
            for name in phantom.bone_names
        },
        "volume_error_percent": 0.1,
        "alignment": {"posture": "supine", **{k: round(v, 3) for k, v in alignment(marks).items()}},
        "density": {
            "cortical_hu": anatomy.cortical_hu,
            "trabecular_hu": {
                name: round(float(phantom.bones.table[phantom.bones.starts[n], 4]), 2)
                for n, name in enumerate(phantom.bone_names)
            },
            "cortex_mm": {"least": round(0.6 * anatomy.cortex_scale, 2), "most": round(3.0 * anatomy.cortex_scale, 2)},
        },
        "facet_gap_mm": {s.size.level: round(s.size.facet_gap_mm, 3) for s in phantom.stands},
    }  # fmt: skip
    if phantom.legs:
        document["legs"] = {
            leg.side: {k: round(v, 3) for k, v in leg_angles(phantom, leg, marks).items()} for leg in phantom.legs
        }  # fmt: skip
        document["leg_methods"] = METHODS
    if phantom.metal is not None:
        inside = replace(phantom, bones=phantom.metal.shapes, _grids={}, _distances={})
        document["metal"] = [
            {
                "name": m.name, "kind": m.kind, "bone": m.bone, "side": m.side, "start_mm": _list(m.start_mm),
                "end_mm": _list(m.end_mm), "diameter_mm": round(m.diameter_mm, 3),
                "volume_ml": round(volume_ml(inside, m.name), 3), "true_hu": m.hu,
            }
            for m in phantom.metal.pieces
        ]  # fmt: skip
    if anatomy.transitional:
        document["transitional"] = anatomy.transitional
    if anatomy.scoliosis_deg:
        cobb = scoliosis(marks)
        document["alignment"] |= {"cobb_deg": round(cobb.projected_deg, 3), "cobb_3d_deg": round(cobb.spatial_deg, 3)}
        apex = max(phantom.stands, key=lambda s: (1 if cobb.convex == "left" else -1) * float(s.body.origin[0]))
        front = -apex.body.rotation[:, 1]
        document["scoliosis"] = {
            "asked_deg": anatomy.scoliosis_deg, "upper": cobb.upper, "lower": cobb.lower, "convex": cobb.convex,
            "apex": f"vertebrae_{apex.size.level}",
            "apical_rotation_deg": round(abs(float(np.degrees(np.arctan2(front[0], -front[1])))), 2),
        }  # fmt: skip
    if surfaces:
        document["surfaces"] = {
            "convention": "rows folded in order; see twin/scan/phantom/shapes.py; rotation rows are the local axes",
            "lipschitz": shapes.LIPSCHITZ,
            "outline_mm": _list(phantom.bones.outline, 4),
            "bones": {name: _rows(phantom, n) for n, name in enumerate(phantom.bone_names)},
        }
    return document


def _rows(phantom: Phantom, bone: int) -> list[dict[str, Any]]:
    rows = phantom.bones.table[phantom.bones.starts[bone] : phantom.bones.starts[bone + 1]]
    found = []
    for row in rows:
        parameters = np.trim_zeros(row[shapes.PARAMETERS :], "b")
        found.append(
            {
                "kind": KINDS[int(row[0])], "operation": OPERATIONS[int(row[1])], "k_mm": round(float(row[2]), 6),
                "cortex_mm": round(float(row[3]), 6), "trabecular_hu": round(float(row[4]), 4),
                "origin_mm": _list(row[5:8], 6), "rotation": _list(row[8:17], 9), "parameters": _list(parameters, 6),
            }
        )  # fmt: skip
    return found
