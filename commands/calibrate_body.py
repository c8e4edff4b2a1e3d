"""`osteotwin calibrate body`: where the markers of a printed and glued body truly are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.calibrate_input import limited
from commands.console import command, emit, progress_bar, say, tell
from commands.lens import lens
from commands.markers import marker_ids
from commands.place import prepare
from commands.reading import reading
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.bodies.body import Body
    from tracking.calibration.body import Measured


@command
def body(
    source: Annotated[str, typer.Argument(help="Pictures of the body from all round: folder, video, camera:N.")],
    out: Annotated[Path, typer.Option(help="Marker body file to write.")],
    body: Annotated[
        Path | None, typer.Option(help="The body as it was meant to be: its frame and tip are kept.")
    ] = None,
    dictionary: Annotated[str | None, typer.Option(help="Or a body without a file: OpenCV's dictionary …")] = None,
    size_mm: Annotated[float | None, typer.Option(help="… the edge of its black squares, measured …")] = None,
    ids: Annotated[
        str | None, typer.Option(help="… and its ids, as 0-3 or 4,7,9. With --body: only these of it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The body's name; the file's when left out.")] = None,
    camera: Annotated[Path | None, typer.Option(help="Camera file (OpenCV YAML). synthetic: brings its own.")] = None,
    free_sizes: Annotated[
        bool, typer.Option("--free-sizes", help="Measure the markers' sizes too; their mean stays as stated.")
    ] = False,
    limit_mm: Annotated[float, typer.Option(help="What the 95 % radius of the worst corner may be.")] = 0.15,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long (a live camera).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure a body from pictures of it; refused where they leave it open or contradict its stated sizes."""
    from tracking.bodies.body import save
    from tracking.calibration.body import check_seen, measure_body
    from tracking.calibration.body_views import gather
    from tracking.pose.lens import lens_covariance

    if not limit_mm > 0:
        raise Misuse(f"--limit-mm {limit_mm}: it must be above zero")
    nominal = _nominal(body, dictionary, size_mm, ids, name, out)
    prepare(out)
    with reading(source) as pictures, progress_bar("Body") as progress:
        known = lens(pictures, camera)
        pinhole = known.pinhole
        wanted = list(nominal.corners_mm)
        gathered = gather(limited(source, pictures, seconds), pinhole, nominal.dictionary, wanted, progress)
        check_seen(gathered, pinhole, wanted)
        found = measure_body(
            gathered.views, pinhole, nominal, known=body is not None, free_sizes=free_sizes, limit_mm=limit_mm,
            lens_covariance=lens_covariance(pinhole, known.names, known.covariance), progress=progress,
        )  # fmt: skip
    save(found.body, out)
    if found.moved_mm is not None and max(found.moved_mm.values()) > 3.0:
        far = max(found.moved_mm, key=lambda marker: (found.moved_mm or {})[marker])
        say(f"marker {far} is {found.moved_mm[far]:.1f} mm from where --body says: was it glued elsewhere?")
    if as_json:
        emit({"out": str(out), **found.to_json(), **found.body.to_json()})
    else:
        tell(*_words(found), f"{out}: {found.body.name}, {len(found.body.corners_mm)} markers")


def _nominal(
    file: Path | None, dictionary: str | None, size_mm: float | None, ids: str | None, name: str | None, out: Path
) -> Body[Any]:
    from dataclasses import replace

    from tracking.bodies.body import load
    from tracking.calibration.body import unplaced

    if (file is None) == (dictionary is None):
        raise Misuse("give either --body FILE or --dictionary NAME with --size-mm S and --ids …")
    if file is not None:
        made = load(file)
        if ids is not None:
            wanted = marker_ids(ids)
            lacking = [marker for marker in wanted if marker not in made.corners_mm]
            if lacking:
                raise Misuse(f"--ids {ids}: {made.name} does not bear {', '.join(map(str, lacking))}")
            corners = {marker: made.corners_mm[marker] for marker in wanted}
            made = replace(made, corners_mm=corners, covariance={})
        return made if name is None else replace(made, name=name)
    if size_mm is None or ids is None or dictionary is None:
        raise Misuse("--dictionary needs --size-mm and --ids: the scale rests on the stated size")
    if not size_mm > 0:
        raise Misuse(f"--size-mm {size_mm}: it must be above zero")
    return unplaced(name or out.stem, dictionary, marker_ids(ids), size_mm)


def _words(found: Measured) -> tuple[str, ...]:
    words = [
        f"every corner is known within {found.radius95_mm:.3f} mm (95 %), given the stated sizes; "
        + (
            "the lens' own uncertainty is not in it: the camera file does not tell it"
            if found.lens_mm is None
            else f"{found.lens_mm:.3f} mm of it come from the lens' calibration"
        ),
        f"{found.used} of {found.pictures} pictures, {found.rms_px:.3f} px RMS; pictures left out "
        f"{found.held_out_rms_px:.3f} px"
        + ("" if found.file_rms_px is None else f", with the body as it was meant {found.file_rms_px:.3f} px"),
    ]
    if found.moved_mm is not None:
        words.append(
            "moved by: " + ", ".join(f"{marker} {mm:.2f}" for marker, mm in found.moved_mm.items()) + " mm at most"
        )
    small, large = (pick(found.sizes.items(), key=lambda item: item[1][0]) for pick in (min, max))
    words.append(
        f"relative sizes from {small[1][0]:.4f} (marker {small[0]}) to {large[1][0]:.4f} (marker {large[0]}), "
        f"sd {max(sd for _, sd in found.sizes.values()):.4f}; no camera sees the scale itself: measure an edge"
    )
    return tuple(words)
