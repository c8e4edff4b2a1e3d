"""What one DICOM file says about itself: identity, geometry, grey values; read before any voxel is touched.

Numbers are read defensively: a value that cannot be parsed becomes a fault of that file, never of the whole folder.
A patient's identity is kept only as a digest, to tell two patients apart.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.elements import Elements, raw_value, read_elements
from twin.scan.pixel_data import Pixels, read_pixels
from twin.scan.refusals import BadGeometry, BrokenFile
from twin.scan.values import Values

CT_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
MOST_FRAMES = 20_000
ABOUT = (
    ("kernel", "ConvolutionKernel"),
    ("kvp", "KVP"),
    ("contrast", "ContrastBolusAgent"),
    ("manufacturer", "Manufacturer"),
    ("patient_position", "PatientPosition"),
    ("laterality", "Laterality"),
    ("image_laterality", "ImageLaterality"),
    ("patient_orientation", "PatientOrientation"),
    ("image_orientation", "ImageOrientationPatient"),
)
STARTS = (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00", b"\x02\x00\x00\x00")


@dataclass(frozen=True, eq=False)
class Header:
    """One slice (or one frame of a multi-frame file): who it belongs to, where it lies, how its greys become HU.

    `position_mm` (3,), `orientation` (2, 3) rows are the directions of increasing column and row index (C.7.6.2.1.1),
    `spacing_mm` (row distance, column distance); None where the file does not say. `stack` tells phases and stacks of
    one series apart (acquisition number, or stack and temporal position). `faults` are this file's own.
    """

    path: Path
    frame: int
    series_uid: str
    study_uid: str
    patient: str
    frame_of_reference: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    description: str
    series_number: str
    study_date: str
    lossy: str
    is_phantom: bool
    stack: str
    instance_number: int | None
    position_mm: Array | None
    orientation: Array | None
    spacing_mm: Array | None
    thickness_mm: float | None
    tilt_deg: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    related_instances: int | None
    pixels: Pixels | None
    about: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...] = ()

    @property
    def is_localizer(self) -> bool:
        """A scout view (ImageType value 3)."""
        return "LOCALIZER" in self.image_type


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM: the DICM mark, or a data set of group 0002 or 0008 without preamble."""
    with path.open("rb") as file:
        return begins_as_dicom(file.read(132))


def begins_as_dicom(start: bytes) -> bool:
    """The same of a file's first 132 bytes."""
    return start[128:132] == b"DICM" or start[:4] in STARTS


def read_headers(path: Path) -> tuple[Header, ...]:
    """The slices in one DICOM file; none when it holds no image (a report, a structure set, a directory).

    Raises BrokenFile when the file cannot be parsed or ends before its pixel data.
    """
    with path.open("rb") as file:
        return headers_of(file, path)


def headers_of(file: IO[bytes], path: Path) -> tuple[Header, ...]:
    """The same for a file that is open."""
    try:
        return _headers(read_elements(file, path), path)
    except Fault:
        raise
    except OSError as error:
        raise BrokenFile(f"cannot be read ({error.strerror})", path=path) from None
    except Exception as error:
        # a hostile or torn file may fail anywhere inside the parser, RecursionError included
        reason = type(error).__name__ if not str(error) else str(error).splitlines()[0][:120]
        raise BrokenFile(f"cannot be parsed as DICOM ({reason}); is the copy damaged?", path=path) from None


def _headers(found: Elements, path: Path) -> tuple[Header, ...]:
    faults: list[Fault] = []
    charset = found.values.get("SpecificCharacterSet", ("", b""))[1].decode("latin-1").strip("\0 ")
    values = Values(found.values, found.order, path, faults, charset)
    sop_class, modality = values.text("SOPClassUID") or found.meta_class, values.text("Modality")
    expects_pixels = sop_class in CT_CLASSES or (modality == "CT" and "Rows" in values)
    if "Rows" not in values or "Columns" not in values:
        if expects_pixels or (not modality and not sop_class):
            raise BrokenFile(
                f"ends after {found.size} bytes, before the image is described; is the copy complete?", path=path
            )
        return ()
    pixels = read_pixels(values, found, path, expected=expects_pixels)
    identity = b"\0".join(
        found.values.get(tag, ("", b""))[1].strip(b"\0 ") for tag in ("PatientID", "PatientName", "PatientBirthDate")
    )
    is_lossy = values.text("LossyImageCompression") == "01"
    shared: dict[str, Any] = {
        "path": path,
        "series_uid": values.text("SeriesInstanceUID"),
        "study_uid": values.text("StudyInstanceUID"),
        "patient": hashlib.sha256(identity).hexdigest(),
        "frame_of_reference": values.text("FrameOfReferenceUID"),
        "modality": modality,
        "sop_class": sop_class,
        "description": values.text("SeriesDescription"),
        "series_number": values.text("SeriesNumber"),
        "study_date": values.text("StudyDate") or values.text("AcquisitionDate"),
        "lossy": (values.text("LossyImageCompressionRatio") or "ratio unknown") if is_lossy else "",
        "is_phantom": values.text("QualityControlImage") == "YES",
        "related_instances": values.whole("NumberOfSeriesRelatedInstances"),
        "pixels": pixels,
        "about": tuple((key, text) for key, tag in ABOUT if (text := values.text(tag))),
        "tilt_deg": values.one("GantryDetectorTilt"),
    }
    if found.groups is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are judged, with the file's name
            return _frames(found, values, shared)
    if pixels is not None and pixels.frames > 1:
        raise BadGeometry(f"{pixels.frames} frames without functional groups: their positions are unknown", path=path)
    header = Header(
        frame=0,
        stack=values.text("AcquisitionNumber"),
        image_type=values.words("ImageType"),
        instance_number=values.whole("InstanceNumber"),
        position_mm=values.several("ImagePositionPatient", 3),
        orientation=_orientation(values.several("ImageOrientationPatient", 6)),
        spacing_mm=values.several("PixelSpacing", 2),
        thickness_mm=values.one("SliceThickness"),
        slope=values.one("RescaleSlope"),
        intercept=values.one("RescaleIntercept"),
        rescale_type=values.text("RescaleType"),
        faults=tuple(faults),
        **shared,
    )
    return (header,)


def _frames(found: Elements, whole: Values, shared: dict[str, Any]) -> tuple[Header, ...]:
    """The frames of an Enhanced CT: a value stands in the frame's own group or in the shared one (PS3.3 C.7.6.16)."""
    assert found.groups is not None
    common, own_groups = found.groups
    frames = shared["pixels"].frames if shared["pixels"] is not None else 0
    if len(own_groups) != frames or frames > MOST_FRAMES:
        raise BrokenFile(
            f"{frames} frames but {len(own_groups)} descriptions of frames (at most {MOST_FRAMES})", path=whole.path
        )

    def item(own: Any, macro: str, *keywords: str) -> Values:
        raw: dict[str, tuple[str, bytes]] = {}
        for group in (own, *common[:1]):
            if group.get(macro):
                raw = {word: one for word in keywords if (one := raw_value(group.get(macro)[0], word)) is not None}
                break
        return Values(raw, found.order, whole.path, whole.faults)

    kernel = item(own_groups[0], "CTReconstructionSequence", "ConvolutionKernel").text("ConvolutionKernel")
    if kernel:
        shared["about"] = (("kernel", kernel), *(pair for pair in shared["about"] if pair[0] != "kernel"))
    headers = []
    for index, own in enumerate(own_groups):
        place = item(own, "PlanePositionSequence", "ImagePositionPatient")
        turn = item(own, "PlaneOrientationSequence", "ImageOrientationPatient")
        measures = item(own, "PixelMeasuresSequence", "PixelSpacing", "SliceThickness")
        greys = item(own, "PixelValueTransformationSequence", "RescaleSlope", "RescaleIntercept", "RescaleType")
        kind = item(own, "CTImageFrameTypeSequence", "FrameType")
        content = item(own, "FrameContentSequence", "StackID", "TemporalPositionIndex")
        time = content.raw.get("TemporalPositionIndex", ("", b""))[1]
        headers.append(
            Header(
                frame=index,
                stack=f"{content.text('StackID')}/{int.from_bytes(time, 'little')}" if content.raw else "",
                image_type=kind.words("FrameType") or whole.words("ImageType"),
                instance_number=index + 1,
                position_mm=place.several("ImagePositionPatient", 3),
                orientation=_orientation(turn.several("ImageOrientationPatient", 6)),
                spacing_mm=measures.several("PixelSpacing", 2),
                thickness_mm=measures.one("SliceThickness"),
                slope=greys.one("RescaleSlope"),
                intercept=greys.one("RescaleIntercept"),
                rescale_type=greys.text("RescaleType"),
                faults=tuple(whole.faults),
                **shared,
            )
        )
    return tuple(headers)


def _orientation(six: Array | None) -> Array | None:
    return None if six is None else six.reshape(2, 3)
