#!/usr/bin/env python3
"""The two commands, and the two that developers add: demo, test; check, bench (and setup alone).

Each one sets up what it needs on a fresh machine, says what it is doing, then does its job. Standard library only.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "osteotwin-setup.txt"
USAGE = """usage: python3 run.py demo [--ct PATH] [--out DIR]   the whole line on a digital phantom, or on your CT
       python3 run.py test [pytest options]           all tests, with a real OpenXR runtime where one can be built
       python3 run.py check                           ruff, mypy, import-linter
       python3 run.py bench [room]                    timings against peers
       python3 run.py setup                           set-up alone; afterwards: .venv/bin/osteotwin --help"""

LIBRARIES = {  # what the wheels load from the system: shared object -> Debian package
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libGLX_mesa.so.0": "libglx-mesa0",
    "libEGL_mesa.so.0": "libegl-mesa0",
    "libX11.so.6": "libx11-6",
    "libXcursor.so.1": "libxcursor1",
    "libXinerama.so.1": "libxinerama1",
    "libXrandr.so.2": "libxrandr2",
    "libXi.so.6": "libxi6",
    "libgomp.so.1": "libgomp1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libudev.so.1": "libudev1",
    "libidn2.so.0": "libidn2-0",
    "libglib-2.0.so.0": "libglib2.0-0",
}
TEST_PROGRAMS = {"Xvfb": "xvfb"}


def say(text: str) -> None:
    """Words go to stderr, so a job's JSON stays clean."""
    print(text, file=sys.stderr, flush=True)


def stop(text: str) -> None:
    """Say why and leave with 2."""
    say(text)
    raise SystemExit(2)


def loads(name: str) -> bool:
    """Whether the dynamic loader finds a library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def missing_packages(for_tests: bool) -> list[str]:
    """Debian packages that this machine still needs."""
    missing = [package for library, package in LIBRARIES.items() if not loads(library)]
    if not any(Path("/usr/lib").glob("*/dri/swrast_dri.so")) and not Path("/usr/lib/dri/swrast_dri.so").exists():
        missing.append("libgl1-mesa-dri")
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if for_tests:
        missing += [package for program, package in TEST_PROGRAMS.items() if shutil.which(program) is None]
    return missing


def install_system_packages(for_tests: bool) -> None:
    """Install with apt where that is allowed; else name the packages and leave with 2."""
    if not sys.platform.startswith("linux"):
        return
    missing = missing_packages(for_tests)
    if not missing:
        return
    names = " ".join(missing)
    apt = shutil.which("apt-get")
    prefix: list[str] = []
    if apt and os.geteuid() != 0:
        sudo = shutil.which("sudo")
        allowed = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
        prefix = [sudo, "-n"] if sudo and allowed else []
        apt = apt if allowed else None
    if not apt:
        stop(f"Missing system packages (Debian's names): {names}. Install them and run this again.")
    say(f"[1/3] System packages: {names}")
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    for arguments in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *missing]):
        done = subprocess.run(
            [*prefix, *environment, str(apt), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
            stop(f"apt-get {arguments[0]} failed ({' '.join(tail)}). Install by hand: {names}")


def fingerprint() -> str:
    """What the environment was built from: packages, interpreter and place. Settings of tools don't count."""
    import tomllib  # here, because an older Python has to get as far as being told so

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tables = [
        settings["build-system"],
        settings["project"],
        settings["dependency-groups"],
        settings["tool"]["setuptools"],
    ]
    parts = [sys.version, str(ROOT), json.dumps(tables, sort_keys=True), (ROOT / "constraints.txt").read_text()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def install_python_packages() -> None:
    """Make .venv and fill it from the constraints file; once, until one of them changes."""
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    say("[2/3] Python environment in .venv")
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    run_pip([*pip, "--upgrade", "pip>=25.1"])  # dependency groups came with pip 25.1
    run_pip([*pip, "-c", "constraints.txt", "-e", ".", "--group", "dev"])
    say("      compiling kernels (once)")
    subprocess.run([str(PYTHON), "-m", "commands.warm"], cwd=ROOT, check=True)
    STAMP.write_text(wanted)


def run_pip(arguments: Sequence[str]) -> None:
    """Run pip, show one moving line, keep the end of its words for the case that it fails."""
    tail: list[str] = []
    seen, started = 0, time.monotonic()
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-15:], line.rstrip()]
            word = line.split()
            if word[:1] in (["Collecting"], ["Installing"], ["Building"]):
                seen += word[0] == "Collecting"
                what = f"{seen} packages" if word[0] == "Installing" else word[1] if len(word) > 1 else ""
                text = f"      {time.monotonic() - started:4.0f} s  {word[0].lower()} {what}"
                if sys.stderr.isatty():
                    print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
                elif word[0] == "Installing" or seen % 20 == 1:
                    say(text)
    if sys.stderr.isatty():
        say("")
    if process.returncode:
        stop("\n".join([*tail, "Python packages could not be installed; is the package index reachable?"]))


def openxr_runtime() -> None:
    """Build the OpenXR runtime for the tests, or say why its tests will skip (REQUIRE=openxr: fail)."""
    done = subprocess.run([sys.executable, "tests/openxr/monado.py"], cwd=ROOT, check=False)
    if done.returncode and "openxr" in os.environ.get("REQUIRE", ""):
        say("The OpenXR runtime is required here (REQUIRE=openxr) and could not be set up.")
        raise SystemExit(1)


def openigtlink_library() -> None:
    """Build the other end of the wire for the tests, or say why they will skip (REQUIRE=openigtlink: fail)."""
    done = subprocess.run([sys.executable, "tests/interop/openigtlink/library.py"], cwd=ROOT, check=False)
    if done.returncode and "openigtlink" in os.environ.get("REQUIRE", ""):
        say("OpenIGTLink's library is required here (REQUIRE=openigtlink) and could not be set up.")
        raise SystemExit(1)


def job(name: str, arguments: list[str]) -> int:
    """Do what was asked for; the exit code is the job's own."""
    if name == "demo":
        commands = [[str(PYTHON), "-m", "osteotwin", "demo", *arguments]]
    elif name == "test":
        openxr_runtime()
        openigtlink_library()
        commands = [[str(PYTHON), "-m", "pytest", *arguments]]
    elif name == "bench":
        commands = [[str(PYTHON), "-m", "osteotwin", "bench", *arguments]]
    elif name == "check":
        commands = [
            [str(BIN / "ruff"), "check", "."],
            [str(BIN / "ruff"), "format", "--check", "."],
            [str(BIN / "mypy")],
            [str(BIN / "lint-imports")],
        ]
    else:
        return 0
    codes = [subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands]
    return next((code for code in codes if code), 0)


def main() -> int:
    """Set up, then work."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if name not in ("demo", "test", "check", "bench", "setup"):
        stop(USAGE)
    if sys.version_info < (3, 11):  # noqa: UP036 - the message is for whoever runs an older one
        stop(f"Python {sys.version.split()[0]} found, 3.11 or newer is needed; try python3.11 run.py {name}")
    started = time.monotonic()
    install_system_packages(for_tests=name == "test")
    install_python_packages()
    if time.monotonic() - started > 2:
        say(f"[3/3] Set up in {time.monotonic() - started:.0f} s; starting {name}")
    try:
        return job(name, arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
