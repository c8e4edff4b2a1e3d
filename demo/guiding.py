"""The demo's guidance: register by touches, follow the rendered stream, keep each read-out beside its truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.standin import Standin
from demo.stream import LENS, Recording, Theatre, shoot_all, theatre, touches
from guidance.loop import Guided, guide
from guidance.record import Recorder
from guidance.registration import Registration, register
from guidance.session import Limits, State
from guidance.stages import Stages
from render.anatomy import bone_parts
from render.offscreen import Offscreen
from render.scene import Scene, View
from spatial.frames import Patient
from spatial.progress import Progress
from spatial.rigid import Points
from tracking.bodies.body import load as load_body
from tracking.calibration.camera_file import save_camera
from tracking.synthetic.camera import Shot
from twin.case import Case
from twin.plan.plan import Plan

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "markers"
FRAMES = 10
FPS = 30.0


@dataclass(frozen=True, eq=False)
class GuidedPatient:
    """Everything that the stream gave, for measuring."""

    room: Theatre
    shots: tuple[Shot, ...]
    guided: tuple[Guided, ...]
    masks: dict[int, NDArray[np.bool_]]
    registration: Registration
    screw: str
    plan: Plan
    numbers: dict[str, Any]


def guide_patient(body: Standin, case: Case, plan: Plan, out: Path, progress: Progress) -> GuidedPatient:
    """Shoot the stream, register, guide: overlays, film, and the files that repeat it by the command line."""
    reference, drill = load_body(ASSETS / "reference.json"), load_body(ASSETS / "drill.json")
    chosen = next((s for s in plan.screws.values() if s.bone == "vertebrae_L2" and s.side == "left"), None)
    chosen = chosen or next(iter(plan.screws.values()))
    room = theatre(body, reference, drill, chosen, FRAMES)
    folder = out / "guidance"
    shots = []
    for shot in shoot_all(room, folder / "frames"):
        shots.append(shot)
        progress("taking the camera's pictures", 0.8 * len(shots) / FRAMES)
    pairs = touches(room, case.twin, np.random.default_rng(20))
    registration = register(pairs, body=reference.name, twin_id=case.twin.twin_id)
    targets = {f"{s.id} tip": s.tip for s in plan.screws.values()}
    with case:
        case.journal.append(
            "demo", "registered", {"body": reference.name, "residuals_mm": dict(registration.residuals_mm)}
        )
        case.journal.append("demo", "guidance_started", {"source": "synthetic", "screw": chosen.id})
    (folder / "pairs.json").write_text(json.dumps([vars(pair) for pair in pairs], indent=1))
    (folder / "registration.json").write_text(json.dumps(registration.to_json(targets), indent=1))
    save_camera(folder / "camera.yml", LENS)
    state = State(
        registration=registration,
        reference=reference,
        screws=dict(plan.screws),
        focus=Points(chosen.tip.mm),
        limits=Limits(),
        instrument=drill,
        screw=chosen.id,
    )
    stages = Stages()
    recorder = Recorder(folder / "overlay", FPS)
    guided = []
    try:
        for one in guide(Recording(tuple(s.frame for s in shots)), LENS, state, case.twin, stages=stages):
            recorder.add(one)
            guided.append(one)
            progress("guiding", 0.8 + 0.15 * len(guided) / FRAMES)
    except BaseException:
        recorder.abort()
        raise
    recorder.finish()
    (folder / "overlay" / "guidance.mp4").replace(out / "guidance.mp4")
    for index in (0, 5, 8, FRAMES - 1):
        (out / f"overlay_{index:02d}.png").write_bytes((folder / "overlay" / f"overlay_{index:04d}.png").read_bytes())
    masks = overlay_masks(case, room.exposed, tuple(guided))
    progress("guided", 1.0)
    numbers = {
        "frames": len(guided),
        "trust": {t: sum(str(g.readout.trust) == t for g in guided) for t in ("GUIDING", "CAUTION", "STOP")},
        "how": {
            h: sum(g.readout.how == h for g in guided) for h in ("EXACT", "INTERPOLATED", "PREDICTED", "STALE", "LOST")
        },
        "predicted_mm": predicted_mm(guided),
        "fre_mm": registration.fre_mm,
        "fle_mm": registration.fle_mm,
        "stages": stages.summary(),
    }
    return GuidedPatient(room, tuple(shots), tuple(guided), masks, registration, chosen.id, plan, numbers)


def predicted_mm(guided: list[Guided]) -> float | None:
    """Median predicted 95 % error (mm) over the frames that have one."""
    values = [one.readout.tre95_mm for one in guided if one.readout.tre95_mm is not None]
    return float(np.median(values)) if values else None


def overlay_masks(case: Case, exposed: tuple[str, ...], guided: tuple[Guided, ...]) -> dict[int, NDArray[np.bool_]]:
    """The exposed bones' silhouette as Painter draws it at the estimated pose, by frame; STOP frames have none."""
    ideal = LENS.undistorted()
    target = Offscreen(ideal.width_px, ideal.height_px, samples=0)
    scene = Scene[Patient](
        meshes=bone_parts(case.twin, names=[n for n in exposed if n in case.twin.bones], max_triangles=2_000_000)
    )
    masks = {}
    try:
        for one in guided:
            pose = one.readout.camera_from_patient
            if pose is not None:
                masks[one.frame.index] = target.mask(scene, View[Patient].from_pinhole(ideal, pose.pose))
    finally:
        target.release()
    return masks
