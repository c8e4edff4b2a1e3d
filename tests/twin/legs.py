"""A digital leg in a small scan: only the box that holds it, so that a test takes seconds."""

from dataclasses import dataclass

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.anatomy import surface
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.voxels import ScanGrid, synthesise
from twin.scan.volume import Grid, LabelMap, Volume


@dataclass(frozen=True, eq=False)
class Scanned:
    """A scan with its true labels."""

    volume: Volume
    truth: LabelMap

    def part(self, low_z_mm: float, high_z_mm: float) -> "Scanned":
        """The slices between two heights."""
        grid = self.volume.grid
        k = [round((z - grid.origin_mm[2]) / grid.spacing_mm[2]) for z in (low_z_mm, high_z_mm)]
        first, last = max(0, k[0]), min(grid.size[2], k[1])
        cut = grid.cropped((0, 0, first), (grid.size[0], grid.size[1], last - first))
        return Scanned(
            Volume(cut, self.volume.hu[first:last].copy()),
            LabelMap(cut, np.asarray(self.truth.labels)[first:last].copy(), self.truth.names),
        )

    def flipped(self, axis: int) -> "Scanned":
        """The mirror image: the voxels in reverse along x (0), y (1) or z (2), the grid as it was."""
        turn = tuple(slice(None, None, -1) if a == 2 - axis else slice(None) for a in range(3))
        grid = self.volume.grid
        return Scanned(
            Volume(grid, np.ascontiguousarray(self.volume.hu[turn])),
            LabelMap(grid, np.ascontiguousarray(np.asarray(self.truth.labels)[turn]), self.truth.names),
        )

    def meshes(self) -> dict[str, TriangleMesh[Patient]]:
        """The true labels' surfaces."""
        found = {}
        for number, box in surface.bounding_boxes(np.asarray(self.truth.labels)).items():
            k, j, i = box
            size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
            grid = self.truth.grid.cropped((i.start, j.start, k.start), size)
            found[self.truth.names[number]] = surface.from_mask(np.asarray(self.truth.labels)[box] == number, grid)
        return found


def scanned(phantom: Phantom, low_mm: tuple[float, float, float], high_mm: tuple[float, float, float]) -> Scanned:
    """A scan of the box between two corners at 2 mm."""
    size = tuple(int(n) for n in np.ceil((np.array(high_mm) - low_mm) / 2.0))
    layout = ScanGrid(
        size=(size[0], size[1], size[2]), pixel_mm=2.0, slice_mm=2.0, origin_mm=np.array(low_mm, float),
        row=np.array([1.0, 0.0, 0.0]), column=np.array([0.0, 1.0, 0.0]), step_mm=np.array([0.0, 0.0, 2.0]),
        tilt_deg=0.0,
    )  # fmt: skip
    scan = synthesise(phantom, layout)
    grid = Grid((size[0], size[1], size[2]), np.full(3, 2.0), np.array(low_mm, float), np.eye(3))
    from twin.scan.names import BONES

    present = {int(n): BONES[int(n)] for n in np.unique(scan.labels) if n}
    return Scanned(Volume(grid, scan.hu), LabelMap(grid, scan.labels, present))
