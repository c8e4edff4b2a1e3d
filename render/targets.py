"""The pictures that the painter draws into: many samples a pixel, then one; made once a size."""

from __future__ import annotations

import moderngl


class Target:
    """Colour and depth with `samples` a pixel, the resolved picture and, once asked for, the see-through sums."""

    def __init__(
        self, context: moderngl.Context, width_px: int, height_px: int, samples: int, *, with_depth: bool = False
    ) -> None:
        """Allocate; `with_depth` resolves the depth too."""
        size = (width_px, height_px)
        self._context = context
        self.size = size
        self.samples = samples
        self.resolved_colour = context.texture(size, 4)
        self.resolved_depth = context.depth_texture(size) if with_depth else None
        self.resolved = context.framebuffer([self.resolved_colour], self.resolved_depth)
        self._kept: list[moderngl.Renderbuffer | moderngl.Framebuffer | moderngl.Texture] = [
            self.resolved,
            self.resolved_colour,
        ]
        if self.resolved_depth is not None:
            self._kept.append(self.resolved_depth)
        colour = context.renderbuffer(size, 4, samples=samples)
        self._depth = context.depth_renderbuffer(size, samples=samples)
        self.drawn = context.framebuffer([colour], self._depth)
        self._kept += [self.drawn, colour, self._depth]
        self._sums: tuple[moderngl.Framebuffer, moderngl.Framebuffer, moderngl.Texture, moderngl.Texture] | None = None
        self._openness: tuple[moderngl.Framebuffer, moderngl.Texture] | None = None

    def sums(self) -> tuple[moderngl.Framebuffer, moderngl.Framebuffer, moderngl.Texture, moderngl.Texture]:
        """The see-through sums: drawn (sharing the depth), resolved, and the two resolved textures."""
        if self._sums is None:
            accumulated = self._context.texture(self.size, 4, dtype="f2")
            weighted = self._context.texture(self.size, 1, dtype="f2")
            resolved = self._context.framebuffer([accumulated, weighted])
            colour = self._context.renderbuffer(self.size, 4, samples=self.samples, dtype="f2")
            weight = self._context.renderbuffer(self.size, 1, samples=self.samples, dtype="f2")
            drawn = self._context.framebuffer([colour, weight], self._depth)
            self._kept += [drawn, resolved, colour, weight, accumulated, weighted]
            self._sums = (drawn, resolved, accumulated, weighted)
        return self._sums

    def openness(self) -> tuple[moderngl.Framebuffer, moderngl.Texture]:
        """How open each pixel's surroundings are: what to draw into, and its texture."""
        if self._openness is None:
            texture = self._context.texture(self.size, 1)
            framebuffer = self._context.framebuffer([texture])
            self._kept += [framebuffer, texture]
            self._openness = (framebuffer, texture)
        return self._openness

    def release(self) -> None:
        """Give everything back."""
        for kept in self._kept:
            kept.release()
        self._kept.clear()
        self._sums = self._openness = None
