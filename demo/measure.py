"""The demo's numbers: what the line produced, held against the phantom's truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from demo.guiding import GuidedPatient
from demo.truth import landmark_errors, lordosis_deg, outline_distance_px, surface_error, true_grade
from spatial.rigid import Points, rotation_log
from twin.anatomy.twin import Twin
from twin.plan.cuts.reduction import planned_from_patient
from twin.plan.plan import Plan
from twin.scan.phantom.patient import Phantom

MASK_FRAMES = 3  # a true silhouette costs seconds; these many, spread over the stream, are compared


def measure_twin(phantom: Phantom, truth: Mapping[str, Any], twin: Twin) -> dict[str, Any]:
    """Symmetric surface error a bone and over the spine; landmark errors; volumes."""
    bones = {}
    for name in phantom.bone_names:
        if name in twin.bones:
            error = surface_error(phantom, name, twin.bone(name).surface)
            bones[name] = {"mean_mm": error.mean_mm, "p95_mm": error.p95_mm, "max_mm": error.max_mm}
    landmarks = landmark_errors(twin, truth["landmarks"])
    return {
        "mesh_error_mean_mm": float(np.mean([bone["mean_mm"] for bone in bones.values()])) if bones else None,
        "mesh_error_worst_mm": max((bone["mean_mm"] for bone in bones.values()), default=None),
        "mesh_error_bones": bones,
        "bones_missing": sorted(set(phantom.bone_names) - set(twin.bones)),
        "landmark_errors": landmarks,
    }


def measure_plan(phantom: Phantom, truth: Mapping[str, Any], twin: Twin, plan: Plan) -> dict[str, Any]:
    """Grades on the analytic bone; lordosis of the planned twin against the truth under the same motion; the hinge."""
    grades = {screw.id: true_grade(phantom, truth, screw) for screw in plan.screws.values()}
    out: dict[str, Any] = {
        "screw_grades": [grades[name]["grade"] for name in sorted(grades)],
        "screw_truth": grades,
        "osteotomy_error_deg": None,
        "hinge_error_mm": None,
    }
    if plan.osteotomies:
        cut = next(iter(plan.osteotomies.values()))
        motion = planned_from_patient(cut)
        true = {(m["bone"], m["name"]): m for m in truth["landmarks"]}
        heads = [np.asarray(m["position_mm"]) for m in true.values() if m["name"].startswith("femoral_head")]
        right = heads[0] - heads[1] if len(heads) == 2 else np.array([-1.0, 0.0, 0.0])
        right = right if right[0] < 0 else -right  # Patient's x runs to the left
        truth_normals = [
            np.asarray(true[("vertebrae_L1", "endplate_superior")]["direction"]),
            np.asarray(true[("sacrum", "endplate_superior")]["direction"]),
        ]
        mine = [twin.landmark("endplate_superior", bone).direction for bone in ("vertebrae_L1", "sacrum")]
        mine_normals = [m.unit for m in mine if m is not None]
        before = lordosis_deg(truth_normals[0], truth_normals[1], right)
        after_truth = lordosis_deg(motion.rotation @ truth_normals[0], truth_normals[1], right)
        after_mine = lordosis_deg(motion.rotation @ mine_normals[0], mine_normals[1], right)
        hinge = np.abs(phantom.distance_mm(cut.bone, cut.hinge.point_mm[None]))
        out |= {
            "osteotomy_error_deg": abs(after_mine - after_truth),
            "hinge_error_mm": float(hinge[0]),
            "lordosis_deg": {"before": before, "planned": after_mine, "planned_truth": after_truth},
            "osteotomy_angle_deg": float(np.degrees(cut.angle_rad)),
        }
    return out


def measure_guidance(guidance: GuidedPatient) -> dict[str, Any]:
    """Overlay error in px (silhouettes) and mm (screw tips), whether the predicted error held, the drill's read-out."""
    seen = sorted(guidance.masks)
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, MASK_FRAMES).astype(int))] if seen else []
    pixels = {n: outline_distance_px(guidance.masks[n], guidance.room.silhouette(n)) for n in chosen}
    pixels = {n: found for n, found in pixels.items() if np.isfinite(found).all()}
    tips = Points[Any](np.array([screw.tip.mm for screw in guidance.plan.screws.values()]))
    errors, held, drill = [], [], []
    for one in guidance.guided:
        pose = one.readout.camera_from_patient
        if pose is None:
            continue
        true = guidance.room.path[one.frame.index]
        errors.append(np.linalg.norm((pose.pose @ tips).mm - (true @ tips).mm, axis=1))
        target = guidance.plan.screws[guidance.screw].tip
        off = float(np.linalg.norm((pose.pose @ target).mm - (true @ target).mm))
        held.append(off <= (one.readout.tre95_mm or 0.0))
        if one.readout.patient_from_instrument is not None:
            real = guidance.room.patient_from_drill[one.frame.index]
            found = one.readout.patient_from_instrument.pose
            tip = np.asarray(guidance.room.camera.bodies[1].tip_mm)
            gap = found.rotation @ tip + found.translation_mm - real.rotation @ tip - real.translation_mm
            turn = np.degrees(np.linalg.norm(rotation_log(found.rotation @ real.rotation.T)))
            drill.append((float(np.linalg.norm(gap)), float(turn)))
    all_mm = np.concatenate(errors) if errors else np.zeros(0)
    return {
        "overlay_error_px": float(np.median([median for median, _, _ in pixels.values()])) if pixels else None,
        "overlay_error_mean_px": float(np.mean([mean for _, mean, _ in pixels.values()])) if pixels else None,
        "overlay_error_p95_px": float(max(p95 for _, _, p95 in pixels.values())) if pixels else None,
        "overlay_error_mm": float(np.median(all_mm)) if len(all_mm) else None,
        "overlay_error_p95_mm": float(np.quantile(all_mm, 0.95)) if len(all_mm) else None,
        "predicted_error_held": f"{sum(held)} of {len(held)} frames",
        "drill_tip_error_mm": float(np.median([mm for mm, _ in drill])) if drill else None,
        "drill_angle_error_deg": float(np.median([deg for _, deg in drill])) if drill else None,
    }
