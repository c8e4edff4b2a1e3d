"""`osteotwin plan assess` and `plan deformity`: the whole plan held against the twin; a leg measured and what corrects
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin
    from twin.plan.measures.curves import Curve
    from twin.plan.measures.effects import Effects
    from twin.plan.measures.targets import Aims

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        metavar="NAME",
        help="schwab, le-huec, tpa, kyphosis-age, hyun, age-adjusted or gap; may be given several times.",
    ),
]
Age = Annotated[float | None, typer.Option("--age", metavar="YEARS", help="For targets that depend on it.")]
CompareSupine = Annotated[
    bool, typer.Option("--compare-supine", help="Hold this supine scan against standing thresholds all the same.")
]
Cobb = Annotated[
    list[str] | None,
    typer.Option("--cobb", metavar="T5-T12", help="The Cobb angle of two levels; may be given several times."),
]


@command
def assess(
    folder: CaseFolder,
    name: PlanName = "plan",
    targets: Sets = None,
    age: Age = None,
    compare_supine: CompareSupine = False,
    cobb: Cobb = None,
    as_json: AsJson = False,
) -> None:
    """Grade every screw, carry out every osteotomy, and measure the alignment before and after."""
    from twin.case import Case
    from twin.plan.approval import standing
    from twin.plan.edits import fold
    from twin.plan.measures.effects import effects
    from twin.plan.screws.grade import grade_screw
    from twin.plan.variants import names

    case = Case.open(folder)
    if name not in names(case.journal.entries()):
        case.load_plan(name)  # raises, and says which plans there are
    found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
    now = standing(case.journal.entries(), name)
    volume = volume_of(case)
    done = effects(case.twin, found.osteotomies.values())
    held = _aims(done, targets or [], age, compare_supine)
    asked = [_asked(case.twin, text) for text in cobb or []]
    report: dict[str, Any] = {
        "plan": name,
        "twin_id": case.twin.twin_id,
        "status": now.to_json(),
        "screws": [screw_report(s, grade_screw(case.twin, s, volume)) for _, s in sorted(found.screws.items())],
        "osteotomies": [osteotomy_report(case, o) for _, o in sorted(found.osteotomies.items())],
        "alignment": {**done.to_json(), "cobb": [curve.to_json() for curve in asked]},
        "targets": [{"when": when, **one.to_json()} for when, one in held],
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
    tell(*alignment_words(done), *(curve.words() for curve in asked))
    for when, one in held:
        tell(f"{when.capitalize()}:", *one.words())
    tell(*report["conflicts"], *(f"skipped {s['kind']}: {s['reason']}" for s in report["skipped"]), *caution(case.twin))


@command
def deformity(
    folder: CaseFolder,
    side: Annotated[str, typer.Option("--side", help="left or right.")],
    load: Annotated[
        float | None,
        typer.Option(
            "--wbl",
            metavar="PERCENT",
            help="Where the weight-bearing line shall cross the plateau, 0 medial to 100 lateral; "
            "without it 62.5 for varus, 50 for valgus.",
        ),
    ] = None,
    jlca: Annotated[
        str,
        typer.Option("--jlca", help="What the joint line's opening takes off the angle: none, half or third."),
    ] = "none",
    reference: Annotated[
        str, typer.Option("--reference", help="What is usual: population (unverified) or other-leg.")
    ] = "population",
    as_json: AsJson = False,
) -> None:
    """Measure a leg: axes, angles, the bone at fault and the level, and the wedge that shifts the load."""
    from twin.case import Case
    from twin.plan.measures.deformity import analyse

    if side not in ("left", "right"):
        raise Misuse(f"no side {side!r}; left or right")
    case = Case.open(folder)
    found = analyse(case.twin, "left" if side == "left" else "right", percent=load, slack=jlca, reference=reference)
    if as_json:
        emit({"twin_id": case.twin.twin_id, **found.to_json(), "uncertainty": uncertainty(case.twin)})
        return
    tell(*found.words(), *caution(case.twin))


def alignment_words(done: Effects) -> list[str]:
    """The spine and the legs as scanned, then what the plan changes; each with unit and 95 % range."""
    from twin.plan.measures.leg_angles import LEG_WORDS

    lines = [f"Alignment as scanned ({done.before.posture}; ± is twice the standard deviation):"]
    lines += [f"  {line}" for line in done.before.words()]
    for side, leg in done.legs_before.items():
        values = [f"  {LEG_WORDS[n]}: {m.words()}" for n, m in leg.items() if m.value is not None]
        lines += [f"{side.capitalize()} leg as scanned (unloaded):", *values]
    changed = done.words()
    if changed:
        lines += ["With the plan:", *(f"  {line}" for line in changed)]
    return lines


def _aims(done: Effects, names: list[str], age_years: float | None, compare_supine: bool) -> list[tuple[str, Aims]]:
    """Each set of targets before and, where something changes, after the plan."""
    from twin.plan.measures.targets import aims

    moments = [("as scanned", done.before)] + ([("with the plan", done.after)] if done.changes else [])
    return [
        (when, aims(name, alignment, age_years=age_years, compare_supine=compare_supine))
        for name in names
        for when, alignment in moments
    ]


def _asked(twin: Twin, text: str) -> Curve:
    """`T5-T12` as a curve of this twin."""
    from twin.plan.levels import SPINE, bone_of
    from twin.plan.measures.curves import curve_between
    from twin.plan.measures.measured import Marks

    ends = [part.strip().upper() for part in text.split("-")]
    bones = [bone_of(end) for end in ends]
    if len(bones) != 2 or SPINE.index(ends[0]) >= SPINE.index(ends[1]):
        raise Misuse(f"--cobb {text!r}; write two levels, the cranial one first, as T5-T12")
    return curve_between(Marks.of_twin(twin), bones[0], bones[1])
