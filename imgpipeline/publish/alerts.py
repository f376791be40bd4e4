"""Publishes alerts: on a Kafka topic in classic form, or by MQTT as events of Home Assistant, which discovers them.

For Home Assistant, each source is a device, and each rule that has raised an alert there is an `event` entity of that
device (https://www.home-assistant.io/integrations/event.mqtt). Alerts are published by MQTT at least once, by number;
the `event_id` identifies a repeated message.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from time import sleep
from typing import Any

from pydantic import TypeAdapter

from imgpipeline import __version__
from imgpipeline.contracts.keys import alert_key, mqtt_key
from imgpipeline.errors import PermanentError
from imgpipeline.events.alerts.chain import Alert, read_alerts
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.publish.transactions import ResultBatch, ResultPublisher, Run, record_of
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.connection import OFFLINE, ONLINE, MqttMessage, MqttSender
from imgpipeline.stream.send import Record

_BATCH_ALERTS = 100
"""Alerts in one Kafka transaction, or between two waits for the MQTT broker."""
_SETTLE_S = 2.0
"""Home Assistant subscribes to the topic of an entity only after it has read the discovery message."""
_SHOWN = (
    "event_id", "number", "rule", "source", "timestamp", "started_at", "place", "label", "direction", "value", "reason",
    "image_paths", "raised_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A rule at a source, an entity of Home Assistant."""

    source: str
    rule: str
    kind: str

    @classmethod
    def of(cls, alert: Alert) -> "Entity":
        """Returns the entity that an alert belongs to."""
        return cls(alert.event.source, alert.event.rule, alert.event.kind)


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far alerts are published to a broker; stored after each batch."""

    last: int
    entities: frozenset[Entity] = frozenset()


_PROGRESS = TypeAdapter(_Progress)


def publish_to_home_assistant(run: Run, *, settle_s: float = _SETTLE_S) -> int:
    """Publishes the alerts that the broker does not have yet, and returns their number.

    The first call for a broker skips alerts that are older than the setting `alert_max_age_s`.

    Args:
        settle_s: Pause between the discovery messages of new entities and their first events.

    Raises:
        ConfigurationError: The broker refuses the login, or its certificate is not trusted.
        PermanentError: A stored object is damaged.
        TransientError: Broker or store do not answer. A new call continues after the last acknowledged batch.
    """
    store, settings, count = run.store, run.settings, 0
    topics, key = MqttTopics(settings), _key(settings)
    client_id = f"{settings.mqtt_client_id}-events"  # the id of the settings itself belongs to `ingest mqtt`
    with closing(MqttSender(settings, client_id=client_id, status_topic=topics.status)) as sender:
        sender.open()
        done = _read(store, key)
        if done is None:
            done = _start(store, oldest=run.clock() - timedelta(seconds=settings.alert_max_age_s))
            store.put(key, _PROGRESS.dump_json(done))
        # The broker may have lost its retained messages.
        sender.send([topics.discovery(entity) for entity in sorted(done.entities)])
        while True:
            alerts = read_alerts(store, after=done.last)
            while several := list(islice(alerts, _BATCH_ALERTS)):
                new = {Entity.of(alert) for alert in several} - done.entities
                if new:
                    sender.send([topics.discovery(entity) for entity in sorted(new)])
                    sleep(settle_s)
                sender.send([topics.event(alert) for alert in several])
                reach("mqtt sent", sender.address)
                done = _Progress(several[-1].number, done.entities | new)
                store.put(key, _PROGRESS.dump_json(done))
                count += len(several)
                run.progress(len(several))
            if not run.should_continue():
                return count
            sender.check()


def _start(store: ObjectStore, *, oldest: datetime) -> _Progress:
    """Returns where a new broker starts: after the last alert that is too old."""
    last = 0
    for alert in read_alerts(store):
        if alert.raised_at >= oldest:
            break
        last = alert.number
    return _Progress(last)


@dataclass(frozen=True, slots=True)
class MqttTopics:
    """The topics and messages of one pipeline."""

    settings: Settings

    @property
    def status(self) -> str:
        """Topic that says whether the publisher is online."""
        return f"{self.settings.mqtt_events_topic}/status"

    def state(self, entity: Entity) -> str:
        """Returns the topic of an entity's events."""
        return f"{self.settings.mqtt_events_topic}/events/{_level(entity.source)}/{_level(entity.rule)}"

    def discovery(self, entity: Entity) -> MqttMessage:
        """Returns the retained message by which Home Assistant finds an entity."""
        unique_id = self._id(entity.source, entity.rule)
        device = {"identifiers": [self._id(entity.source)], "name": entity.source, "manufacturer": "imgpipeline"}
        availability = {
            "topic": self.status, "payload_available": ONLINE.decode(), "payload_not_available": OFFLINE.decode(),
        }  # fmt: skip
        config = {
            "name": entity.rule,
            "unique_id": unique_id,
            "state_topic": self.state(entity),
            "event_types": [entity.kind],
            "availability": [availability],
            "qos": 1,
            "device": device,
            "origin": {"name": "imgpipeline", "sw_version": __version__},
        }
        return MqttMessage(
            f"{self.settings.mqtt_discovery_topic}/event/{unique_id}/config", _json(config), is_retained=True
        )

    def event(self, alert: Alert) -> MqttMessage:
        """Returns the message of an alert. It is not retained: Home Assistant ignores retained events."""
        document = alert.to_json()
        shown = {"event_type": alert.event.kind, **{name: document[name] for name in _SHOWN}}
        return MqttMessage(self.state(Entity.of(alert)), _json(shown))

    def _id(self, *names: str) -> str:
        return f"imgpipeline_{_hash((self.settings.mqtt_events_topic, *names))}"


def _level(name: str) -> str:
    """Returns a name as one level of a topic; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return name if plain == name else f"{plain}_{_hash((name,))[:6]}"


def _hash(names: Sequence[str]) -> str:
    return sha256(json.dumps(names).encode()).hexdigest()[:16]


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _key(settings: Settings) -> str:
    return mqtt_key(_hash((settings.mqtt_host, str(settings.mqtt_port), settings.mqtt_events_topic)))


def _read(store: ObjectStore, key: str) -> _Progress | None:
    try:
        return _PROGRESS.validate_json(store.get(key))
    except ObjectMissingError:
        return None
    except ValueError:
        raise PermanentError(
            f"{store.url}/{key} is damaged; expected the progress of publishing by MQTT.",
            next_step="delete it; then the latest alerts are published again",
        ) from None


def publish_alerts(run: Run, topic: str) -> int:
    """Publishes the alerts after the last checkpoint in classic form; result and errors as `ResultPublisher.run`."""
    publisher = ResultPublisher(topic, "alerts", lambda data: [int(data["last"])], lambda: [0])

    def batches(last: list[int]) -> Iterator[ResultBatch]:
        alerts = read_alerts(run.store, after=last[0])
        while several := list(islice(alerts, _BATCH_ALERTS)):
            last[0] = several[-1].number
            yield ResultBatch([_alert_record(run.store, topic, alert) for alert in several], {"last": last[0]})

    return publisher.run(run, batches)


def _alert_record(store: ObjectStore, topic: str, alert: Alert) -> Record:
    """Returns the number of an alert and the URL of its object, as change-alert pipelines publish them."""
    path = f"{store.url}/{alert_key(alert.number)}"
    document = {"image_event_num": alert.number, "image_event_db_path": path}
    event = alert.event
    return record_of(topic, event.source, event.timestamp.date().isoformat(), event.event_id, document)
