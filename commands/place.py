"""Where a command's result will lie: looked at before any work is spent, for a live recording can't be had again."""

from __future__ import annotations

import os
from pathlib import Path

from spatial.faults import Misuse


def prepare(path: Path | None, option: str = "--out") -> None:
    """Make the folder of a file that will be written; nothing where no file was asked for. Raises Misuse."""
    if path is None:
        return
    if path.is_dir():
        raise Misuse(f"{option} names a folder, a file is needed", path=path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Misuse(f"{option}: a part of its path is a file, no folder", path=path.parent) from None
    except OSError as error:
        raise Misuse(f"{option}: its folder can't be made ({error.strerror})", path=path.parent) from None
    if not os.access(path.parent, os.W_OK):
        raise Misuse(f"{option}: there is no right to write into its folder", path=path.parent)


def prepare_folder(path: Path | None, option: str) -> None:
    """Make a folder for files that will be written; nothing where none was asked for. Raises Misuse."""
    if path is not None:
        prepare(path / "file", option)
