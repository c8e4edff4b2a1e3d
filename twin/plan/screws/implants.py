"""The implants that may be planned: screws, rods, hooks, plates and nails as families with their sizes.

A family is a JSON file, `assets/implants/*.json` or a vendor's own in a folder that the user names. Unknown fields are
refused. The built-in families are of no maker, and their numbers say so (`source`, `source_status`). A file may name
an STL beside it as the `shape` of the head, in mm, z along the screw from tip to head, origin at the head's seat.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from spatial.faults import Misuse
from spatial.mesh import TriangleMesh
from twin.surfaces.stl import read_stl

BUILT_IN = Path(__file__).parents[3] / "assets" / "implants"
ENVIRONMENT = "OSTEOTWIN_IMPLANTS"  # a hospital's own files or folders
SCHEMA = 1
Kind = Literal["pedicle", "cortical", "s2ai", "lag"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Status = Literal["verified", "unverified", "vendor"]
HOOK_USES = ("laminar", "pedicle")
MOST_MM = 600.0  # longest rod or nail
MOST_BYTES = 1_000_000
USUAL: Mapping[Kind, str] = MappingProxyType(
    {"pedicle": "polyaxial", "cortical": "cortical", "s2ai": "s2ai", "lag": "lag"}
)


class BadImplant(Misuse):
    """An implant file with a field that nobody knows, a size that can't be, or a family that is not there."""


@dataclass(frozen=True)
class ScrewHead:
    """The head as a cylinder on the screw's axis behind the entry; `most_angle_deg`: how far it tilts to the rod."""

    diameter_mm: float
    height_mm: float
    most_angle_deg: float


@dataclass(frozen=True, eq=False)
class ScrewFamily:
    """Screws of one make: outer thread and core diameters, lengths, pitch. `threads_mm`: lag screws' thread lengths."""

    name: str
    kind: Kind
    words: str
    core_mm: Mapping[float, float]
    lengths_mm: tuple[float, ...]
    pitch_mm: float
    head: ScrewHead
    source: str
    source_status: Status
    threads_mm: tuple[float, ...] = ()
    shape: Path | None = None

    @property
    def diameters_mm(self) -> tuple[float, ...]:
        """Outer thread diameters, thinnest first."""
        return tuple(self.core_mm)

    def core_diameter_mm(self, diameter_mm: float) -> float:
        """Core of a screw of this outer diameter; between the family's sizes, and beyond them, in proportion."""
        near = min(self.core_mm, key=lambda d: abs(d - diameter_mm))
        return self.core_mm[near] * diameter_mm / near

    def head_mesh(self) -> TriangleMesh[Any] | None:
        """The maker's own shape; None: the family is drawn as cylinders. Raises BadSurfaceFile."""
        return None if self.shape is None else read_stl(self.shape)


@dataclass(frozen=True)
class RodMaterial:
    """A rod's material."""

    name: str
    modulus_gpa: float


@dataclass(frozen=True, eq=False)
class RodFamily:
    """Round rods."""

    name: str
    words: str
    diameters_mm: tuple[float, ...]
    lengths_mm: tuple[float, ...]
    materials: tuple[RodMaterial, ...]
    source: str
    source_status: Status


@dataclass(frozen=True)
class HookSize:
    """`throat_mm`: the opening between blade and body; `blade_mm`: the blade's thickness."""

    use: str
    throat_mm: float
    blade_width_mm: float
    blade_mm: float


@dataclass(frozen=True, eq=False)
class HookFamily:
    """Hooks for laminae and pedicles."""

    name: str
    words: str
    sizes: tuple[HookSize, ...]
    source: str
    source_status: Status


@dataclass(frozen=True)
class PlateSize:
    """A plate for one place on a bone (`use`)."""

    use: str
    length_mm: float
    width_mm: float
    thickness_mm: float
    holes: int
    screw_diameter_mm: float


@dataclass(frozen=True, eq=False)
class PlateFamily:
    """Plates."""

    name: str
    words: str
    sizes: tuple[PlateSize, ...]
    source: str
    source_status: Status


@dataclass(frozen=True)
class NailSize:
    """A nail's outer diameter, for one bone (`use`)."""

    use: str
    diameter_mm: float


@dataclass(frozen=True, eq=False)
class NailFamily:
    """Intramedullary nails."""

    name: str
    words: str
    sizes: tuple[NailSize, ...]
    lengths_mm: tuple[float, ...]
    source: str
    source_status: Status


Family = ScrewFamily | RodFamily | HookFamily | PlateFamily | NailFamily
F = TypeVar("F", ScrewFamily, RodFamily, HookFamily, PlateFamily, NailFamily)


@dataclass(frozen=True, eq=False)
class Library:
    """Families by name; `sha256` of the files they were read from."""

    families: Mapping[str, Family]
    sha256: str

    def __post_init__(self) -> None:
        """Freeze."""
        object.__setattr__(self, "families", MappingProxyType(dict(self.families)))

    def of(self, what: type[F]) -> tuple[F, ...]:
        """All families of one sort: `library.of(RodFamily)`."""
        return tuple(one for one in self.families.values() if isinstance(one, what))

    def screws(self, family: str | None = None, kind: Kind = "pedicle") -> ScrewFamily:
        """The family called so; without a name the usual one of the kind. Raises BadImplant naming what there is."""
        known = {one.name: one for one in self.of(ScrewFamily)}
        if family is None:
            family = USUAL[kind] if USUAL[kind] in known else next((n for n, f in known.items() if f.kind == kind), "")
        if family not in known:
            raise BadImplant(
                f"no screws {family or kind!r} in the implant library; it has {', '.join(sorted(known))}; "
                f"{ENVIRONMENT} names the files of others"
            )
        return known[family]


def load_library(extra: Iterable[Path] = ()) -> Library:
    """The built-in families, and those of a hospital's own files or folders, which replace their namesakes: `extra`,
    and what OSTEOTWIN_IMPLANTS names. Raises BadImplant.
    """
    named = os.environ.get(ENVIRONMENT, "")
    own = [*(Path(path) for path in named.split(os.pathsep) if path), *(Path(path) for path in extra)]
    return _read((BUILT_IN, *own)) if own else _built_in()


@cache
def _built_in() -> Library:
    return _read((BUILT_IN,))


def _read(sources: Iterable[Path]) -> Library:
    families: dict[str, Family] = {}
    digest = hashlib.sha256()
    for source in sources:
        files = sorted(source.glob("*.json")) if source.is_dir() else [source]
        if not files:
            raise BadImplant("no .json file with a family of implants here", path=source)
        for path in files:
            family = read_family(path)
            families[family.name] = family
            digest.update(path.read_bytes())
    return Library(families, digest.hexdigest())


def read_family(path: Path) -> Family:
    """One family from its file; raises BadImplant naming the field."""
    try:
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            raise BadImplant(f"{len(data)} bytes; a family has at most {MOST_BYTES}", path=path)
        document = json.loads(data)
    except (OSError, ValueError) as error:
        raise BadImplant(f"no implants can be read: {type(error).__name__}; is it JSON?", path=path) from None
    try:
        return _family(_Fields(document, "the file"), path.parent)
    except BadImplant as fault:
        raise BadImplant(fault.message, path=path) from None


def _family(top: _Fields, folder: Path) -> Family:
    if top.take("schema") != SCHEMA:
        raise BadImplant(f"implant schema {top.value['schema']!r}, this version reads {SCHEMA}")
    name, words, what = top.text("family"), top.text("words"), top.text("type")
    source, status = top.text("source"), top.one_of("source_status", get_args(Status))
    made: Family
    if what == "screw":
        sizes = {s.mm("diameter_mm"): s.mm("core_diameter_mm") for s in top.rows("sizes")}
        thick = [d for d, core in sizes.items() if core >= d]
        if thick:
            raise BadImplant(f"the core of the {thick[0]:g} mm screw is as thick as its thread")
        head = top.inner("head")
        seat = ScrewHead(head.mm("diameter_mm"), head.mm("height_mm"), head.mm("most_angle_deg", least=0.0, most=90.0))
        head.done()
        made = ScrewFamily(
            name, top.one_of("kind", KINDS), words, MappingProxyType(dict(sorted(sizes.items()))),
            top.list_mm("lengths_mm"), top.mm("pitch_mm"), seat, source, status,
            top.list_mm("threads_mm") if top.has("threads_mm") else (),
            _beside(folder, top.text("shape")) if top.has("shape") else None,
        )  # fmt: skip
    elif what == "rod":
        materials = tuple(RodMaterial(m.text("name"), m.mm("modulus_gpa", most=1000.0)) for m in top.rows("materials"))
        made = RodFamily(name, words, top.list_mm("diameters_mm"), top.list_mm("lengths_mm"), materials, source, status)
    elif what == "hook":
        hooks = tuple(
            HookSize(s.one_of("use", HOOK_USES), s.mm("throat_mm"), s.mm("blade_width_mm"), s.mm("blade_mm"))
            for s in top.rows("sizes")
        )
        made = HookFamily(name, words, hooks, source, status)
    elif what == "plate":
        plates = tuple(
            PlateSize(
                s.text("use"), s.mm("length_mm"), s.mm("width_mm"), s.mm("thickness_mm"), int(s.mm("holes")),
                s.mm("screw_diameter_mm"),
            )
            for s in top.rows("sizes")
        )  # fmt: skip
        made = PlateFamily(name, words, plates, source, status)
    elif what == "nail":
        nails = tuple(NailSize(s.text("use"), s.mm("diameter_mm")) for s in top.rows("sizes"))
        made = NailFamily(name, words, nails, top.list_mm("lengths_mm"), source, status)
    else:
        raise BadImplant(f"type {what!r}; screw, rod, hook, plate or nail")
    top.done()
    return made


class _Fields:
    """A JSON object that is taken apart field by field; what is left over at the end is refused."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise BadImplant(f"{where} is no JSON object")
        self.value: dict[str, Any] = value
        self._where = where
        self._left = set(value)
        self._rows: list[_Fields] = []

    def has(self, key: str) -> bool:
        return key in self.value

    def take(self, key: str) -> Any:
        if key not in self.value:
            raise BadImplant(f"{self._where} lacks {key!r}")
        self._left.discard(key)
        return self.value[key]

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise BadImplant(f"{key} of {self._where} is {value!r}; words are needed")
        return value

    def one_of(self, key: str, known: tuple[Any, ...]) -> Any:
        value = self.take(key)
        if value not in known:
            raise BadImplant(f"{key} {value!r}; one of {', '.join(known)}")
        return value

    def mm(self, key: str, least: float = 1e-6, most: float = MOST_MM) -> float:
        return self._number(key, self.take(key), least, most)

    def list_mm(self, key: str) -> tuple[float, ...]:
        values = self.take(key)
        if not isinstance(values, list) or not values:
            raise BadImplant(f"{key} of {self._where} must be a list of numbers")
        return tuple(sorted(self._number(key, v, 1e-6, MOST_MM) for v in values))

    def inner(self, key: str) -> _Fields:
        return _Fields(self.take(key), key)

    def rows(self, key: str) -> list[_Fields]:
        values = self.take(key)
        if not isinstance(values, list) or not values:
            raise BadImplant(f"{key} of {self._where} must be a list")
        self._rows += (found := [_Fields(v, f"{key}[{n}]") for n, v in enumerate(values)])
        return found

    def done(self) -> None:
        for row in self._rows:
            row.done()
        if self._left:
            raise BadImplant(f"{self._where} has the unknown field {sorted(self._left)[0]!r}")

    def _number(self, key: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise BadImplant(f"{key} of {self._where} is {value!r}; a number from {least:g} to {most:g} is needed")
        return float(value)


def _beside(folder: Path, name: str) -> Path:
    """A file in the family's own folder; raises BadImplant."""
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BadImplant(f"shape {name!r} is no file beside the family's own")
    return path
