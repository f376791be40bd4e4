"""Lists alerts with their delivery attempts, and records acknowledgements: who has seen an alert."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import DELIVERED, acknowledgements_prefix, numbered_key
from imgpipeline.contracts.times import Timestamp
from imgpipeline.events.alerts.chain import Alert, alert_numbers, read_alert
from imgpipeline.events.alerts.delivery import Attempt, read_attempts
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.objectstore.numbered import append_entry, read_entries
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 16
_AHEAD = 32


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A person's note that they have seen an alert."""

    by: str
    at: Timestamp
    note: str


_ACKNOWLEDGEMENT = TypeAdapter(Acknowledgement)


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """An alert with its delivery attempts and acknowledgements."""

    alert: Alert
    is_delivered: bool
    """Whether every target has accepted it."""
    attempts: tuple[Attempt, ...]
    acknowledgements: tuple[Acknowledgement, ...]

    @classmethod
    def read(cls, store: ObjectStore, number: int) -> "ListedAlert":
        """Reads one alert with its delivery attempts and acknowledgements.

        Raises:
            UsageError: There is no alert with this number.
            PermanentError: A stored object is damaged.
            TransientError: The store does not answer.
        """
        return cls(
            read_alert(store, number),
            store.head(numbered_key(DELIVERED, number)) is not None,
            tuple(read_attempts(store, number)),
            tuple(read_acknowledgements(store, number)),
        )

    @property
    def named_images(self) -> list[tuple[str, str]]:
        """A file name without suffix for each image, and the path of the stored image."""
        return [
            (f"alert-{self.alert.number:010d}-{position}-{name}", path)
            for position, (name, path) in enumerate(self.alert.images, start=1)
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the alert, attempts and acknowledgements as one JSON object."""
        return {
            **self.alert.to_json(),
            "delivered": "yes" if self.is_delivered else "no",
            "acknowledged": ", ".join(given.by for given in self.acknowledgements) or None,
            **_LISTED.dump_python(self, mode="json", include={"attempts", "acknowledgements"}),
        }


_LISTED = TypeAdapter(ListedAlert)


def list_alerts(
    store: ObjectStore, *, limit: int | None = None, before: int | None = None
) -> tuple[list[ListedAlert], int]:
    """Returns the latest alerts with numbers lower than `before`, latest first, and the total number of alerts.

    Raises:
        PermanentError: A stored object is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    numbers = alert_numbers(store)
    wanted = [number for number in reversed(numbers) if before is None or number < before][:limit]
    listed = map_ahead(lambda number: ListedAlert.read(store, number), wanted, workers=_READERS, ahead=_AHEAD)
    return list(listed), len(numbers)


def write_image(images: ImageReader, path: str, folder: Path, name: str) -> Path:
    """Writes a stored image to a folder, adds the suffix of the image to the name, and returns the file.

    Raises:
        BadInputError: The image is missing or too large.
        TransientError: The store does not answer.
        ForbiddenError: The store refuses access.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}{Path(path).suffix or '.jpg'}"
    file.write_bytes(images.read(path).data)
    return file


def acknowledge(store: ObjectStore, number: int, given: Acknowledgement) -> None:
    """Adds an acknowledgement to an alert; earlier ones stay.

    Raises:
        UsageError: There is no alert with this number.
        PermanentError: The alert is damaged.
        TransientError: The store does not answer.
    """
    read_alert(store, number)
    append_entry(store, acknowledgements_prefix(number), _ACKNOWLEDGEMENT.dump_python(given, mode="json"))


def read_acknowledgements(store: ObjectStore, number: int) -> list[Acknowledgement]:
    """Returns the acknowledgements of an alert, in order.

    Raises:
        PermanentError: An acknowledgement is damaged.
        TransientError: The store does not answer.
    """
    return [_ACKNOWLEDGEMENT.validate_python(entry) for entry in read_entries(store, acknowledgements_prefix(number))]
