"""IMAGE on the wire: voxels with the place that they fill, whole or a block of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from interop.openigtlink.fields import BadContent, Bytes, Part, floats, frozen, packed_floats
from spatial.rigid import Array

Coordinates = Literal["RAS", "LPS"]
SCALARS = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
BIG, LITTLE = 1, 2
_HEAD = struct.Struct(">HBBBB3H")
_BLOCK = struct.Struct(">6H")
HEAD_BYTES = _HEAD.size + 48 + _BLOCK.size


@dataclass(frozen=True, eq=False)
class Image:
    """IMAGE: `voxels` (k, j, i) or (k, j, i, components), or a block of them.

    `steps_mm` (3, 3): column n leads from a voxel to the next along i, j, k. `centre_mm` (3,): the middle of the whole
    image (the protocol places images by their middle, not their first voxel). `size` (i, j, k) of the whole, and
    `offset` of the block that is sent; None and zeros where all of it is.
    """

    TYPE: ClassVar[str] = "IMAGE"
    voxels: NDArray[Any]
    steps_mm: Array
    centre_mm: Array
    coordinates: Coordinates = "RAS"
    size: tuple[int, int, int] | None = None
    offset: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        """Check the geometry and freeze it; the voxels are not copied. Raises BadContent."""
        object.__setattr__(self, "steps_mm", frozen(self.steps_mm, (3, 3), "an image's steps"))
        object.__setattr__(self, "centre_mm", frozen(self.centre_mm, (3,), "an image's centre"))
        if self.voxels.ndim not in (3, 4) or self.voxels.dtype.str[1:] not in SCALARS.values():
            raise BadContent(
                f"voxels of shape {self.voxels.shape} and type {self.voxels.dtype}; (k, j, i) or (k, j, i, components) "
                f"of {', '.join(SCALARS.values())} is needed"
            )
        block = self.voxels.shape[2::-1]
        whole = block if self.size is None else self.size
        object.__setattr__(self, "size", tuple(whole))
        if any(not 0 < n <= 0xFFFF for n in whole):
            raise BadContent(f"an image of {whole} voxels; 1 to 65,535 a side")
        if any(o < 0 or o + b > w for o, b, w in zip(self.offset, block, whole, strict=True)):
            raise BadContent(f"a block of {block} at {self.offset} does not lie in an image of {whole}")

    @property
    def is_whole(self) -> bool:
        """Whether all voxels are here, not a block."""
        return self.voxels.shape[2::-1] == self.size

    @property
    def origin_mm(self) -> Array:
        """The middle (3,) of voxel (0, 0, 0) of the whole image."""
        assert self.size is not None
        return np.asarray(self.centre_mm - self.steps_mm @ ((np.array(self.size) - 1) / 2))

    @classmethod
    def placed(cls, voxels: NDArray[Any], steps_mm: Array, origin_mm: Array, coordinates: Coordinates = "RAS") -> Image:
        """An image placed by the middle of its first voxel."""
        middle = (np.array(voxels.shape[2::-1]) - 1) / 2
        return cls(voxels, steps_mm, np.asarray(origin_mm) + np.asarray(steps_mm) @ middle, coordinates)

    def pack(self) -> list[Part]:
        """The body; the voxels are not copied where they lie in order."""
        voxels = np.ascontiguousarray(self.voxels)
        components = voxels.shape[3] if voxels.ndim == 4 else 1
        scalar = next(number for number, name in SCALARS.items() if name == voxels.dtype.str[1:])
        big = voxels.dtype.str[0] == ">"
        assert self.size is not None
        head = _HEAD.pack(
            1, components, scalar, BIG if big else LITTLE, 1 if self.coordinates == "RAS" else 2, *self.size
        )
        geometry = packed_floats(np.concatenate([self.steps_mm.T.ravel(), self.centre_mm]))
        block = _BLOCK.pack(*self.offset, *voxels.shape[2::-1])
        return [head + geometry + block, voxels.reshape(-1).view(np.uint8).data]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body; the voxels are a view into it. Raises BadContent."""
        if len(body) < HEAD_BYTES:
            raise BadContent(f"IMAGE of {len(body)} bytes; its head alone has {HEAD_BYTES}")
        version, components, scalar, endian, axes, *size = _HEAD.unpack_from(body)
        if version not in (1, 2) or scalar not in SCALARS or endian not in (BIG, LITTLE) or axes not in (1, 2):
            raise BadContent(f"IMAGE version {version}, scalar {scalar}, byte order {endian}, axes {axes}: unknown")
        geometry = floats(body, 12, _HEAD.size)
        block = _BLOCK.unpack_from(body, HEAD_BYTES - _BLOCK.size)
        dtype = np.dtype((">" if endian == BIG else "<") + SCALARS[scalar])
        ni, nj, nk = block[3:]
        wanted = HEAD_BYTES + ni * nj * nk * max(components, 1) * dtype.itemsize
        if wanted != len(body) or not components:
            raise BadContent(
                f"IMAGE of {ni} x {nj} x {nk} x {components} {dtype} needs {wanted} bytes, has {len(body)}"
            )
        shape = (nk, nj, ni) if components == 1 else (nk, nj, ni, components)
        voxels = np.frombuffer(body, dtype, offset=HEAD_BYTES).reshape(shape)
        return cls(
            voxels,
            geometry[:9].reshape(3, 3).T,
            geometry[9:],
            "RAS" if axes == 1 else "LPS",
            (size[0], size[1], size[2]),
            (block[0], block[1], block[2]),
        )
