"""The runtime's recipe: the mirror is taken from apt's own files, and the source is patched or refused."""

from pathlib import Path

import pytest

from tests.openxr import monado

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/keys/a.gpg] http://mirror.example/debian bookworm main non-free # words
deb http://mirror.example/security bookworm-security main
deb https://other.example/repo nodistro tools
"""


def test_mirrors_are_read_from_deb822() -> None:
    assert list(monado._deb822(DEB822)) == [
        (
            ["http://mirror.example/debian", "http://second.example/debian"],
            ["bookworm", "bookworm-updates"],
            "/usr/share/keyrings/debian-archive-keyring.gpg",
        )
    ]


def test_mirrors_are_read_from_one_line_files() -> None:
    assert list(monado._one_line(ONE_LINE)) == [
        (["http://mirror.example/debian"], ["bookworm"], "/etc/keys/a.gpg"),
        (["http://mirror.example/security"], ["bookworm-security"], None),
    ]


def source(folder: Path, text: str) -> Path:
    file = folder / monado.PATCHED_FILE
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_the_patch_binds_to_loopback(tmp_path: Path) -> None:
    file = source(tmp_path, "a = htonl(INADDR_ANY);\nret = bind(fd, a);\n")
    monado.patch(tmp_path)
    assert file.read_text() == "a = htonl(INADDR_LOOPBACK);\nret = bind(fd, a);\n"


@pytest.mark.parametrize(
    "text", ["ret = bind(fd, a);\n", "htonl(INADDR_ANY) htonl(INADDR_ANY) bind(\n", "htonl(INADDR_ANY) bind( bind("]
)
def test_another_source_is_refused(tmp_path: Path, text: str) -> None:
    source(tmp_path, text)
    with pytest.raises(monado.RuntimeUnavailable, match="loopback"):
        monado.patch(tmp_path)


def test_the_environment_gives_a_port_of_its_own(tmp_path: Path) -> None:
    first = monado.environment(tmp_path, 5001)
    second = monado.environment(tmp_path, 5002)
    assert first["XDG_CONFIG_HOME"] != second["XDG_CONFIG_HOME"]
    config = Path(second["XDG_CONFIG_HOME"], "monado", "config_v0.json").read_text()
    assert '"port": 5002' in config


def test_without_root_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monado, "_missing", lambda packages: ["libone-dev", "libtwo"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(monado.RuntimeUnavailable, match="apt-get install libone-dev libtwo"):
        monado._install(["libone-dev", "libtwo"], print)


def test_no_mirror_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monado, "_os_release", lambda: {"ID": "plan9"})
    with pytest.raises(monado.RuntimeUnavailable, match="plan9"):
        monado._mirrors()
