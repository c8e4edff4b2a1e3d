"""What `osteotwin plan` says of screws and cuts: JSON-able reports, and the same in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from commands.cut_words import consequence_report, consequence_words

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin
    from twin.case import Case
    from twin.plan.cuts.osteotomy import Osteotomy
    from twin.plan.plan import Plan
    from twin.plan.screws.grade import ScrewGrade
    from twin.plan.screws.screw import Screw

NEAR_MM = 5.0  # a critical structure farther from a screw than this is not worth a line of words


def uncertainty(twin: Twin) -> str:
    """What is known of the error of distances on this twin, and whether its scan is unfit for planning."""
    unfit = ""
    if twin.fitness is not None and not twin.fitness.plan.fit:
        unfit = f". WARNING: the scan is not fit for planning ({'; '.join(twin.fitness.plan.reasons)})"
    if twin.surface_sd_mm is None:
        return f"none stated: measured on the twin, whose own error is not in these numbers{unfit}"
    return f"distances to bone: sd {twin.surface_sd_mm:.2f} mm from the scan's resolution; nothing else is in it{unfit}"


def conflicts(found: Plan) -> list[str]:
    """What of a plan does not go together."""
    from twin.plan.coherence import conflicts as incoherent

    return incoherent(found)


def intrusions(screws: list[dict[str, Any]]) -> list[str]:
    """Screws that enter a critical structure, of their reports."""
    return [
        f"{s['id']} enters {c['name']} (critical) by {-c['distance_mm']:.1f} mm"
        for s in screws
        for c in s["structures"]
        if c["role"] == "critical" and c["distance_mm"] < 0
    ]


def screw_report(screw: Screw, grade: ScrewGrade) -> dict[str, Any]:
    """A screw with its grade."""
    return {**screw.to_json(), "kind": screw.kind, "family": screw.family_name, **grade.to_json()}


def screw_words(s: dict[str, Any]) -> str:
    """A screw's report in a line; of the structures those that are near."""
    margins = ", ".join(f"{name} {value:.1f}" for name, value in s["margin_mm"].items())
    breach = f", breach {s['breach_mm']:.1f} mm {s['breach_direction']}" if s["breach_direction"] else ""
    sd = "" if s["margin_sd_mm"] is None else f" (sd {s['margin_sd_mm']:.2f})"
    near = [c for c in s["structures"] if c["distance_mm"] < NEAR_MM or c["role"] == "target"]
    beside = "".join(
        f"; INSIDE {c['name']} ({c['role']}) by {-c['distance_mm']:.1f} mm"
        if c["distance_mm"] < 0
        else f"; {c['name']} ({c['role']}) {c['distance_mm']:.1f} mm away"
        for c in near
    )
    size = f"{s['diameter_mm']:g} x {s['length_mm']:g} mm"
    return f"{s['id']}: {size}, grade {s['grade']}{breach}; margins mm{sd}: {margins}{beside}{_facet_and_hold(s)}"


def _facet_and_hold(s: dict[str, Any]) -> str:
    """A violated facet joint, and the hold with its interval and what it is worth."""
    facet: dict[str, Any] = s.get("facet") or {}
    hold = s.get("hold_n")
    words = f"; {facet['violated_by']} in the facet joint with {facet['neighbour']}" if facet.get("violated_by") else ""
    if hold is not None:
        words += f"; hold {hold[1]:.0f} N ({hold[0]:.0f} to {hold[2]:.0f}; {s['hold_status']})"
    return words


def caution(twin: Twin) -> list[str]:
    """What every plan in words ends with."""
    return [f"Uncertainty: {uncertainty(twin)}.", "A research tool, not a medical device: not for treatment."]


def osteotomy_report(case: Case, cut: Osteotomy) -> dict[str, Any]:
    """The osteotomy carried out on its own: volumes, who moves, and the alignment before and after."""
    from twin.plan.cuts.chain import is_spine
    from twin.plan.cuts.reduction import fragments, planned_landmarks
    from twin.plan.measures.alignment import measure_alignment
    from twin.plan.screws.clearance import crossed

    done = fragments(case.twin, cut)
    before = measure_alignment(case.twin.landmarks)
    after = measure_alignment(planned_landmarks(case.twin, [cut]))
    was, will = before.lumbar_lordosis_deg, after.lumbar_lordosis_deg
    wedge = done.pieces.wedge
    moved, stayed = done.pieces.moving.volume_ml, done.pieces.staying.volume_ml
    through = crossed(case.twin, cut.bone, cut.planes)
    return {
        **cut.to_json(),
        "wedge_height_mm": cut.wedge_height_mm,
        "moving_ml": moved,
        "staying_ml": stayed,
        **({"cranial_ml": moved, "caudal_ml": stayed} if is_spine(cut.bone) else {}),
        "wedge_ml": wedge.volume_ml if len(wedge.triangles) else 0.0,
        "removed_ml": done.removed_ml,
        "passes_through": [{"name": s.name, "role": s.role} for s in through],
        "moving": list(done.moving),
        "fixed": list(done.fixed),
        "planned_from_patient": done.planned_from_patient.to_json(),
        "alignment": {"before": before.to_json(), "after": after.to_json()},
        "lordosis_change_deg": None if was is None or will is None else will - was,
        **consequence_report(case.twin, cut),
    }


def osteotomy_words(report: dict[str, Any]) -> list[str]:
    """An osteotomy's report in lines."""
    change = report["lordosis_change_deg"]
    gain = "unknown (landmarks are missing)" if change is None else f"{change:+.1f} degrees"
    high = report["wedge_height_mm"]
    what = {"SPO": "disc opens", "open-wedge": "opens"}.get(report["kind"], "wedge")
    wedge = f", {what} {high:.1f} mm high at {report['depth_mm']:.1f} mm from the hinge" if high else ""
    spine = f"; lordosis {gain}" if report["is_spine"] else ""
    return [
        f"{report['id']}: {report['words']}{wedge}, {report['removed_ml']:.1f} mL taken out{spine}",
        *(f"  {note}" for note in report["notes"]),
        *(f"  the cut passes through {s['name']} ({s['role']})" for s in report["passes_through"]),
        *consequence_words(report),
    ]
