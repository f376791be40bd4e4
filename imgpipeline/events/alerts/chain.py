"""The alert chain: `alerts/{number}.json`, numbered from 1 without gaps, with at most one alert per event.

A writer reads every alert up to the end, then creates the next one if no object exists under its key. If another writer
was first, it reads that alert and tries the next number, unless that alert is about the same event.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import ALERTS, alert_key, parse_number
from imgpipeline.contracts.times import Timestamp
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.events.values import Event
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.numbered import create_object, read_object
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 16
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Alert:
    """A numbered event."""

    number: int
    """Number, from 1 without gaps."""
    event: Event
    """The event, with `ended_at` as known at `raised_at`."""
    difference_image: str | None
    """Key of the difference image of an image change, or None."""
    raised_at: Timestamp
    writer: str
    """Random id of the process that wrote it, which distinguishes it from another writer's alert."""
    notify: tuple[str, ...] = ()
    """Names of the targets that its rule notified at that time; empty: all targets."""

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """Name (`before`, `after`, `difference` or `image`) and path of each image."""
        paths = self.event.image_paths
        names = ("before", "after") if self.event.kind == "image_change" else tuple("image" for _ in paths)
        difference = (("difference", self.difference_image),) if self.difference_image else ()
        return (*zip(names, paths, strict=False), *difference)

    def to_json(self) -> dict[str, Any]:
        """Returns the alert as one JSON object, with the fields of its event."""
        data = _ALERT.dump_python(self, mode="json")
        return {"number": self.number, "event_id": self.event.event_id, **data.pop("event"), **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Alert":
        """Reads what `to_json` wrote; raises TypeError or ValueError for any other data."""
        return _ALERT.validate_python({**data, "event": data})


_ALERT = TypeAdapter(Alert)


class AlertChain:
    """The alerts that one process has read; for one thread at a time."""

    def __init__(self, store: ObjectStore) -> None:
        """Starts without any alerts; `catch_up` and `append` read them."""
        self._store = store
        self._writer = uuid4().hex
        self._event_ids: set[str] = set()
        self._is_read = False
        self.last = 0
        self.by_day: Counter[date] = Counter()

    def catch_up(self) -> None:
        """Reads the alerts that other processes have written since the last call.

        Raises:
            PermanentError: An alert is damaged, or numbers are missing.
            TransientError: The store does not answer.
        """
        for alert in read_alerts(self._store, after=self.last):
            self._take(alert)
        self._is_read = True

    def has(self, event: Event) -> bool:
        """Whether an event has one of the alerts that were read."""
        return event.event_id in self._event_ids

    def append(
        self, event: Event, *, difference_image: str | None, now: datetime, notify: tuple[str, ...] = ()
    ) -> Alert | None:
        """Writes an alert for an event at the end of the chain, unless the event already has one.

        Returns:
            The alert; None if the event already has one.

        Raises:
            PermanentError: An alert is damaged, or numbers are missing.
            TransientError: The store does not answer; a later call finds out whether the alert was written.
        """
        if not self._is_read:
            self.catch_up()
        while not self.has(event):
            alert = Alert(self.last + 1, event, difference_image, now, self._writer, notify)
            key = alert_key(alert.number)
            reach("alert put", key)
            if create_object(self._store, key, alert.to_json()):
                reach("alert put done", key)
                self._take(alert)
                return alert
            self._take(read_alert(self._store, alert.number))
        return None

    def _take(self, alert: Alert) -> None:
        self._event_ids.add(alert.event.event_id)
        self.by_day[alert.event.timestamp.date()] += 1
        self.last = alert.number


def alert_numbers(store: ObjectStore, *, after: int = 0) -> list[int]:
    """Returns the numbers of the stored alerts after a number, sorted.

    Raises:
        PermanentError: Numbers are missing.
        TransientError: The store does not answer.
    """
    found = (parse_number(info.key) for info in store.list_objects(ALERTS, after=alert_key(after)))
    listed = {number for number in found if number is not None and number > after}
    numbers = range(after + 1, max(listed, default=after) + 1)
    for number in numbers:
        # The listing of a folder may miss an alert that is being written, and show the next one.
        if number not in listed and store.head(alert_key(number)) is None:
            raise PermanentError(
                f"Alert {number} is missing in {store.url}/{ALERTS}, which has alert {numbers[-1]}.",
                next_step="restore it from a backup of the store",
            )
    return list(numbers)


def read_alerts(store: ObjectStore, *, after: int = 0) -> Iterator[Alert]:
    """Yields the stored alerts after a number, in order.

    Raises:
        PermanentError: An alert is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    numbers = alert_numbers(store, after=after)
    yield from map_ahead(lambda number: read_alert(store, number), numbers, workers=_READERS, ahead=_AHEAD)


def read_alert(store: ObjectStore, number: int) -> Alert:
    """Returns one alert.

    Raises:
        UsageError: There is no alert with this number.
        PermanentError: It is damaged.
        TransientError: The store does not answer.
    """
    key = alert_key(number)
    try:
        alert = Alert.from_json(read_object(store, key))
    except ObjectMissingError:
        raise UsageError(f"There is no alert {number}.", next_step="run `imgpipeline alerts list`") from None
    except (TypeError, ValueError):
        alert = None
    if alert is None or alert.number != number:
        raise PermanentError(
            f"{store.url}/{key} is damaged; expected alert {number}.", next_step="restore it from a backup of the store"
        )
    return alert
