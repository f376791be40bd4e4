"""Translates the settings into options of kafka-python, for all its clients."""

from typing import Any

from imgpipeline.settings import Settings

FIRST_TIMEOUT_MS = 1_500
"""How long a client looks for a broker at first: what is wrong with the settings is wrong after that too."""
BOOTSTRAP_TIMEOUT_MS = 4_000
"""How long it looks again where no setting was found wrong; a broker that restarts takes about 4 s."""


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Returns the options that every client is opened with.

    They hold the password: they must not be logged.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.kafka_bootstrap_servers.split(",")],
        "client_id": "imgpipeline",
        "security_protocol": settings.kafka_security_protocol,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        # A broker that was restarted is found again within half a second, not within kafka-python's 30 s.
        "reconnect_backoff_max_ms": 500,
    }
    if settings.kafka_api_version:
        options["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ca_file:
        options["ssl_cafile"] = str(settings.kafka_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options
