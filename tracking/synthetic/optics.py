"""What a camera does to the light: blur, defocus, glare, noise, its curve, its sharpening, its coder.

The order is that of a real camera. Light is linear up to the sensor: uneven light, glare, the lens (a Gaussian and the
disc of a lens out of focus), exposure, noise, saturation. Then come the curve, sharpening, rounding and Motion JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.rigid import Array


class BadSynthetic(Misuse):
    """A synthetic source that can't be made as asked."""


@dataclass(frozen=True)
class Glare:
    """A lamp's reflection: white light added around (u, v) px, falling off as a Gaussian of `radius_px`.

    `strength` 1 saturates the sensor at its middle wherever it falls.
    """

    u_px: float
    v_px: float
    radius_px: float
    strength: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a reflection without a size."""
        numbers = (self.u_px, self.v_px, self.radius_px, self.strength)
        if not np.isfinite(numbers).all() or self.radius_px <= 0 or self.strength < 0:
            raise BadSynthetic(f"glare {numbers}: the radius must be above zero, the strength not below it")


@dataclass(frozen=True)
class Optics:
    """What the picture suffers; lengths in pixels, greys of 255.

    `blur_px`: sd of a Gaussian; `defocus_px`: radius of a disc; `gradient`: light falling off across the picture;
    `gain`: grey of a white surface in the picture's middle, 255 and more saturate. `noise_grey`: the sensor's noise
    (sd), in each channel and before the curve; `shot_grey`: the photons' at white, their variance grows with the light.
    A colour picture's luma has 0.67 times the noise of its channels; a `mono` camera has all of it.
    Curve: grey = 255 x^(1 / gamma), then bent to an S by `tone` (0 to 1) as phones and webcams do. `sharpen`: how much
    of what a Gaussian of `sharpen_px` takes away is added again. `mjpeg`: quality 1 to 100, 0 is not coded at all.
    `exposure_ns`, `readout_ns`: as in Frame; they matter to what moves.
    """

    blur_px: float = 0.7
    noise_grey: float = 2.0
    gradient: float = 0.25
    gain: float = 255.0
    defocus_px: float = 0.0
    gamma: float = 1.0
    tone: float = 0.0
    sharpen: float = 0.0
    sharpen_px: float = 1.0
    mjpeg: int = 0
    exposure_ns: int = 0
    readout_ns: int = 0
    shot_grey: float = 0.0
    glare: Glare | None = None

    def __post_init__(self) -> None:
        """Refuse what no camera does."""
        for name in ("blur_px", "noise_grey", "gain", "defocus_px", "sharpen", "shot_grey", "exposure_ns"):
            if not 0 <= getattr(self, name) < np.inf:
                raise BadSynthetic(f"{name} {getattr(self, name)}: 0 or more is needed")
        if not 0.2 <= self.gamma <= 5 or not 0 <= self.tone <= 1 or not 0 < self.sharpen_px < 20:
            raise BadSynthetic(
                f"gamma {self.gamma}, tone {self.tone}, sharpen_px {self.sharpen_px}: gamma lies between 0.2 and 5, "
                "tone between 0 and 1, sharpen_px between 0 and 20"
            )
        if self.defocus_px > 60 or self.blur_px > 60:
            raise BadSynthetic(f"blur of {max(self.defocus_px, self.blur_px):g} px; up to 60 px can be made")
        if not 0 <= self.mjpeg <= 100 or not np.isfinite(self.gradient):
            raise BadSynthetic(f"mjpeg {self.mjpeg}, gradient {self.gradient}: the quality is 1 to 100 (0: not coded)")

    @property
    def reach_px(self) -> int:
        """How far one point's light spreads, pixels."""
        sharp = 4 * self.sharpen_px if self.sharpen else 0.0
        return int(np.ceil(4 * self.blur_px + self.defocus_px + sharp)) + 2

    def encode(self, light: NDArray[np.float32]) -> NDArray[np.float32]:
        """Greys (0 to 255, not rounded) of linear light, 1 is the brightest that the sensor can tell."""
        x = np.clip(light, 0.0, 1.0)
        if self.gamma != 1:
            x = _keeping(cv2.pow(x, 1 / self.gamma), x)
        if self.tone:
            x = (1 - self.tone) * x + self.tone * x * x * (3 - 2 * x)
        return np.asarray(255 * x, dtype=np.float32)

    def linear_lut(self) -> Array:
        """The truth for a camera whose curve is estimated: linear light (0 to 1) of each of the 256 greys."""
        before = np.linspace(0, 1, 1 << 16)
        after = (1 - self.tone) * before + self.tone * before**2 * (3 - 2 * before)
        return np.asarray(np.interp(np.arange(256) / 255, after, before) ** self.gamma)

    @property
    def fineness(self) -> int:
        """Samples a pixel, across and down, that the blur needs.

        A kernel of whole pixels is a comb: it makes an edge's profile a chain of straight pieces, which a fit takes for
        a shift of hundredths of a pixel along rows and columns.
        """
        sharpest = min(s for s in (self.blur_px, self.defocus_px / 2, 9.0) if s > 0)
        if self.blur_px == self.defocus_px == 0 or sharpest > 3:
            return 1
        return 3 if sharpest < 1.5 else 2

    def illuminate(
        self, reflectance: NDArray[np.float32], left: int, top: int, width_px: int, height_px: int
    ) -> NDArray[np.float32]:
        """A part (h, w, C) of a picture of that size under uneven light and a lamp's glare.

        Both are smooth, so it does not matter that the lens has spread the part's light already.
        """
        rows, columns = reflectance.shape[:2]
        u = np.arange(left, left + columns, dtype=np.float32)
        v = np.arange(top, top + rows, dtype=np.float32)[:, None]
        across, down = u / max(width_px - 1, 1) - 0.5, v / max(height_px - 1, 1) - 0.5
        light = reflectance * ((1.0 + self.gradient * (0.8 * across + 0.6 * down)) * (self.gain / 255.0))[..., None]
        if self.glare is not None:
            square = ((u - self.glare.u_px) ** 2 + (v - self.glare.v_px) ** 2) / (2 * self.glare.radius_px**2)
            light += (self.glare.strength * np.exp(-square))[..., None]
        return np.asarray(light, dtype=np.float32)

    def spread(self, light: NDArray[np.float32], fine: int = 1) -> NDArray[np.float32]:
        """What the lens makes of light with `fine` samples a pixel: the Gaussian and the disc; one sample a pixel."""
        if self.blur_px > 0:
            sd = self.blur_px * fine
            light = _keeping(cv2.GaussianBlur(light, (0, 0), sd, borderType=cv2.BORDER_REPLICATE), light)
        if self.defocus_px > 0:
            kernel = disc(self.defocus_px * fine)
            light = _keeping(cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REPLICATE), light)
        if fine == 1:
            return light
        size = light.shape[1] // fine, light.shape[0] // fine
        coarse = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        return np.asarray(coarse, dtype=np.float32).reshape(size[1], size[0], light.shape[2])

    def develop(self, light: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The picture of light on the sensor; `noise` is standard normal, of the same shape."""
        if self.shot_grey > 0:
            variance = self.noise_grey**2 + self.shot_grey**2 * np.clip(light, 0, 1)
            light = light + np.sqrt(variance, dtype=np.float32) * noise / 255.0
        elif self.noise_grey > 0:
            light = light + np.float32(self.noise_grey / 255.0) * noise
        grey = self.encode(light)
        if self.sharpen > 0:
            soft = _keeping(cv2.GaussianBlur(grey, (0, 0), self.sharpen_px, borderType=cv2.BORDER_REPLICATE), grey)
            grey = grey + self.sharpen * (grey - soft)
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)

    def compress(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture (h, w) or (h, w, 3) after Motion JPEG, colours at half resolution as webcams send them."""
        if not self.mjpeg:
            return picture
        shown = picture[..., ::-1] if picture.ndim == 3 else picture
        done, coded = cv2.imencode(".jpg", np.ascontiguousarray(shown), [cv2.IMWRITE_JPEG_QUALITY, self.mjpeg])
        back = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED) if done else None
        if back is None:
            raise BadSynthetic(f"a picture of {picture.shape[1]} x {picture.shape[0]} px can't be coded as JPEG")
        return np.ascontiguousarray(back[..., ::-1] if picture.ndim == 3 else back)


def _keeping(filtered: NDArray[np.float32], like: NDArray[np.float32]) -> NDArray[np.float32]:
    """OpenCV drops a single channel's axis: give it back."""
    return np.asarray(filtered, dtype=np.float32).reshape(like.shape)


@lru_cache(maxsize=8)
def disc(radius_px: float) -> NDArray[np.float32]:
    """A lens out of focus: the share of a disc in each pixel around its centre, by 32 x 32 points a pixel."""
    n = int(np.ceil(radius_px + 0.5))
    fine = (np.arange((2 * n + 1) * 32) + 0.5) / 32 - (n + 0.5)
    inside = fine[None, :] ** 2 + fine[:, None] ** 2 <= radius_px**2
    share = inside.reshape(2 * n + 1, 32, 2 * n + 1, 32).mean(axis=(1, 3))
    return np.asarray(share / share.sum(), dtype=np.float32)
