"""`osteotwin twin register` and `osteotwin twin structures`: other scans beside the CT, and what they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Misuse
from spatial.progress import Progress, part

if TYPE_CHECKING:
    from twin.anatomy.companion import Companion
    from twin.anatomy.structure import Role, Structure
    from twin.anatomy.twin import Twin
    from twin.case import Case

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="A case folder.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does this, as the journal shall keep it.")]


@command
def register(
    case: CaseFolder,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="MR, a second CT or a follow-up of this patient.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="What the scan is called in the case: mr1, followup.")],
    series: Annotated[str | None, typer.Option(metavar="UID", help="Which DICOM series, if there are several.")] = None,
    by: By = "osteotwin",
    as_json: Json = False,
) -> None:
    """Bring another scan of the patient onto the twin, bone by bone; refused when the evidence is weak."""
    from twin import case_series
    from twin.anatomy.companion import register_series
    from twin.case import Case
    from twin.scan.others import load_other

    case_series.ensure_name(name)
    with Case.open(case) as opened, progress_bar("register") as progress:
        if name in case_series.names(opened.journal.entries()):
            raise case_series.NoSeries(f"this case has a series {name!r} already; give another name")
        moving = load_other(source, series_uid=series, progress=part(progress, 0.0, 0.1))
        found = register_series(opened.twin, opened.volume(), opened.labels(), moving, name, part(progress, 0.1, 0.95))
        case_series.save(opened.folder, opened.journal, found, moving, by)
    report = {"case": str(case), **found.to_json(), "warnings": list(moving.warnings)}
    if as_json:
        emit(report)
        return
    say(*moving.warnings)
    tell(*_register_words(found))


def _register_words(found: Companion) -> list[str]:
    whole = found.whole
    rival = "nothing else fits" if whole.rival_nat is None else f"the next best place {whole.rival_nat:.3f}"
    lines = [
        f"{found.name} ({found.modality}) placed: sd {whole.sd_mm:.2f} mm, {whole.overlap:.0%} of the bone in it, "
        f"mutual information {whole.information_nat:.3f} nat ({rival})"
    ]
    lines += [f"  {bone:<16} by itself, sd {one.sd_mm:.2f} mm" for bone, one in found.bones.items()]
    lines += [f"  {bone:<16} as the whole: {why}" for bone, why in found.left.items()]
    return [*lines, "sd: one sigma of a bone point's place, by repeating; tested on synthetic pairs."]


@command
def structures(
    case: CaseFolder,
    add: Annotated[
        Path | None, typer.Option("--add", metavar="LABELS", help="A label map of cord, roots, vessels, discs, tumour.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="NAME", help="The labels were drawn on this registered scan, not on the CT.")
    ] = None,
    bone: Annotated[
        str | None, typer.Option(metavar="BONE", help="With --series: place them by this bone's own registration.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="NAME=ROLE", help="critical, target or context; for what is added or is there."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Take out what was added.")
    ] = None,
    by: By = "osteotwin",
    as_json: Json = False,
) -> None:
    """List, add, change or take out what lies beside the bones. Without options: list.

    A structure that is added has the role context until --role says otherwise: nothing is critical by guess.
    """
    from twin import case_structures
    from twin.case import Case

    roles = _roles(role or [])
    if (series or bone) and add is None:
        raise Misuse("--series and --bone say where the labels of --add were drawn; give --add too")
    with Case.open(case) as opened, progress_bar("structures") as progress:
        for name in remove or []:
            case_structures.remove(opened.folder, opened.journal, opened.twin, name, by)
        twin = opened.refreshed()
        if add is not None:
            found = _drawn(opened, twin, add, series, bone, roles, progress)
            for structure in found:
                case_structures.add(opened.folder, opened.journal, twin, structure, by)
            twin = opened.refreshed()
            roles = {name: given for name, given in roles.items() if name not in {s.name for s in found}}
        for name, given in roles.items():
            case_structures.set_role(opened.journal, twin, name, given, by)
        twin = opened.refreshed()
    report = [_told(s) for s in twin.structures.values()]
    if as_json:
        emit({"case": str(case), "structures": report})
        return
    for s in report:
        tell(f"{s['name']:<24} {s['role']:<9} {s['volume_ml']:8.2f} ml  from {s['source']}")
    tell(
        *([] if report else ["No structures."]), "Volumes are those of the surfaces; no uncertainty is stated for them."
    )


def _told(structure: Structure) -> dict[str, Any]:
    return {
        "name": structure.name,
        "role": structure.role,
        "source": structure.source,
        "volume_ml": round(structure.surface.volume_ml, 3),
    }


def _roles(given: list[str]) -> dict[str, Role]:
    from twin.anatomy.structure import ROLES

    found: dict[str, Role] = {}
    for text in given:
        name, _, role = text.partition("=")
        known = next((r for r in ROLES if r == role), None)
        if not name or known is None:
            raise Misuse(f"--role {text!r}; write NAME=critical, NAME=target or NAME=context")
        found[name] = known
    return found


def _drawn(
    case: Case,
    twin: Twin,
    labels: Path,
    series: str | None,
    bone: str | None,
    roles: dict[str, Role],
    progress: Progress,
) -> list[Structure]:
    """The structures of a label file, in the patient's coordinates."""
    from spatial.rigid import Rigid
    from twin import case_series
    from twin.anatomy.structure import Structure
    from twin.anatomy.surface import from_mask
    from twin.inputs import input_sha256
    from twin.scan.labels import load_structures

    source = f"labels {input_sha256(labels)['sha256'][:16]}"  # never the file's name: it may be a patient's
    if series is None:
        volume = case.volume()
        masks = load_structures(labels, volume.grid, progress, about=volume.about)
        move: Rigid[Any, Any] = Rigid.identity()
    else:
        companion, moving = case_series.load(case.folder, case.journal.entries(), series)
        if bone is not None and bone not in companion.bones:
            known = ", ".join(companion.bones) or "none"
            raise Misuse(f"{bone!r} was not registered by itself in {series}; these were: {known}")
        masks = load_structures(labels, moving.grid, progress, about=moving.about)
        move = companion.patient_from_series(bone)
        source += f" on {series}" + (f" by {bone}" if bone else "")
    unknown = sorted(set(roles) - {m.name for m in masks} - set(twin.structures))
    if unknown:
        held = ", ".join(m.name for m in masks)
        raise Misuse(f"no structure {', '.join(unknown)} for --role; {labels.name} holds {held}", path=labels)
    found = []
    for n, mask in enumerate(masks):
        progress(f"meshing {mask.name}", n / len(masks))
        surface = from_mask(mask.mask, mask.grid).moved(move)
        found.append(Structure(mask.name, roles.get(mask.name, "context"), surface, source))
    return found
