"""`osteotwin plan assess`: the whole plan held against the twin."""

from __future__ import annotations

from typing import Any

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, CaseFolder, PlanName, volume_of
from commands.plan_words import (
    caution,
    conflicts,
    intrusions,
    osteotomy_report,
    osteotomy_words,
    screw_report,
    screw_words,
    uncertainty,
)


@command
def assess(folder: CaseFolder, name: PlanName = "plan", as_json: AsJson = False) -> None:
    """Grade every screw, carry out every osteotomy, and measure the alignment before and after."""
    from twin.case import Case
    from twin.plan.alignment import measure_alignment
    from twin.plan.approval import standing
    from twin.plan.edits import fold
    from twin.plan.grade import grade_screw
    from twin.plan.reduction import planned_landmarks

    case = Case.open(folder)
    if name not in case.plan_names:
        case.load_plan(name)  # raises, and says which plans there are
    found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
    now = standing(case.journal.entries(), name)
    volume = volume_of(case)
    before = measure_alignment(case.twin.landmarks)
    after = measure_alignment(planned_landmarks(case.twin, found.osteotomies.values()))
    report: dict[str, Any] = {
        "plan": name,
        "twin_id": case.twin.twin_id,
        "status": now.to_json(),
        "screws": [screw_report(s, grade_screw(case.twin, s, volume)) for _, s in sorted(found.screws.items())],
        "osteotomies": [osteotomy_report(case, o) for _, o in sorted(found.osteotomies.items())],
        "alignment": {"before": before.to_json(), "after": after.to_json()},
        "conflicts": conflicts(found),
        "skipped": [s.to_json() for s in skipped],
        "uncertainty": uncertainty(case.twin),
    }
    report["conflicts"] += intrusions(report["screws"])
    if as_json:
        emit(report)
        return
    tell(f"Plan {name}: {now.words}.", *(screw_words(s) for s in report["screws"]))
    for cut in report["osteotomies"]:
        tell(*osteotomy_words(cut))
    change = [f"{v:.1f}" for v in (before.lumbar_lordosis_deg, after.lumbar_lordosis_deg) if v is not None]
    tell(f"Lordosis {' -> '.join(change)} degrees ({before.posture})" if change else "Lordosis: landmarks are missing")
    tell(*report["conflicts"], *(f"skipped {s['kind']}: {s['reason']}" for s in report["skipped"]), *caution(case.twin))
