"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def part_file(path: str | Path, ending: str = ".part") -> Iterator[Path]:
    """A file beside `path` to write into, which takes its place at the end; gone again when anything fails.

    `ending` follows the name where a writer goes by it. Raises OSError, naming `path`.
    """
    file = Path(path)
    part = file.with_name(f".{file.name}{ending}")
    try:
        yield part
        os.replace(part, file)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from None
    finally:
        part.unlink(missing_ok=True)
