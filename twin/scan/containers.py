"""A series in a zip or a tar: unpacked within limits into a private folder that is always removed.

Everything in an archive is a stranger's word: names, sizes and counts are checked before a byte is written, and bytes
are counted as they come out, whatever the archive announced. Nested archives are not opened.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spatial.faults import Fault
from spatial.progress import Progress, silent
from twin.scan.refusals import BadContainer

CHUNK = 1 << 20
LONGEST_READ = 64 << 20  # tarfile asks for more than that at once only for a header that is made to fill the memory
XZ_MEMORY_BYTES = 512 << 20
FORBIDDEN = frozenset('<>:"|?*\\') | {chr(n) for n in range(32)}
DEEPEST = 32


@dataclass(frozen=True)
class ContainerLimits:
    """How much an archive may hold; `ratio` counts once more than `ratio_from_bytes` came out."""

    files: int = 20_000
    total_bytes: int = 8 << 30
    ratio: float = 200.0
    ratio_from_bytes: int = 64 << 20


def is_container(path: Path) -> bool:
    """Whether the file is a zip or a tar (plain, gzip, xz or bzip2), by its first bytes."""
    try:
        with path.open("rb") as file:
            if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
                return True
        with _decompressed(path) as stream:
            return bool(stream.read(512)[257:262] == b"ustar")
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


@contextmanager
def unpacked(source: Path, progress: Progress = silent, limits: ContainerLimits | None = None) -> Iterator[Path]:
    """The folder with what an archive holds, removed on leaving; any other source comes back as it is.

    Faults raised inside about a file of the folder name it by its place in the archive. Raises BadContainer.
    """
    if not (source.is_file() and is_container(source)):
        yield source
        return
    folder = Path(tempfile.mkdtemp(prefix="osteotwin-")).resolve()
    try:
        _Unpacking(source, folder, limits or ContainerLimits(), progress).run()
        yield folder
    except Fault as fault:
        if fault.path is not None and fault.path.is_relative_to(folder):
            fault.path = source / fault.path.relative_to(folder)
        raise
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove it whole, even if Ctrl-C comes in the middle of that."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Unpacking:
    def __init__(self, source: Path, folder: Path, limits: ContainerLimits, progress: Progress) -> None:
        self.source, self.folder, self.limits, self.progress = source, folder, limits, progress
        self.packed_bytes = max(1, source.stat().st_size)
        self.files = self.bytes = 0

    def run(self) -> None:
        try:
            with self.source.open("rb") as file:
                is_zip = file.read(2) == b"PK"
            if is_zip:
                self._zip()
            else:
                self._tar()
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._refuse(f"the archive is cut or damaged ({str(error)[:100]}); is the copy complete?") from None
        except (NotImplementedError, RuntimeError) as error:  # zipfile: an unknown compression; a password is needed
            raise self._refuse(f"the archive cannot be unpacked ({str(error)[:100]})") from None
        except OSError as error:
            raise self._refuse(f"unpacking failed ({error.strerror or error})") from None
        except (ValueError, UnicodeError, OverflowError, MemoryError, RecursionError) as error:
            raise self._refuse(f"the archive's directory makes no sense ({type(error).__name__})") from None

    def _zip(self) -> None:
        with zipfile.ZipFile(self.source) as archive:
            members = archive.infolist()
            if len(members) > self.limits.files:
                raise self._refuse(f"{len(members)} files, the limit is {self.limits.files}")
            announced = sum(member.file_size for member in members)
            if announced > self.limits.total_bytes:
                raise self._refuse(f"{announced >> 20} MB unpacked, the limit is {self.limits.total_bytes >> 20} MB")
            for member in members:
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refuse(f"{member.filename!r} is a link or a device; files are allowed")
                if member.flag_bits & 1:
                    raise self._refuse(f"{member.filename!r} is encrypted; unpack it with its password first")
                target = self._target(member.filename)
                if not member.is_dir():
                    with archive.open(member) as stream:
                        self._copy(stream, target, member.filename)

    def _tar(self) -> None:
        with _decompressed(self.source) as stream:
            counted = _Counted(stream, self)
            self._members(counted)
            while counted.read(CHUNK):  # to the end, where the packer's check sum stands
                pass

    def _members(self, counted: Any) -> None:
        with tarfile.open(fileobj=counted, mode="r|") as archive:
            for member in archive:
                if not (member.isfile() or member.isdir()) or member.issparse():
                    raise self._refuse(f"{member.name!r} is a link, a device or sparse; plain files are allowed")
                target = self._target(member.name)
                if member.isdir():
                    continue
                content = archive.extractfile(member)
                assert content is not None
                self._copy(content, target, member.name, count=False)

    def _target(self, name: str) -> Path:
        self.files += 1
        if self.files > self.limits.files:
            raise self._refuse(f"more than {self.limits.files} files")
        place = PurePosixPath(name)
        parts = [part for part in place.parts if part != "."]
        if place.is_absolute() or ".." in parts or name.startswith("\\"):
            raise self._refuse(f"{name[:80]!r} points outside the archive; it was made to overwrite other files")
        if not parts:
            return self.folder  # the "./" that tar writes first
        odd = len(parts) > DEEPEST or any(len(p) > 200 or FORBIDDEN & set(p) for p in parts)
        if odd:
            raise self._refuse(f"{name[:80]!r} is no file name that every system can have")
        return self.folder.joinpath(*parts)

    def _copy(self, stream: IO[bytes], target: Path, name: str, *, count: bool = True) -> None:
        if self.files % 16 == 0:
            self.progress("unpacking", min(1.0, self.files / 1000))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise self._refuse(f"{name!r} is there twice")
        with target.open("xb") as out:
            while chunk := stream.read(CHUNK):
                if count:
                    self.count(len(chunk))
                out.write(chunk)

    def count(self, more: int) -> None:
        """Bytes that came out; raises BadContainer beyond the limits."""
        self.bytes += more
        if self.bytes > self.limits.total_bytes:
            raise self._refuse(f"more than {self.limits.total_bytes >> 20} MB unpacked")
        if self.bytes > self.limits.ratio_from_bytes and self.bytes > self.limits.ratio * self.packed_bytes:
            raise self._refuse(
                f"unpacks to more than {self.limits.ratio:g} times its size; scans never do (a decompression bomb?)"
            )
        if more and shutil.disk_usage(self.folder).free < 2 * CHUNK:
            raise self._refuse("no room left on the disk to unpack it")

    def _refuse(self, message: str) -> BadContainer:
        return BadContainer(message, path=self.source)


class _Counted:
    """What tarfile reads from, counted on the way."""

    def __init__(self, stream: IO[bytes], unpacking: _Unpacking) -> None:
        self.stream, self.unpacking = stream, unpacking

    def read(self, size: int) -> bytes:
        """Some bytes; raises BadContainer on a read that no honest archive causes."""
        if size > LONGEST_READ:
            raise BadContainer(f"a header of {size >> 20} MB in the archive", path=self.unpacking.source)
        data = self.stream.read(size)
        self.unpacking.count(len(data))
        return data


@contextmanager
def _decompressed(path: Path) -> Iterator[Any]:
    """The bytes of a file, without gzip, bzip2 or xz around them."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        elif start[:3] == b"BZh":
            with bz2.BZ2File(file) as stream:
                yield stream
        elif start == b"\xfd7zXZ\0":
            yield _Xz(file)
        else:
            yield file


class _Xz:
    """An xz stream that refuses dictionaries made to fill the memory (lzma.LZMAFile knows no limit)."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.decompressor = file, lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end; raises LZMAError."""
        parts: list[bytes] = []
        while size > 0 and not self.decompressor.eof:
            more = self.file.read(1 << 16) if self.decompressor.needs_input else b""
            if self.decompressor.needs_input and not more:
                raise EOFError("compressed data end too early")
            parts.append(self.decompressor.decompress(more, size))
            size -= len(parts[-1])
        return b"".join(parts)
