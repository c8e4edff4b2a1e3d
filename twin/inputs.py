"""What a twin was made from: one hash an input, whatever its files are called."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spatial.faults import Fault
from twin.durable import file_sha256, sha256_of

READERS = 2  # hashing leaves the interpreter's lock, and reading is the disk's


class NoInput(Fault):
    """An input that is not there, or can't be read."""


def input_sha256(path: Path) -> dict[str, Any]:
    """`{sha256, files, bytes}` of a file, or of all files below a folder. Raises NoInput.

    A folder's hash is that of its files' hashes in order, so names (which may hold a patient's) play no part.
    """
    try:
        if path.is_file():
            return {"sha256": file_sha256(path), "files": 1, "bytes": path.stat().st_size}
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else []
        if not files:
            raise NoInput("there is no file here", path=path)
        with ThreadPoolExecutor(READERS) as pool:
            hashes = sorted(pool.map(file_sha256, files))
        size = sum(one.stat().st_size for one in files)
    except OSError as error:
        raise NoInput(f"cannot be read ({error.strerror})", path=path) from None
    return {"sha256": sha256_of("\n".join(hashes).encode()), "files": len(files), "bytes": size}
