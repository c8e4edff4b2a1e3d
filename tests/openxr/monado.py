"""Monado, a real OpenXR runtime, built once for the tests: no headset, no display, no GPU.

Run it (`python3 tests/openxr/monado.py`, `--export` for a shell) or call `ensure`. Standard library only,
so that set-up can use it before any package is there. The source is Debian 13's `monado` tarball, fetched
by apt from the mirror that this machine's own sources name and checked against Debian's archive keyring.
The runtime is built to live inside the application's process (no service), composes into nothing (null
compositor, 20 frames a second) and takes head and hands from the scripted client in `remote.py`. Its input
port listens on loopback only: the recipe patches the source and checks that it did.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]

SUITE = "trixie"
SOURCE_PACKAGE = "monado"
VERSION = "25.0.0"
MANIFEST = "openxr_monado.json"
LIBRARY = "libopenxr_monado.so"

BUILD_PACKAGES = (
    "build-essential",
    "cmake",
    "ninja-build",
    "pkg-config",
    "libeigen3-dev",
    "libvulkan-dev",
    "glslang-tools",
    "libegl-dev",
    "libgl-dev",
    "libgles-dev",
    "libglx-dev",
    "libopengl-dev",
    "libx11-dev",
    "libx11-xcb-dev",
    "libxcb1-dev",
    "libxcb-randr0-dev",
    "libxrandr-dev",
    "libudev-dev",
    "libbsd-dev",
)
RUN_PACKAGES = (
    "mesa-vulkan-drivers",
    "libvulkan1",
    "libgl1-mesa-dri",
    "libegl1",
    "libegl-mesa0",
    "libgl1",
    "libglx0",
    "libglx-mesa0",
    "libx11-6",
    "libx11-xcb1",
    "libxcb1",
    "libxcb-randr0",
    "libudev1",
    "libbsd0",
)

# The remote driver binds every interface; a test runtime must not be reachable from the network.
PATCHED_FILE = "src/xrt/drivers/remote/r_hub.c"
PATCH_FROM = "htonl(INADDR_ANY)"
PATCH_TO = "htonl(INADDR_LOOPBACK)"

_OFF = (
    "BUILD_TESTING",
    "BUILD_DOC",
    "XRT_FEATURE_SERVICE",
    "XRT_FEATURE_TRACING",
    "XRT_FEATURE_STEAMVR_PLUGIN",
    "XRT_FEATURE_DEBUG_GUI",
    "XRT_FEATURE_WINDOW_PEEK",
    "XRT_HAVE_OPENCV",
    "XRT_HAVE_SDL2",
    "XRT_HAVE_LIBUSB",
    "XRT_BUILD_DRIVER_VIVE",
    "XRT_BUILD_DRIVER_WMR",
    "XRT_BUILD_DRIVER_HDK",
    "XRT_BUILD_DRIVER_HYDRA",
    "XRT_BUILD_DRIVER_PSMV",
    "XRT_BUILD_DRIVER_PSSENSE",
    "XRT_BUILD_DRIVER_RIFT_S",
    "XRT_BUILD_DRIVER_STEAMVR_LIGHTHOUSE",
    "XRT_BUILD_DRIVER_TWRAP",
)


class RuntimeUnavailable(Exception):
    """The runtime can't be had on this machine; the message says why and what would help."""


@dataclass(frozen=True)
class _Mirror:
    """A Debian mirror that the machine's apt sources name, with the keyring that they trust for it."""

    uri: str
    signed_by: str | None


def cache_root() -> Path:
    """The folder outside the checkout that holds built runtimes."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "osteotwin" / "openxr"


def recipe_folder() -> Path:
    """Where this recipe's runtime lies or will lie: named by the recipe file and the system below it."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(f"{_os_release().get('VERSION_CODENAME', '')} {platform.machine()}".encode())
    return cache_root() / digest.hexdigest()[:16]


def ready() -> Path | None:
    """The built runtime's folder, or None: asks only, builds nothing."""
    folder = recipe_folder()
    return folder if (folder / MANIFEST).is_file() and (folder / LIBRARY).is_file() else None


def ensure(say: Say = print) -> Path:
    """The folder that holds the runtime, building it first where it is missing.

    Raises `RuntimeUnavailable` with the reason where it can't be had.
    """
    if sys.platform != "linux":
        raise RuntimeUnavailable(f"the test runtime is built on Linux only, this is {sys.platform}")
    if ready() is None or _missing(RUN_PACKAGES):
        root = cache_root()
        root.mkdir(parents=True, exist_ok=True)
        with _only_builder(root, say):
            _install(RUN_PACKAGES, say)
            if ready() is None:
                _install(BUILD_PACKAGES, say)
                _build(root, say)
    return recipe_folder()


def environment(folder: Path, port: int, config_home: Path | None = None) -> dict[str, str]:
    """What a process needs in its environment to run under this runtime, scripted input on loopback `port`.

    Set it before the process starts: the OpenXR loader reads it when it loads. GL and Vulkan are both put on
    Mesa's software drivers, because the two share images and a GPU for only one of them can't. The port
    stands in a configuration file under `config_home` (default: a folder beside the runtime, one a port).
    """
    config_home = config_home or folder / "config" / str(port)
    config = config_home / "monado" / "config_v0.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"active": "remote", "remote": {"version": 0, "port": port, "view_count": 2}})
    if not config.is_file() or config.read_text() != content:
        fresh = config.with_name(f"{config.name}.{os.getpid()}")
        fresh.write_text(content)
        fresh.replace(config)
    variables = {
        "XR_RUNTIME_JSON": str(folder / MANIFEST),
        "XRT_COMPOSITOR_NULL": "1",
        "P_OVERRIDE_ACTIVE_CONFIG": "remote",
        "XDG_CONFIG_HOME": str(config_home),
        "OXR_NO_PRINTING": "1",
        **{f"{name}_LOG": "error" for name in ("XRT", "PROBER", "XRT_COMPOSITOR", "REMOTE", "EGL")},
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "OSTEOTWIN_REMOTE_PORT": str(port),
    }
    vulkan = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if vulkan:
        variables["VK_DRIVER_FILES"] = variables["VK_ICD_FILENAMES"] = str(vulkan[0])
    egl = Path("/usr/share/glvnd/egl_vendor.d/50_mesa.json")
    if egl.is_file():
        variables["__EGL_VENDOR_LIBRARY_FILENAMES"] = str(egl)
    return variables


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- apt ---------------------------------------------------------------------------------------------------


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip().strip('"') for key, value in pairs}


def _missing(packages: Sequence[str]) -> list[str]:
    """Those of the Debian packages that are not installed."""
    if shutil.which("dpkg-query") is None:
        raise RuntimeUnavailable("the test runtime's recipe needs a Debian system (no dpkg-query here)")
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status} ${Package}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    there = {line.split()[1] for line in asked.stdout.splitlines() if line.startswith("installed ")}
    return [package for package in packages if package not in there]


def _install(packages: Sequence[str], say: Say) -> None:
    missing = _missing(packages)
    if not missing:
        return
    words = " ".join(missing)
    become: list[str] = []
    if os.geteuid() != 0:
        become = ["sudo", "-n"]
        if shutil.which("sudo") is None or subprocess.run([*become, "true"], capture_output=True).returncode != 0:
            raise RuntimeUnavailable(f"missing packages, and neither root nor sudo: apt-get install {words}")
    say(f"OpenXR runtime: installing {words}")
    apt = [*become, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    _run([*apt, "update"], "apt-get update")
    _run([*apt, "install", "-y", "--no-install-recommends", *missing], "apt-get install")


def _mirrors() -> list[_Mirror]:
    """Debian mirrors out of the machine's apt sources (one-line and deb822), those of its own suite."""
    release = _os_release()
    if release.get("ID") != "debian":
        raise RuntimeUnavailable(
            f"the recipe takes Debian's source package; this system is {release.get('ID', 'unknown')}"
        )
    suites = {release.get("VERSION_CODENAME", ""), "stable", "oldstable", "testing", SUITE}
    files = [Path("/etc/apt/sources.list")]
    folder = Path("/etc/apt/sources.list.d")
    if folder.is_dir():
        files += sorted(file for file in folder.iterdir() if file.suffix in {".list", ".sources"})
    found: list[_Mirror] = []
    for file in files:
        if file.is_file():
            entries = _deb822(file.read_text()) if file.suffix == ".sources" else _one_line(file.read_text())
            for uris, named, signed_by in entries:
                if suites & set(named):
                    found += [_Mirror(uri, signed_by) for uri in uris]
    if not found:
        raise RuntimeUnavailable("no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d")
    return list(dict.fromkeys(found))


def _deb822(text: str) -> Iterator[tuple[list[str], list[str], str | None]]:
    """(URIs, suites, Signed-By path) of each enabled stanza of a `.sources` file."""
    for stanza in re.split(r"\n\s*\n", "\n".join(x for x in text.splitlines() if not x.startswith("#"))):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in unfolded.splitlines())}
        if (
            fields.get("enabled", "yes").lower() in {"no", "false"}
            or "main" not in fields.get("components", "").split()
        ):
            continue
        key = fields.get("signed-by", "")
        yield (
            fields.get("uris", "").split(),
            fields.get("suites", "").split(),
            key if key.startswith("/") else None,
        )


def _one_line(text: str) -> Iterator[tuple[list[str], list[str], str | None]]:
    """(URIs, suites, Signed-By path) of each line of a `.list` file."""
    for line in text.splitlines():
        match = re.match(r"^\s*deb(?:-src)?\s+(?:\[([^]]*)]\s*)?(\S+)\s+(\S+)\s+(.*)$", line.split("#", 1)[0])
        if match and "main" in match[4].split():
            key = re.search(r"signed-by=(/[^\s]+)", match[1] or "")
            yield [match[2]], [match[3]], key[1] if key else None


def _fetch(folder: Path, say: Say) -> Path:
    """Download the source tarball with apt, which checks the archive's signature and the file's hash."""
    keyrings = [Path(f"/usr/share/keyrings/debian-archive-keyring.{end}") for end in ("gpg", "pgp")]
    reasons: list[str] = []
    for number, mirror in enumerate(_mirrors()):
        root = folder / f"apt{number}"
        for sub in ("lists/partial", "cache/archives/partial", "source"):
            (root / sub).mkdir(parents=True)
        (root / "status").touch()
        key = next((str(path) for path in keyrings if path.is_file()), mirror.signed_by)
        option = f"[signed-by={key}] " if key else ""
        (root / "sources.list").write_text(f"deb-src {option}{mirror.uri} {SUITE} main\n")
        settings = {
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": root / "lists",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "APT::Sandbox::User": "root",  # apt's own user can't write into a private folder
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
            "Acquire::https::Timeout": "30",
        }
        apt = [
            "apt-get",
            "-q",
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        ]
        say(f"OpenXR runtime: fetching {SOURCE_PACKAGE} {VERSION} ({SUITE}, source)")
        try:
            # An index that can't be fetched is an error, not a warning: the lists are new.
            _run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], f"apt-get update for {SUITE}")
            # The packaging is not needed, the upstream tarball alone is; its hash stands in the signed index.
            _run(
                [*apt, "source", "--tar-only", "--download-only", SOURCE_PACKAGE],
                "apt-get source",
                cwd=root / "source",
            )
        except RuntimeUnavailable as fault:
            reasons.append(str(fault))
            continue
        tarballs = sorted((root / "source").glob(f"{SOURCE_PACKAGE}_{VERSION}*.orig.tar.*"))
        if tarballs:
            return tarballs[0]
        there = sorted(path.name for path in (root / "source").iterdir())
        reasons.append(f"{SUITE} has {there or 'nothing'}, the recipe is for {VERSION}")
    raise RuntimeUnavailable("; ".join(dict.fromkeys(reasons)))


# --- build -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_builder(root: Path, say: Say) -> Iterator[None]:
    """Hold the builder's lock; a second builder waits and then finds the work done."""
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("OpenXR runtime: another process is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], what: str, cwd: Path | None = None) -> None:
    """Run to the end; a failure carries the command's last words."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "CMake Error", "FAILED"))] or lines[-3:]
        raise RuntimeUnavailable(f"{what} ended with {done.returncode}: {' | '.join(errors[:4])}")


def _ninja(build: Path, say: Say) -> None:
    """Compile, saying every tenth part."""
    command = ["ninja", "-C", str(build), "openxr_monado"]
    tail: list[str] = []
    said = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-19:], line.rstrip()]
            step = re.match(r"\[(\d+)/(\d+)]", line)
            if step and (tenth := 10 * int(step[1]) // int(step[2])) > said:
                said = tenth
                say(f"OpenXR runtime: compiling {10 * tenth} %")
    if process.returncode != 0:
        raise RuntimeUnavailable(f"compiling monado failed: {' | '.join(tail[-5:])}")


def patch(source: Path) -> None:
    """Bind the remote driver's listener to loopback; raises where the source is not as the recipe expects."""
    file = source / PATCHED_FILE
    text = file.read_text() if file.is_file() else ""
    if text.count(PATCH_FROM) != 1 or text.count("bind(") != 1:
        raise RuntimeUnavailable(f"{PATCHED_FILE} is not as the recipe expects: can't keep its port on loopback")
    file.write_text(text.replace(PATCH_FROM, PATCH_TO))


def _build(root: Path, say: Say) -> None:
    work = Path(tempfile.mkdtemp(prefix="build-", dir=root))
    try:
        tarball = _fetch(work, say)
        source, build, done = work / "source", work / "build", work / "done"
        source.mkdir()
        with tarfile.open(tarball) as archive:
            # Checked against the signed index; the filter argument is not in every 3.11.
            if hasattr(tarfile, "data_filter"):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(source)
        inner = [path for path in source.iterdir() if path.is_dir()]
        top = source if (source / "CMakeLists.txt").is_file() else inner[0]
        patch(top)
        say("OpenXR runtime: configuring")
        options = ["-DCMAKE_BUILD_TYPE=Release", f"-DGIT_DESC={VERSION}", *(f"-D{name}=OFF" for name in _OFF)]
        _run(["cmake", "-S", str(top), "-B", str(build), "-G", "Ninja", *options], "cmake")
        _ninja(build, say)
        done.mkdir()
        shutil.copy2(next(build.rglob(LIBRARY)), done / LIBRARY)
        runtime = {"name": "Monado", "library_path": f"./{LIBRARY}"}
        (done / MANIFEST).write_text(json.dumps({"file_format_version": "1.0.0", "runtime": runtime}) + "\n")
        recipe = {"source": tarball.name, "patched": PATCHED_FILE, "cmake": options}
        (done / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        target = recipe_folder()
        if target.exists():  # half of one: ready() said no
            shutil.rmtree(target)
        done.replace(target)
        say(f"OpenXR runtime: ready ({VERSION})")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Build the runtime; with --export also print, for a shell's eval, what a process must have to use it."""
    try:
        folder = ensure(lambda line: print(line, file=sys.stderr, flush=True))
    except RuntimeUnavailable as reason:
        print(f"RuntimeUnavailable: {reason}", file=sys.stderr)
        return 1
    if "--export" in arguments:
        for name, value in environment(folder, free_port()).items():
            print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
