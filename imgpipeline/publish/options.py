"""What can be chosen about the records that are published."""

from dataclasses import dataclass
from enum import StrEnum

from imgpipeline.contracts.detection import Kind


class Form(StrEnum):
    """How results are written."""

    NATIVE = "native"
    """The metadata document of the frame."""
    CLASSIC = "classic"
    """The messages of classic detectors and trackers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is published where."""

    topic: str
    """Kafka topic."""
    form: Form = Form.NATIVE
    """How it is written."""
    kind: Kind | None = None
    """Which labels; None for all."""

    def name_of(self, result: str) -> str:
        """Returns the name of the publisher: of those with one name on one topic, only the latest can publish."""
        return f"{result}-{self.kind}" if self.kind else result
