"""Bone numbers and names as TotalSegmentator v2 ("total") has them, and some of our own: L6 = 201, T13 = 202, its
ribs 203 and 204, and from 211 the leg below the femur (TotalSegmentator numbers these in another table, without sides).

VerSe's L6 (25) is TotalSegmentator's sacrum: never mix the two tables.
Source: wasserth/TotalSegmentator, totalsegmentator/map_to_binary.py, class_map["total"].
"""

from __future__ import annotations

import re
from types import MappingProxyType


def _vertebrae() -> dict[int, str]:
    levels = ["S1"]
    levels += [f"L{n}" for n in range(5, 0, -1)] + [f"T{n}" for n in range(12, 0, -1)]
    levels += [f"C{n}" for n in range(7, 0, -1)]
    return {26 + i: f"vertebrae_{level}" for i, level in enumerate(levels)}


def _paired(first: int, *names: str) -> dict[int, str]:
    sides = [f"{name}_{side}" for name in names for side in ("left", "right")]
    return {first + i: name for i, name in enumerate(sides)}


def _listed(first: int, names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), first))


BONES: MappingProxyType[int, str] = MappingProxyType(
    {
        25: "sacrum",
        **_vertebrae(),
        **_paired(69, "humerus", "scapula", "clavicula", "femur", "hip"),
        91: "skull",
        **{91 + n: f"rib_left_{n}" for n in range(1, 13)},
        **{103 + n: f"rib_right_{n}" for n in range(1, 13)},
        116: "sternum",
        201: "vertebrae_L6",
        202: "vertebrae_T13",
        203: "rib_left_13",
        204: "rib_right_13",
        **_paired(211, "tibia", "fibula", "patella"),
    }
)
"""Number -> bone name. `vertebrae_S1` (26) is read, and joined to `sacrum`: S1 screws belong to the sacrum."""

NUMBERS: MappingProxyType[str, int] = MappingProxyType({name: number for number, name in BONES.items()})
"""Bone name -> number."""

OTHERS: MappingProxyType[int, str] = MappingProxyType(
    {
        **_listed(
            1,
            "spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right "
            "adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right "
            "lung_middle_lobe_right lung_lower_lobe_right esophagus trachea thyroid_gland small_bowel duodenum "
            "colon urinary_bladder prostate kidney_cyst_left kidney_cyst_right",
        ),
        **_listed(
            51,
            "heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left "
            "common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left "
            "brachiocephalic_vein_right atrial_appendage_left superior_vena_cava inferior_vena_cava "
            "portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right",
        ),
        79: "spinal_cord",
        **_paired(80, "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
        90: "brain",
        117: "costal_cartilages",
    }
)
"""Numbers of v2 that are no bone: organs, vessels, muscles, cartilage."""

OWN_FIRST = 220
"""First number for bones that neither table knows (a mesh called `DeciPelvis`); below 256, so uint8 holds them."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


def is_safe(name: str) -> bool:
    """Whether a bone or plan name may become a file name on every system: no separators, no leading dot."""
    return _SAFE.fullmatch(name) is not None and ".." not in name and not name.endswith(".")


def numbered(names: list[str]) -> dict[str, int]:
    """A number a bone: v2's where there is one, else from `OWN_FIRST` upward in the order given."""
    own = iter(range(OWN_FIRST, 1 << 16))
    return {name: NUMBERS[name] if name in NUMBERS else next(own) for name in names}
