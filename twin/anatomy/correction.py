"""Bones after a person's strokes: the labels are told apart anew where they were touched, and nothing else is.

Strokes of several bones within one label are seeds: that label is parted between them along the dark valleys of the
HU, as in `twin.anatomy.parting`. Other strokes paint (or erase) what the brush covers. Each bone that changed gets a
new surface, found at the same sub-voxel edge as before; where somebody erased or painted dark tissue, it stays as
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.progress import Progress, part, silent
from spatial.rigid import Array, Points
from twin.anatomy import bone_mask, density, edges, landmarks, parting, surface, voxels
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.build import EmptyTwin, twin_id
from twin.anatomy.canal_tube import NAME as CANAL
from twin.anatomy.canal_tube import with_canal
from twin.anatomy.levels import UPWARD
from twin.anatomy.site import DEFAULT, Site
from twin.anatomy.spread import with_spread
from twin.anatomy.strokes import BadStrokes, Stroke, Strokes
from twin.anatomy.twin import Levels, Twin
from twin.program import program
from twin.scan.names import OWN_FIRST, numbered
from twin.scan.volume import Grid, LabelMap, Volume

HOST_SHARE = 0.3  # of a stroke's voxels that lie in the label which it is a seed in
HELD_MM = 1.0  # beside a drawn edge the surface passes over from as drawn to as found
LEAST_ML = 0.05  # what is left of a bone below this is no bone
BESIDE_TRIANGLES = 20_000  # a neighbour only shows where its own face of the joint is
NAMES_CHANGED = 0.5  # the most that the level names are trusted when a correction added or took away a level

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Relabelled:
    """Labels after the strokes, which bones changed (with the box of each), which are gone, and what a person should
    know.
    """

    labels: LabelMap
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    boxes: Mapping[str, Box]


@dataclass(frozen=True, eq=False)
class Corrected:
    """The twin after the strokes with its labels; `changed` have new surfaces, `removed` are gone."""

    twin: Twin
    labels: LabelMap
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]


def corrected(
    twin: Twin,
    volume: Volume,
    labels: LabelMap,
    strokes: Strokes,
    by: str,
    progress: Progress = silent,
    site: Site = DEFAULT,
) -> Corrected:
    """The twin as `by` drew it. Raises BadStrokes, EmptyTwin (nothing would be left).

    `site` reads the density; it is told where the twin was built by another one.
    """
    progress("telling the touched bones apart", 0.0)
    found = relabelled(volume, labels, strokes, twin.surfaces())
    settings = _surface_settings(twin)
    kept = {name: bone for name, bone in twin.bones.items() if name not in (*found.changed, *found.removed)}
    meshes: dict[str, TriangleMesh[Patient]] = {}
    notes = list(found.notes)
    for n, name in enumerate(found.changed):
        progress(f"finding the edge of {name}", 0.2 + 0.3 * n / len(found.changed))
        mesh = _meshed(name, volume, found.labels, found.boxes, settings, strokes.strokes)
        if mesh is None:
            notes.append(f"{name}: no closed surface could be made; the bone is left out")
        else:
            meshes[name] = mesh
    if not kept and not meshes:
        raise EmptyTwin("no bone would be left")
    after = _inside(found.labels, meshes, found.boxes) if settings.get("refined") else found.labels
    bones = dict(kept)
    for name, mesh in meshes.items():
        bones[name] = Bone(name, mesh, surface.levels_of_detail(mesh) if mesh.is_closed else ())
    bones = {name: bones[name] for name in sorted(bones)}
    progress("measuring landmarks", 0.6)
    redo = {*found.changed, *found.removed}
    built = _measured(twin, bones, redo, volume, site, part(progress, 0.6, 1.0))
    step = {
        "step": "correction",
        "by": by,
        "settings": {"strokes": len(strokes.strokes), "joins": len(strokes.joins), "changed": list(found.changed)},
        "program": program(),
    }
    gone = tuple(sorted({*found.removed, *(name for name in found.changed if name not in meshes)}))
    built = replace(
        built,
        levels=_levels(twin, bones, by),
        provenance=(*twin.provenance, step),
        warnings=tuple(dict.fromkeys([*built.warnings, *notes])),
    )
    return Corrected(built, after, tuple(sorted(meshes)), gone, tuple(notes))


def relabelled(
    volume: Volume, labels: LabelMap, strokes: Strokes, surfaces: Mapping[str, TriangleMesh[Patient]] | None = None
) -> Relabelled:
    """The label map after the strokes: parted and painted where they touch it. Raises BadStrokes.

    `surfaces` of all bones tell where each label lies without a pass over the whole map.
    """
    work = _Work(volume, labels, surfaces or {})
    for n, stroke in enumerate(strokes.strokes, 1):
        work.place(stroke, f"stroke {n}")
    work.part()
    work.paint()
    for bone, into in strokes.joins:
        work.join(bone, into)
    return work.done()


class _Work:
    """One correction in the making: labels that may be written to, numbers by name."""

    def __init__(self, volume: Volume, labels: LabelMap, surfaces: Mapping[str, TriangleMesh[Patient]]) -> None:
        self._volume, self._before = volume, labels
        self._out = labels.labels.copy()
        self._numbers = {name: number for number, name in labels.names.items()}
        self._placed: list[tuple[Stroke, Box, NDArray[np.bool_], int]] = []
        self._threshold_hu = bone_mask.soft_tissue(volume).bone_hu
        self._notes: list[str] = []
        if set(labels.names.values()) <= set(surfaces):
            self._boxes = {n: _around(surfaces[name], labels.grid) for n, name in labels.names.items()}
        else:
            self._boxes = surface.bounding_boxes(labels.labels)
        self._span: Box | None = None  # what may have changed lies in it

    def place(self, stroke: Stroke, where: str) -> None:
        """Find what a stroke covers, and the label that most of it lies in."""
        covered = stroke.covers(self._volume.grid)
        if covered is None:
            raise BadStrokes(f"{where} covers no voxel of the CT; are its places Patient (LPS) millimetres?")
        box, mask = covered
        count = np.bincount(np.asarray(self._before.labels[box])[mask])
        host = int(np.argmax(count[1:])) + 1 if count[1:].any() else 0
        if host and count[host] < HOST_SHARE * count.sum():
            host = 0
        self._placed.append((stroke, box, mask, host))

    def part(self) -> None:
        """Part each label that holds seeds of several bones."""
        for host in sorted({host for *_, host in self._placed if host}):
            seeds = [(s, box, mask) for s, box, mask, at in self._placed if at == host and s.bone is not None]
            if len({stroke.bone for stroke, *_ in seeds}) > 1:
                self._part(host, seeds)
                self._placed = [one for one in self._placed if one[3] != host or one[0].bone is None]

    def paint(self) -> None:
        """Let the brush decide where a stroke is no seed."""
        for stroke, box, mask, _ in self._placed:
            here = self._out[box]
            if stroke.bone is None:
                here[mask] = 0
                self._touch(box)
                continue
            if stroke.only_bright:
                mask = mask & ((here != 0) | (self._volume.hu[box] > self._threshold_hu))
            if not mask.any():
                raise BadStrokes(
                    f"a stroke of {stroke.bone} covers nothing above {self._threshold_hu:.0f} HU; "
                    'with "only_bright": false it paints dark tissue too'
                )
            number = self._number(stroke.bone)
            self._out[box][mask] = number
            self._touch(box)

    def join(self, bone: str, into: str) -> None:
        """Make one bone part of another."""
        for name in (bone, into):
            if name not in self._numbers:
                raise BadStrokes(f"no bone {name!r} to join; there are {', '.join(sorted(self._numbers))}")
        found = [box for box in (self._boxes.get(self._numbers[bone]), self._span) if box is not None]
        if found:
            box = _union(*found)
            block = self._out[box]
            block[block == self._numbers[bone]] = self._numbers[into]
            self._touch(box)

    def done(self) -> Relabelled:
        """What changed; bones of which next to nothing is left are gone."""
        span = self._span or (slice(0, 0), slice(0, 0), slice(0, 0))
        after, before = self._out[span], self._before.labels[span]
        differs = after != before
        if not differs.any():
            raise BadStrokes("the strokes change nothing: what they cover is labelled so already")
        touched = {int(n) for n in np.unique(after[differs])} | {int(n) for n in np.unique(before[differs])}
        names = {number: name for name, number in self._numbers.items()}
        removed = []
        for number in sorted(touched - {0}):
            box = _union(*(one for one in (self._boxes.get(number), span) if one is not None))
            mine = self._out[box] == number
            left_ml = float(mine.sum()) * self._volume.grid.voxel_ml
            if left_ml < LEAST_ML:
                removed.append(names[number])
                self._out[box][mine] = 0
                if left_ml:
                    self._notes.append(f"{names[number]}: {left_ml:.3f} ml are left of it; the bone is gone")
        changed = sorted(names[n] for n in touched - {0} if names[n] not in removed)
        kept = {number: name for number, name in names.items() if name not in removed}
        boxes = {}
        for name in changed:
            box = _union(*(one for one in (self._boxes.get(self._numbers[name]), span) if one is not None))
            boxes[name] = _tight(self._out[box] == self._numbers[name], box)
        labels = LabelMap(self._before.grid, self._out, kept, self._before.warnings)
        known = set(self._before.names.values())
        return Relabelled(labels, tuple(changed), tuple(n for n in removed if n in known), tuple(self._notes), boxes)

    def _part(self, host: int, seeds: Sequence[tuple[Stroke, Box, NDArray[np.bool_]]]) -> None:
        box = self._boxes[host]
        wide = tuple(slice(max(0, s.start - 3), min(n, s.stop + 3)) for s, n in zip(box, self._out.shape, strict=True))
        mine = np.asarray(self._before.labels[wide]) == host
        hu = np.ascontiguousarray(self._volume.hu[wide])
        marks = np.zeros(mine.shape, np.uint8)
        bones = list(dict.fromkeys(str(stroke.bone) for stroke, *_ in seeds))
        for stroke, at, mask in seeds:
            _paste(marks, wide, at, mask, bones.index(str(stroke.bone)) + 1)
        marks[~mine] = 0
        for n, bone in enumerate(bones, 1):
            if not (marks == n).any():
                raise BadStrokes(f"the strokes of {bone} cover each other; which of them is it?")
        mm = self._volume.grid.spacing_mm
        spacing = (float(mm[2]), float(mm[1]), float(mm[0]))
        valley = parting.valleys(hu, parting.marrow(hu, mine, self._threshold_hu), spacing)
        parts = parting.part(mine, valley[mine], marks[mine], spacing)
        numbers = np.array([host, *(self._number(bone) for bone in bones)], self._out.dtype)
        name = self._before.names[host]
        lost = mine & (parts == 0)
        if lost.any() and name not in bones:
            ml = float(lost.sum()) * self._volume.grid.voxel_ml
            self._notes.append(f"{ml:.2f} ml of {name} hang together with no stroke and stay {name}")
        block = self._out[wide]
        block[mine] = numbers[parts[mine]]
        self._touch((wide[0], wide[1], wide[2]))

    def _touch(self, box: Box) -> None:
        self._span = box if self._span is None else _union(self._span, box)

    def _number(self, bone: str) -> int:
        if bone not in self._numbers:
            own = [name for name, number in self._numbers.items() if number >= OWN_FIRST]
            number = numbered([*own, bone])[bone]
            while number in self._numbers.values():
                number += 1
            if number > np.iinfo(self._out.dtype).max:
                self._out = self._out.astype(np.uint16)
            self._numbers[bone] = number
        return self._numbers[bone]


def _around(mesh: TriangleMesh[Patient], grid: Grid) -> Box:
    """The voxels that a bone's surface may hold, two more on each side."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    low, high = mesh.bounds_mm
    at = grid.index_from_patient(Points[Patient](low + corners * (high - low)))
    first = np.clip(np.floor(at.min(axis=0)).astype(int) - 2, 0, grid.size)
    last = np.clip(np.ceil(at.max(axis=0)).astype(int) + 3, 0, grid.size)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return k, j, i


def _tight(mask: NDArray[np.bool_], box: Box) -> Box:
    """The smallest box that holds a mask which covers `box`."""
    sides = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(box[axis].start + int(found[0]), box[axis].start + int(found[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _union(*boxes: Box) -> Box:
    """The smallest box that holds all of them."""
    k, j, i = (slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    return k, j, i


def _paste(marks: NDArray[np.uint8], wide: tuple[slice, ...], at: Box, mask: NDArray[np.bool_], number: int) -> None:
    """Write a mask that covers the block `at` of the volume into `marks`, which covers the block `wide`."""
    to, taken = [], []
    for big, small in zip(wide, at, strict=True):
        low, high = max(big.start, small.start), min(big.stop, small.stop)
        if low >= high:
            return
        to.append(slice(low - big.start, high - big.start))
        taken.append(slice(low - small.start, high - small.start))
    marks[tuple(to)][mask[tuple(taken)]] = number


def _surface_settings(twin: Twin) -> Mapping[str, Any]:
    """How this twin's surfaces were made, from its provenance."""
    steps = [step for step in twin.provenance if step.get("step") == "surfaces"]
    found: Mapping[str, Any] = steps[-1].get("settings", {}) if steps else {}
    return found


def _meshed(
    name: str,
    volume: Volume,
    labels: LabelMap,
    boxes: Mapping[str, Box],
    settings: Mapping[str, Any],
    strokes: Sequence[Stroke],
) -> TriangleMesh[Patient] | None:
    """A changed bone's surface, made as the twin's were; None when it can't be closed."""
    number = next(n for n, known in labels.names.items() if known == name)
    mask, hu, grid = surface.cropped(volume, labels, boxes[name], number)
    if not settings.get("refined"):
        mesh = surface.from_mask(mask, grid)
        return mesh if mesh.is_closed and mesh.volume_ml > 0 else None
    clean = surface.cleaned(mask, grid)
    for stroke in strokes:  # what somebody drew is no burr, however small
        covered = stroke.covers(grid) if stroke.bone == name else None
        if covered is not None:
            at, brush = covered
            clean[at] |= mask[at] & brush
    start = surface.from_mask(clean, grid, keep_volume=False)
    cortex = None
    if "cortex_hu" in settings:
        cortex = edges.Cortex(float(settings["cortex_hu"]), float(settings["scanner_blur_mm"]))
    mesh = edges.refine(start, hu, grid, cortex)
    drawn = [s for s in strokes if s.bone is None or not s.only_bright]
    if drawn and len(start.vertices_mm) == len(mesh.vertices_mm):
        share = _held(start.vertices_mm, drawn, grid)[:, None]
        vertices = share * start.vertices_mm + (1.0 - share) * mesh.vertices_mm
        mesh = TriangleMesh[Patient](vertices, mesh.triangles)
    return mesh if mesh.is_closed and mesh.volume_ml > 0 else None


def _held(vertices_mm: Array, drawn: Sequence[Stroke], grid: Grid) -> Array:
    """How far (n,) each vertex stays as drawn: 1 within a brush, 0 beyond HELD_MM from it."""
    share = np.zeros(len(vertices_mm))
    for stroke in drawn:
        reach = stroke.radius_mm + float(grid.spacing_mm.max())
        away = stroke.distance_mm(vertices_mm) - reach
        share = np.maximum(share, np.clip(1.0 - away / HELD_MM, 0.0, 1.0))
    return share


def _inside(labels: LabelMap, meshes: Mapping[str, TriangleMesh[Patient]], boxes: Mapping[str, Box]) -> LabelMap:
    """The label map with the changed bones as what lies inside their surfaces; other bones keep their voxels."""
    numbers = {name: number for number, name in labels.names.items()}
    out = labels.labels.copy()
    for name in meshes:
        box = boxes[name]
        out[box][out[box] == numbers[name]] = 0
    for name, mesh in meshes.items():
        block = voxels.block_of(labels.grid, mesh)
        if block is not None:
            box, grid = block
            inside = voxels.inside(mesh, grid)
            out[box][inside & (out[box] == 0)] = numbers[name]
    return LabelMap(labels.grid, out, labels.names, labels.warnings)


def _measured(
    twin: Twin, bones: Mapping[str, Bone], redo: set[str], volume: Volume, site: Site, progress: Progress
) -> Twin:
    """The twin with these bones: landmarks of the bones `redo` and of the joints with them, canal and density anew."""
    meshes = {name: bone.surface for name, bone in bones.items()}
    row = ["sacrum", *UPWARD]
    spine = [name for name in row if name in {*meshes, *redo}]
    if any(name in redo for name in spine[:2]) and "sacrum" in meshes:
        redo = {*redo, "sacrum"}  # its endplate is looked for from the lowest vertebra
    redo = redo | {name.replace("hip", "femur") for name in redo} | {name.replace("femur", "hip") for name in redo}
    beside = {other for n, name in enumerate(spine) if name in redo for other in spine[max(0, n - 1) : n + 2]} - redo
    coarse = {name: bones[name].for_drawing(BESIDE_TRIANGLES) for name in beside if name in bones}
    fresh, missing = landmarks.measure({name: mesh for name, mesh in meshes.items() if name in redo} | coarse)

    def anew(mark: Landmark) -> bool:
        """Whether a mark is on a bone that changed, or on the face of a neighbour that looks at one."""
        if mark.bone in redo or not mark.name.startswith("facet_") or mark.bone not in beside:
            return mark.bone in redo
        n = spine.index(mark.bone)
        faced = spine[max(0, n - 1) : n] if mark.name.startswith("facet_inferior") else spine[n + 1 : n + 2]
        return any(name in redo for name in faced)

    own = [with_spread(mark, volume.grid.spacing_mm) for mark in fresh if anew(mark)]
    marks = (*(mark for mark in twin.landmarks if not anew(mark)), *own)
    missing = tuple(text for text in missing if any(name in text for name in redo))
    progress("finding the canal", 0.5)
    tubes, no_canal = with_canal(meshes, marks)
    structures = {name: one for name, one in twin.structures.items() if name != CANAL} | dict(tubes)
    progress("measuring density", 0.8)
    dense = density.measure(volume, marks, site)
    before = (twin.density or {}).get("site", dense["site"])
    if before != dense["site"]:
        now = dense["site"]["name"]
        no_canal = (
            *no_canal,
            f"density was read by the settings of site {before['name']}, and is now by those of {now}",
        )
    told = [text for text in twin.warnings if "not measured" not in text or not any(name in text for name in redo)]
    return replace(
        twin, twin_id=twin_id(bones), bones=bones, landmarks=marks, density=dense, structures=structures,
        warnings=tuple(dict.fromkeys([*told, *missing, *no_canal])),
    )  # fmt: skip


def _levels(twin: Twin, bones: Mapping[str, Bone], by: str) -> Levels:
    """The levels as they were, unless one was added or taken away: then nobody has confirmed them any more."""
    before, after = ({name for name in names if name in UPWARD} for names in (twin.bones, bones))
    if before == after:
        return twin.levels
    words = [f"{verb} by a correction of {by}: {', '.join(sorted(names))}" for verb, names in
             (("added", after - before), ("taken away", before - after)) if names]  # fmt: skip
    rare = next((name for name in ("vertebrae_L6", "vertebrae_T13") if name in after), None)
    return Levels(min(twin.levels.confidence, NAMES_CHANGED), None, (*twin.levels.evidence, *words), rare)
