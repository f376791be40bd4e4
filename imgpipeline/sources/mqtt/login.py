"""Login to the MQTT broker with user, password and TLS of the settings, and the errors of a refused login."""

import logging
import ssl

from paho.mqtt.client import Client
from paho.mqtt.reasoncodes import ReasonCode

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import Settings

LOG = logging.getLogger(__name__)
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
        ConfigurationError: Its file cannot be read.
    """
    if settings.mqtt_password is not None or settings.mqtt_password_file is None:
        return settings.mqtt_password.get_secret_value() if settings.mqtt_password else None
    try:
        lines = settings.mqtt_password_file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The password file {settings.mqtt_password_file} cannot be read: {type(error).__name__}.",
            next_step="set IMGPIPELINE_MQTT_PASSWORD_FILE to a readable text file",
        ) from None
    return lines[0] if lines else ""


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
