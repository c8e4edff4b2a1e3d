"""`osteotwin doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

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


def cameras() -> list[dict[str, Any]]:
    """Cameras with their modes, as their drivers tell them (no picture is taken, no light switched on)."""
    from tracking.sources.devices import cameras as listed

    return [
        {
            "node": camera.node,
            "name": camera.name,
            "modes": [
                {"fourcc": m.fourcc, "width_px": m.width_px, "height_px": m.height_px, "fps": list(m.fps)}
                for m in camera.modes
            ],
            "words": "; ".join(map(str, camera.modes)) or camera.trouble,
        }
        for camera in listed()
    ]


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

    found = cameras()
    report = {
        "gl": look(graphics),
        "openxr": look(openxr),
        "cameras": [camera["node"] for camera in found],
        "camera_modes": {camera["node"]: {k: v for k, v in camera.items() if k != "node"} for camera in found},
        "torch": look(torch_device),
        "python": platform.python_version(),
        "missing": missing,
    }
    if not report["cameras"]:
        missing.append(
            "no camera found: plug one in, or guide from a video file or a folder of pictures"
            if sys.platform.startswith("linux")
            else "cameras are not listed on this system: try camera:0, camera:1 …"
        )
    if as_json:
        emit(report)
        return
    gl, xr, torch = report["gl"], report["openxr"], report["torch"]
    tell(
        f"OpenGL   {gl['renderer'] + ', ' + gl['version'] if gl else 'none'}",
        f"OpenXR   {xr['runtime'] or 'no runtime'} ({len(xr['extensions'])} extensions)",
        *(f"Camera   {camera['node']}  {camera['name']}  {camera['words']}" for camera in found),
        *(() if found else ("Cameras  none",)),
        f"PyTorch  {torch['version'] + ' on ' + torch['device'] if torch else 'none'}",
        f"Python   {report['python']}",
        *(f"  - {line}" for line in missing),
        "Osteotwin is a research tool, not a medical device.",
    )
