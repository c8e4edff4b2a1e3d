"""When a pedicle takes no screw: what can be done instead, each with its own rule, its numbers and its reason.

A thinner or shorter screw that keeps the same margin; a screw in-out-in (through the transverse process, out beside
the pedicle where the rib covers it, and into the body; thoracic only); a hook on the lamina or under the pedicle; no
anchor at all. In-out-in and hooks are what surgeons turn to where no screw fits (T4 and T5 mostly; clinical fact sheet,
1.2 and 1.3 [M]). Nothing here lowers the safety margin toward the canal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.levels import level_of
from twin.plan.screws.batch import Candidates, Pedicle
from twin.plan.screws.clearance import nearest_critical
from twin.plan.screws.grade import ANTERIOR_KEEP_MM, OffBone, ScrewGrade, grade_screw
from twin.plan.screws.implants import HookFamily, HookSize, Library, ScrewFamily, load_library
from twin.plan.screws.screw import Screw
from twin.scan.volume import Volume

Way = Literal["smaller", "in-out-in", "hook", "skip"]
LEAST_MARGIN_MM = 0.3
SURE = 1.645  # sigmas: 95 of 100 walls are at least as far away as this says
MOST_OUT_MM = 6.0  # beyond the lateral wall: further out the rib no longer covers the screw
FILL = 0.8  # of the isthmus, where the screws that there are allow it
CHORD = 0.85
SMALL = "polyaxial-small"
SHIFTS_MM = np.arange(-2.0, 2.01, 1.0)
TURNS_RAD = np.radians(np.arange(-12.0, 12.1, 4.0))
OUTWARD_MM = np.arange(1.0, 9.01, 1.0)
INWARD_RAD = np.radians(np.arange(0.0, 36.1, 6.0))
TRIED = 12  # of the best in-out-in axes are graded in full
BEHIND_MM = 60.0
LONG_MM = 60.0  # axes are judged along the pedicle's whole window
LAMINA_X_MM = (4.0, 5.5, 7.0)  # beside the middle
LAMINA_Z_MM = np.arange(-14.0, 6.1, 2.0)
LAMINA_REACH_MM = 35.0  # no canal is deeper


@dataclass(frozen=True, eq=False)
class Rung:
    """One thing to do instead. `fits` False: it was tried, and `reason` says why not. `rank` 1 is tried first."""

    way: Way
    fits: bool
    reason: str
    rank: int = 0
    screw: Screw | None = None
    grade: ScrewGrade | None = None
    hook: HookSize | None = None
    lamina_mm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `refused[].alternatives` prints it."""
        value: dict[str, Any] = {"rank": self.rank, "way": self.way, "fits": self.fits, "reason": self.reason}
        if self.screw is not None and self.grade is not None:
            value["screw"] = {**self.screw.to_json(), **self.grade.to_json()}
        if self.hook is not None:
            value["hook"] = {"use": self.hook.use, "throat_mm": self.hook.throat_mm, "blade_mm": self.hook.blade_mm}
        if self.lamina_mm is not None:
            value["lamina_mm"] = round(self.lamina_mm, 2)
        return value


def alternatives(
    twin: Twin, bone: str, side: Side, volume: Volume | None = None, *, library: Library | None = None
) -> tuple[Rung, ...]:
    """What to do with a pedicle that takes no usual screw, best first; what does not fit stands last, with its reason.

    Raises NoBone.
    """
    twin.bone(bone)
    library = load_library() if library is None else library
    found: list[Rung] = []
    try:
        frame = bone_frame(twin, bone)
        pedicle = Pedicle.of(twin, bone, side, frame)
        way = _pedicle_way(twin, bone, side, frame)
    except NoLandmark as fault:
        found.append(Rung("smaller", False, fault.message))
    else:
        keep = LEAST_MARGIN_MM + SURE * (twin.surface_sd_mm or 0.0)
        found.append(_smaller(twin, bone, side, pedicle, way, frame, volume, library, keep))
        if (level_of(bone) or "").startswith("T"):
            found.append(_in_out_in(twin, bone, side, pedicle, way, frame, volume, library, keep))
        found.append(_hook(twin, bone, side, pedicle, frame, library))
    found.append(Rung("skip", True, "no anchor in this pedicle; its neighbours carry what it would have carried"))
    order = sorted(found, key=lambda rung: not rung.fits)
    return tuple(
        Rung(r.way, r.fits, r.reason, n + 1, r.screw, r.grade, r.hook, r.lamina_mm) for n, r in enumerate(order)
    )


def _pedicle_way(twin: Twin, bone: str, side: Side, frame: Rigid[Patient, Bone]) -> Array:
    direction = twin.landmark(f"pedicle_{side}", bone).direction
    return frame.rotation[:, 1] if direction is None else direction.unit


def _sizes(library: Library) -> tuple[list[float], list[float]]:
    """Diameters and lengths of all pedicle screws there are."""
    small = [f for f in library.of(ScrewFamily) if f.name == SMALL]
    families = [library.screws(), *small]
    diameters = sorted({d for f in families for d in f.diameters_mm})
    return diameters, sorted({v for f in families for v in f.lengths_mm})


def _smaller(
    twin: Twin, bone: str, side: Side, pedicle: Pedicle, way: Array, frame: Rigid[Patient, Bone],
    volume: Volume | None, library: Library, keep: float,
) -> Rung:  # fmt: skip
    """The thickest screw that keeps the margin on the axis with most room, whatever share of the isthmus it fills."""
    diameters, lengths = _sizes(library)
    medial, superior = _across(way, pedicle)
    shift, rise, turn, lift = (v.ravel() for v in np.meshgrid(SHIFTS_MM, SHIFTS_MM, TURNS_RAD, TURNS_RAD))
    entries, ways = _axes(pedicle, way, medial, superior, shift, rise, turn, lift)
    whole = np.isfinite(entries).all(axis=1)
    if not whole.any():
        return Rung("smaller", False, "no axis near the pedicle's own meets the bone behind it")
    entries, ways = entries[whole], ways[whole]
    thin = Candidates(entries, ways, np.zeros(len(ways)), np.full(len(ways), LONG_MM))
    graded = pedicle.grade(thin)
    room = np.where(np.isfinite(graded.anterior_mm), graded.margin_mm, -np.inf)
    best = int(np.argmax(room))
    nearest = float(room[best])
    fitting = [d for d in diameters if d / 2.0 + keep <= nearest]
    if not fitting:
        return Rung(
            "smaller", False,
            f"on the axis with most room the nearest wall is {nearest:.1f} mm away; the thinnest screw there is "
            f"({min(diameters):g} mm) needs {min(diameters) / 2.0 + keep:.1f} mm",
        )  # fmt: skip
    chord = float(graded.anterior_mm[best]) + LONG_MM
    short = [v for v in lengths if v <= chord - ANTERIOR_KEEP_MM]
    if not short:
        return Rung("smaller", False, f"the chord is {chord:.1f} mm; the shortest screw has {min(lengths):g} mm")
    within = [d for d in fitting if d <= FILL * 2.0 * nearest]  # the wall on the other side is as far at least
    diameter = max(within, default=min(fitting))
    critical = ""
    for length in sorted((v for v in short if v <= max(CHORD * chord, short[0])), reverse=True):
        screw = _screw(bone, side, entries[best], ways[best], diameter, length, library)
        grade = grade_screw(twin, screw, volume, patient_from_bone=frame)
        near = nearest_critical(grade.clearances)
        if near is None or near.distance_mm >= keep:
            fill = "" if grade.width_mm is None else f", {100 * diameter / grade.width_mm:.0f} % of the isthmus"
            words = f"{diameter:g} x {length:g} mm keeps {nearest - diameter / 2:.1f} mm from every wall{fill}"
            return Rung("smaller", True, words, screw=screw, grade=grade)
        critical = f"comes within {near.distance_mm:.1f} mm of {near.structure} (critical)"
    return Rung("smaller", False, f"even the shortest screw of {diameter:g} mm {critical}")


def _in_out_in(
    twin: Twin, bone: str, side: Side, pedicle: Pedicle, way: Array, frame: Rigid[Patient, Bone],
    volume: Volume | None, library: Library, keep: float,
) -> Rung:  # fmt: skip
    """Beside the pedicle: the medial wall keeps its margin, the lateral one is passed, the tip lies in the body."""
    diameters, lengths = _sizes(library)
    medial, superior = _across(way, pedicle)
    out, rise, turn = (v.ravel() for v in np.meshgrid(-OUTWARD_MM, SHIFTS_MM, INWARD_RAD))
    entries, ways = _axes(pedicle, way, medial, superior, out, rise, turn, np.zeros_like(out))
    whole = np.isfinite(entries).all(axis=1)
    entries, ways = entries[whole], ways[whole]
    diameter = next((d for d in diameters if d >= 4.0), max(diameters))
    best: tuple[float, Screw, ScrewGrade] | None = None
    why = "no axis beside the pedicle enters behind it and ends in the body"
    if len(entries):
        graded = pedicle.grade(Candidates(entries, ways, np.full(len(ways), diameter), np.full(len(ways), LONG_MM)))
        chord = graded.anterior_mm + LONG_MM
        fits = pedicle.grid.distance_mm(Points[Patient](entries + 0.75 * chord[:, None] * ways)) < -diameter
        passes = np.isin(graded.wall, [2]) & (graded.breach_mm <= MOST_OUT_MM + diameter / 2) & fits
        order = np.flatnonzero(passes)[np.argsort(graded.breach_mm[passes], kind="stable")][:TRIED]
        for n in order:
            length = max((v for v in lengths if v <= min(0.85 * chord[n], chord[n] - ANTERIOR_KEEP_MM)), default=None)
            if length is None:
                continue
            screw = _screw(bone, side, entries[n], ways[n], diameter, length, library)
            try:
                grade = grade_screw(twin, screw, volume, patient_from_bone=frame)
            except OffBone:
                continue
            near = nearest_critical(grade.clearances)
            if grade.margin_mm["medial"] < keep or (near is not None and near.distance_mm < keep):
                why = f"the best axis beside the pedicle keeps {grade.margin_mm['medial']:.1f} mm from its medial wall"
                continue
            if best is None or grade.breach_mm < best[0]:
                best = (grade.breach_mm, screw, grade)
    if best is None:
        return Rung("in-out-in", False, why)
    rib = f"rib_{side}_{(level_of(bone) or 'T0')[1:]}"
    cover = _rib_gap(twin, rib, best[1])
    kept = best[2].margin_mm["medial"]
    words = f"passes {best[0]:.1f} mm beyond the lateral wall, keeps {kept:.1f} mm from the medial one, and ends in the"
    return Rung("in-out-in", True, f"{words} body; {cover}", screw=best[1], grade=best[2])


def _rib_gap(twin: Twin, rib: str, screw: Screw) -> str:
    if rib not in twin.bones:
        return f"{rib} is not in this twin, so nothing says that the rib covers it"
    axis = Points[Patient](screw.axis.point_mm + np.linspace(0.0, screw.length_mm, 40)[:, None] * screw.axis.direction)
    gap = float(DistanceGrid[Patient].of(twin.bones[rib].surface).distance_mm(axis).min()) - screw.diameter_mm / 2.0
    return f"its thread meets {rib}" if gap <= 0 else f"{rib} is {gap:.1f} mm away from its thread"


def _hook(twin: Twin, bone: str, side: Side, pedicle: Pedicle, frame: Rigid[Patient, Bone], library: Library) -> Rung:
    """The smallest hook whose throat takes the lamina: under a thoracic pedicle (T1 to T10), else on the lamina."""
    level = level_of(bone) or ""
    use = "pedicle" if level.startswith("T") and level not in ("T11", "T12", "T13") else "laminar"
    thick = lamina_mm(twin, bone, side, pedicle, frame)
    if thick is None:
        return Rung("hook", False, "no lamina was found behind the canal; removed, or cut by the edge of the scan?")
    sizes = sorted((s for f in library.of(HookFamily) for s in f.sizes if s.use == use), key=lambda s: s.throat_mm)
    fitting = next((s for s in sizes if s.throat_mm >= thick), None)
    if fitting is None:
        most = max((s.throat_mm for s in sizes), default=0.0)
        return Rung(
            "hook", False, f"the lamina is {thick:.1f} mm thick; {use} hooks open to {most:g} mm", lamina_mm=thick
        )
    return Rung(
        "hook", True, f"a {use} hook with a throat of {fitting.throat_mm:g} mm takes the lamina of {thick:.1f} mm; its "
        f"blade puts {fitting.blade_mm:g} mm into the canal behind it", hook=fitting, lamina_mm=thick,
    )  # fmt: skip


def lamina_mm(twin: Twin, bone: str, side: Side, pedicle: Pedicle, frame: Rigid[Patient, Bone]) -> float | None:
    """Thickness across the lamina behind the canal, its thickest parts apart; None: none is there.

    The way through it straight backward, times the cosine of that way to the normal of the lamina's front.
    """
    middle = _canal_middle(twin, bone, frame)
    right, anterior, cranial = frame.rotation.T
    outward = -right if side == "left" else right
    x, z = (v.ravel() for v in np.meshgrid(LAMINA_X_MM, LAMINA_Z_MM))
    start = middle + x[:, None] * outward + z[:, None] * cranial
    start = start[pedicle.grid.distance_mm(Points[Patient](start)) > 0.0]
    near = pedicle.grid.trace(Points[Patient](start), _all(-anterior, start), LAMINA_REACH_MM)
    met = np.isfinite(near)
    if met.sum() < 3:
        return None
    face = Points[Patient](start[met] - (near[met] + 0.05)[:, None] * anterior)
    through = pedicle.grid.trace(face, _all(-anterior, face.mm), LAMINA_REACH_MM) + 0.05
    slant = np.abs(pedicle.grid.gradient(face) @ anterior)
    sound = np.isfinite(through)
    return float(np.quantile((through * np.clip(slant, 0.0, 1.0))[sound], 0.75)) if sound.sum() >= 3 else None


def _all(way: Array, points_mm: Array) -> Directions[Patient]:
    return Directions[Patient](np.broadcast_to(way, points_mm.shape))


def _canal_middle(twin: Twin, bone: str, frame: Rigid[Patient, Bone]) -> Array:
    """The canal's middle as measured; else 3 mm behind the pedicles, in the mid-plane where only one is known."""
    try:
        return np.asarray(twin.landmark("canal_centre", bone).position.mm)
    except NoLandmark:
        names = ("pedicle_left", "pedicle_right")
        necks = [m.position.mm for m in twin.landmarks if m.bone == bone and m.name in names]
        middle = np.mean(necks, axis=0)
        if len(necks) == 1:
            right = frame.rotation[:, 0]
            middle = middle - float((middle - frame.translation_mm) @ right) * right
        return np.asarray(middle - 3.0 * frame.rotation[:, 1])


def _across(way: Array, pedicle: Pedicle) -> tuple[Array, Array]:
    superior = pedicle.cranial - (pedicle.cranial @ way) * way
    superior /= np.linalg.norm(superior)
    medial = np.cross(way, superior)
    return (medial if medial @ pedicle.inward > 0 else -medial), superior


def _axes(
    pedicle: Pedicle, way: Array, medial: Array, superior: Array, shift: Array, rise: Array, turn: Array, lift: Array
) -> tuple[Array, Array]:
    """Entries (N, 3) on the bone (inf: none) and ways (N, 3) of axes moved and turned away from the pedicle's own."""
    ways = way + np.tan(turn)[:, None] * medial + np.tan(lift)[:, None] * superior
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    behind = pedicle.isthmus_mm + shift[:, None] * medial + rise[:, None] * superior - BEHIND_MM * ways
    run = pedicle.grid.trace(Points[Patient](behind), Directions[Patient](ways), BEHIND_MM)
    return np.where(
        np.isfinite(run)[:, None], behind + np.where(np.isfinite(run), run, 0.0)[:, None] * ways, np.inf
    ), ways


def _screw(bone: str, side: Side, entry: Array, way: Array, diameter: float, length: float, library: Library) -> Screw:
    usual: Sequence[float] = library.screws().diameters_mm
    family = "" if diameter in usual and length in library.screws().lengths_mm else SMALL
    return Screw(
        f"{level_of(bone) or bone}-{side}", bone, side, Points[Patient](entry),
        Points[Patient](entry + length * way), float(diameter), float(length), family=family,
    )  # fmt: skip
