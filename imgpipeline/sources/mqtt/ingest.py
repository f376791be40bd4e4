"""Publishes the images of MQTT messages, and acknowledges each message when its frame is stored and announced.

While the store or Kafka is away, nothing is acknowledged, and the broker keeps the messages that it has not delivered.
A redelivered image is the same frame, because its content identifies it (`storing.first_received`).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_when_event_set, wait_fixed

from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.times import utc_now
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board, SourceState, SourceWatch
from imgpipeline.sources.ingest import IngestSessions
from imgpipeline.sources.mqtt.messages import Subscription
from imgpipeline.sources.mqtt.session import Arrived, MessageDelivery, MqttSession, Received, Refused
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Lost, Settled, StatusChange
from imgpipeline.sources.session import AWAY
from imgpipeline.sources.storing import first_received
from imgpipeline.stream.send import FencedError

LOG = logging.getLogger(__name__)
_PAUSE_S = 1.0


def ingest_mqtt(
    settings: Settings,
    subscription: Subscription,
    *,
    stop: threading.Event | None = None,
    options: PublishOptions | None = None,
    store: ObjectStore | None = None,
    progress: Callable[[list[tuple[str, Totals]]], None] | None = None,
    board: Board | None = None,
    watch: SourceWatch | None = None,
) -> list[tuple[str, Totals]]:
    """Publishes arriving messages until `stop` is set.

    Args:
        stop: Ends all sessions gracefully; None: runs until an error.
        options: How to publish; None: the defaults.
        store: Where the images go; None: the store of the settings.
        progress: Called with the accounting of each session after each message, and several times a second while idle.
        watch: Records whether the broker is connected.

    Returns:
        Source and accounting of each session.

    Raises:
        ImgpipelineError: Broker, store or Kafka cannot be used; the error says why. The broker delivers messages that
            were not announced again to the next ingest.
    """
    stop, chosen, done = stop or threading.Event(), options or PublishOptions(), threading.Event()
    ingest = _Ingest(settings, subscription, store, chosen, stop, board)
    threading.Thread(target=ingest.limit_draining, args=(done, chosen.drain_s), name="drain", daemon=True).start()
    reason, drain_s = "failed", chosen.drain_s
    try:
        for item in ingest.session.receive(stop):
            ingest.take(item)
            if watch and isinstance(item, StatusChange):
                watch.change(*((SourceState.ONLINE,) if item.online else (SourceState.OFFLINE, item.reason)))
            if progress:
                progress(ingest.publishers.totals())
        ingest.take_unacknowledged()
        reason = "stopped"
    except FencedError:
        ingest.take(StatusChange(online=False, reason="taken over by another process", at=utc_now()))
        raise
    finally:
        try:
            ingest.publishers.close(reason, drain_s=drain_s)
        finally:
            done.set()
            ingest.session.close()
    return ingest.publishers.totals()


class _Ingest:
    """Passes received messages on to the publishers."""

    def __init__(
        self,
        settings: Settings,
        subscription: Subscription,
        store: ObjectStore | None,
        options: PublishOptions,
        stop: threading.Event,
        board: Board | None,
    ) -> None:
        self._subscription = subscription
        self._store = store or open_store(settings)
        self._stop = stop
        self._template = ImageKeyTemplate(settings.image_key_template)
        self.session = MqttSession(settings, subscription.topics)
        self.publishers = IngestSessions(settings, options=options, store=store, board=board)

    def take(self, item: Arrived | None) -> None:
        if item is None:
            self.publishers.check()
        elif isinstance(item, StatusChange):
            self.publishers.offer_all(item)
        elif isinstance(item, Refused):
            self._persist(lambda: self.publishers.offer(self._subscription.source_of(item.topic), Lost("queue")))
        else:
            self._persist(lambda: self._publish(item))

    def take_unacknowledged(self) -> None:
        """Publishes the remaining messages of QoS 0. The broker delivers the others again."""
        for item in self.session.rest():
            if isinstance(item, Received) and item.delivery is None:
                self.take(item)

    def limit_draining(self, done: threading.Event, drain_s: float) -> None:
        """Stops waiting for store and Kafka `drain_s` seconds after `stop` is set."""
        while not self._stop.wait(_PAUSE_S):
            if done.is_set():
                return
        if not done.wait(drain_s):
            self.publishers.abort()

    def _publish(self, item: Received) -> None:
        reach("frame captured", item.topic)
        source = self._subscription.source_of(item.topic)
        frame = self._subscription.frame_of(item.topic, item.payload, item.at)
        if item.redelivered and not frame.has_own_timestamp and frame.name:
            frame = replace(frame, timestamp=first_received(self._store, self._template, source, frame))
        self.publishers.offer(source, replace(frame, settle=self._settler(item.delivery)))

    def _settler(self, delivery: MessageDelivery | None) -> Callable[[Settled], None] | None:
        if delivery is None:
            return None

        def settle(how: Settled) -> None:
            if how is not Settled.DROPPED:  # not announced, so the broker must deliver it again
                self.session.settle(delivery)

        return settle

    def _persist(self, action: Callable[[], None]) -> None:
        """Repeats an action while store or Kafka is away, until `stop` is set."""
        Retrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_fixed(_PAUSE_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            after=lambda state: LOG.warning("waiting: %s", state.outcome and state.outcome.exception()),
            retry_error_callback=lambda _: None,
        )(action)
