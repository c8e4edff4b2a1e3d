"""The pictures of `osteotwin twin inspect --pictures`: slices with outlines, and a view a bone group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin.case import Case


def draw(case: Case, folder: Path, progress: Callable[[str, float], None]) -> list[str]:
    """Draw all pictures of a case as PNG files. Raises NoGraphics, CaseCorrupt."""
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from render.anatomy import exhibits_of, standing_of, voxels_of
    from render.exhibits import groups_of
    from render.group_plates import group_plates
    from render.offscreen import Offscreen
    from render.slice_plates import slice_plates
    from render.slices import BONE_WINDOW_HU

    folder.mkdir(parents=True, exist_ok=True)
    shown, standing = exhibits_of(case.twin), standing_of(case.twin)
    voxels = voxels_of(case.volume()) if case.has_volume else None
    count = len(groups_of(shown)) + 4
    files: list[str] = []

    def keep(name: str, picture: NDArray[np.uint8]) -> None:
        progress(name, len(files) / count)
        file = folder / f"{name}.png"
        Image.fromarray(picture).save(file)
        files.append(str(file))

    for name, picture in slice_plates(shown, voxels, standing, BONE_WINDOW_HU):
        keep(name, picture)
    with Offscreen() as screen:
        for name, picture in group_plates(shown, screen, standing):
            keep(name, picture)
    return files
