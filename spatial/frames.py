"""The frames of the house, as phantom types: they exist for mypy, and are never instantiated.

`Rigid[Camera, Patient]` maps patient coordinates to camera coordinates, so adjacent names cancel in a chain:
`camera_from_patient = camera_from_reference @ reference_from_patient`. docs/FRAMES.md draws every axis.
A type names a *kind* of frame; which bone or which body an instance means is named where it is kept.
"""

from typing import TypeVar


class Frame:
    """A right-handed Cartesian frame, millimetres."""


class Voxel(Frame):
    """Indices of a volume, order (i, j, k): column, row, slice; the centre of the first voxel is the origin."""


class Patient(Frame):
    """DICOM LPS: +x to the patient's left, +y posterior, +z cranial (PS3.3 C.7.6.2.1.1)."""


class Series(Frame):
    """The LPS coordinates of another scan of the same patient (MR, a follow-up), not yet registered to the twin."""


class Bone(Frame):
    """A bone's anatomical axes: x right, y anterior, z cranial; origin at the body's centroid."""


class Planned(Frame):
    """Where a fragment stands after the planned reduction; axes as Patient."""


class Reference(Frame):
    """The marker body fixed to the patient; its geometry file gives origin and axes."""


class Instrument(Frame):
    """A tracked tool's marker body; the tip is a point in it."""


class Marker(Frame):
    """One square marker: x right, y up, z out of the print toward the viewer, origin at the centre."""


class Camera(Frame):
    """OpenCV's camera: x right, y down, z forward; origin at the centre of projection."""


class Stage(Frame):
    """The room of the rehearsal (OpenXR STAGE): x right, y up, z backward; millimetres, floor at y = 0."""


class Eye(Frame):
    """One eye or a virtual camera as OpenGL has it: x right, y up, z backward."""


A = TypeVar("A", bound=Frame)
B = TypeVar("B", bound=Frame)
C = TypeVar("C", bound=Frame)
