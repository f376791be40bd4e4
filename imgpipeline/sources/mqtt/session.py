"""A persistent MQTT session: receives a limited number of messages, and acknowledges them when their frames are safe.

* A client must acknowledge messages in the order in which it received them (MQTT 5.0, 4.6). So a message whose frame is
  not safe yet delays the acknowledgements of later messages.
* An acknowledgement is never sent on another connection: after a reconnect, the broker may give the number of an old
  message to a new one.
* Callbacks of paho run in its network thread. They only put messages into a queue and never raise, so no message can
  block the session.
"""

import logging
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from imgpipeline.contracts.times import Clock, back_off_s, utc_now
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.connection import CONNECT_S, KEEPALIVE_S, authenticate, refusal, untrusted
from imgpipeline.sources.protocol import StatusChange
from imgpipeline.stream.send import FencedError

LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_POLL_S = 0.2
_TAKEN_OVER = 0x8E
_LOSSES, _LOSSES_S = 6, 60.0
"""A broker that ends so many connections in so short a time and accepts each new one has another client of the same
id. Brokers do not always say so, and MQTT 3.1.1 cannot."""


@dataclass(slots=True, eq=False)
class _Message:
    number: int
    safe: bool = False


@dataclass(slots=True, eq=False)
class MessageDelivery:
    """A frame in flight, and the messages that delivered it: more than one after a redelivery."""

    identity: bytes
    messages: list[_Message] = field(default_factory=list)
    """The messages, including those of closed connections."""


class Acknowledgements:
    """The messages that are not acknowledged yet; thread-safe."""

    def __init__(self, send: Callable[[int], object]) -> None:
        """Starts without messages.

        Args:
            send: Acknowledges the message with this number on the current connection.
        """
        self._send = send
        self._lock = Lock()
        self._in_order: deque[_Message] = deque()
        self._unsafe: dict[bytes, MessageDelivery] = {}
        self._count = 0

    @property
    def waiting(self) -> int:
        """Deliveries that are not safe yet."""
        return self._count

    def start_connection(self) -> None:
        """Forgets the message numbers of the previous connection; its frames stay in flight."""
        with self._lock:
            self._in_order.clear()

    def receive(self, number: int, identity: bytes, *, redelivered: bool) -> MessageDelivery | None:
        """Takes a message.

        Args:
            redelivered: Whether the broker may have sent the message before.

        Returns:
            The argument for `settle`; None if the frame is in flight already.
        """
        message = _Message(number)
        with self._lock:
            self._in_order.append(message)
            known = self._unsafe.get(identity)
            if known is not None and redelivered:
                known.messages.append(message)
                return None
            delivery = MessageDelivery(identity, [message])
            self._unsafe[identity] = delivery
            self._count += 1
            return delivery

    def settle(self, delivery: MessageDelivery) -> None:
        """Marks a frame as safe, and acknowledges all messages whose turn it is."""
        with self._lock:
            self._count -= 1
            if self._unsafe.get(delivery.identity) is delivery:
                del self._unsafe[delivery.identity]
            for message in delivery.messages:
                message.safe = True
            while self._in_order and self._in_order[0].safe:
                self._send(self._in_order.popleft().number)


@dataclass(frozen=True, slots=True)
class Received:
    """A message to publish."""

    topic: str
    payload: bytes
    at: datetime
    redelivered: bool
    """Whether the broker may have sent it before."""
    delivery: MessageDelivery | None
    """The argument for `settle`; None for QoS 0, which has no acknowledgement."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of QoS 0 that arrived while too many were waiting, and is lost: the broker does not resend it."""

    topic: str


Arrived = Received | Refused | StatusChange


class MqttSession:
    """Receives the messages of some topics. One thread iterates over `receive`; any thread may call `settle`."""

    def __init__(self, settings: Settings, topics: tuple[str, ...], *, clock: Clock = utc_now) -> None:
        """Prepares the session; `receive` connects.

        Raises:
            ConfigurationError: A file of the settings cannot be read.
        """
        self._settings = settings
        self._topics = topics
        self._clock = clock
        self._v5 = settings.mqtt_protocol == "5"
        self._arrived: SimpleQueue[Arrived] = SimpleQueue()
        self._disconnected = threading.Event()
        self._subscribed = threading.Event()
        self._fatal: PermanentError | None = None
        self._is_accepted = False
        self._lost: deque[float] = deque(maxlen=_LOSSES)
        self._client = self._make_client()
        self._acknowledgements = Acknowledgements(lambda number: self._client.ack(number, 1))

    @property
    def address(self) -> str:
        """The broker, `host:port`."""
        return f"{self._settings.mqtt_host}:{self._settings.mqtt_port}"

    def receive(self, stop: threading.Event) -> Iterator[Arrived | None]:
        """Yields messages until `stop` is set, and None while idle; reconnects automatically. Call `close` afterwards.

        Raises:
            ConfigurationError: The broker refuses the login or the topics.
            FencedError: Another process has taken over the session.
        """
        attempts, connected_at = 0, -_LONGEST_PAUSE_S
        self._disconnected.set()
        while not stop.is_set():
            if self._fatal:
                raise self._fatal
            since_s = monotonic() - connected_at
            if self._subscribed.is_set() and since_s > _LONGEST_PAUSE_S:
                attempts = 0
            # A new connection may deliver another window, so at most two windows of messages are not safe.
            has_room = self._acknowledgements.waiting <= self._settings.mqtt_max_in_flight
            pause_s = back_off_s(attempts, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            if self._disconnected.is_set() and has_room and since_s >= pause_s:
                self._connect()
                attempts, connected_at = attempts + 1, monotonic()
            try:
                yield self._arrived.get(timeout=_POLL_S)
            except Empty:
                yield None

    def rest(self) -> list[Arrived]:
        """Returns the messages that have arrived but were not yielded."""
        return [self._arrived.get() for _ in range(self._arrived.qsize())]

    def settle(self, delivery: MessageDelivery) -> None:
        """Acknowledges the message of a frame that is safe, as soon as it is its turn."""
        self._acknowledgements.settle(delivery)

    def close(self) -> None:
        """Disconnects. The broker keeps the session, and delivers unacknowledged messages again."""
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.mqtt_client_id,
            clean_session=None if self._v5 else False,
            protocol=MQTTv5 if self._v5 else MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_S
        authenticate(client, settings)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _connect(self) -> None:
        self._client.loop_stop()
        self._acknowledgements.start_connection()
        self._disconnected.clear()
        self._subscribed.clear()
        self._is_accepted = False
        options: dict[str, Any] = {}
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
            properties.SessionExpiryInterval = self._settings.mqtt_session_expiry_s
            properties.ReceiveMaximum = self._settings.mqtt_max_in_flight
            options = {"clean_start": False, "properties": properties}
        try:
            self._client.connect(self._settings.mqtt_host, self._settings.mqtt_port, KEEPALIVE_S, **options)
        except ssl.SSLCertVerificationError as error:
            self._fatal = untrusted(self.address, error)
        except (OSError, ValueError) as error:
            LOG.warning("The MQTT broker %s cannot be reached: %s", self.address, error)
            self._lost.clear()
            self._disconnected.set()
        else:
            self._client.loop_start()

    # Callbacks, called in paho's thread.

    def _on_connect(self, client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, _more: Any) -> None:
        if reason.is_failure:
            self._fatal = refusal(self.address, reason)
            self._disconnected.set()
            return
        self._is_accepted = True
        # MQTT 5: retained messages are not new frames.
        if self._v5:
            new = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            client.subscribe([(topic, new) for topic in self._topics])
        else:
            client.subscribe([(topic, 1) for topic in self._topics])
        LOG.info("connected to %s, session present: %s", self.address, flags.session_present)
        self._arrived.put(StatusChange(online=True, reason="connected", at=self._clock()))

    def _on_subscribe(self, _client: Client, _data: Any, _number: int, reasons: list[ReasonCode], _more: Any) -> None:
        refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self._fatal = ConfigurationError(
                f"The MQTT broker {self.address} refuses the topic {', '.join(refused)}.",
                next_step="let this user read it (Mosquitto: acl_file), or name another --topic",
            )
        self._subscribed.set()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _m: Any) -> None:
        if self._is_accepted:
            self._lost.append(monotonic())
        is_contested = len(self._lost) == _LOSSES and self._lost[-1] - self._lost[0] < _LOSSES_S
        if reason.value == _TAKEN_OVER or is_contested:
            self._fatal = FencedError(
                f"Another process has connected to {self.address} as {self._settings.mqtt_client_id}.",
                next_step="stop one of the two, or give each its own client id: IMGPIPELINE_MQTT_CLIENT_ID",
            )
        if self._subscribed.is_set():
            self._arrived.put(StatusChange(online=False, reason=f"disconnected: {reason}", at=self._clock()))
        self._disconnected.set()

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "not UTF-8"
        payload, now = bytes(message.payload), self._clock()
        if message.retain:  # stored by the broker earlier; MQTT 3.1.1 cannot refuse it
            client.ack(message.mid, message.qos)
            return
        if message.qos == 0:
            crowded = self._arrived.qsize() > 2 * self._settings.mqtt_max_in_flight
            self._arrived.put(Refused(topic) if crowded else Received(topic, payload, now, False, None))
            return
        identity = sha256(topic.encode() + b"\0" + payload).digest()
        delivery = self._acknowledgements.receive(message.mid, identity, redelivered=message.dup)
        if delivery is not None:
            self._arrived.put(Received(topic, payload, now, message.dup, delivery))
