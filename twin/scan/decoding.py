"""Compressed pixels, decoded in worker processes with limits: a decoder that dies there is a fault here.

Each worker gets one frame at a time and sends the voxels back through a pipe; nothing else of it is trusted: kind and
size are checked against the header. On Windows only the clock limits a worker (see `decoding_worker`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.progress import Progress, silent
from twin.scan.decoding_worker import HEAD
from twin.scan.headers import Header
from twin.scan.refusals import BrokenFile, DecoderFailed

Deliver = Callable[[int, NDArray[Any], Sequence[str]], None]
KINDS = frozenset({"|i1", "|u1", "<i2", "<u2", "<i4", "<u4"})
FEW_FRAMES = 8  # below, a second process costs more than it saves


@dataclass(frozen=True)
class DecodingLimits:
    """What one worker may use: address space, processor time a frame, clock time a frame and for its start."""

    memory_mb: int = 4096
    cpu_s: int = 60
    clock_s: float = 120.0
    start_s: float = 60.0


class Worker:
    """One decoding process; `ask` blocks until it answers or dies."""

    def __init__(self, limits: DecodingLimits) -> None:
        """Start it; it says when it is ready."""
        self.limits, self.deadline, self.late = limits, time.monotonic() + limits.start_s, False
        root = str(Path(__file__).resolve().parents[2])
        kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT", "LANG", "TMPDIR", "TEMP") if key in os.environ}
        paths = [root, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twin.scan.decoding_worker", str(limits.memory_mb), str(limits.cpu_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends its workers itself
        )  # fmt: skip
        self.is_ready = False

    def ask(self, header: Header) -> tuple[NDArray[Any], list[str]]:
        """Stored values of the header's frame. Raises BrokenFile (can't be decoded), DecoderFailed (died, too long)."""
        pixels = header.pixels
        assert pixels is not None
        if not self.is_ready:
            self._expect(HEAD.size, header)
            self.is_ready = True
        self.deadline = time.monotonic() + self.limits.clock_s
        request = {
            "path": str(header.path), "frame": header.frame, "frames": pixels.frames, "rows": pixels.rows,
            "columns": pixels.columns, "syntax": pixels.transfer_syntax, "bits": pixels.bits_allocated,
            "is_signed": pixels.is_signed,
        }  # fmt: skip
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._death(header) from None
        kind, words_length, length = HEAD.unpack(self._expect(HEAD.size, header))
        if words_length > 1 << 20:
            raise DecoderFailed("the decoder answered nonsense; is the file made to break it?", path=header.path)
        words = json.loads(self._expect(words_length, header))
        if kind == b"E":
            raise BrokenFile(f"pixel data cannot be decoded ({words['error']}); is the copy damaged?", path=header.path)
        if words["kind"] not in KINDS or length != pixels.rows * pixels.columns * np.dtype(words["kind"]).itemsize:
            raise DecoderFailed("the decoder answered nonsense; is the file made to break it?", path=header.path)
        stored = np.frombuffer(self._expect(length, header), words["kind"]).reshape(pixels.rows, pixels.columns)
        self.deadline = float("inf")
        return stored, [str(note) for note in words["notes"]]

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # a request that was never read
                    continue
        self.process.wait()

    def _expect(self, count: int, header: Header) -> bytearray:
        assert self.process.stdout is not None
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            more = self.process.stdout.readinto(view[got:])  # type: ignore[attr-defined]  # a pipe has it, IO[bytes] does not say so
            if not more:
                raise self._death(header)
            got += more
        return data

    def _death(self, header: Header) -> Fault:
        code = self.process.wait()
        if self.late:
            what = f"took longer than {self.limits.clock_s:g} s"
        elif sys.platform != "win32" and -code == 24:  # SIGXCPU
            what = f"used more than {self.limits.cpu_s} s of processor time"
        elif not self.is_ready:
            what = f"could not start (exit {code})"
        else:
            what = f"crashed ({'signal' if code < 0 else 'exit'} {abs(code)})"
        return DecoderFailed(f"the decoder of its pixel data {what}; is the file damaged or hostile?", path=header.path)


class Decoders:
    """One or two workers for the frames of a series; a context manager, after which none is left."""

    def __init__(self, frames: int, limits: DecodingLimits | None = None) -> None:
        """Start the processes."""
        self.limits = limits or DecodingLimits()
        self.workers = [Worker(self.limits) for _ in range(1 if frames < FEW_FRAMES else 2)]

    def __enter__(self) -> Decoders:
        """Use as a context manager."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.end()

    def decode(self, jobs: Sequence[tuple[int, Header]], deliver: Deliver, progress: Progress = silent) -> None:
        """Decode each header's frame and `deliver(index, stored, notes)`, in no order, from the workers' threads.

        Raises the fault of the earliest slice that failed.
        """
        waiting, faults = deque(jobs), dict[int, BaseException]()

        def serve(worker: Worker) -> None:
            while waiting and not faults:
                try:
                    index, header = waiting.popleft()
                except IndexError:
                    return
                try:
                    stored, notes = worker.ask(header)
                    deliver(index, stored, notes)
                except BaseException as fault:  # handed to the caller's thread below
                    faults[index] = fault
                    return

        threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in self.workers]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread, worker in zip(threads, self.workers, strict=True):
                thread.join(0.05)
                if thread.is_alive() and time.monotonic() > worker.deadline:
                    worker.late = True
                    worker.process.kill()
            progress("decoding slices", 1.0 - len(waiting) / max(1, len(jobs)))
        if faults:
            raise faults[min(faults)]
