"""Publishes alerts in the form of classic change-alert pipelines: the number of an event, and where its record is."""

from collections.abc import Callable, Iterator
from itertools import islice

from imgpipeline.contracts.keys import alert_key
from imgpipeline.events.alerts.chain import Alert, read_alerts
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.forms import record_of
from imgpipeline.publish.transactions import Batch, Publisher
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import Record

NAME = "alerts"
"""Names the publisher: of those on one topic, only the latest can publish."""
_BATCH_ALERTS = 500


def publish_alerts(
    store: ObjectStore,
    settings: Settings,
    topic: str,
    *,
    goes_on: Callable[[], bool] = lambda: False,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Publishes the alerts after the last checkpoint by their numbers, and returns the number of records.

    Args:
        store: The object store.
        settings: Name the broker.
        topic: Kafka topic.
        goes_on: Called when everything is published; whether to look for more.
        progress: Called with the number of records of each committed transaction.

    Raises:
        FencedError: Another process publishes the same there now.
        PermanentError: The topic cannot be used, or an alert is damaged or missing.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher: Publisher[list[int]] = Publisher(topic, NAME, lambda data: [int(data["last"])], lambda: [0])

    def batches(last: list[int]) -> Iterator[Batch]:
        alerts = read_alerts(store, after=last[0])
        while several := list(islice(alerts, _BATCH_ALERTS)):
            last[0] = several[-1].number
            yield Batch([_record(store, topic, alert) for alert in several], {"last": last[0]})

    return publisher.run(settings, batches, goes_on=goes_on, progress=progress)


def _record(store: ObjectStore, topic: str, alert: Alert) -> Record:
    path = f"{store.url}/{alert_key(alert.number)}"
    document = {"image_event_num": alert.number, "image_event_db_path": path}
    event = alert.event
    return record_of(topic, event.source, event.timestamp.date().isoformat(), event.event_id, document)
