"""`osteotwin demo`: the whole line, on the phantom or on a CT of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, progress_bar, say, tell

app = typer.Typer(add_completion=False)


@app.command()
@command
def demo(
    ct: Annotated[Path | None, typer.Option("--ct", help="A CT: DICOM folder, NIfTI, NRRD or MHA.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Label map, or a folder with a mask a bone.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="UID of the series, when there are several.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(min=0, help="Which phantom.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="summary.json on stdout as well.")] = False,
) -> None:
    """Run the whole line: twin, L3 osteotomy with screws, rehearsal in stereo, guidance; a report in --out."""
    from demo.line import run_line

    with progress_bar("demo") as progress:
        summary = run_line(out, ct, labels, series, seed, progress)
    if as_json:
        emit(summary)
        return
    for line in summary["twin"]["warnings"]:
        say(f"note: {line}")
    if summary["source"] == "phantom":
        tell(
            f"surface error    {summary['mesh_error_mean_mm']:.3f} mm (mean, symmetric)",
            f"screw grades     {' '.join(summary['screw_grades'])} (on the true bone)",
            f"osteotomy error  {summary['osteotomy_error_deg']:.2f} deg; hinge {summary['hinge_error_mm']:.2f} mm",
            "overlay error    {overlay_error_px:.2f} px median, {overlay_error_mean_px:.2f} px mean; "
            "{overlay_error_mm:.2f} mm".format_map(summary),
        )
    else:
        tell(f"{len(summary['twin']['bones'])} bones; errors need a truth, a real CT has none")
    tell(f"time             {sum(summary['seconds'].values()):.0f} s", f"open             {out / 'report.html'}")
