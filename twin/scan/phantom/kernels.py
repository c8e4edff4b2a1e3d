"""Reconstruction kernels: what a scanner makes of an edge, and what its noise looks like.

`standard` is the phantom's own. `soft` and `sharp` stand for two scanners: a body kernel with smooth, blotchy noise,
and a bone kernel that overshoots at edges and carries the noise of high frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse


@dataclass(frozen=True)
class Kernel:
    """One reconstruction: names for the header, point spread in plane, and the noise's size and spectrum."""

    name: str
    manufacturer: str
    model: str
    convolution: str
    kvp: int
    fwhm_mm: float
    overshoot: float  # weight of the wider Gaussian that is taken away
    noise_hu: float
    noise_cut_mm: float | None  # noise has power up to about this wavelength; None: the plain noise of `voxels`


STANDARD = Kernel("standard", "Osteotwin", "Digital phantom", "STANDARD", 120, 0.8, 0.0, 20.0, None)
SOFT = Kernel("soft", "Osteotwin scanner A", "Digital phantom A", "Br36 SOFT", 120, 1.2, 0.0, 12.0, 3.6)
SHARP = Kernel("sharp", "Osteotwin scanner B", "Digital phantom B", "BONEPLUS SHARP", 120, 0.62, 0.3, 48.0, 1.35)
KERNELS = {kernel.name: kernel for kernel in (STANDARD, SOFT, SHARP)}
WIDER = 2.2  # the overshoot's Gaussian against the kernel's own


def kernel_named(name: str) -> Kernel:
    """The kernel of that name."""
    if name not in KERNELS:
        raise Misuse(f"no kernel '{name}'; this version has: {', '.join(KERNELS)}")
    return KERNELS[name]


def point_spread(fwhm_mm: float, step_mm: float) -> NDArray[np.float64]:
    """Symmetric weights whose variance is the Gaussian's of this width."""
    s = fwhm_mm / 2.354820045 / step_mm
    if s <= 0.7:  # narrower than samples can show: match the variance with three weights
        return np.array([s * s / 2, 1.0 - s * s, s * s / 2])
    n = int(np.ceil(3.5 * s))
    w = np.exp(-0.5 * (np.arange(-n, n + 1) / s) ** 2)
    return np.asarray(w / w.sum())


def in_plane(kernel: Kernel, pixel_mm: float) -> NDArray[np.float64]:
    """The kernel's weights along a row or a column of pixels."""
    narrow = point_spread(kernel.fwhm_mm, pixel_mm)
    if kernel.overshoot == 0.0:
        return narrow
    wide = point_spread(kernel.fwhm_mm * WIDER, pixel_mm)
    half = max(len(narrow), len(wide)) // 2
    padded = [np.pad(w, half - len(w) // 2) for w in (narrow, wide)]
    return np.asarray((1.0 + kernel.overshoot) * padded[0] - kernel.overshoot * padded[1])


def noise(
    kernel: Kernel, shape: tuple[int, int], pixel_mm: float, noise_hu: float, seed: int, index: int
) -> NDArray[np.float32]:
    """One slice of reconstruction noise: little at low frequencies (the ramp), most near the kernel's cut."""
    if kernel.noise_cut_mm is None:
        raise ValueError("the standard kernel's noise is made with its voxels")
    white = np.random.default_rng([20265, seed, index]).standard_normal(shape)
    rows, columns = np.fft.fftfreq(shape[0], pixel_mm), np.fft.rfftfreq(shape[1], pixel_mm)
    f = np.hypot(rows[:, None], columns[None]) * kernel.noise_cut_mm
    gain = np.sqrt(f + 0.02) * np.exp(-(f**2))
    both = np.fft.fftfreq(shape[1], pixel_mm)
    whole = np.hypot(rows[:, None], both[None]) * kernel.noise_cut_mm
    power = float(np.mean((whole + 0.02) * np.exp(-2.0 * whole**2)))
    found = np.fft.irfft2(np.fft.rfft2(white) * gain, shape) * (noise_hu / np.sqrt(power))
    return np.asarray(found, np.float32)
