"""`osteotwin doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import glob
import platform
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from commands.console import command, emit, tell
from spatial.faults import Fault

app = typer.Typer(add_completion=False)


def graphics() -> tuple[dict[str, str] | None, str | None]:
    """Vendor, renderer and version of an off-screen OpenGL context, or why there is none."""
    from render.offscreen import gl_info

    try:
        return gl_info(), None
    except Fault as fault:
        return None, str(fault)


def openxr() -> tuple[dict[str, Any], str | None]:
    """Runtime and extensions, or why no runtime answers."""
    from render.headset_probe import probe

    found = probe()
    return {
        "runtime": found.get("runtime"),
        "version": found.get("version"),
        "extensions": found.get("extensions", []),
    }, found.get("reason")


def cameras() -> list[str]:
    """Video devices that the system lists (not opened: opening may switch a light on)."""
    return sorted(glob.glob("/dev/video*")) if sys.platform.startswith("linux") else []


def torch_device() -> tuple[dict[str, str] | None, str | None]:
    """Version and the device that mechanics will run on."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed; run: python3 run.py setup"
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"version": torch.__version__, "device": device}, None


@app.command()
@command
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Say what this machine can do: graphics, headset runtime, cameras, compute; and what to install for the rest."""
    missing: list[str] = []

    def look(probe_machine: Callable[[], tuple[Any, str | None]]) -> Any:
        found, reason = probe_machine()
        if reason:
            missing.append(reason)
        return found

    report = {
        "gl": look(graphics),
        "openxr": look(openxr),
        "cameras": cameras(),
        "torch": look(torch_device),
        "python": platform.python_version(),
        "missing": missing,
    }
    if not report["cameras"]:
        missing.append("no camera found: plug one in, or guide from a video file or a folder of pictures")
    if as_json:
        emit(report)
        return
    gl, xr, torch = report["gl"], report["openxr"], report["torch"]
    tell(
        f"OpenGL   {gl['renderer'] + ', ' + gl['version'] if gl else 'none'}",
        f"OpenXR   {xr['runtime'] or 'no runtime'} ({len(xr['extensions'])} extensions)",
        f"Cameras  {', '.join(report['cameras']) or 'none'}",
        f"PyTorch  {torch['version'] + ' on ' + torch['device'] if torch else 'none'}",
        f"Python   {report['python']}",
        *(f"  - {line}" for line in missing),
        "Osteotwin is a research tool, not a medical device.",
    )
