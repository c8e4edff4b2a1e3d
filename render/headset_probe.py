"""Which OpenXR runtime this machine has, asked without a session and without risk to the caller.

The loader and the runtime are foreign code that can hang or crash: they run in a process of their own. Nothing
here imports OpenXR or OpenGL, so `osteotwin doctor` can always ask.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_ASK = """
import json, os, sys
os.environ.setdefault("XR_LOADER_DEBUG", "none")
answer = {"runtime": None, "version": None, "extensions": [], "reason": None}
try:
    import xr
    names = [p.extension_name.decode() for p in xr.enumerate_instance_extension_properties()]
    instance = xr.create_instance(xr.InstanceCreateInfo())
    properties = xr.get_instance_properties(instance)
    version = xr.Version(properties.runtime_version)
    answer.update(runtime=properties.runtime_name.decode(), version=str(version), extensions=sorted(names))
    xr.destroy_instance(instance)
except Exception as error:
    answer["reason"] = f"{type(error).__name__}: {error}"
print(json.dumps(answer), flush=True)
os._exit(0)  # a runtime's own shutdown may hang or crash, and has nothing left to say
"""

HOW_TO_GET_ONE = (
    "install and start the headset's OpenXR runtime (SteamVR, Monado, WiVRn, Meta Link) and make it the active one, "
    "or set XR_RUNTIME_JSON to its manifest"
)


def probe(timeout_s: float = 20.0) -> dict[str, Any]:
    """{runtime, version, extensions, reason}: `runtime` is None where there is none, and `reason` says why."""
    nothing: dict[str, Any] = {"runtime": None, "version": None, "extensions": []}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=Path(sys.prefix),  # a folder that holds no module named like a library
        )
    except subprocess.TimeoutExpired:
        return {**nothing, "reason": f"the OpenXR runtime gave no answer in {timeout_s:g} s"}
    lines = [line for line in asked.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {**nothing, "reason": f"the OpenXR runtime crashed (exit {asked.returncode})"}
    answer: dict[str, Any] = json.loads(lines[-1])
    if answer["runtime"] is None:
        answer["reason"] = f"no OpenXR runtime answers ({answer['reason']}); {HOW_TO_GET_ONE}"
    return answer
