"""Why a scan is refused: one type a reason, so that scripts can tell them apart."""

from spatial.faults import Fault, Misuse


class NoScan(Fault):
    """Nothing here can be read as a scan: an empty folder, a file of another kind."""


class NoCT(Fault):
    """There are images, but no CT among them, or the series that was chosen is of another modality."""


class SeriesChoice(Misuse):
    """Several CT series and no choice, or a choice that is not there; the message lists what there is."""


class BrokenFile(Fault):
    """A file that ends too early or cannot be parsed; no slice is ever dropped silently."""


class DecoderFailed(Fault):
    """The process that decodes compressed pixels died, ran out of time or of memory."""


class BadContainer(Fault):
    """A zip, a tar or a DICOMDIR that is damaged, or that names or holds what no series does."""


class SingleSlice(Fault):
    """One slice is no volume."""


class IrregularSlices(Fault):
    """A gap, a changing distance or a changing offset between slices."""


class DuplicateSlices(Fault):
    """Several different slices at one position."""


class MixedSeries(Fault):
    """Slices that do not belong together: patients, frames of reference, orientations, sizes or pixel spacings."""


class BadGeometry(Fault):
    """Position, orientation or pixel spacing absent or impossible."""


class NotHounsfield(Fault):
    """Grey values that cannot be turned into Hounsfield units."""


class BadImage(Fault):
    """A NIfTI, NRRD or MetaImage file that is no sound 3-D CT."""


class BadLabels(Fault):
    """Labels that do not fit the CT, or numbers and names that are not known."""


class BadSurface(Fault):
    """A surface file that cannot be read."""


class WrongReference(BadLabels):
    """A segmentation that was made on another scan than the CT it is given for."""
