"""The reference library (Debian's libopenigtlink) as the other end of the wire: a small program, compiled once.

Run it (`python3 tests/interop/openigtlink/library.py`) or call `ensure`. Standard library only: set-up uses it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("peer.cpp")
HEADER = Path("/usr/include/openigtlink/igtlMessageHeader.h")
PACKAGES = ("libopenigtlink-dev", "g++")


class LibraryUnavailable(Exception):
    """The library can't be had on this machine; the message says why and what would help."""


def program() -> Path:
    """Where the compiled program lies or will lie: named by its source, outside the checkout."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(SOURCE.read_bytes() + platform.platform().encode()).hexdigest()[:16]
    return base / "osteotwin" / "openigtlink" / digest / "peer"


def ready() -> Path | None:
    """The program, or None: asks only."""
    return program() if program().is_file() else None


def ensure() -> Path:
    """The program, compiled first where it is missing. Raises LibraryUnavailable."""
    found = ready()
    if found is not None:
        return found
    if not HEADER.is_file() or shutil.which("g++") is None:
        _install()
    target = program()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"peer.{os.getpid()}")
    build = ["g++", "-O1", "-w", f"-I{HEADER.parent}", str(SOURCE), "-o", str(fresh), "-lOpenIGTLink", "-lpthread"]
    _run(build, "g++")
    fresh.replace(target)
    return target


def _install() -> None:
    words = " ".join(PACKAGES)
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        raise LibraryUnavailable(f"needs the packages {words} of a Debian system")
    become: list[str] = []
    if os.geteuid() != 0:
        become = ["sudo", "-n"]
        if shutil.which("sudo") is None or subprocess.run([*become, "true"], capture_output=True).returncode:
            raise LibraryUnavailable(f"missing packages, and neither root nor sudo: apt-get install {words}")
    apt = [*become, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    _run([*apt, "update"], "apt-get update")
    _run([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], "apt-get install")


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise LibraryUnavailable(f"{what} ended with {done.returncode}: {' | '.join(lines[-3:])}")


def main() -> int:
    """Make it ready."""
    try:
        ensure()
    except LibraryUnavailable as reason:
        print(f"LibraryUnavailable: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
