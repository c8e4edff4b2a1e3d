"""The demo's pictures and its report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo.report import Picture, Section, Table, number, page, timings_table, verdict
from render.anatomy import bone_label, bone_labels, bone_outlines, bone_parts, standard_views, voxels_of
from render.offscreen import Offscreen
from render.orientation import orientation_labels
from render.planning import plan_parts, planned_parts, screw_outlines, screw_parts
from render.scene import Scene, ScreenText, View
from render.slices import Slice, Stroke, slice_picture
from spatial.frames import Patient
from twin.anatomy.twin import Twin
from twin.case import Case
from twin.plan.cuts.reduction import fragments
from twin.plan.plan import Plan
from twin.scan.volume import Volume

SIZE_PX = (960, 1080)
CUT_LINE = (0.35, 0.72, 0.98)


def write_report(out: Path, case: Case, volume: Volume, plan: Plan, summary: Mapping[str, Any]) -> None:
    """Draw everything, then write report.html (self-contained) beside the pictures."""
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    grades = {screw["id"]: screw["grade"] for screw in summary["plan"]["screws"]}
    anatomy = anatomy_pictures(case.twin, plan, folder, grades)
    slices = slice_pictures(case.twin, volume, plan, folder, grades)
    sections = [
        _numbers(summary),
        Section("The twin", _twin_note(case, volume), (_bones(case, summary),), anatomy["twin"]),
        Section("The plan", _plan_note(summary), (_screws(summary),), anatomy["plan"]),
        Section(
            "Where the screws lie",
            "Sections of the CT: each bone's surface in its colour, the outer thread of each screw by its grade.",
            (),
            slices,
            300,
        ),
        _rehearsal(out, summary),
    ]
    if summary["guidance"] is not None:
        sections.append(_guidance(out, summary))
    sections.append(Section("Time", "Wall-clock times of this run.", (timings_table(summary["seconds"]),)))
    subject = "a digital phantom" if summary["source"] == "phantom" else "a CT of your own"
    text = page("Osteotwin: the whole line", f"From a CT to a headset and a camera, on {subject}", sections,
                summary["twin"]["warnings"])  # fmt: skip
    (out / "report.html").write_text(text, encoding="utf-8")


def anatomy_pictures(twin: Twin, plan: Plan, folder: Path, grades: Mapping[str, str]) -> dict[str, list[Picture]]:
    """The twin from three sides, the plan through the bone, and the spine before and after the osteotomy."""
    out: dict[str, list[Picture]] = {"twin": [], "plan": []}
    spine = [n for n in twin.bones if n.startswith("vertebrae_") or n == "sacrum"] or list(twin.bones)
    made = [fragments(twin, cut) for cut in plan.osteotomies.values()]
    whole, close = standard_views(twin, *SIZE_PX), standard_views(twin, *SIZE_PX, names=spine)
    bones = Scene[Patient](meshes=bone_parts(twin), labels=bone_labels(twin))
    drawn = plan_parts(twin, plan, grades=grades, made=made)
    clear = Scene[Patient](
        meshes=(*bone_parts(twin, names=spine, mode="xray"), *drawn.meshes), lines=drawn.lines, labels=drawn.labels
    )
    screws, _ = screw_parts(plan.screws.values(), grades)
    before = Scene[Patient](meshes=(*bone_parts(twin, names=spine), *screws), labels=bone_labels(twin, names=spine))
    after = planned_parts(twin, plan, names=spine, grades=grades)
    shots = [("twin", side, f"The twin, {side} view", bones, whole[side]) for side in ("anterior", "posterior", "left")]
    shots += [
        ("plan", side, f"Screws and cuts, {side} view", clear, close[side]) for side in ("posterior", "left", "oblique")
    ]
    if made:
        angle = np.degrees(made[0].osteotomy.angle_rad)
        closed = Scene[Patient](meshes=after.meshes, lines=after.lines, labels=after.labels)
        shots += [
            ("plan", "before", "Before the osteotomy, left view", before, close["left"]),
            ("plan", "after", f"After closing {angle:.0f}°, left view", closed, close["left"]),
        ]
    with Offscreen(*SIZE_PX) as target:
        for kind, name, caption, scene, view in shots:
            path = folder / f"{kind}_{name}.jpg"
            texts = (*orientation_labels(view), _disclaimer(view))
            Image.fromarray(target.picture(scene.plus(screen_texts=texts), view)).save(path, quality=88)
            out[kind].append(Picture(path, caption))
    return out


def _disclaimer(view: View[Any]) -> ScreenText:
    corner = (view.width_px - 12.0, view.height_px - 10.0)
    return ScreenText("Research tool, not a medical device", corner, 13.0, (0.6, 0.65, 0.7), "bottom_right")


def slice_pictures(twin: Twin, volume: Volume, plan: Plan, folder: Path, grades: Mapping[str, str]) -> list[Picture]:
    """For each level the plane of its left screw nearest to axial; a sagittal section with the cuts."""
    voxels = voxels_of(volume)
    bones = [outline for name in twin.bones for outline in bone_outlines(twin, names=[name])]
    shafts, axes = screw_outlines(plan.screws.values(), grades)
    pictures = []

    def keep(name: str, caption: str, where: Slice, strokes: Sequence[Stroke]) -> None:
        path = folder / f"slice_{name}.jpg"
        Image.fromarray(slice_picture(voxels, where, outlines=[*bones, *shafts], strokes=strokes)).save(
            path, quality=88
        )
        pictures.append(Picture(path, caption))

    for bone in dict.fromkeys(s.bone for s in plan.screws.values()):
        first = next(s for s in plan.screws.values() if s.bone == bone)
        near = Slice.axial(first.axis.at(0.4 * first.length_mm).mm, 110.0, 520, 520)
        where = Slice.along(f"{bone_label(bone)}, {first.side} screw", first.axis, near, 0.4 * first.length_mm)
        own = [axis for axis, s in zip(axes, plan.screws.values(), strict=True) if s.id == first.id]
        keep(bone, f"{bone_label(bone)}: the plane of its {first.side} screw", where, own)
    if plan.osteotomies:
        cut = next(iter(plan.osteotomies.values()))
        traces = []
        for plane in cut.planes:
            back = np.cross(cut.hinge.direction, plane.normal)
            back = back if back[1] > 0 else -back
            traces.append(Stroke(np.array([cut.hinge.point_mm, cut.hinge.point_mm + 75.0 * back]), CUT_LINE, 2.0))
        middle = cut.hinge.point_mm + np.array([0.0, 25.0, 0.0])
        keep(
            "sagittal", "Sagittal, through the hinge; the cuts in blue", Slice.sagittal(middle, 200.0, 520, 520), traces
        )
    return pictures


def _numbers(summary: Mapping[str, Any]) -> Section:
    limits = (
        ("Surface error, mean, symmetric", "mesh_error_mean_mm", 0.25, "mm"),
        ("Lordosis of the planned spine", "osteotomy_error_deg", 0.5, "°"),
        ("Hinge to the true anterior cortex", "hinge_error_mm", 0.3, "mm"),
        ("Overlay, median outline distance", "overlay_error_px", 1.0, "px"),
        ("Overlay, mean outline distance", "overlay_error_mean_px", 1.0, "px"),
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
    parts += [
        f"Not planned: {r['bone']} {r['side'] or ''}: {sentence(r['reason'])}" for r in summary["plan"]["refused"]
    ]
    if summary["source"] == "phantom":
        parts.append("The phantom is well aligned: the cut shows the mechanics, not an indication.")
    sd_mm = next((screw["margin_sd_mm"] for screw in summary["plan"]["screws"]), None)
    parts.append(
        "Margins have no stated uncertainty: they are distances on the twin."
        if sd_mm is None
        else f"Margins: sd {sd_mm:.2f} mm from the scan's resolution; nothing else is in it."
    )
    return " ".join(parts)


def sentence(words: str) -> str:
    """Words that end as a sentence does."""
    return words if words.endswith(("?", ".", "!")) else words + "."


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
        ("Frames by trust", ", ".join(f"{n} {t}" for t, n in summary["guidance"]["trust"].items())),
        ("Frames by pose", ", ".join(f"{n} {t}" for t, n in summary["guidance"]["how"].items())),
        ("Predicted error at the guided screw's tip (95 %), median", number(summary["guidance"]["predicted_mm"], "mm")),
    ]
    if summary["overlay_error_mm"] is not None:
        median, p95 = summary["overlay_error_mm"], summary["overlay_error_p95_mm"]
        drill = number(summary["drill_tip_error_mm"], "mm"), number(summary["drill_angle_error_deg"], "°")
        rows += [
            ("Overlay, median / 95 % over screw tips", f"{median:.2f} / {p95:.2f} mm"),
            ("The true error stayed inside the predicted one in", summary["predicted_error_held"]),
            ("Drill tip / direction against its true pose", " / ".join(drill)),
        ]
    looked_at = "the true bone" if summary["source"] == "phantom" else "a rigid copy of the twin (no truth, no errors)"
    note = (
        f"A camera that does not exist looks at {looked_at} through a bent lens; nine touches with a stated error "
        "register the twin. The reference is covered for a while: the pose is first predicted, then stale, and nothing "
        "is drawn."
    )
    pictures = []
    for path in sorted(out.glob("overlay_*.png")):
        small = out / "pictures" / f"{path.stem}.jpg"  # the page stays small; the full pictures lie beside it
        Image.open(path).convert("RGB").resize((1280, 720), Image.Resampling.LANCZOS).save(small, quality=86)
        pictures.append(Picture(small, f"Overlay, frame {path.stem.split('_')[1]}"))
    return Section("Guidance", note, (Table(("What", "Found"), rows),), pictures, 480)
