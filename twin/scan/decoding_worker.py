"""The process that decodes compressed pixels: `python -m twin.scan.decoding_worker MEMORY_MB SECONDS`.

It reads one JSON request a line on stdin and answers on stdout: `HEAD`, then JSON words, then the raw voxels. Decoders
are other people's C code fed with strangers' bytes, so the process may neither grow nor run on: its address space, its
processor time a frame, the files it writes (none) and core dumps are limited where the system knows such limits.
Windows knows none of them; there only the parent's clock ends a decoder that runs away.
"""

from __future__ import annotations

import json
import struct
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

HEAD = struct.Struct("<cII")  # b"R" ready, b"V" voxels, b"E" error; length of the words, of the voxels
DEFLATED = "1.2.840.10008.1.2.1.99"


def limit(memory_mb: int) -> None:
    """Bound this process for good; nothing on Windows, which has no rlimits."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # macOS refuses to lower it
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))


def allow(seconds: int) -> None:
    """So much more processor time from now; the system ends the process after that."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


@lru_cache(maxsize=1)
def _opened(path: str) -> Any:
    """The data set, kept for the next frame of the same file."""
    import pydicom

    return pydicom.dcmread(path)


@lru_cache(maxsize=1)
def _inflated(path: str) -> tuple[bytes, int]:
    """The data set of a deflated file as bytes, and where its voxels begin."""
    from twin.scan.elements import read_elements

    with Path(path).open("rb") as file:
        found = read_elements(file, Path(path))
        found.stream.seek(0)
        return found.stream.read(), found.end + 12


def decode(request: dict[str, Any]) -> tuple[Any, list[str]]:
    """Stored values (rows, columns) of one frame, and what the decoder warned of."""
    import numpy as np
    from pydicom.pixels import pixel_array

    rows, columns, frame = int(request["rows"]), int(request["columns"]), int(request["frame"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if request["syntax"] == DEFLATED:
            body, begin = _inflated(request["path"])
            kind = np.dtype(f"<{'i' if request['is_signed'] else 'u'}{request['bits'] // 8}")
            stored = np.frombuffer(body, kind, rows * columns, begin + frame * rows * columns * kind.itemsize)
            stored = stored.reshape(rows, columns)
        else:
            index = frame if request["frames"] > 1 else None
            stored = np.asarray(pixel_array(_opened(request["path"]), index=index, raw=True))
    if stored.shape != (rows, columns):
        raise ValueError(f"decoded to {stored.shape}, the header says {rows} x {columns}")
    if stored.dtype.kind not in "iu":
        raise ValueError(f"decoded to {stored.dtype}")
    words = [f"decoder: {str(w.message).splitlines()[0][:160]}" for w in caught if str(w.message)]
    return np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")), words


def main() -> None:
    """Answer requests until stdin closes."""
    memory_mb, seconds = int(sys.argv[1]), int(sys.argv[2])
    limit(memory_mb)
    import logging

    import numpy as np
    from pydicom.pixels import pixel_array  # loaded before the first request is timed

    assert callable(pixel_array)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    out = sys.stdout.buffer
    out.write(HEAD.pack(b"R", 0, 0))
    out.flush()
    for line in sys.stdin.buffer:
        allow(seconds)
        try:
            stored, notes = decode(json.loads(line))
        except MemoryError:
            words = json.dumps({"error": f"needs more than {memory_mb} MB"}).encode()
            out.write(HEAD.pack(b"E", len(words), 0) + words)
        except Exception as error:  # decoders fail in many ways; the parent names the file
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            words = json.dumps({"error": reason}).encode()
            out.write(HEAD.pack(b"E", len(words), 0) + words)
        else:
            words = json.dumps({"kind": np.dtype(stored.dtype).str, "notes": notes}).encode()
            out.write(HEAD.pack(b"V", len(words), stored.nbytes) + words)
            out.write(stored.data)
        out.flush()


if __name__ == "__main__":
    main()
