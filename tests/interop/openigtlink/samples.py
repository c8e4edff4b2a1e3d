"""Messages of every type, for hypothesis; their numbers are ones that single precision holds exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from interop.openigtlink.image import SCALARS, Image
from interop.openigtlink.message import Message
from interop.openigtlink.poses import (
    Position,
    QuaternionTool,
    QuaternionTrackingData,
    Tool,
    TrackingData,
    Transform,
)  # fmt: skip
from interop.openigtlink.shapes import Attribute, Cells, PolyData, Trajectories, Trajectory
from interop.openigtlink.words import Capability, Request, Status, String

FLOATS = st.floats(-1e6, 1e6, width=32)
MATRICES = hnp.arrays(np.float64, (3, 4), elements=FLOATS)
POINTS = hnp.arrays(np.float64, (3,), elements=FLOATS)
QUATERNIONS = hnp.arrays(np.float64, (4,), elements=FLOATS)
ASCII_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NAMES = ASCII_NAMES | st.sampled_from(["Ärztin", "針", "reference"])
TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=60).map(str.strip)
KINDS = st.integers(1, 4)


@st.composite
def polydata(draw: Any) -> PolyData:
    """Triangles, a cell of another size, attributes."""
    n = draw(st.integers(3, 12))
    points = draw(hnp.arrays(np.float32, (n, 3), elements=FLOATS))
    index = st.integers(0, n - 1)
    triangles = draw(st.lists(st.tuples(index, index, index), max_size=6))
    mixed = draw(st.lists(st.lists(index, min_size=1, max_size=5), max_size=4))
    lines = Cells(np.array([x for cell in mixed for x in (len(cell), *cell)], np.uint32), len(mixed))
    kinds = draw(st.lists(st.sampled_from([(0, 1), (1, 3), (4, 4), (0x12, 3)]), max_size=3))
    attributes = tuple(
        Attribute(draw(ASCII_NAMES), kind, draw(hnp.arrays(np.float32, (n, k), elements=FLOATS))) for kind, k in kinds
    )
    surface = Cells.of(np.array(triangles).reshape(-1, 3))
    return PolyData(points, surface, Cells.none(), lines, Cells.none(), attributes)


@st.composite
def images(draw: Any) -> Image:
    """Whole ones and blocks, one or several components, every scalar, both byte orders."""
    block = draw(st.tuples(*[st.integers(1, 5)] * 3))
    components = draw(st.sampled_from([(), (2,), (3,)]))
    name = draw(st.sampled_from([f"{o}{s}" for s in SCALARS.values() for o in ("<>" if s[1] != "1" else "<")]))
    raw = draw(st.binary(min_size=1, max_size=16))
    voxels = np.resize(np.frombuffer(raw, np.uint8), (*block, *components)).astype(name)
    offset = draw(st.tuples(*[st.integers(0, 3)] * 3))
    size = tuple(o + b + draw(st.integers(0, 2)) for o, b in zip(offset, block[::-1], strict=True))
    steps = draw(hnp.arrays(np.float64, (3, 3), elements=FLOATS))
    return Image(voxels, steps, draw(POINTS), draw(st.sampled_from(["RAS", "LPS"])), size, offset)


TRAJECTORIES = st.builds(
    Trajectory, NAMES, POINTS, st.none() | POINTS, FLOATS, NAMES, NAMES, st.tuples(*[st.integers(0, 255)] * 4)
)
CONTENTS = st.one_of(
    st.builds(Transform, MATRICES),
    st.builds(TrackingData, st.lists(st.builds(Tool, NAMES, MATRICES, KINDS), max_size=4).map(tuple)),
    st.builds(
        QuaternionTrackingData,
        st.lists(st.builds(QuaternionTool, NAMES, POINTS, QUATERNIONS, KINDS), max_size=4).map(tuple),
    ),
    st.builds(Position, POINTS, st.none() | POINTS | QUATERNIONS),
    st.builds(Status, st.integers(0, 19), TEXTS, ASCII_NAMES, st.integers(-(2**63), 2**63 - 1)),
    st.builds(String, TEXTS),
    st.builds(Capability, st.lists(st.sampled_from(["TRANSFORM", "IMAGE", "STT_QTDATA"]), max_size=5).map(tuple)),
    st.builds(Trajectories, st.lists(TRAJECTORIES, max_size=3).map(tuple)),
    polydata(),
    images(),
    st.builds(Request, st.just("STT"), st.sampled_from(["TDATA", "QTDATA"]), st.integers(0, 10_000), ASCII_NAMES),
    st.builds(Request, st.sampled_from(["GET", "STP"]), st.sampled_from(["TRAJ", "POLYDATA", "QTDATA"])),
    st.just(Request("GET", "CAPABILITY")),
    st.builds(Request, st.just("RTS"), st.just("TDATA"), accepted=st.booleans()),
)
MESSAGES = st.builds(
    Message,
    NAMES,
    CONTENTS,
    st.none() | st.integers(1, 4 * 10**18),
    st.dictionaries(ASCII_NAMES, TEXTS, max_size=3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2]),
)
