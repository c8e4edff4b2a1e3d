"""What the coded terms of DICOM and 3D Slicer call a bone or a structure: SNOMED CT, and the older SNOMED-RT.

Source: DICOM PS3.16 CID 7151 and neighbours, as wasserth/TotalSegmentator (totalsegmentator_snomed_mapping.csv) uses
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.sr.coding import Code

SIDE_CODES = {"7771000": "left", "24028007": "right"}

_LEVELS = {
    "C1": "14806007", "C2": "39976000", "C3": "113205007", "C4": "5329002", "C5": "36978003", "C6": "36054005",
    "C7": "87391001", "T1": "64864005", "T2": "53733008", "T3": "1626008", "T4": "73071006", "T5": "56401006",
    "T6": "45296009", "T7": "62487009", "T8": "11068009", "T9": "82687006", "T10": "7610001", "T11": "12989004",
    "T12": "23215003", "L1": "66794005", "L2": "14293000", "L3": "36470004", "L4": "11994002", "L5": "49668003",
    "S1": "65985001",
}  # fmt: skip
_RIBS = (
    "48535007", "78247007", "25888004", "25523003", "15339008", "59558009", "24915002", "5953002", "22565002",
    "77644006", "58830002", "43993008",
)  # fmt: skip
_SINGLE = {
    "54735007": "sacrum", "64688005": "coccyx", "89546000": "skull", "56873002": "sternum", "2748008": "spinal_cord",
    "15825003": "aorta", "64131007": "inferior_vena_cava", "48345005": "superior_vena_cava",
    "10200004": "liver", "80891009": "heart", "32849002": "esophagus",
}  # fmt: skip
_PAIRED = {
    "29836001": "hip", "71341001": "femur", "85050009": "humerus", "79601000": "scapula", "51299004": "clavicula",
    "64234005": "patella", "12611008": "tibia", "87342007": "fibula", "23416004": "ulna", "62413002": "radius",
    "73634005": "iliac_artery", "46027005": "iliac_vena", "64033007": "kidney",
}  # fmt: skip

BY_CODE = {**{code: f"vertebrae_{level}" for level, code in _LEVELS.items()}, **_SINGLE}
SIDED = {
    **{code: f"rib_{{side}}_{n}" for n, code in enumerate(_RIBS, 1)},
    **{code: f"{name}_{{side}}" for code, name in _PAIRED.items()},
}
KNOWN = (*BY_CODE, *SIDED, *SIDE_CODES)


@dataclass(frozen=True)
class Term:
    """A coded term: scheme (SCT, SRT), value, meaning."""

    scheme: str
    value: str
    meaning: str

    @property
    def sct(self) -> str:
        """The SNOMED CT value, also of a SNOMED-RT term; empty for other schemes."""
        if self.scheme == "SCT" or self.value.isdigit():
            return self.value if self.scheme in ("SCT", "SNM3", "SRT") else ""
        old = Code(self.value, self.scheme, self.meaning)  # pydicom knows what became of the SNOMED-RT values
        return next((known for known in KNOWN if old == Code(known, "SCT", "")), "")


def named(kind: Term, modifiers: Sequence[Term] = ()) -> str | None:
    """The name of what a term and its modifiers mean; None when this table does not have it or the side is missing."""
    code = kind.sct
    if code in BY_CODE:
        return BY_CODE[code]
    side = next((SIDE_CODES[m.sct] for m in modifiers if m.sct in SIDE_CODES), None)
    return SIDED[code].format(side=side) if code in SIDED and side else None
