"""The kinds of objects that classic detectors and trackers keep."""

from collections.abc import Sequence
from enum import StrEnum


class Kind(StrEnum):
    """A kind of object, with its labels."""

    CARS = "cars"
    """car, van, truck."""
    PEOPLE = "people"
    """person, pedestrian, people."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels."""
        return _LABELS[self]


_LABELS = {Kind.CARS: ("car", "van", "truck"), Kind.PEOPLE: ("person", "pedestrian", "people")}
