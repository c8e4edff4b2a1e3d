"""Buffers for what changes from frame to frame: they grow by doubling and are used again."""

from __future__ import annotations

from typing import Any

import moderngl
import numpy as np

from spatial.rigid import Array


class InstanceStream:
    """Quads, one an instance, of float32 columns that a program's inputs name."""

    def __init__(self, context: moderngl.Context, program: moderngl.Program, layout: str, *inputs: str) -> None:
        """`layout` as moderngl has it, e.g. "4f4 4f4/i"; `inputs` in the same order."""
        self._context = context
        self._program = program
        self._layout = layout
        self._inputs = inputs
        self._held: tuple[moderngl.Buffer, moderngl.VertexArray] | None = None

    def draw(self, rows: Array) -> None:
        """Draw one quad a row (N, columns), in order."""
        if not len(rows):
            return
        data: bytes = np.ascontiguousarray(rows, dtype=np.float32).tobytes()
        buffer, array = self._room(len(data))
        buffer.write(data)
        array.render(moderngl.TRIANGLE_STRIP, vertices=4, instances=len(rows))

    def release(self) -> None:
        """Give the buffer back."""
        if self._held is not None:
            buffer, array = self._held
            array.release()
            buffer.release()
        self._held = None

    def _room(self, size: int) -> tuple[moderngl.Buffer, moderngl.VertexArray]:
        if self._held is None or self._held[0].size < size:
            self.release()
            buffer = self._context.buffer(reserve=max(4096, 1 << (size - 1).bit_length()), dynamic=True)
            content: list[tuple[Any, ...]] = [(buffer, self._layout, *self._inputs)]
            self._held = (buffer, self._context.vertex_array(self._program, content))
        return self._held
