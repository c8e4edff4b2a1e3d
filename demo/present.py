"""The demo's pictures and its report page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.report import DISCLAIMER, Picture, Section, Table, number, page, timings_table, verdict
from render.anatomy import bone_labels, bone_parts, cut_plane_parts, screw_part, standard_views
from render.offscreen import Offscreen
from render.orientation import orientation_labels
from render.scene import Scene, ScreenText, View
from render.slices import Outline, Slice, Voxels, slice_picture
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Rigid
from twin.anatomy.twin import Twin
from twin.case import Case
from twin.plan.plan import Plan
from twin.plan.reduction import Fragments, fragments
from twin.scan.volume import Volume

SIZE_PX = (960, 1080)
BONE_LINE, SCREW_LINE = (0.98, 0.80, 0.35), (0.35, 0.90, 0.98)


def write_report(out: Path, case: Case, volume: Volume, plan: Plan, summary: Mapping[str, Any]) -> None:
    """Draw everything, then write report.html (self-contained) beside the pictures."""
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    anatomy = anatomy_pictures(case.twin, plan, folder)
    slices = slice_pictures(case.twin, volume, plan, folder)
    sections = [
        _numbers(summary),
        Section("The twin", _twin_note(case, volume), (_bones(case, summary),), anatomy["twin"]),
        Section("The plan", _plan_note(summary), (_screws(summary),), anatomy["plan"]),
        Section("Where the screws lie", "Sections of the CT; bones in yellow, screws in blue.", (), slices, 300),
        _rehearsal(out, summary),
    ]
    if summary["guidance"] is not None:
        sections.append(_guidance(out, summary))
    sections.append(Section("Time", "Wall-clock times of this run.", (timings_table(summary["seconds"]),)))
    subject = "a digital phantom" if summary["source"] == "phantom" else "a CT of your own"
    text = page("Osteotwin: the whole line", f"From a CT to a headset and a camera, on {subject}", sections,
                summary["twin"]["warnings"])  # fmt: skip
    (out / "report.html").write_text(text, encoding="utf-8")


def anatomy_pictures(twin: Twin, plan: Plan, folder: Path) -> dict[str, list[Picture]]:
    """The twin from three sides, the plan through the bone, and the spine before and after the osteotomy."""
    target = Offscreen(*SIZE_PX)
    out: dict[str, list[Picture]] = {"twin": [], "plan": []}

    def keep(kind: str, name: str, caption: str, scene: Scene[Patient], view: View[Patient]) -> None:
        drawn = scene.plus(screen_texts=(*orientation_labels(view), _disclaimer(view)))
        path = folder / f"{name}.jpg"
        Image.fromarray(target.picture(drawn, view)).save(path, quality=88)
        out[kind].append(Picture(path, caption))

    try:
        views = standard_views(twin, *SIZE_PX)
        bones = Scene[Patient](meshes=bone_parts(twin), labels=bone_labels(twin))
        for side in ("anterior", "posterior", "left"):
            keep("twin", f"twin_{side}", f"The twin, {side} view", bones, views[side])
        screws = tuple(
            screw_part(s.id, s.entry.mm, s.axis.direction, s.diameter_mm, s.length_mm) for s in plan.screws.values()
        )
        planes, borders = [], []
        for cut in plan.osteotomies.values():
            for n, plane in enumerate(cut.planes):
                mesh, line = cut_plane_parts(f"{cut.id} {n}", plane)
                planes.append(mesh)
                borders.append(line)
        spine = [n for n in twin.bones if n.startswith("vertebrae_") or n == "sacrum"]
        close = standard_views(twin, *SIZE_PX, names=spine or None)
        clear = Scene[Patient](
            meshes=(*bone_parts(twin, names=spine or None, mode="xray"), *screws, *planes), lines=tuple(borders)
        )
        for side in ("posterior", "left", "oblique"):
            keep("plan", f"plan_{side}", f"Screws and cut planes, {side} view", clear, close[side])
        for cut in plan.osteotomies.values():
            before = Scene[Patient](meshes=(*bone_parts(twin, names=spine), *screws))
            keep("plan", "osteotomy_before", "Before the osteotomy, left view", before, close["left"])
            after = reduced(twin, plan, fragments(twin, cut))
            keep(
                "plan",
                "osteotomy_after",
                f"After closing {np.degrees(cut.angle_rad):.0f}°, left view",
                after,
                close["left"],
            )
    finally:
        target.release()
    return out


def reduced(twin: Twin, plan: Plan, made: Fragments) -> Scene[Patient]:
    """The spine after one osteotomy: the wedge gone, everything cranial turned about the hinge."""
    turn = made.planned_from_patient
    moved = Rigid[Patient, Patient](turn.rotation, turn.translation_mm)
    spine = [n for n in twin.bones if (n.startswith("vertebrae_") or n == "sacrum") and n != made.osteotomy.bone]
    still = [n for n in spine if n not in made.moving]
    whole = bone_parts(twin, names=spine, patient_from_planned={n: moved for n in spine if n in made.moving})
    pieces = (
        _piece("cranial", made.pieces.cranial.moved(moved)),
        _piece("caudal", made.pieces.caudal),
    )
    screws = []
    for s in plan.screws.values():
        rides = s.bone not in still and s.bone != made.osteotomy.bone
        axis, entry = s.axis.direction, s.entry.mm
        if rides:
            axis, entry = moved.rotation @ axis, (moved @ s.entry).mm
        screws.append(screw_part(s.id, entry, axis, s.diameter_mm, s.length_mm))
    return Scene[Patient](meshes=(*whole, *pieces, *screws))


def _piece(name: str, mesh: TriangleMesh[Patient]) -> Any:
    from render.scene import Material, MeshPart

    return MeshPart[Patient](name, mesh, None, Material((0.94, 0.80, 0.66)))


def _disclaimer(view: View[Any]) -> ScreenText:
    return ScreenText(
        "Research tool, not a medical device", (view.width_px - 12.0, view.height_px - 10.0), 13.0, (0.6, 0.65, 0.7),
        "bottom_right",
    )  # fmt: skip


def slice_pictures(twin: Twin, volume: Volume, plan: Plan, folder: Path) -> list[Picture]:
    """Per level an axial section through its screws; a mid-sagittal section with the cut planes' level."""
    from render.solids import screw_mesh

    grid = volume.grid
    rows = grid.axes.T / grid.spacing_mm[:, None]
    voxels = Voxels(volume.hu, np.hstack([rows, -(rows @ grid.origin_mm)[:, None]]))
    bones = [Outline(bone.surface, BONE_LINE, 1.2) for bone in twin.bones.values()]
    shafts = []
    for s in plan.screws.values():
        part = screw_part(s.id, s.entry.mm, s.axis.direction, s.diameter_mm, s.length_mm)
        if part.world_from_mesh is not None:
            shafts.append(
                Outline(screw_mesh(s.diameter_mm, s.length_mm).moved(part.world_from_mesh), SCREW_LINE, 1.6, 0.35)
            )
    pictures = []

    def keep(name: str, caption: str, where: Slice) -> None:
        path = folder / f"{name}.jpg"
        picture: NDArray[np.uint8] = slice_picture(voxels, where, outlines=[*bones, *shafts])
        Image.fromarray(picture).save(path, quality=88)
        pictures.append(Picture(path, caption))

    for bone in dict.fromkeys(s.bone for s in plan.screws.values()):
        pair = [s for s in plan.screws.values() if s.bone == bone]
        centre = np.mean([s.axis.at(0.35 * s.length_mm).mm for s in pair], axis=0)
        axis = pair[0].axis
        tilted = Slice.along(f"{bone} screws", axis, Slice.axial(centre, 110.0, 520, 520), 0.4 * pair[0].length_mm)
        keep(f"slice_{bone}", f"{bone}: plane of the {pair[0].side} screw", tilted)
    middle = np.mean([bone.surface.centroid_mm for bone in twin.bones.values()], axis=0)
    if plan.osteotomies:
        middle = next(iter(plan.osteotomies.values())).hinge.point_mm + np.array([0.0, 25.0, 0.0])
    keep("slice_sagittal", "Sagittal section through the middle of the spine", Slice.sagittal(middle, 220.0, 520, 520))
    return pictures


def _numbers(summary: Mapping[str, Any]) -> Section:
    limits = (
        ("Surface error, mean, symmetric", "mesh_error_mean_mm", 0.25, "mm"),
        ("Lordosis of the planned spine", "osteotomy_error_deg", 0.5, "°"),
        ("Hinge to the true anterior cortex", "hinge_error_mm", 0.3, "mm"),
        ("Overlay, median outline distance", "overlay_error_px", 1.0, "px"),
    )
    rows = [(words, *verdict(summary.get(key), limit, unit), f"{limit:g} {unit}") for words, key, limit, unit in limits]
    grades = summary.get("screw_grades")
    if grades is not None:
        good = bool(grades) and all(grade == "A" for grade in grades)
        mark = f'<span class="{"good" if good else "bad"}">{"kept" if good else "missed"}</span>'
        rows.append(("Gertzbein-Robbins grades on the true bone", " ".join(grades), mark, "all A"))
    note = "Held against the phantom's analytic anatomy by code that the product does not use."
    if summary["source"] != "phantom":
        note = "A real CT has no known truth: the errors below were not measured and are not claimed."
    return Section("Measured against the truth", note, (Table(("What", "Found", "", "Limit"), rows, frozenset({1})),))


def _twin_note(case: Case, volume: Volume) -> str:
    i, j, k = volume.grid.size
    x, y, z = volume.grid.spacing_mm
    who = case.twin.levels.confirmed_by or "nobody yet"
    return (
        f"{len(case.twin.bones)} bones from {i} x {j} x {k} voxels of {x:.2f} x {y:.2f} x {z:.2f} mm. "
        f"Confidence of the level names {case.twin.levels.confidence:.2f}; confirmed by {who}."
    )


def _bones(case: Case, summary: Mapping[str, Any]) -> Table:
    errors = summary.get("mesh_error_bones") or {}
    rows = []
    for name, bone in sorted(case.twin.bones.items()):
        error = errors.get(name)
        cells = [number(None if error is None else error[key], "mm") for key in ("mean_mm", "p95_mm")]
        rows.append((name, f"{bone.volume_ml:.1f} mL", "closed" if bone.is_closed else "open", *cells))
    return Table(("Bone", "Volume", "Surface", "Mean error", "95 % error"), rows, frozenset({1, 3, 4}))


def _plan_note(summary: Mapping[str, Any]) -> str:
    lordosis = summary.get("lordosis_deg")
    parts = []
    if summary["plan"]["osteotomy"]:
        parts.append(f"L3 pedicle subtraction osteotomy of {summary['plan']['osteotomy']['angle_deg']:.0f}°.")
    if lordosis:
        parts.append(f"Lordosis L1-S1 from {lordosis['before']:.1f}° to {lordosis['planned']:.1f}° (supine).")
    parts += [f"Not planned: {r['bone']} {r['side'] or ''}: {r['reason']}." for r in summary["plan"]["refused"]]
    parts.append("Margins carry no uncertainty here: they are distances on the twin.")
    return " ".join(parts)


def _screws(summary: Mapping[str, Any]) -> Table:
    truth = summary.get("screw_truth") or {}
    rows = []
    for s in summary["plan"]["screws"]:
        margin = s["margin_mm"]
        rows.append(
            (
                f"{s['bone']} {s['side']}",
                f"{s['diameter_mm']:.1f} x {s['length_mm']:.0f} mm",
                s["grade"],
                truth[s["id"]]["grade"] if s["id"] in truth else "no truth",
                *(
                    number(margin.get(name), "mm", 1)
                    for name in ("medial", "lateral", "superior", "inferior", "anterior")
                ),
                number(s["hu"].get("thread"), "HU", 0),
            )
        )
    head = ("Screw", "Size", "Grade", "On the truth", "Medial", "Lateral", "Superior", "Inferior", "Anterior", "Thread")
    return Table(head, rows, frozenset(range(4, 10)))


def _rehearsal(out: Path, summary: Mapping[str, Any]) -> Section:
    rehearsal = summary["rehearsal"]
    note = (
        f"The plan performed by a script with unsteady hands: {rehearsal['events']} controller events. A replay in a "
        f"fresh process {'gave the same state' if rehearsal['replay_same'] else 'did NOT give the same state'}."
    )
    rows = []
    for s in rehearsal["score"].get("screws", []):
        off = s.get("deviation") or {}
        rows.append(
            (
                str(s.get("planned") or s["id"]),
                str(s.get("grade")),
                number(off.get("entry_mm"), "mm", 1),
                number(off.get("tip_mm"), "mm", 1),
                number(off.get("angle_deg"), "°", 1),
            )
        )
    table = Table(("Rehearsed screw", "Grade", "Entry", "Tip", "Angle"), rows, frozenset({2, 3, 4}))
    eyes = [Picture(out / f"eye_{side}.png", f"{side.capitalize()} eye") for side in ("left", "right")]
    return Section("The rehearsal", note, (table,), [p for p in eyes if p.path.exists()], 420)


def _guidance(out: Path, summary: Mapping[str, Any]) -> Section:
    rows = [
        ("Overlay, median / 95 % over screw tips",
         f"{summary['overlay_error_mm']:.2f} / {summary['overlay_error_p95_mm']:.2f} mm"),
        ("Predicted error at the guided screw's tip (95 %), median", f"{summary['predicted_error_mm']:.2f} mm"),
        ("The true error stayed inside it in", summary["predicted_error_held"]),
        ("Drill tip / direction against its true pose",
         f"{number(summary['drill_tip_error_mm'], 'mm')} / {number(summary['drill_angle_error_deg'], '°')}"),
        ("Frames by trust", ", ".join(f"{n} {t}" for t, n in summary["guidance"]["trust"].items())),
        ("Frames by pose", ", ".join(f"{n} {t}" for t, n in summary["guidance"]["how"].items())),
    ]  # fmt: skip
    note = (
        "A camera that does not exist looks at the true bone through a bent lens; nine touches with a stated error "
        "register the twin. The reference is covered for a while: the pose is first predicted, then stale, and nothing "
        "is drawn."
    )
    pictures = [
        Picture(path, f"Overlay, frame {path.stem.split('_')[1]}") for path in sorted(out.glob("overlay_*.png"))
    ]
    return Section("Guidance", note, (Table(("What", "Found"), rows),), pictures, 480)


__all__ = ["DISCLAIMER", "write_report"]
