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
    tell(levels_words(levels))
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


def levels_words(levels: dict[str, Any]) -> str:
    """How sure the levels are, who confirmed them, and a vertebra beyond the usual count."""
    return (
        f"Levels: confidence {levels['confidence']:.2f}, "
        + (f"confirmed by {levels['confirmed_by']}" if levels["confirmed_by"] else "not confirmed")
        + (f", transitional: {levels['transitional']}" if levels.get("transitional") else "")
    )


def landmark_words(landmarks: list[dict[str, Any]]) -> list[str]:
    """A line a landmark: where it is and how sure that is."""
    lines = ["Landmarks (patient LPS, mm; 1 sd a coordinate):"] if landmarks else ["Landmarks: none"]
    for mark in landmarks:
        x, y, z = mark["position_mm"]
        spread = "sd not known" if mark["sd_mm"] is None else f"sd {mark['sd_mm']:.1f} mm"
        if mark.get("sd_deg") is not None:
            spread += f", direction {mark['sd_deg']:.1f} deg"
        if mark.get("note"):
            spread += f" ({mark['note']})"
        lines.append(
            f"  {mark['bone']:<16} {mark['name']:<22} {mark.get('side', ''):<6} {x:8.1f} {y:8.1f} {z:8.1f}  {spread}"
        )
    return lines


def density_words(density: dict[str, Any] | None) -> list[str]:
    """A line a vertebral body: mean HU, its standard error, the spread of its voxels; then the reading or why none."""
    if density is None:
        return ["Density: none (no CT)"]
    made = [f"{density['kvp']:g} kVp" if density.get("kvp") else "tube voltage not known"]
    made += [f"kernel {density['kernel']}"] if density.get("kernel") else []
    made += ["contrast medium"] if density.get("contrast") else []
    state = "calibrated" if density.get("calibrated") else "not calibrated"
    lines = [f"Density in HU ({', '.join(made)}), {state}: {density.get('calibration', 'no phantom is known')}"]
    for bone, body in density.get("bodies", {}).items():
        error = f" ± {body['sem_hu']:.0f}" if "sem_hu" in body else ""
        line = f"  {bone:<16} {body['mean_hu']:6.0f}{error} HU  sd of the voxels {body['sd_hu']:.0f}"
        if "qct_mg_cc" in body:
            line += f"  {body['qct_mg_cc']:.0f} ± {body['qct_sd_mg_cc']:.0f} mg/cc {density['equivalent']}"
        lines.append(line + (f"  not read: {body['excluded']}" if "excluded" in body else ""))
    if density.get("reading"):
        score = f", T (HU) {density['t_hu']:.1f} ± {density['t_hu_sd']:.1f}" if "t_hu_sd" in density else ""
        lines.append(f"  read at {density['read_at']}: {density['reading']}{score} ({density['source']})")
        lines += [f"  - {flag}" for flag in density.get("flags", ())]
    elif density.get("no_reading"):
        lines.append(f"  no reading: {density['no_reading']}")
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
