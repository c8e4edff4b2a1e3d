"""Compile every kernel once, by doing a little of everything: `python -m commands.warm`, the last step of set-up.

numba keeps what it compiled beside the sources, so the first demo and the first test don't pay for it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from demo.guiding import ASSETS
from demo.standin import PhantomStandin
from demo.stream import LENS, theatre
from interop.openigtlink.crc import crc64
from spatial.frames import Camera
from spatial.rigid import Points, Rigid, UncertainRigid
from tracking.bodies.body import board
from tracking.bodies.body import load as load_body
from tracking.detection.markers import Detections, detect
from tracking.detection.saddle import fit_saddles
from tracking.frame import Frame
from tracking.history.history import PoseHistory
from tracking.pose.pose import track_body
from tracking.pose.sighting import Sighting
from tracking.tracker import Tracker
from twin.anatomy import marrow, parting
from twin.anatomy.build import build_twin
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.working import Working
from twin.plan.auto.autoplan import propose_screw
from twin.plan.auto.construct import propose_construct
from twin.plan.auto.safe_corridor import safe_corridor
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import carry_out
from twin.plan.screws.batch import Candidates, Pedicle
from twin.plan.screws.grade import grade_screw
from twin.plan.screws.ladder import alternatives
from twin.plan.screws.through import Bones
from twin.scan.orientation import patient_from_index
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import voxelise
from twin.scan.phantom.voxels import scan_grid, synthesise
from twin.scan.placings import placings
from twin.scan.relabel import centroids, mapped, nearest, present
from twin.scan.volume import Grid, Volume


def warm() -> None:
    """A coarse phantom through twin, plan and camera; nothing is written."""
    phantom = Phantom.make(1)
    scan = synthesise(phantom, scan_grid(phantom, pixel_mm=0.9, slice_mm=1.2))
    spacing = (scan.grid.pixel_mm, scan.grid.pixel_mm, scan.grid.slice_mm)
    grid = Grid(scan.grid.size, np.array(spacing), scan.grid.origin_mm, np.eye(3))
    crc64(b"123456789")
    fit_saddles(np.zeros((24, 24), np.uint8), np.full((1, 2), 12.0), np.eye(2)[None], np.full(1, 6.0))
    twin, labels = build_twin(Volume(grid, scan.hu), None)
    numbers = np.asarray(labels.labels, np.uint8)
    present(nearest(mapped(numbers, np.arange(256, dtype=np.uint8)), patient_from_index(grid), grid))
    centroids(numbers)
    block = np.zeros((6, 6, 6), dtype=np.float32)
    marrow.enclosed(Working(block, 1.5, np.zeros(3)), block > 0, np.zeros(3, np.int64), np.full(3, 6, np.int64), 0.8)
    whole = np.zeros((6, 6, 6), dtype=np.int16)  # the twin took a part of its scan: that is another kernel
    parting.valleys(whole, parting.marrow(whole, whole > 0, 150.0), (1.0, 1.0, 1.0))
    few = np.eye(3)
    placings(few, few, block, Grid((6, 6, 6), np.full(3, 4.0), np.zeros(3), np.eye(3)), 1)
    volume = Volume(grid, scan.hu)
    proposal = propose_screw(twin, "vertebrae_L2", "left", volume)
    three = ("vertebrae_L1", "vertebrae_L2", "vertebrae_L3")
    for seen in (volume, None):  # a CT is read-only, and no CT is not: two types to the compiler
        propose_construct(twin, [(bone, "left") for bone in three], seen, alternatives=1)
    safe_corridor(twin, "vertebrae_L2", "left")
    alternatives(twin, "vertebrae_L2", "left", volume)
    frame, one = bone_frame(twin, "vertebrae_L2"), np.eye(3)[:1]
    Pedicle.of(twin, "vertebrae_L2", "left").safe(Candidates(one, one, np.full(1, 5.0), np.full(1, 30.0)))
    Bones.single(twin, "vertebrae_L2").nearest_mm(one, one, frame, (1.0, 9.0), step_mm=4.0, skip=10, enough_mm=0.0)
    carry_out(twin, [Osteotomy.pso(twin, "vertebrae_L3", math.radians(30.0))])
    phantom.distance_mm("vertebrae_L3", np.zeros((1, 3)))
    voxelise(Phantom.make(1, metal="screws"), 5.0, 3.0, crop_mm="vertebrae_L4")
    if proposal.screw is not None:
        grade_screw(twin, replace(proposal.screw, kind="lag"), volume)
        bodies = [load_body(ASSETS / name) for name in ("reference.json", "drill.json")]
        room = theatre(PhantomStandin(phantom), bodies[0], bodies[1], proposal.screw, 1)
        shot = next(iter(room.shots()))
        with Tracker(LENS, bodies) as tracker:  # the second look finds the markers where the first one saw them
            for k in range(2):
                tracker.see(Frame(k * 16_000_000, shot.frame.picture, k))
        detect(shot.frame.picture, bodies[0].dictionary, LENS)
    solve()
    follow()


def solve() -> None:
    """A body's pose, one of whose markers is a little off."""
    body = board("warm", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
    pose = Rigid[Camera, Any](np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 500.0]))
    px = np.array([LENS.project(pose @ Points(mm)) for mm in body.corners_mm.values()])
    px[0] += 0.5
    seen = Detections(body.dictionary, np.arange(4), px, np.tile(20.0 * np.eye(8), (4, 1, 1)), ("EDGES",) * 4)
    track_body(seen, body, LENS, t_ns=0)


def follow() -> None:
    """A pose history that learns, smooths and predicts."""
    history = PoseHistory[Any]()
    for k in range(12):
        pose = UncertainRigid(Rigid[Any, Any].exp((0, 0, 0), (k, 0, 500)), np.eye(6) * 1e-4)
        history.add(Sighting("warm", k * 16_000_000, "TRACKED", None, pose, 0.1))
    for t_ns in (88_000_000, 200_000_000):
        history.at(t_ns)


if __name__ == "__main__":
    warm()
