"""What can be chosen about the records that are published."""

from enum import StrEnum


class Form(StrEnum):
    """How results are written."""

    NATIVE = "native"
    """The metadata document of the frame."""
    CLASSIC = "classic"
    """The messages of classic detectors and trackers."""
