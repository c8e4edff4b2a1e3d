"""A rig's file: which cameras, where they stand, how well that is known.

JSON: `{"cameras": [{"name", "camera" (its file, beside the rig's), "rig_from_camera", "covariance"}]}` and what the
calibration knows besides; the rig's frame is the first camera's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import Camera
from spatial.rigid import NotFinite, NotRigid, Rigid, UncertainRigid
from tracking.calibration.camera_file import Calibrated, load_calibrated
from tracking.part_file import part_file


class BadRig(Fault):
    """A rig file that can't be read, or that names no two cameras."""


@dataclass(frozen=True, eq=False)
class RigCamera:
    """One camera of a rig: its lens from `file`, and its place."""

    name: str
    file: Path
    calibrated: Calibrated
    rig_from_camera: UncertainRigid[Camera, Camera]


def load_rig(path: str | Path) -> tuple[RigCamera, ...]:
    """Read a rig and its cameras' files. Raises BadRig, BadCalibration."""
    file = Path(path)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise BadRig("there is no such rig file; `osteotwin calibrate stereo` writes one", path=file) from None
    except ValueError:
        raise BadRig("not a JSON file", path=file) from None
    entries = value.get("cameras") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadRig('"cameras" is missing: a list of {"name", "camera", "rig_from_camera", "covariance"}', path=file)
    out = []
    for k, entry in enumerate(entries):
        try:
            pose = Rigid[Camera, Camera].from_json(entry["rig_from_camera"])
            place = UncertainRigid[Camera, Camera](pose, np.asarray(entry["covariance"], dtype=np.float64))
            name, lens = str(entry["name"]), file.parent / str(entry["camera"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadRig(f"camera {k + 1} lacks or garbles {error}", path=file) from None
        except (NotRigid, NotFinite) as fault:
            raise BadRig(f"camera {k + 1}: {fault.message}", path=file) from None
        out.append(RigCamera(name, lens, load_calibrated(lens), place))
    names = [camera.name for camera in out]
    if len(set(names)) < len(names):
        raise BadRig(f"two cameras have one name: {', '.join(names)}", path=file)
    return tuple(out)


def save_rig(
    path: str | Path,
    names: Sequence[str],
    files: Sequence[Path],
    places: Sequence[UncertainRigid[Camera, Camera]],
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the file that `load_rig` reads, atomically; the cameras' files are named relative to it."""
    target = Path(path)
    cameras = [
        {
            "name": name,
            "camera": os.path.relpath(file.resolve(), target.resolve().parent),
            "rig_from_camera": place.pose.to_json(),
            "covariance": place.covariance.tolist(),
        }
        for name, file, place in zip(names, files, places, strict=True)
    ]
    value = {"cameras": cameras, **evidence}
    with part_file(target) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return value
