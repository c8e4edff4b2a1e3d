"""`osteotwin calibrate convert`: another program's camera calibration as a camera file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, tell
from commands.place import prepare
from spatial.faults import Misuse


@command
def convert(
    source: Annotated[Path, typer.Argument(help="ROS camera_info or Kalibr camchain (YAML), or a 3x3 matrix as text.")],
    out: Annotated[Path, typer.Option(help="Camera file to write (OpenCV YAML).")],
    distortion: Annotated[Path | None, typer.Option(help="The coefficients' own file, for a matrix as text.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="The pictures' size, for a matrix as text.")] = None,
    name: Annotated[str, typer.Option(help="Which camera of a chain.")] = "cam0",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Turn another program's calibration into a camera file. Its uncertainty is not known then: `check` it."""
    from tracking.calibration.camera_file import save_camera
    from tracking.calibration.foreign import read_foreign

    found = re.fullmatch(r"(\d+)x(\d+)", size) if size is not None else None
    if size is not None and found is None:
        raise Misuse(f"--size {size}: width and height in pixels, as 640x480")
    prepare(out)
    pinhole = read_foreign(source, distortion, (int(found[1]), int(found[2])) if found else None, name)
    save_camera(out, pinhole)
    if as_json:
        emit(
            {
                "camera": str(out),
                "size_px": [pinhole.width_px, pinhole.height_px],
                "camera_matrix": pinhole.matrix.tolist(),
                "distortion": list(pinhole.distortion),
                "lens": pinhole.lens,
            }
        )
    else:
        tell(
            f"{out}: {pinhole.width_px} x {pinhole.height_px} px, f {pinhole.fx_px:.1f} {pinhole.fy_px:.1f} px, centre "
            f"{pinhole.cx_px:.1f} {pinhole.cy_px:.1f} px, {pinhole.lens} lens; its uncertainty is not known"
        )
