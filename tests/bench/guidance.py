"""The stages of the guidance loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from guidance.loop import guide
from guidance.session import Trust
from guidance.stages import Stages
from spatial.frames import Patient
from spatial.rigid import Rigid
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import BONE
from tests.bench.patient import twin as phantom_twin
from tests.guidance.theatre import (
    CENTRE,
    DRILL,
    LENS,
    PATIENT_FROM_REFERENCE,
    REFERENCE,
    SCREWS,
    TWIN,
    beside,
    camera_at,
    drill_at,
    state,
)  # fmt: skip
from tracking.synthetic.camera import SyntheticCamera
from twin.anatomy.bone import Bone
from twin.anatomy.surface import levels_of_detail
from twin.anatomy.twin import Levels, Twin

FRAMES = 10


class Recorded:
    """Pictures that were rendered before."""

    name = "rendered"

    def __init__(self) -> None:
        camera = SyntheticCamera(LENS, (REFERENCE, DRILL), seed=3)
        drill = drill_at(beside(16.0, 45.0, 2.0), [-0.3, -1.0, 0.0])
        places = {"drill": drill, "reference": PATIENT_FROM_REFERENCE}
        self.path = [camera_at(0.01 * k, 480.0) for k in range(FRAMES)]
        self.frames = [camera.shoot(k, pose, places).frame for k, pose in enumerate(self.path)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.frames)

    def close(self) -> None:
        """Nothing to close."""


def spine() -> Twin:
    """The phantom's spine brought to where the theatre's patient lies, with its coarser copies."""
    bones = phantom_twin().bones
    there = Rigid[Patient, Patient](np.eye(3), CENTRE - bones[BONE].surface.centroid_mm)
    moved = {name: bone.surface.moved(there) for name, bone in bones.items()}
    return Twin(
        TWIN.twin_id, {name: Bone(name, mesh, levels_of_detail(mesh)) for name, mesh in moved.items()}, (), Levels(1.0)
    )


def jobs() -> Iterator[Job]:
    """The loop as `osteotwin guide` runs it on a recording, drawn and undrawn."""
    source, patient = Recorded(), spine()
    first = state(screws=SCREWS, instrument=DRILL, screw="L3-left")
    for draw in (True, False):
        stages = Stages()

        def loop(draw: bool = draw, stages: Stages = stages) -> list[Any]:
            return list(guide(source, LENS, first, patient, draw=draw, stages=stages))

        def judge(ours: list[Any], _: None, stages: Stages = stages) -> Judgement:
            off = [
                np.linalg.norm((g.readout.camera_from_patient.pose.inverse() @ pose).translation_mm)
                for g, pose in zip(ours, source.path, strict=True)
                if g.readout.camera_from_patient is not None
            ]
            trusted = all(g.readout.trust != Trust.STOP for g in ours) and len(off) == len(ours)
            worst = max(map(float, off), default=float("inf"))
            summary = {name: times["p50_ms"] for name, times in stages.summary().items()}
            words = ", ".join(f"{name} {ms:.1f}" for name, ms in summary.items())
            figures = {f"{name}_p50_ms": ms for name, ms in summary.items()} | {"worst_mm": worst}
            return Judgement(
                trusted and worst < 1.0, f"stages (ms): {words}; camera off by {worst:.2f} mm at most", figures
            )

        yield Job(
            "guidance", f"{FRAMES} frames of 1920 x 1080 {'with' if draw else 'without'} the overlay",
            Side("guidance.loop.guide", loop), None, judge, rounds=2,
            no_peer="no open program does this loop with its own error; stages only",
        )  # fmt: skip
