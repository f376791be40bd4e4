"""Alerts with their delivery attempts and acknowledgements."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipeline.contracts.keys import delivered_key
from imgpipeline.contracts.times import format_time
from imgpipeline.events.alerts.acknowledging import Acknowledgement, read_acknowledgements
from imgpipeline.events.alerts.chain import alert_numbers, read_alert
from imgpipeline.events.alerts.delivery import Attempt, read_attempts
from imgpipeline.events.alerts.values import Alert
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.objectstore.ahead import map_ahead

_READERS = 16
_AHEAD = 32


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """An alert with its delivery attempts and acknowledgements."""

    alert: Alert
    """The alert."""
    is_delivered: bool
    """Whether every target has accepted it."""
    attempts: tuple[Attempt, ...]
    """The attempts to deliver it, in their order."""
    acknowledgements: tuple[Acknowledgement, ...]
    """Who has seen it, in their order."""

    @classmethod
    def read(cls, store: ObjectStore, number: int) -> "ListedAlert":
        """Reads one alert with its delivery attempts and acknowledgements.

        Raises:
            UsageError: There is no alert of this number.
            PermanentError: A stored object is damaged.
            TransientError: The store does not answer.
        """
        return cls(
            read_alert(store, number),
            store.head(delivered_key(number)) is not None,
            tuple(read_attempts(store, number)),
            tuple(read_acknowledgements(store, number)),
        )

    @property
    def named_images(self) -> list[tuple[str, str]]:
        """A file name without suffix for each image, and where it is stored."""
        return [
            (f"alert-{self.alert.number:010d}-{position}-{name}", path)
            for position, (name, path) in enumerate(self.alert.images, start=1)
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as one JSON object."""
        return {
            **self.alert.to_json(),
            "delivered": "yes" if self.is_delivered else "no",
            "acknowledged": ", ".join(given.by for given in self.acknowledgements) or None,
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "acknowledgements": [
                {"by": given.by, "at": format_time(given.at), "note": given.note} for given in self.acknowledgements
            ],
        }


def list_alerts(
    store: ObjectStore, *, limit: int | None = None, before: int | None = None
) -> tuple[list[ListedAlert], int]:
    """Returns the latest alerts, the latest first, and how many there are in all.

    Args:
        store: The object store.
        limit: At most this many, from 1; None: all.
        before: Only alerts with a lower number.

    Raises:
        PermanentError: A stored object is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    numbers = alert_numbers(store)
    wanted = [number for number in reversed(numbers) if before is None or number < before][:limit]
    listed = map_ahead(lambda number: ListedAlert.read(store, number), wanted, workers=_READERS, ahead=_AHEAD)
    return list(listed), len(numbers)


def write_image(images: ImageReader, path: str, folder: Path, name: str) -> Path:
    """Writes a stored image to a folder under a name with the image's own suffix, and returns the file.

    Raises:
        BadInputError: The image is gone or too large.
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}{Path(path).suffix or '.jpg'}"
    file.write_bytes(images.read(path).data)
    return file
