"""The shader files: read, their includes put in, compiled."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import moderngl

_FOLDER = Path(__file__).parent / "shaders"
_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of shaders/`name`, includes resolved."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda m: source(m.group(1)), text)


def program(context: moderngl.Context, vertex: str, fragment: str) -> moderngl.Program:
    """The program of two stages, named without `.vert.glsl` and `.frag.glsl`. The caller releases it."""
    return context.program(vertex_shader=source(f"{vertex}.vert.glsl"), fragment_shader=source(f"{fragment}.frag.glsl"))
