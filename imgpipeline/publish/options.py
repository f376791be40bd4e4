"""What can be chosen about the records that are published."""

from collections.abc import Sequence
from enum import StrEnum


class Form(StrEnum):
    """How results are written."""

    NATIVE = "native"
    """The metadata document of the frame."""
    CLASSIC = "classic"
    """The messages of classic detectors and trackers."""


class Kind(StrEnum):
    """Labels that classic detectors and trackers keep."""

    CARS = "cars"
    """car, van, truck."""
    PEOPLE = "people"
    """person, pedestrian, people."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels."""
        return _LABELS[self]


_LABELS = {Kind.CARS: ("car", "van", "truck"), Kind.PEOPLE: ("person", "pedestrian", "people")}
