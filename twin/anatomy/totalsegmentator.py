"""`--segmenter totalsegmentator`: the installed TotalSegmentator program, run beside us on a copy of the CT.

It runs as its own process, so it may live in an environment of its own (`OSTEOTWIN_TOTALSEGMENTATOR` names its
executable). Nothing is fetched: where its weights are missing, that is said. It is run with a configuration of our
own, so that it sends no usage statistics. Only the task `total` is used; its weights are under Apache-2.0, other tasks
need a licence from its authors. Wasserthal et al. 2023, Radiology AI 5(5):e230024.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

import numpy as np

from spatial.faults import Fault, MissingPackage
from spatial.progress import Progress, part
from twin.anatomy.segmentation import Segmented
from twin.scan.images import read_placed
from twin.scan.label_grid import start_on_grid
from twin.scan.labels import read_labels
from twin.scan.nifti import write_nifti
from twin.scan.numbering import CRANIAL_FIRST
from twin.scan.orientation import nearest_turn
from twin.scan.volume import LabelMap, Volume

EXECUTABLE = "TotalSegmentator"
OWN_EXECUTABLE = "OSTEOTWIN_TOTALSEGMENTATOR"
VERSIONS = ((2, 4), (3, 0))  # from, below: the numbers of v1 mean other bones
PARTS = range(291, 296)  # the five models of the task `total`
LICENCE = "TotalSegmentator and its task total: Apache-2.0, not a medical device"
VERSION_LIMIT_S = 180.0  # it imports torch before it says its version
LIMIT_S = 4 * 3600.0  # a whole body on two cores
GRACE_S = 5.0
SURE, GAPS, LONE = 0.8, 0.5, 0.4  # confidence of the level names: with the sacrum, with a level missing, without it
_STEPS = ((re.compile(r"^Resampling"), 0.05), (re.compile(r"^Saving segmentations"), 0.95))
_PART = re.compile(r"Predicting part (\d+) of (\d+)")
_MEMORY = re.compile(r"out of memory|OutOfMemoryError|MemoryError|Unable to allocate|not enough memory", re.I)
_LICENCE = re.compile(r"requires a license|invalid license|license number", re.I)
_WEIGHTS = re.compile(
    r"Downloading|Could not find.*(?:weights|model|checkpoint)|Dataset\d+\S* (?:not found|does not)", re.I
)


class NoTotalSegmentator(MissingPackage):
    """The program is not installed, or is a version whose numbers are not known."""


class NoWeights(MissingPackage):
    """The program is there but its trained weights are not."""


class SegmenterFailed(Fault):
    """The program ended without a sound result: a crash, memory, time, a licence, another grid."""


def segment(volume: Volume, progress: Progress, limit_s: float = LIMIT_S) -> Segmented:
    """Bones as TotalSegmentator finds them. Raises NoTotalSegmentator, NoWeights, SegmenterFailed, Misuse.

    Cancelling (KeyboardInterrupt) ends the program and its helpers.
    """
    executable = find()
    progress("asking TotalSegmentator for its version", 0.0)
    version = version_of(executable)
    weights = ensure_weights()
    with tempfile.TemporaryDirectory(prefix="osteotwin-segment-") as folder:
        room = Path(folder)
        progress("handing the CT to TotalSegmentator", 0.02)
        write_nifti(room / "ct.nii", volume.hu, volume.grid)
        (room / "home").mkdir()
        (room / "home" / "config.json").write_text(
            json.dumps(
                {
                    "totalseg_id": "totalseg_osteotwin",
                    "send_usage_stats": False,
                    "prediction_counter": 0,
                    "statistics_disclaimer_shown": True,
                }
            )
        )
        home = {"TOTALSEG_HOME_DIR": str(room / "home"), "TOTALSEG_WEIGHTS_PATH": str(weights)}
        command = [str(executable), "-i", "ct.nii", "-o", "labels.nii.gz", "--ml", "--task", "total"]
        started = time.monotonic()
        run(command, room, home, part(progress, 0.03, 0.95), limit_s)
        progress("reading the labels", 0.95)
        labels, notes = _labels(room / "labels.nii.gz", volume)
    confidence, evidence = _sure(labels, version)
    settings = {
        "segmenter": "totalsegmentator",
        "version": version,
        "task": "total",
        "seconds": round(time.monotonic() - started, 1),
        "licence": LICENCE,
    }
    rare = next((n for n in ("vertebrae_L6", "vertebrae_T13") if n in labels.names.values()), None)
    return Segmented(labels, confidence, notes, settings, evidence, rare)


def find() -> Path:
    """The executable: what the environment names, else on the path. Raises NoTotalSegmentator."""
    named = os.environ.get(OWN_EXECUTABLE)
    if named:
        path = Path(named)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise NoTotalSegmentator(f"{OWN_EXECUTABLE} names no executable file", path=path)
        return path.absolute()
    beside = shutil.which(EXECUTABLE) or shutil.which(EXECUTABLE, path=str(Path(sys.executable).parent))
    if beside is None:
        raise NoTotalSegmentator(
            f"TotalSegmentator is not installed; pip install 'osteotwin[totalsegmentator]', or name the executable of "
            f"another environment in {OWN_EXECUTABLE}; or leave --segmenter out"
        )
    return Path(beside)


def version_of(executable: Path) -> str:
    """What it calls itself, checked to be one whose numbers are known. Raises NoTotalSegmentator, SegmenterFailed."""
    try:
        said = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, timeout=VERSION_LIMIT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SegmenterFailed(f"{EXECUTABLE} --version did not answer in {VERSION_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise NoTotalSegmentator(f"TotalSegmentator cannot be started ({error.strerror})", path=executable) from None
    found = re.search(r"\b(\d+)\.(\d+)(?:\.[\w.]+)?\b", said.stdout)
    if said.returncode or not found:
        reason = (said.stderr or said.stdout).strip().splitlines()[-1:] or ["no word"]
        raise SegmenterFailed(f"{EXECUTABLE} --version failed (exit {said.returncode}: {reason[0][:160]})")
    low, high = VERSIONS
    if not low <= (int(found[1]), int(found[2])) < high:
        raise NoTotalSegmentator(
            f"TotalSegmentator {found[0]} found, {low[0]}.{low[1]} up to below {high[0]} is known here; its numbers "
            "may mean other bones",
            path=executable,
        )
    return found[0]


def ensure_weights() -> Path:
    """The folder of the weights, when all parts of the task are in it. Raises NoWeights."""
    home = Path(os.environ.get("TOTALSEG_HOME_DIR", str(Path.home() / ".totalsegmentator")))
    folder = Path(os.environ.get("TOTALSEG_WEIGHTS_PATH", str(home / "nnunet" / "results")))
    missing = [str(number) for number in PARTS if not any(folder.glob(f"Dataset{number}_*"))]
    if missing:
        raise NoWeights(
            f"the weights of TotalSegmentator's task total are not there (parts {', '.join(missing)} of 291 to 295); "
            "this program fetches nothing: run totalseg_download_weights -t total, or set TOTALSEG_WEIGHTS_PATH",
            path=folder,
        )
    return folder.absolute()


def run(command: list[str], room: Path, settings: Mapping[str, str], progress: Progress, limit_s: float) -> None:
    """Run the program in `room` until it is done; its words drive `progress`. Raises NoWeights, SegmenterFailed."""
    process = subprocess.Popen(
        command, cwd=room, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    lines: Queue[str | None] = Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    tail: deque[str] = deque(maxlen=60)
    deadline = time.monotonic() + limit_s
    try:
        while True:
            if time.monotonic() > deadline:
                raise SegmenterFailed(f"TotalSegmentator was not done after {limit_s:.0f} s; it was ended")
            try:
                line = lines.get(timeout=0.2)
            except Empty:
                if process.poll() is not None and not reader.is_alive() and lines.empty():
                    break
                continue
            if line is None:
                break
            tail.append(line)
            if line.startswith("Downloading"):
                raise NoWeights("TotalSegmentator began to fetch weights; it was ended: fetch them beforehand")
            _tell(line, progress)
        code = process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        raise SegmenterFailed("TotalSegmentator closed its output but did not end; it was ended") from None
    finally:
        end(process)
    if code:
        raise _why(code, list(tail))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started; nothing happens to one that has ended."""
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
            process.wait(GRACE_S)
        return
    for sent in (signal.SIGTERM, signal.SIGKILL):  # helpers may outlive the program itself
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def _read(process: subprocess.Popen[bytes], lines: Queue[str | None]) -> None:
    """Its output line by line; a bar that redraws itself counts as lines."""
    stream = process.stdout
    assert stream is not None
    rest = b""
    while chunk := os.read(stream.fileno(), 4096):
        *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
        for line in whole:
            if line.strip():
                lines.put(line.decode("utf-8", "replace").strip())
    if rest.strip():
        lines.put(rest.decode("utf-8", "replace").strip())
    stream.close()
    lines.put(None)


def _tell(line: str, progress: Progress) -> None:
    if found := _PART.search(line):
        progress(f"TotalSegmentator: part {found[1]} of {found[2]}", 0.1 + 0.8 * (int(found[1]) - 1) / int(found[2]))
    for pattern, at in _STEPS:
        if pattern.search(line):
            progress(f"TotalSegmentator: {line.rstrip('. ').lower()}", at)


def _why(code: int, tail: list[str]) -> Fault:
    """What a failed run says of itself, as one fault."""
    text = "\n".join(tail)
    last = next((line for line in reversed(tail) if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)), "")
    last = (last or (tail[-1] if tail else "it said nothing"))[:200]
    if code in (-9, 137) or _MEMORY.search(text):
        found = "was killed" if code in (-9, 137) and not _MEMORY.search(text) else "ran out of memory"
        return SegmenterFailed(
            f"TotalSegmentator {found} (exit {code}); it needs about 16 GB for a trunk: crop the CT, use another "
            "machine, or leave --segmenter out"
        )
    if _WEIGHTS.search(text):
        return NoWeights(f"TotalSegmentator did not find its weights ({last}); run totalseg_download_weights -t total")
    if _LICENCE.search(text):
        return SegmenterFailed(f"TotalSegmentator asks for a licence ({last}); the task total needs none")
    return SegmenterFailed(f"TotalSegmentator failed (exit {code}: {last})")


def _labels(path: Path, volume: Volume) -> tuple[LabelMap, tuple[str, ...]]:
    if not path.is_file():
        raise SegmenterFailed("TotalSegmentator ended well but wrote no labels; is its version sound?")
    try:
        values, matrix, _ = read_placed(path)
        turn = nearest_turn(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0), volume.grid.axes)
        size = tuple(values.shape[::-1][old] for old in turn.order)
        if size != volume.grid.size or start_on_grid(turn, values.shape[::-1], matrix, volume.grid) != (0, 0, 0):
            shown = " x ".join(str(n) for n in size)
            raise SegmenterFailed(f"TotalSegmentator's labels ({shown}) are not on the CT's grid; they are not used")
        found = read_labels(path, volume.grid, numbering=None if _named(path) else "totalsegmentator")
    except SegmenterFailed:
        raise
    except Fault as fault:
        raise SegmenterFailed(f"TotalSegmentator's labels cannot be used: {fault.message}") from None
    if found.bones is None:
        raise SegmenterFailed("TotalSegmentator found no bone; is the scan a CT in HU?")
    return LabelMap(found.bones.grid, found.bones.labels, found.bones.names), found.warnings


def _named(path: Path) -> bool:
    from twin.scan.label_names import names_in

    return bool(names_in(path))


def _sure(labels: LabelMap, version: str) -> tuple[float, tuple[str, ...]]:
    """Confidence of the level names, and what it rests on: their program is not asked twice, a person is."""
    named = f"named by TotalSegmentator {version}; not confirmed"
    chain = [name for name in CRANIAL_FIRST if name in labels.names.values()]
    if not chain:
        return 0.0, (f"{named}: no vertebra found",)
    usual = [n for n in CRANIAL_FIRST if n in chain or n not in ("vertebrae_T13", "vertebrae_L6", "vertebrae_S1")]
    missing = [n for n in usual[usual.index(chain[0]) : usual.index(chain[-1])] if n not in chain]
    if missing:
        return GAPS, (named, f"{', '.join(missing)} missing within the row")
    if "sacrum" not in chain:
        return LONE, (named, "no sacrum in the scan to count from")
    return SURE, (named, f"{len(chain) - 1} vertebrae in a row above the sacrum")
