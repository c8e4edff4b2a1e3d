"""A cutting block for print: it sits on the bone's own surface, with a slot for each saw cut and holes for pins.

Its underside is the bone seen along the approach, a height field, so the block goes on and comes off along one line
and no undercut can hold it. Slots and holes run through it; the slots end before its sides, which hold it together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from spatial.distance import DistanceGrid
from spatial.faults import Fault, Misuse
from spatial.frames import Instrument, Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points, Rigid
from spatial.shapes import Line, Plane
from twin.anatomy.twin import Twin
from twin.plan.cuts.chain import is_limb
from twin.plan.cuts.consequences import opening_way
from twin.plan.cuts.cut import cut_mesh
from twin.plan.cuts.limb_cuts import Limb
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.section import Section
from twin.plan.cuts.solid import mesh_of, solid_of

STEP_MM = 0.6  # of the height field
STEEP = 1.2  # rise a millimetre beyond which a step of the field keeps clear of the higher side
ABOVE_MM = 60.0  # where the look at the bone starts
LEAST_CONTACT_CM2 = 1.0
BESIDE_MM = 8.0
FARTHEST_MM = 2.0  # bone this near to the underside counts as contact


class NoGuide(Fault):
    """A block that can't be made there: no bone under it, slots that would part it."""


@dataclass(frozen=True)
class GuideSettings:
    """Sizes in mm. `fit`: air between block and bone; `blade`: the saw's thickness; `play`: more than it in the slot;
    `side`: what is left beside the slots; `deep`: how far down the flanks the block may reach.
    """

    width_mm: float = 36.0
    margin_mm: float = 14.0
    thickness_mm: float = 10.0
    deep_mm: float = 10.0
    side_mm: float = 4.0
    fit_mm: float = 0.3
    blade_mm: float = 1.2
    play_mm: float = 0.2
    pin_mm: float = 2.0

    def __post_init__(self) -> None:
        """Validate; raises Misuse."""
        sizes = {name: float(value) for name, value in vars(self).items()}
        wrong = [name for name, value in sizes.items() if not (math.isfinite(value) and 0.0 <= value <= 150.0)]
        if wrong or min(self.width_mm, self.thickness_mm, self.blade_mm, self.pin_mm) <= 0:
            raise Misuse(f"guide sizes {', '.join(wrong) or sizes}; millimetres from 0 to 150, a block above zero")
        if self.width_mm <= 2 * self.side_mm + 4.0:
            raise Misuse(
                f"a block {self.width_mm:g} mm wide with {self.side_mm:g} mm beside the slots; it has no slot left"
            )


@dataclass(frozen=True, eq=False)
class GuideBlock:
    """The closed block in Patient coordinates. `pins` run toward the bone; `slots` are the planes in their middles."""

    osteotomy: str
    bone: str
    mesh: TriangleMesh[Patient]
    approach: Array
    slots: tuple[Plane[Patient], ...]
    slot_mm: float
    pins: tuple[Line[Patient], ...]
    pin_mm: float
    contact_cm2: float
    least_gap_mm: float

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "osteotomy": self.osteotomy,
            "bone": self.bone,
            "triangles": len(self.mesh.triangles),
            "closed": self.mesh.is_closed,
            "volume_ml": self.mesh.volume_ml,
            "approach": self.approach.tolist(),
            "slots": [{"point_mm": p.point_mm.tolist(), "normal": p.normal.tolist()} for p in self.slots],
            "slot_mm": self.slot_mm,
            "pins": [{"entry_mm": p.point_mm.tolist(), "direction": p.direction.tolist()} for p in self.pins],
            "pin_mm": self.pin_mm,
            "contact_cm2": self.contact_cm2,
            "least_gap_mm": self.least_gap_mm,
        }


def usual_approach(twin: Twin, cut: Osteotomy) -> Array:
    """Out to the surgeon (3,): where a wedge is highest; else from lateral on a limb, from behind otherwise."""
    if cut.kind in ("open-wedge", "close-wedge", "PSO", "SPO"):
        out = opening_way(cut)
        # an opening wedge of a vertebra opens in front, but the back is where one comes from
        return out if is_limb(cut.bone) or out[1] > 0 else -out
    return Limb.of(twin, cut.bone).axes.across if is_limb(cut.bone) else np.array([0.0, 1.0, 0.0])


def guide_block(
    twin: Twin, cut: Osteotomy, *, approach: Array | None = None, settings: GuideSettings | None = None
) -> GuideBlock:
    """The block for one osteotomy. Raises NoGuide, Misuse, NoBone."""
    use = settings or GuideSettings()
    surface = twin.bone(cut.bone).surface
    way = usual_approach(twin, cut) if approach is None else approach / np.linalg.norm(approach)
    planes = _slot_planes(cut)
    frame = _frame(surface, cut, way)
    slots = [plane.moved(frame.inverse()) for plane in planes]
    low, high = _along_bone(slots, use)
    near = _beside(surface, frame, low, high)
    grid = DistanceGrid[Patient].from_mesh(near)
    heights, x, y, bare = _underside(grid, frame, use, low, high)
    floor = float(np.nanmax(heights)) if np.isfinite(heights).any() else math.nan
    if not math.isfinite(floor):
        raise NoGuide(f"no bone of {cut.bone} under the block; another approach is needed")
    heights = np.fmax(np.nan_to_num(heights, nan=-math.inf), floor - use.deep_mm)
    bare = bare | (heights <= floor - use.deep_mm)
    around = maximum_filter(heights, 3, mode="nearest")
    heights = np.where(around - heights > STEEP * STEP_MM, around, heights)  # no corner of bone between the samples
    top = floor + use.thickness_mm
    block = solid_of(_prism(x, y, heights, top))
    slot = use.blade_mm + use.play_mm
    for plane in slots:
        block -= _slot(plane, slot, use, top, float(heights.min()))
    pins = _pins(x, y, heights, slots, bare, use, top, slot)
    for at in pins:
        block -= _hole(at, use.pin_mm + use.play_mm, top, float(heights.min()))
    if len(block.decompose()) != 1:
        raise NoGuide("slots and holes would part the block; make it wider, or its angle larger")
    mesh = mesh_of(block)
    placed = TriangleMesh[Patient]((frame @ Points[Instrument](mesh.vertices_mm)).mm, mesh.triangles)
    inside = float((solid_of(placed) ^ solid_of(near)).volume())
    if inside > 1e-6:
        raise NoGuide(
            f"{inside:.2f} mm3 of {cut.bone} would stand in the block; give it more fit than {use.fit_mm:g} mm"
        )
    gap = grid.distance_mm(Points[Patient](placed.vertices_mm))
    cell = STEP_MM**2 / 100.0
    contact = float(np.count_nonzero(_near_bone(grid, frame, x, y, heights, use)) * cell)
    if contact < LEAST_CONTACT_CM2:
        raise NoGuide(f"only {contact:.1f} cm2 of the block would lie on {cut.bone}; another approach is needed")
    lines = [
        Line[Patient]((frame @ Points[Instrument](np.array([px, py, top]))).mm, -frame.rotation[:, 2])
        for px, py in pins
    ]
    return GuideBlock(
        cut.id, cut.bone, placed, way, tuple(planes), slot, tuple(lines), use.pin_mm, contact, float(gap.min())
    )


def _slot_planes(cut: Osteotomy) -> list[Plane[Patient]]:
    """The saw's planes: two of a wedge, one of a single cut, and the ascending one."""
    first, second = cut.planes
    parallel = first.angle_rad(second) < 1e-6
    return [cut.bisector] if parallel else [first, second]


def _frame(surface: TriangleMesh[Patient], cut: Osteotomy, way: Array) -> Rigid[Patient, Instrument]:
    """z out to the surgeon, y along the cut's normal as near as can be, origin on the bone where the cut comes out."""
    plane = cut.bisector
    flat = way - (way @ plane.normal) * plane.normal
    if float(np.linalg.norm(flat)) < 0.3:
        raise NoGuide("the saw would come in square to its own plane; another approach is needed")
    flat = flat / np.linalg.norm(flat)
    section = Section.of(surface, plane, cut.hinge.point_mm)
    if not section.rings:
        raise NoGuide(f"the cut meets no bone of {cut.bone}")
    middle = section.centroid_mm
    origin = middle + section.reach_mm(middle, flat) * flat
    y = plane.normal - (plane.normal @ way) * way
    y = y / np.linalg.norm(y)
    return Rigid[Patient, Instrument](np.column_stack([np.cross(y, way), y, way]), origin)


def _along_bone(slots: list[Plane[Instrument]], use: GuideSettings) -> tuple[float, float]:
    """How far the block reaches along the bone: the slots on the surface, and room for a pin beyond each."""
    at = [float(p.point_mm @ p.normal / p.normal[1]) for p in slots]
    return min(at) - use.margin_mm, max(at) + use.margin_mm


def _beside(
    surface: TriangleMesh[Patient], frame: Rigid[Patient, Instrument], low: float, high: float
) -> TriangleMesh[Patient]:
    """The stretch of bone that the block can meet: a long bone's distances are then known in a second."""
    normal = frame.rotation[:, 1]
    for at, sign in ((low - BESIDE_MM, 1.0), (high + BESIDE_MM, -1.0)):
        surface, _ = cut_mesh(surface, Plane[Patient](frame.translation_mm + at * normal, sign * normal))
    return surface


def _underside(
    grid: DistanceGrid[Patient], frame: Rigid[Patient, Instrument], use: GuideSettings, low: float, high: float
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Heights (nx, ny) of the bone's offset surface seen from above, NaN where there is none."""
    x = np.linspace(-use.width_mm / 2, use.width_mm / 2, round(use.width_mm / STEP_MM) + 1)
    y = np.linspace(low, high, round((high - low) / STEP_MM) + 1)
    start = np.stack(np.broadcast_arrays(x[:, None], y[None, :], ABOVE_MM), axis=-1)
    offset = DistanceGrid[Patient](grid.origin_mm, grid.spacing_mm, grid.values_mm - np.float32(use.fit_mm))
    begin = frame @ Points[Instrument](start)
    run = offset.trace(
        begin, Directions[Patient](np.broadcast_to(-frame.rotation[:, 2], start.shape).copy()), 2 * ABOVE_MM
    )
    inside = grid.distance_mm(begin) < use.fit_mm
    heights = np.where(np.isfinite(run) & ~inside, ABOVE_MM - run, math.nan)
    return heights, x, y, np.isnan(heights)


def _prism(x: Array, y: Array, heights: Array, top: float) -> TriangleMesh[Instrument]:
    """Closed: a height field below, flat above, walls around."""
    nx, ny = heights.shape
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    below = np.stack([grid_x, grid_y, heights], axis=-1).reshape(-1, 3)
    above = np.stack([grid_x, grid_y, np.full_like(heights, top)], axis=-1).reshape(-1, 3)
    index = np.arange(nx * ny).reshape(nx, ny)
    a, b, c, d = (v.ravel() for v in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    lower = np.concatenate([np.column_stack([a, c, b]), np.column_stack([a, d, c])])
    upper = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])]) + nx * ny
    rim = np.concatenate([index[:, 0], index[-1, 1:], index[-2::-1, -1], index[0, -2:0:-1]])
    after = np.roll(rim, -1)
    walls = np.concatenate(
        [np.column_stack([rim, after, after + nx * ny]), np.column_stack([rim, after + nx * ny, rim + nx * ny])]
    )
    return TriangleMesh[Instrument](
        np.concatenate([below, above]), np.concatenate([lower, upper, walls]).astype(np.int32)
    )


def _slot(plane: Plane[Instrument], slot_mm: float, use: GuideSettings, top: float, bottom: float) -> Any:
    """A flat box along the plane through the whole block, ending before its sides."""
    import manifold3d

    long_mm = 4.0 * (top - bottom) + 40.0
    across = np.array([1.0, 0.0, 0.0]) - plane.normal[0] * plane.normal
    across = across / np.linalg.norm(across)
    deep = np.cross(across, plane.normal)
    middle = plane.point_mm - (plane.point_mm @ across) * across
    # where the plane is at half height
    middle = middle + ((top + bottom) / 2 - middle[2]) / deep[2] * deep
    middle = middle - middle[0] / across[0] * across
    pose = np.column_stack([across, plane.normal, deep, middle])
    wide = use.width_mm - 2 * use.side_mm
    return manifold3d.Manifold.cube((wide, slot_mm, long_mm), True).transform(pose)


def _pins(
    x: Array,
    y: Array,
    heights: Array,
    slots: list[Plane[Instrument]],
    bare: NDArray[np.bool_],
    use: GuideSettings,
    top: float,
    slot_mm: float,
) -> list[tuple[float, float]]:
    """Two on each side of the slots, as far apart as bone below allows, where no slot runs into the hole."""
    found: list[tuple[float, float]] = []
    reach = use.width_mm / 2 - max(use.side_mm, use.pin_mm + 1.5)
    free = slot_mm / 2 + use.pin_mm / 2 + 1.0
    for y_pin in (float(y[0]) + use.pin_mm + 2.0, float(y[-1]) - use.pin_mm - 2.0):
        j = int(np.argmin(np.abs(y - y_pin)))
        fit = []
        for i in np.flatnonzero(~bare[:, j] & (np.abs(x) <= reach)):
            ends = [np.array([x[i], y_pin, h]) for h in (top, float(heights[i, j]))]
            if min(abs(float((end - p.point_mm) @ p.normal)) for p in slots for end in ends) > free:
                fit.append(float(x[i]))
        if fit and fit[-1] - fit[0] >= 2.5 * use.pin_mm:
            found += [(fit[0], y_pin), (fit[-1], y_pin)]
        elif fit:
            found.append((fit[len(fit) // 2], y_pin))
    if len(found) < 2:
        raise NoGuide(f"room for {len(found)} pins on the bone; two are needed: widen the margin, or another approach")
    return found


def _hole(at: tuple[float, float], diameter_mm: float, top: float, bottom: float) -> Any:
    import manifold3d

    drill = manifold3d.Manifold.cylinder(top - bottom + 20.0, diameter_mm / 2, circular_segments=32)
    return drill.translate((at[0], at[1], bottom - 10.0))


def _near_bone(
    grid: DistanceGrid[Patient],
    frame: Rigid[Patient, Instrument],
    x: Array,
    y: Array,
    heights: Array,
    use: GuideSettings,
) -> Any:
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    under = frame @ Points[Instrument](np.stack([grid_x, grid_y, heights], axis=-1))
    return grid.distance_mm(under) < use.fit_mm + FARTHEST_MM
