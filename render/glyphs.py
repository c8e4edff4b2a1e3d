"""Letters as a distance field (Green, SIGGRAPH 2007), so that one drawing of a glyph serves every size, with outlines.

Glyphs are drawn when they are first asked for. Layout is in units of the font's size (em = 1), y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from render.scene import Anchor
from spatial.faults import Fault
from spatial.rigid import Array

FONTS = Path(__file__).parent.parent / "assets" / "fonts"
LABEL_FONT = FONTS / "Inter-SemiBold.otf"

EM_PX = 56  # a glyph's size in the atlas
SPREAD_PX = 9  # how far the distance field reaches on both sides of the outline
_FINER = 4  # the outline is found on a grid this many times as fine
LINE_HEIGHT = 1.25
CAP_HEIGHT = 0.727  # Inter's


class NoFont(Fault):
    """The font that ships with the program is not there."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """Where one letter stands in the atlas (px) and against its pen position (em)."""

    atlas_px: tuple[int, int, int, int]
    box_em: tuple[float, float, float, float]
    advance_em: float


class GlyphAtlas:
    """The drawn letters: one grey picture, filled shelf by shelf, and where each letter stands in it."""

    def __init__(self, font: Path = LABEL_FONT, side_px: int = 1024) -> None:
        """Open the font; raises NoFont."""
        try:
            self._font = ImageFont.truetype(str(font), EM_PX * _FINER)
        except OSError as error:
            raise NoFont(f"the label font can't be read: {error}; is the installation complete?", path=font) from None
        self.side_px = side_px
        self.field: NDArray[np.uint8] = np.zeros((side_px, side_px), dtype=np.uint8)
        self.changes = 0  # counts new glyphs, so a copy of `field` knows when it is old
        self._glyphs: dict[str, Glyph] = {}
        self._pen_px = (0, 0)
        self._shelf_px = 0

    def glyph(self, letter: str) -> Glyph:
        """The letter's place, drawn now if it is new; a full atlas starts over."""
        if letter not in self._glyphs:
            self._glyphs[letter] = self._draw(letter)
            self.changes += 1
        return self._glyphs[letter]

    def layout(self, text: str, anchor: Anchor) -> tuple[Array, Array, Array]:
        """Boxes (N, 4) em and atlas boxes (N, 4) 0..1 of the visible letters, and the extent (4,) em of the words.

        The origin is the anchor point; the extent runs from the first line's capitals to the last line's baseline.
        """
        letters = dict.fromkeys(text.replace("\n", ""))
        for letter in [*letters, *letters]:  # again: the atlas may have started over in the middle of the words
            self.glyph(letter)
        boxes, atlas = [], []
        lines = text.split("\n")
        widths = [sum(self.glyph(c).advance_em for c in line) for line in lines]
        width = max(widths, default=0.0)
        top, bottom = -CAP_HEIGHT, LINE_HEIGHT * (len(lines) - 1)
        share = 0.0 if "left" in anchor else 1.0 if "right" in anchor else 0.5
        dy = -top if "top" in anchor else -bottom if "bottom" in anchor else -(top + bottom) / 2
        for row, line in enumerate(lines):
            x, y = -share * widths[row], dy + row * LINE_HEIGHT
            for letter in line:
                g = self.glyph(letter)
                if g.atlas_px[2] > g.atlas_px[0]:
                    boxes.append((x + g.box_em[0], y + g.box_em[1], x + g.box_em[2], y + g.box_em[3]))
                    atlas.append(g.atlas_px)
                x += g.advance_em
        extent = np.array([-share * width, dy + top, (1.0 - share) * width, dy + bottom])
        return (
            np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            np.asarray(atlas, dtype=np.float64).reshape(-1, 4) / self.side_px,
            extent,
        )

    def _draw(self, letter: str) -> Glyph:
        advance_em = float(self._font.getlength(letter)) / (EM_PX * _FINER)
        left, top, right, bottom = (int(v) for v in self._font.getbbox(letter, anchor="ls"))
        if right <= left or bottom <= top:
            return Glyph((0, 0, 0, 0), (0.0, 0.0, 0.0, 0.0), advance_em)
        margin = SPREAD_PX * _FINER
        x0, y0 = left - margin, top - margin
        w_px = -(-(right - left + 2 * margin) // _FINER)
        h_px = -(-(bottom - top + 2 * margin) // _FINER)
        image = Image.new("L", (w_px * _FINER, h_px * _FINER))
        ImageDraw.Draw(image).text((-x0, -y0), letter, fill=255, font=self._font, anchor="ls")
        ink = np.asarray(image) > 127
        signed = ndimage.distance_transform_edt(ink) - ndimage.distance_transform_edt(~ink)
        signed = signed.reshape(h_px, _FINER, w_px, _FINER).mean(axis=(1, 3)) / _FINER
        field = np.clip(127.5 + 127.5 * signed / SPREAD_PX, 0, 255).round().astype(np.uint8)
        x, y = self._room(w_px, h_px)
        self.field[y : y + h_px, x : x + w_px] = field
        em = EM_PX * _FINER
        box = (x0 / em, y0 / em, (x0 + w_px * _FINER) / em, (y0 + h_px * _FINER) / em)
        return Glyph((x, y, x + w_px, y + h_px), box, advance_em)

    def _room(self, w_px: int, h_px: int) -> tuple[int, int]:
        x, y = self._pen_px
        if x + w_px > self.side_px:
            x, y = 0, y + self._shelf_px
            self._shelf_px = 0
        if y + h_px > self.side_px:  # over a hundred different letters: forget the old ones
            self._glyphs.clear()
            self.field[:] = 0
            x, y, self._shelf_px = 0, 0, 0
        self._pen_px = (x + w_px + 1, y)
        self._shelf_px = max(self._shelf_px, h_px + 1)
        return x, y
