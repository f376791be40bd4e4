"""The alert chain: `alerts/{number}.json`, from 1 without holes, each event at most once.

A writer reads every alert up to the end before it writes one there, create-only. If another writer takes the number
first, it reads that alert too and tries the next number, unless the other one was about the same event.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from uuid import uuid4

from imgpipeline.contracts.keys import ALERTS, alert_key, parse_number
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.events.alerts.numbered import create_object, read_object
from imgpipeline.events.alerts.values import Alert
from imgpipeline.events.values import Event
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.ahead import map_ahead

_READERS = 16
_AHEAD = 64


class AlertChain:
    """The alerts as one process has read them; for one thread at a time."""

    def __init__(self, store: ObjectStore) -> None:
        """Begins with nothing read."""
        self._store = store
        self._writer = uuid4().hex
        self._event_ids: set[str] = set()
        self._is_read = False
        self.last = 0
        self.by_day: Counter[date] = Counter()

    def catch_up(self) -> None:
        """Reads the alerts that others have written since the last call.

        Raises:
            PermanentError: An alert is damaged, or numbers are missing.
            TransientError: The store does not answer.
        """
        for alert in read_alerts(self._store, after=self.last):
            self._take(alert)
        self._is_read = True

    def has(self, event: Event) -> bool:
        """Whether an event has an alert, as far as the chain was read."""
        return event.event_id in self._event_ids

    def append(
        self, event: Event, *, difference_image: str | None, now: datetime, notify: tuple[str, ...] = ()
    ) -> Alert | None:
        """Writes an alert for an event at the end of the chain, unless the event already has one.

        Args:
            event: What happened.
            difference_image: Key of the image of the difference, or None.
            now: Time of writing, UTC.
            notify: Names of the targets that get it; empty: all.

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
        # A folder's listing may leave out an alert that was written meanwhile, and show the next one.
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
        UsageError: There is no alert of this number.
        PermanentError: It is damaged.
        TransientError: The store does not answer.
    """
    key = alert_key(number)
    try:
        alert = Alert.from_json(read_object(store, key))
    except ObjectMissingError:
        raise UsageError(f"There is no alert {number}.", next_step="imgpipeline alerts list") from None
    except (KeyError, TypeError, ValueError):
        alert = None
    if alert is None or alert.number != number:
        raise PermanentError(
            f"{store.url}/{key} is damaged; expected alert {number}.", next_step="restore it from a backup of the store"
        )
    return alert
