"""A series in an archive or on a disc: read like its folder; what an archive may not do is refused, nothing is left."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import osteotwin
from tests.twin.test_scan_bad_input import dicomdir
from tests.twin.written_series import write_series
from twin.scan.containers import ContainerLimits, is_container, unpacked
from twin.scan.load import load_volume
from twin.scan.refusals import BadContainer, BrokenFile, SeriesChoice

SMALL = {"slices": 6, "shape": (20, 24), "spacing_mm": (4.0, 4.0)}


@pytest.fixture
def private(tmp_path, monkeypatch):
    """Where temporary folders go, to see whether one is left."""
    place = tmp_path / "private"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_an_archive_loads_like_its_folder(tmp_path, private, kind):
    write_series(tmp_path / "scan" / "a series", **SMALL)
    (tmp_path / "scan" / "readme.txt").write_text("hello")
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "scan", ".")
    volume = load_volume(Path(archive))
    assert np.array_equal(volume.hu, load_volume(tmp_path / "scan").hu)
    assert any("1 file in the folder ignored" in note for note in volume.warnings)
    assert not any(private.iterdir())


def packed(tmp_path, change):
    files = write_series(tmp_path / "scan", **SMALL)
    change(files)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in files:
            if file.exists():
                archive.write(file, f"disc/{file.name}")
    return tmp_path / "scan.zip"


def test_faults_name_the_file_inside(tmp_path, private):
    source = packed(tmp_path, lambda files: files[2].write_bytes(files[2].read_bytes()[:-40]))
    with pytest.raises(BrokenFile) as caught:
        load_volume(source)
    assert caught.value.path == source / "disc" / "slice002.dcm"
    assert not any(private.iterdir())
    done = CliRunner().invoke(osteotwin.app, ["scan", "list", str(source), "--json"])
    (series,) = json.loads(done.stdout)["series"]
    assert f"{source / 'disc' / 'slice002.dcm'}" in series["problems"][0]
    assert str(private) not in done.stdout
    assert not any(private.iterdir())


def test_two_patients_in_one_archive_are_a_choice(tmp_path):
    for who in ("a", "b"):
        write_series(
            tmp_path / "scans" / who, mutate=lambda d, _, who=who: setattr(d, "PatientID", f"patient {who}"),
            series_uid=f"1.2.{ord(who)}", **SMALL,
        )  # fmt: skip
    archive = shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "scans")
    with pytest.raises(SeriesChoice, match="2 CT series") as caught:
        load_volume(Path(archive))
    assert "patient a" not in str(caught.value)
    done = CliRunner().invoke(osteotwin.app, ["scan", "list", archive, "--json"])
    assert [s["slices"] for s in json.loads(done.stdout)["series"]] == [6, 6]


def tar_with(path, name, **attributes):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


TARS = {
    "parent": ({"name": "../out.dcm"}, "points outside"),
    "absolute": ({"name": "/elsewhere/out.dcm"}, "points outside"),
    "inner parent": ({"name": "a/../../out.dcm"}, "points outside"),
    "symbolic link": ({"name": "a.dcm", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
    "hard link": ({"name": "a.dcm", "type": tarfile.LNKTYPE, "linkname": "b"}, "is a link"),
    "device": ({"name": "a.dcm", "type": tarfile.CHRTYPE}, "is a link, a device"),
    "pipe": ({"name": "a.dcm", "type": tarfile.FIFOTYPE}, "is a link, a device"),
    "odd name": ({"name": "a:b\x01.dcm"}, "no file name"),
}


@pytest.mark.parametrize("what", TARS)
def test_what_a_tar_may_not_hold(tmp_path, private, what):
    attributes, words = TARS[what]
    with pytest.raises(BadContainer, match=words):
        load_volume(tar_with(tmp_path / "a.tar.gz", **attributes))
    assert not any(private.iterdir())


ZIPS = {
    "parent": ("../out.dcm", 0, "points outside"),
    "absolute": ("/out.dcm", 0, "points outside"),
    "backslashes": ("..\\out.dcm", 0, "no file name|points outside"),
    "link": ("a.dcm", 0o120777 << 16, "is a link"),
}


@pytest.mark.parametrize("what", ZIPS)
def test_what_a_zip_may_not_hold(tmp_path, private, what):
    name, attributes, words = ZIPS[what]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = attributes
        archive.writestr(info, b"/etc/passwd")
    with pytest.raises(BadContainer, match=words):
        load_volume(tmp_path / "a.zip")
    assert not any(private.iterdir())


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_a_tar_bomb_is_stopped_as_it_unpacks(tmp_path, private, kind):
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as archive:
        member = tarfile.TarInfo("slice.dcm")
        member.size = 80 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(BadContainer, match="more than 200 times its size"):
        load_volume(tmp_path / "a.tar")
    assert not any(private.iterdir())


def test_limits_and_damage(tmp_path, private):
    source = packed(tmp_path, lambda _: None)
    for limits in (ContainerLimits(files=5), ContainerLimits(total_bytes=9000)):
        with pytest.raises(BadContainer), unpacked(source, limits=limits):
            pass
    data = source.read_bytes()
    for broken in (data[: len(data) // 2], data[:300] + b"\xff" * 40 + data[340:]):
        source.write_bytes(broken)
        with pytest.raises(BadContainer, match=r"damaged|makes no sense"):
            load_volume(source)
    assert not any(private.iterdir())


def test_an_encrypted_zip_says_so(tmp_path):
    source = packed(tmp_path, lambda _: None)
    data = bytearray(source.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    source.write_bytes(data)
    with pytest.raises(BadContainer, match="encrypted"):
        load_volume(source)


def test_other_compressed_files_are_no_containers(tmp_path):
    import gzip

    (tmp_path / "a.gz").write_bytes(gzip.compress(b"hello" * 300))
    (tmp_path / "a.dcm").write_bytes(bytes(4000))
    assert not is_container(tmp_path / "a.gz")
    assert not is_container(tmp_path / "a.dcm")


# ---- discs


def disc(tmp_path, lost=()):
    files = write_series(tmp_path / "DISC", **SMALL, name="IM{:04}".format, series_uid="1.2.3")
    directory = dicomdir(tmp_path / "DISC", *(file.name for file in files))
    for k in lost:
        files[k].unlink()
    return directory


def test_a_disc_is_read_by_its_directory(tmp_path):
    directory = disc(tmp_path)
    write_series(tmp_path / "DISC" / "OTHER", series_uid="1.2.9", **SMALL)  # not named, so not read
    volume = load_volume(directory)
    assert volume.grid.size[2] == 6
    assert not any("other series" in note for note in volume.warnings)


def test_a_file_that_the_directory_names_must_be_there(tmp_path):
    directory = disc(tmp_path, lost=(5,))
    with pytest.raises(BrokenFile, match="the DICOMDIR names this file, and it is not there") as caught:
        load_volume(directory)
    assert caught.value.path == tmp_path / "DISC" / "IM0005"
    with pytest.raises(BrokenFile, match="the DICOMDIR names this file"):
        load_volume(tmp_path / "DISC")  # the folder alone would look like a whole, shorter scan


@pytest.mark.parametrize("file_id", [["..", "IM0001"], ["/etc/passwd"], ["A/B"], ["."], ["LINK", "IM0001"]])
def test_a_directory_may_not_point_outside(tmp_path, file_id):
    write_series(tmp_path / "elsewhere", **SMALL, name="IM{:04}".format)
    (tmp_path / "DISC").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "DISC" / "LINK")
    with pytest.raises(BadContainer, match=r"no file of this disc|outside of its folder"):
        load_volume(dicomdir(tmp_path / "DISC", file_id))


def test_a_damaged_directory(tmp_path):
    directory = disc(tmp_path)
    for data in (b"", b"DICOMDIR" * 90, directory.read_bytes()[:400]):
        directory.write_bytes(data)
        with pytest.raises(BadContainer, match=r"cannot be read|names no image"):
            load_volume(directory)
