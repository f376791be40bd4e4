"""Publishes to a real MQTT broker, and runs an ingest in a thread of the test."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import paho.mqtt.client as paho

from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.mqtt.messages import Subscription
from imgpipeline.sources.options import PublishOptions
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.waiting import wait_until


def at(broker: Mosquitto, settings: Settings, **changes: object) -> Settings:
    """Return settings that name a broker, and a client of its own."""
    named = {"mqtt_host": broker.host, "mqtt_port": broker.port, "mqtt_client_id": uuid.uuid4().hex}
    return settings.model_copy(update={**named, **changes})


def until_subscribed(broker: Mosquitto, settings: Settings) -> None:
    """Wait until the client of the settings has subscribed."""
    wait_until(lambda: broker.has_subscriber(settings.mqtt_client_id), limit_s=90, what="the subscription")


def send(broker: Mosquitto, messages: Iterable[tuple[str, bytes]], *, qos: int = 1, retain: bool = False) -> None:
    """Publish messages, and return when the broker has them."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        for message in [client.publish(topic, payload, qos=qos, retain=retain) for topic, payload in messages]:
            message.wait_for_publish(30)
    finally:
        client.disconnect()
        client.loop_stop()


class RunningIngest:
    """An ingest that runs in its own thread."""

    def __init__(self, run: Callable[..., list[tuple[str, Totals]]]) -> None:
        """Start it.

        Args:
            run: Runs until its event `stop` is set, and tells its accounting to `progress`.
        """
        self.stop = threading.Event()
        self.sessions: list[tuple[str, Totals]] = []
        self.error: BaseException | None = None
        self._run = run
        self.thread = threading.Thread(target=self._target)
        self.thread.start()

    @property
    def received(self) -> int:
        """Frames received so far."""
        return sum(of.received for _, of in self.sessions)

    @property
    def announced(self) -> int:
        """Frames announced so far."""
        return sum(of.announced for _, of in self.sessions)

    def end(self) -> None:
        """Stop it gracefully."""
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def _target(self) -> None:
        try:
            self._see(self._run(stop=self.stop, progress=self._see))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def _see(self, found: list[tuple[str, Totals]]) -> None:
        self.sessions = found


def start_ingest(
    settings: Settings,
    subscription: Subscription,
    *,
    options: PublishOptions | None = None,
    store: ObjectStore | None = None,
) -> RunningIngest:
    """Start an ingest; its `end` stops it."""
    return RunningIngest(partial(ingest_mqtt, settings, subscription, options=options, store=store))


@contextmanager
def running(
    settings: Settings,
    subscription: Subscription | None = None,
    *,
    options: PublishOptions | None = None,
    store: ObjectStore | None = None,
) -> Iterator[RunningIngest]:
    """Run an ingest until the context ends; its error is raised there."""
    ingest = start_ingest(settings, subscription or Subscription(("images/+/raw",)), options=options, store=store)
    try:
        yield ingest
    except BaseException as error:
        error.add_note(f"The ingest: received {ingest.received}, announced {ingest.announced}, {ingest.error!r}.")
        raise
    finally:
        ingest.end()
    if ingest.error:
        raise ingest.error
