"""What is told of a twin, as JSON and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from commands.console import tell

if TYPE_CHECKING:
    from twin.case import Case

AGREES = {True: "agrees", False: "CONTRADICTS", None: "has nothing to go by"}


def summary(case: Case) -> dict[str, Any]:
    """The keys that `twin build` and `twin inspect` have in common."""
    twin = case.twin
    bones = [
        {
            "name": bone.name,
            "volume_ml": round(bone.volume_ml, 3),
            "area_cm2": round(bone.surface.area_cm2, 2),
            "closed": bone.is_closed,
            "triangles": len(bone.surface.triangles),
        }
        for bone in twin.bones.values()
    ]
    return {
        "case": str(case.folder),
        "bones": bones,
        "levels": {
            "confidence": twin.levels.confidence,
            "confirmed_by": twin.levels.confirmed_by,
            "evidence": list(twin.levels.evidence),
            "transitional": twin.levels.transitional,
        },
        "sides": [{"check": one.check, "agrees": one.agrees, "words": one.words} for one in twin.sides],
        "fitness": None if twin.fitness is None else twin.fitness.to_json(),
        "structures": [
            {
                "name": one.name,
                "role": one.role,
                "source": one.source,
                "volume_ml": round(one.surface.volume_ml, 3),
                "triangles": len(one.surface.triangles),
            }
            for one in twin.structures.values()
        ],
        "surface_sd_mm": twin.surface_sd_mm,
        "warnings": list(twin.warnings),
    }


def tell_summary(found: dict[str, Any]) -> None:
    """The same in words."""
    for bone in found["bones"]:
        state = "closed" if bone["closed"] else "OPEN"
        size = f"{bone['volume_ml']:>8.1f} ml {bone['area_cm2']:>8.1f} cm2"
        tell(f"{bone['name']:<16} {size}  {state}  {bone['triangles']} triangles")
    sd_mm = found["surface_sd_mm"]
    spread = "their spread is not known" if sd_mm is None else f"a surface point errs by {sd_mm:.2f} mm (1 sd)"
    tell(f"Volumes and areas are those of the surfaces, with no uncertainty of their own; {spread}.")
    for one in found["structures"]:
        tell(f"{one['name']:<16} {one['volume_ml']:>8.1f} ml  {one['role']} structure, from {one['source']}")
    levels = found["levels"]
    tell(
        f"Levels: confidence {levels['confidence']:.2f}, "
        + (f"confirmed by {levels['confirmed_by']}" if levels["confirmed_by"] else "not confirmed")
        + (f", transitional: {levels['transitional']}" if levels["transitional"] else "")
    )
    tell(*(f"  - {line}" for line in levels["evidence"]))
    if found["sides"]:
        tell(
            "Left and right:",
            *(f"  - {one['check']} {AGREES[one['agrees']]}: {one['words']}" for one in found["sides"]),
        )
    for use, one in (found["fitness"] or {}).items():
        tell(
            f"{'Fit' if one['fit'] else 'NOT FIT'} to {use}{': ' if one['reasons'] else ''}{'; '.join(one['reasons'])}"
        )
    if found["fitness"] is None:
        tell("Fitness: not judged (no CT, or a case of an older version)")
    if found["warnings"]:
        tell("Warnings:", *(f"  - {warning}" for warning in found["warnings"]))


def landmark_words(landmarks: list[dict[str, Any]]) -> list[str]:
    """A line a landmark: where it is and how sure that is."""
    lines = ["Landmarks (patient LPS, mm; 1 sd a coordinate):"] if landmarks else ["Landmarks: none"]
    for mark in landmarks:
        x, y, z = mark["position_mm"]
        spread = "sd not known" if mark["sd_mm"] is None else f"sd {mark['sd_mm']:.1f} mm"
        lines.append(
            f"  {mark['bone']:<16} {mark['name']:<22} {mark.get('side', ''):<6} {x:8.1f} {y:8.1f} {z:8.1f}  {spread}"
        )
    return lines


def density_words(density: dict[str, Any] | None) -> list[str]:
    """A line a vertebral body: mean HU and the spread of its voxels."""
    if density is None:
        return ["Density: none (no CT)"]
    state = "calibrated" if density.get("calibrated") else "not calibrated"
    lines = [f"Density in HU, {state}; sd of the voxels:"]
    bodies = density.get("bodies", {})
    lines += [f"  {bone:<16} {body['mean_hu']:6.0f} HU  sd {body['sd_hu']:.0f}" for bone, body in bodies.items()]
    if density.get("reading"):
        lines.append(f"  read at {density['read_at']}: {density['reading']} ({density['source']})")
    return lines


def provenance_words(steps: list[dict[str, Any]], program: dict[str, Any] | None) -> list[str]:
    """A line a step: its settings and what went in."""
    lines = []
    for step in steps:
        settings = step.get("settings") or {
            key: step[key] for key in ("format", "slices", "thickness_mm") if key in step
        }
        told = [f"{key} {value}" for key, value in settings.items() if value is not None]
        told += [f"{what} sha256 {str(sha256)[:12]}…" for what, sha256 in (step.get("inputs_sha256") or {}).items()]
        lines.append(f"Made by: {step['step']}" + (f" ({', '.join(told)})" if told else ""))
    if program is not None:
        commit = f", commit {program['commit'][:12]}" if program.get("commit") else ""
        lines.append(f"Program: {program.get('name')} {program.get('version')}{commit}")
    return lines
