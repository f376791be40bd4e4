"""Sends messages to an MQTT broker with QoS 1; a retained message says whether the sender is online."""

import contextlib
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.login import authenticate, refusal, untrusted

ONLINE, OFFLINE = b"online", b"offline"
_KEEPALIVE_S = 20
_CONNECT_S = 10.0
_ANSWER_S = 30.0
_CLOSE_S = 1.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send."""

    topic: str
    """MQTT topic."""
    payload: bytes
    """Content of the message."""
    is_retained: bool = False
    """Whether the broker keeps the message for later subscribers."""


class MqttSender:
    """One connection, for use by one thread. After an error, close it and create another one."""

    def __init__(self, settings: Settings, *, status_topic: str) -> None:
        """Prepares a sender; `open` connects.

        Args:
            settings: The broker and the login.
            status_topic: Gets `online` while the sender is connected, then `offline`, even if the sender is killed.

        Raises:
            ConfigurationError: A file of the settings cannot be read.
        """
        self.address = f"{settings.mqtt_host}:{settings.mqtt_port}"
        self._settings = settings
        self._status_topic = status_topic
        self._answered = threading.Event()
        self._disconnected = threading.Event()
        self._refusal: PermanentError | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            # The client id of the settings itself belongs to `ingest mqtt`.
            client_id=f"{settings.mqtt_client_id}-events",
            protocol=MQTTv5 if settings.mqtt_protocol == "5" else MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = _CONNECT_S
        self._client.will_set(status_topic, OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        authenticate(self._client, settings)

    def open(self) -> None:
        """Connects.

        Raises:
            ConfigurationError: The broker refuses the login, or its certificate is not trusted.
            TransientError: The broker does not answer.
        """
        try:
            self._client.connect(self._settings.mqtt_host, self._settings.mqtt_port, _KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise untrusted(self.address, error) from None
        except (OSError, ValueError) as error:
            raise self._away(str(error)) from error
        self._client.loop_start()
        self._answered.wait(_CONNECT_S)
        if self._refusal is not None:
            raise self._refusal
        if not self._client.is_connected():
            raise self._away("no answer")
        self.send([Message(self._status_topic, ONLINE, is_retained=True)])

    def send(self, messages: Sequence[Message]) -> None:
        """Sends messages in order, and returns when the broker has acknowledged all of them.

        Raises:
            TransientError: The connection is lost, or the broker does not answer. Some messages may have been sent.
        """
        sent = [self._client.publish(each.topic, each.payload, qos=1, retain=each.is_retained) for each in messages]
        until = monotonic() + _ANSWER_S
        for message in sent:
            try:
                while not message.is_published():
                    self.check()
                    if monotonic() > until:
                        raise self._away("no acknowledgement")
                    message.wait_for_publish(_POLL_S)
            except (RuntimeError, ValueError) as error:
                raise self._away(str(error)) from error

    def check(self) -> None:
        """Raises a TransientError if the connection is lost."""
        if self._disconnected.is_set():
            raise self._away("disconnected")

    def close(self) -> None:
        """Announces that the sender is offline, and disconnects."""
        if self._client.is_connected():
            with contextlib.suppress(RuntimeError, ValueError):  # just lost: the broker publishes the will
                self._client.publish(self._status_topic, OFFLINE, qos=1, retain=True).wait_for_publish(_CLOSE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _away(self, why: str) -> TransientError:
        return TransientError(
            f"The MQTT broker {self.address} cannot be reached: {why}.",
            next_step="start it, or name another one: MQTT_HOST, MQTT_PORT",
        )

    # Callbacks, called in paho's thread.

    def _on_connect(self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _more: Any) -> None:
        if reason.is_failure:
            self._refusal = refusal(self.address, reason)
        self._answered.set()

    def _on_disconnect(self, _client: Client, _data: Any, _f: DisconnectFlags, _reason: ReasonCode, _m: Any) -> None:
        self._disconnected.set()
        self._answered.set()
