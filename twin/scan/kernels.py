"""What a reconstruction kernel does to edges, by the vendors' names for it.

Siemens counts sharpness (B30, Br64; `l` is lung), GE has words, Philips letters, Canon and Toshiba numbers by family.
Bone kernels (B60 to B70, BONE, BONEPLUS, YB, YC, D, FC30) are neither: they are what bone is read with.
"""

from __future__ import annotations

import re

SMOOTH, SHARP = "smooth", "sharp"
_SIEMENS = re.compile(r"^[A-Z]([A-Z]?)(\d{2})")
_WORDS = {
    "SOFT": SMOOTH, "SMOOTH": SMOOTH, "VERY SMOOTH": SMOOTH, "A": SMOOTH, "UA": SMOOTH, "YA": SMOOTH,
    "LUNG": SHARP, "EDGE": SHARP, "ULTRA": SHARP, "ULTRA HIGH": SHARP, "L": SHARP, "E": SHARP, "YD": SHARP,
    "YE": SHARP,
}  # fmt: skip
SMOOTHEST_SIEMENS, SHARPEST_SIEMENS = 25, 75


def edge_character(kernel: str) -> str:
    """SMOOTH (edges blurred), SHARP (edges overshoot, much noise: lung), or "" for all others and unknown ones."""
    name = kernel.strip().upper().split("\\")[0].strip()
    if name in _WORDS:
        return _WORDS[name]
    if re.match(r"^FC[58]\d", name):
        return SHARP
    if re.match(r"^(FC01|FC11|FC41)$", name):
        return SMOOTH
    siemens = _SIEMENS.match(name)
    if siemens and not name.startswith("FC"):
        strength = int(siemens.group(2))
        if siemens.group(1) == "L" or strength >= SHARPEST_SIEMENS:
            return SHARP
        if strength <= SMOOTHEST_SIEMENS:
            return SMOOTH
    return ""
