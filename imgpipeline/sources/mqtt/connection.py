"""Logs in to the MQTT broker of the settings, and sends messages to it with QoS 1."""

import contextlib
import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.settings import Settings, read_secret

LOG = logging.getLogger(__name__)
KEEPALIVE_S = 20
CONNECT_S = 10.0
ONLINE, OFFLINE = b"online", b"offline"
_ANSWER_S = 30.0
_CLOSE_S = 1.0
_POLL_S = 0.05
_UNSUPPORTED_PROTOCOL = 0x84
_REFUSED_LOGINS = {0x85, 0x86, 0x87, 0x8A, 0x8C}
"""Client identifier, user or password, not authorized, banned, authentication method (MQTT 5.0, 3.2.2.2)."""


def authenticate(client: Client, settings: Settings) -> None:
    """Sets user, password and TLS of a client. Call it before the client connects.

    Raises:
        ConfigurationError: The password file or the CA file cannot be read.
    """
    if settings.mqtt_username is not None:
        client.username_pw_set(settings.mqtt_username, _password_of(settings))
    if settings.mqtt_tls:
        client.tls_set_context(_tls_context_of(settings))


def untrusted(address: str, error: ssl.SSLCertVerificationError) -> ConfigurationError:
    """Returns the error for a broker whose certificate is not trusted."""
    return ConfigurationError(
        f"The certificate of the MQTT broker {address} is not trusted: {error.verify_message}.",
        next_step="name the authority's PEM file: IMGPIPELINE_MQTT_CA_FILE",
    )


def refusal(address: str, reason: ReasonCode) -> PermanentError | None:
    """Returns the error for a refused connection; None, and a log line, if the refusal may be temporary."""
    if reason.value == _UNSUPPORTED_PROTOCOL:
        return ConfigurationError(
            f"The MQTT broker {address} does not support MQTT 5.", next_step="set IMGPIPELINE_MQTT_PROTOCOL=3.1.1"
        )
    if reason.value in _REFUSED_LOGINS:
        return ConfigurationError(
            f"The MQTT broker {address} refuses the login: {reason}.",
            next_step="set IMGPIPELINE_MQTT_USERNAME and IMGPIPELINE_MQTT_PASSWORD",
        )
    LOG.warning("The MQTT broker %s refuses the connection: %s", address, reason)
    return None


def _password_of(settings: Settings) -> str | None:
    """Returns the password for the broker; None if there is none.

    Raises:
        ConfigurationError: Its file cannot be read, or is empty.
    """
    if settings.mqtt_password is not None or settings.mqtt_password_file is None:
        return settings.mqtt_password.get_secret_value() if settings.mqtt_password else None
    return read_secret(settings.mqtt_password_file)


def _tls_context_of(settings: Settings) -> ssl.SSLContext:
    """Returns the TLS context for the broker.

    Raises:
        ConfigurationError: The CA file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=settings.mqtt_ca_file and str(settings.mqtt_ca_file.expanduser()))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{settings.mqtt_ca_file} cannot be read as certificates: {type(error).__name__}.",
            next_step="set IMGPIPELINE_MQTT_CA_FILE to a PEM file",
        ) from None


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """One message to send."""

    topic: str
    payload: bytes
    is_retained: bool = False
    """Whether the broker keeps the message for later subscribers."""


class MqttSender:
    """One connection, for use by one thread. After an error, close it and create another one."""

    def __init__(self, settings: Settings, *, client_id: str = "", status_topic: str | None = None) -> None:
        """Prepares a sender; `open` connects.

        Args:
            settings: The broker and the login.
            client_id: Must be unique at the broker; empty: a random one.
            status_topic: Gets `online` while the sender is connected, then `offline`, even if the sender is killed;
                None: nothing says whether it is connected.

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
            client_id=client_id,
            protocol=MQTTv5 if settings.mqtt_protocol == "5" else MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_S
        if status_topic:
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
            self._client.connect(self._settings.mqtt_host, self._settings.mqtt_port, KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise untrusted(self.address, error) from None
        except (OSError, ValueError) as error:
            raise self._away(str(error)) from error
        self._client.loop_start()
        self._answered.wait(CONNECT_S)
        if self._refusal is not None:
            raise self._refusal
        if not self._client.is_connected():
            raise self._away("no answer")
        if self._status_topic:
            self.send([MqttMessage(self._status_topic, ONLINE, is_retained=True)])

    def send(self, messages: Sequence[MqttMessage]) -> None:
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
        if self._status_topic and self._client.is_connected():
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
