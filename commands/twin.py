"""`osteotwin twin`: build, inspect, export, check and confirm a patient twin."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Misuse
from spatial.progress import Progress, part

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin
    from twin.case import Case

app = typer.Typer(add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="A case folder.")]


@app.callback()
def twin() -> None:
    """The patient twin: bones, landmarks and where all of it came from."""


@app.command()
@command
def build(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="DICOM folder or file, NIfTI, NRRD, MHA; or closed meshes named by bone."
        ),
    ],
    case: Annotated[Path, typer.Option("--case", metavar="DIR", help="Where the case goes.")],
    series: Annotated[str | None, typer.Option(metavar="UID", help="Which DICOM series, if there are several.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Bones that are segmented already: a label map, or a folder with a mask a bone."
        ),
    ] = None,
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="How bones are found where no labels are given.")
    ] = "default",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the case that is there, with its plans and journal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a twin from a CT (or from meshes) and write it as a case; on failure or Ctrl-C nothing is written."""
    from twin.case import Case

    Case.ensure_free(case, replace=force)
    started = time.perf_counter()
    with progress_bar("twin") as progress:
        built = _build(source, case, series, labels, segmenter, force, progress)
    found = _summary(built)
    found |= {"seconds": round(time.perf_counter() - started, 3), "peak_memory_mb": _peak_memory_mb()}
    if as_json:
        emit(found)
        return
    _tell(found)
    tell(f"Case written to {case} in {found['seconds']:.1f} s.")


@app.command()
@command
def inspect(
    case: CaseFolder,
    pictures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also draw the usual views into DIR.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a case holds: bones, levels, landmarks, density, provenance."""
    from twin.case import Case

    opened = Case.open(case)
    twin_here = opened.twin
    found = _summary(opened) | {
        "twin_id": twin_here.twin_id,
        "landmarks": [mark.to_json() for mark in twin_here.landmarks],
        "density": None if twin_here.density is None else dict(twin_here.density),
        "plans": list(opened.plan_names),
        "provenance": [dict(step) for step in twin_here.provenance],
    }
    if pictures is not None:
        found["pictures"] = _draw(twin_here, pictures)
    if as_json:
        emit(found)
        return
    _tell(found)
    tell(*_landmark_words(found["landmarks"]), *_density_words(found["density"]))
    tell(*(f"Made by: {step['step']}{_settings_words(step)}" for step in found["provenance"]))
    tell(f"Plans: {', '.join(found['plans']) or 'none'}", *(f"Picture: {file}" for file in found.get("pictures", ())))


@app.command()
@command
def export(
    case: CaseFolder,
    form: Annotated[
        str,
        typer.Option("--format", metavar="nifti|stl|ply|obj|glb", help="nifti, glb: a file; stl, ply, obj: a folder."),
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="The file or folder to write.")],
    as_json: Json = False,
) -> None:
    """Write the bones for other programs: LPS millimetres; nifti is one label map with TotalSegmentator's numbers."""
    from twin.case import Case
    from twin.export import FORMS, export_case

    if form not in FORMS:
        raise Misuse(f"no format {form!r}; there are {', '.join(FORMS)}")
    files = export_case(Case.open(case), form, out)
    if as_json:
        emit({"case": str(case), "format": form, "files": [str(file) for file in files]})
    else:
        tell(f"{len(files)} file{'s' * (len(files) > 1)} written to {out}.")


@app.command()
@command
def check(case: CaseFolder, as_json: Json = False) -> None:
    """Check checksums, schema and the journal's chain; exit 1 when anything is wrong."""
    from twin.case import check_case

    problems = check_case(case)
    if as_json:
        emit({"case": str(case), "sound": not problems, "problems": problems})
    elif not problems:
        tell("The case is sound.")
    say(*problems)
    if problems:
        raise typer.Exit(1)


@app.command()
@command
def confirm(
    case: CaseFolder,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who confirms.")],
    levels: Annotated[bool, typer.Option("--levels", help="Confirm the absolute level names.")] = False,
    as_json: Json = False,
) -> None:
    """Record in the journal that a person has confirmed the level names."""
    from twin.case import Case

    if not levels:
        raise Misuse("say what is confirmed: --levels")
    if not by.strip():
        raise Misuse("--by needs a name")
    with Case.open(case) as opened:
        entry = opened.confirm_levels(by.strip())
    value = opened.twin.levels
    if as_json:
        emit(
            {
                "case": str(case),
                "levels": {"confidence": value.confidence, "confirmed_by": value.confirmed_by},
                "entry": entry.id,
            }
        )
    else:
        tell(f"Levels confirmed by {value.confirmed_by}.")


def _build(
    source: Path, folder: Path, series: str | None, labels: Path | None, segmenter: str, force: bool, progress: Progress
) -> Case:
    from twin.anatomy.build import build_twin, twin_from_meshes
    from twin.case import Case
    from twin.scan.load import load_labels, load_volume
    from twin.scan.meshes import surface_files

    if surface_files(source):
        if labels is not None or series is not None:
            raise Misuse("the source is meshes: --labels and --series belong to a CT", path=source)
        progress("reading meshes", 0.0)
        return Case.create(
            folder, twin_from_meshes(source), None, None, replace=force, progress=part(progress, 0.8, 1.0)
        )
    volume = load_volume(source, series_uid=series, progress=part(progress, 0.0, 0.2))
    given = None if labels is None else load_labels(labels, volume.grid, part(progress, 0.2, 0.3))
    built, label_map = build_twin(volume, given, segmenter=segmenter, progress=part(progress, 0.3, 0.9))
    if given is not None:
        built = replace(built, warnings=tuple(dict.fromkeys([*given.warnings, *built.warnings])))
    return Case.create(folder, built, volume, label_map, replace=force, progress=part(progress, 0.9, 1.0))


def _summary(case: Case) -> dict[str, Any]:
    bones = [
        {
            "name": bone.name,
            "volume_ml": round(bone.volume_ml, 3),
            "area_cm2": round(bone.surface.area_cm2, 2),
            "closed": bone.is_closed,
            "triangles": len(bone.surface.triangles),
        }
        for bone in case.twin.bones.values()
    ]
    levels = case.twin.levels
    return {
        "case": str(case.folder),
        "bones": bones,
        "levels": {"confidence": levels.confidence, "confirmed_by": levels.confirmed_by},
        "warnings": list(case.twin.warnings),
    }


def _tell(found: dict[str, Any]) -> None:
    for bone in found["bones"]:
        state = "closed" if bone["closed"] else "OPEN"
        size = f"{bone['volume_ml']:>8.1f} ml {bone['area_cm2']:>8.1f} cm2"
        tell(f"{bone['name']:<16} {size}  {state}  {bone['triangles']} triangles")
    tell("Volumes and areas are those of the surfaces; no uncertainty is stated for them.")
    levels = found["levels"]
    tell(
        f"Levels: confidence {levels['confidence']:.2f}, "
        + (f"confirmed by {levels['confirmed_by']}" if levels["confirmed_by"] else "not confirmed")
    )
    tell(*(f"  - {warning}" for warning in found["warnings"]))


def _landmark_words(landmarks: list[dict[str, Any]]) -> list[str]:
    """A line a landmark: where it is and how sure that is."""
    lines = ["Landmarks (patient LPS, mm):"] if landmarks else ["Landmarks: none"]
    for mark in landmarks:
        x, y, z = mark["position_mm"]
        spread = "sd not known" if mark["sd_mm"] is None else f"sd {mark['sd_mm']:.1f} mm"
        lines.append(
            f"  {mark['bone']:<16} {mark['name']:<22} {mark.get('side', ''):<6} {x:8.1f} {y:8.1f} {z:8.1f}  {spread}"
        )
    return lines


def _density_words(density: dict[str, Any] | None) -> list[str]:
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


def _settings_words(step: dict[str, Any]) -> str:
    """The settings of a step of the provenance, in brackets."""
    settings = step.get("settings") or {key: step[key] for key in ("format", "slices", "thickness_mm") if key in step}
    return f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else ""


def _draw(twin_here: Twin, folder: Path) -> list[str]:
    """The usual views as PNG files."""
    from PIL import Image

    from render.anatomy import bone_labels, bone_parts, standard_views
    from render.offscreen import Offscreen
    from render.orientation import orientation_labels
    from render.scene import Scene

    folder.mkdir(parents=True, exist_ok=True)
    scene = Scene(meshes=bone_parts(twin_here), labels=bone_labels(twin_here))
    files = []
    with Offscreen() as screen:
        for name, view in standard_views(twin_here).items():
            file = folder / f"{name}.png"
            lettered = scene.plus(screen_texts=orientation_labels(view))
            Image.fromarray(screen.picture(lettered, view)).save(file)
            files.append(str(file))
    return files


def _peak_memory_mb() -> float:
    """The most memory this process and its finished children held (an upper bound: their peaks are added)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(sum(peaks) * unit / 2**20, 1)
