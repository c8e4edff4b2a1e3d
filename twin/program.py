"""Which program this is: its version, and the commit when it runs from a source tree."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 5.0


@lru_cache(maxsize=1)
def program() -> dict[str, Any]:
    """`{name, version, commit}`; the commit ends in `-dirty` when the tree was changed, and is None when not known."""
    try:
        own: str | None = version("osteotwin")
    except PackageNotFoundError:
        own = None
    return {"name": "osteotwin", "version": own, "commit": _commit()}


def _commit() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
