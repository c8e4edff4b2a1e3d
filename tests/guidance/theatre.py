"""A small operating room with its truth: balls for bones, the printed bodies, a lens, exact or noisy sightings."""

from typing import Any

import numpy as np

from guidance.registration import Pair, Registration, register
from guidance.session import Limits, State, Tick, step
from spatial.frames import Camera, Instrument, Patient, Reference
from spatial.mesh import TriangleMesh
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid, UncertainRigid, rotation_exp
from tests.data import ROOT
from tests.render.shapes import icosphere
from tracking.bodies.body import Body, load
from tracking.detection.markers import Detections
from tracking.pose.pose import track_body
from tracking.pose.sighting import Sighting
from tracking.synthetic.camera import looking
from twin.anatomy.bone import Bone
from twin.anatomy.twin import Levels, Twin
from twin.plan.screws.screw import Screw

LENS = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
SMALL = Pinhole(640, 360, 550.0, 548.0, 320.8, 179.1, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
REFERENCE: Body[Reference] = load(ROOT / "assets/markers/reference.json")
DRILL: Body[Instrument] = load(ROOT / "assets/markers/drill.json")
STEP_NS = 33_333_333
CENTRE = np.array([5.0, 20.0, 300.0])
# the body's z out of the back (patient +y), its y cranial
PATIENT_FROM_REFERENCE: Rigid[Patient, Reference] = Rigid(
    rotation_exp([0.2, 0.1, 0.0]) @ np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), np.array([-70.0, 70.0, 330.0])
)
REFERENCE_FROM_PATIENT = PATIENT_FROM_REFERENCE.inverse()
FIDUCIALS = CENTRE + np.array(
    [[0, 30, 0], [22, 12, 8], [-24, 14, 4], [0, 26, -40], [20, 10, -36], [-22, 10, -44], [14, 24, 20], [-12, 25, -20]]
)


def beside(left_mm: float, back_mm: float, up_mm: float) -> Any:
    return CENTRE + np.array([left_mm, back_mm, up_mm])


def ball(centre: Any, radius_mm: float) -> TriangleMesh[Any]:
    mesh = icosphere(radius_mm, 3)
    return TriangleMesh(mesh.vertices_mm + np.asarray(centre), mesh.triangles)


TWIN = Twin(
    "twin-of-balls",
    {
        "vertebrae_L3": Bone("vertebrae_L3", ball(CENTRE, 22.0)),
        "vertebrae_L4": Bone("vertebrae_L4", ball(beside(0, 2, -45), 22.0)),
        "hip_left": Bone("hip_left", ball(beside(45, 5, -60), 15.0)),
    },
    (),
    Levels(1.0),
)


def screw(side: Any) -> Screw:
    sign = 1.0 if side == "left" else -1.0  # +x is the patient's left
    entry = beside(sign * 16.0, 18.0, 2.0)
    target = beside(sign * 4.0, -14.0, 0.0)
    return Screw(f"L3-{side}", "vertebrae_L3", side, Points(entry), Points(target), 6.5, 40.0)


SCREWS = {s.id: s for s in (screw("left"), screw("right"))}


def camera_at(swing_rad: float = 0.0, distance_mm: float = 480.0, left_mm: float = -20.0) -> Rigid[Camera, Patient]:
    """From behind, head to the left of the picture."""
    out = np.array([np.sin(swing_rad), np.cos(swing_rad), 0.15])
    at = beside(left_mm, 10.0, 0.0)
    return looking(at + distance_mm * out / np.linalg.norm(out), at, np.array([-1.0, 0.0, 0.0]))


def pairs(rng: np.random.Generator, sd_mm: float) -> list[Pair]:
    touched = (REFERENCE_FROM_PATIENT @ Points[Patient](FIDUCIALS)).mm + rng.normal(0, sd_mm, FIDUCIALS.shape)
    return [Pair(f"p{i}", tuple(a), tuple(b)) for i, (a, b) in enumerate(zip(FIDUCIALS, touched, strict=True))]


def registration(sd_mm: float = 0.0, seed: int = 1) -> Registration:
    fle_mm = None if sd_mm else 0.1
    return register(pairs(np.random.default_rng(seed), sd_mm), body=REFERENCE.name, twin_id=TWIN.twin_id, fle_mm=fle_mm)


def state(**changes: Any) -> State:
    values: dict[str, Any] = {
        "registration": registration(),
        "reference": REFERENCE,
        "screws": SCREWS,
        "focus": Points[Patient](CENTRE),
        "limits": Limits(),
    }
    return State(**{**values, **changes})


def exact(body: Body[Any], pose: Rigid[Camera, Any], t_ns: int, sd_mm: float = 0.05) -> Sighting[Any]:
    covariance = np.diag([1e-4**2] * 3 + [sd_mm**2] * 3)
    return Sighting(body.name, t_ns, "TRACKED", None, UncertainRigid(pose, covariance), 0.1)


def lost(body: Body[Any], t_ns: int) -> Sighting[Any]:
    return Sighting(body.name, t_ns, "LOST", "0 of 4 markers seen", None, None)


def noisy(
    body: Body[Any], pose: Rigid[Camera, Any], t_ns: int, rng: np.random.Generator, sd_px: float
) -> Sighting[Any]:
    """What track_body makes of the corners as the lens shows them, with `sd_px` on every coordinate."""
    ids = sorted(body.corners_mm)
    corners = np.array([LENS.project(pose @ Points(body.corners_mm[i])) for i in ids])
    corners += rng.normal(0, sd_px, corners.shape)
    whitening = np.repeat(np.eye(8)[None] / sd_px, len(ids), axis=0)
    seen = Detections(body.dictionary, np.array(ids), corners, whitening, ("EDGES",) * len(ids))
    return track_body(seen, body, LENS, t_ns=t_ns)


def drill_at(tip_mm: Any, direction: Any) -> Rigid[Patient, Instrument]:
    """The drill with its tip at a point and its shaft along `direction`, its markers toward the back."""
    y = -np.asarray(direction, float) / np.linalg.norm(direction)
    z = np.array([0.0, 1.0, 0.0]) - y[1] * y
    z /= np.linalg.norm(z)
    R = np.stack([np.cross(y, z), y, z], axis=1)
    return Rigid(R, np.asarray(tip_mm) - R @ np.asarray(DRILL.tip_mm))


def seen_at(
    state: State, t_ns: int, camera: Rigid[Camera, Patient], drill: Rigid[Patient, Instrument] | None = None
) -> State:
    """The state after exact sightings of what is there, and a tick."""
    state = step(state, exact(REFERENCE, camera @ PATIENT_FROM_REFERENCE, t_ns))
    if drill is not None:
        state = step(state, exact(DRILL, camera @ drill, t_ns))
    return step(state, Tick(t_ns))
