"""Clients of one S3 bucket, with time-outs that depend on the size of the body."""

import threading
from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings

SMALL_BODY_BYTES = 4 * 2**20
"""Bodies up to this size get the time-out of any other request."""
SLOWEST_BYTES_PER_S = 500_000
"""A larger body gets the time that it takes at this rate, 4 Mbit/s."""

_CONNECT_TIMEOUT_S = 5.0
_NO_LIMIT = {"timeout": timedelta(days=1)}
"""The limit of a whole request cannot be switched off, so it is long. `read_timeout` ends a hanging request: it
restarts whenever bytes arrive, so an answer may take as long as it needs. Sending a body does not restart it."""
_NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
"""`failures.persist` retries."""


class S3Clients:
    """Clients of one bucket and prefix, one for each size class of bodies, opened on first use. Thread-safe."""

    def __init__(self, settings: Settings, bucket: str, prefix: str | None) -> None:
        """Opens the client for small bodies.

        Args:
            settings: Endpoint, region, credentials and time limits.
            bucket: Name of the bucket.
            prefix: Prefix of all keys, without leading and trailing slashes; None for the whole bucket.

        Raises:
            ConfigurationError: Credentials are missing or incomplete.
        """
        self._options: dict[str, Any] = {**_NO_LIMIT, "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S)}
        self._options["allow_http"] = (settings.s3_endpoint or "").startswith("http://")
        self._timeout_s = settings.store_timeout_s
        self._config, self._bucket, self._prefix = _config(settings), bucket, prefix
        self._lock = threading.Lock()
        self.small = self._open(0)
        self._large: dict[int, S3Store] = {}

    def for_body(self, size_bytes: int) -> S3Store:
        """Returns a client whose time-out is long enough to send a body of this size."""
        if size_bytes <= SMALL_BODY_BYTES:
            return self.small
        most_bytes = 1 << (size_bytes - 1).bit_length()
        with self._lock:
            if most_bytes not in self._large:
                self._large[most_bytes] = self._open(most_bytes)
            return self._large[most_bytes]

    def _open(self, body_bytes: int) -> S3Store:
        silence = timedelta(seconds=self._timeout_s + body_bytes / SLOWEST_BYTES_PER_S)
        limits: Any = {**self._options, "read_timeout": silence}
        return S3Store(
            self._bucket, prefix=self._prefix, config=self._config, client_options=limits, retry_config=_NO_RETRIES
        )


def _config(settings: Settings) -> Any:
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if bool(key_id) != bool(secret):
        raise ConfigurationError(
            "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set.", next_step="set both, or neither"
        )
    if settings.s3_endpoint and not (key_id and secret):
        raise ConfigurationError(
            f"IMGPIPELINE_S3_ENDPOINT is {settings.s3_endpoint}, but no credentials are set.",
            next_step="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    config: dict[str, Any] = {
        "region": settings.s3_region,
        "virtual_hosted_style_request": settings.s3_endpoint is None,
    }
    if settings.s3_endpoint:
        config["endpoint"] = settings.s3_endpoint
    if key_id and secret:
        config |= {"access_key_id": key_id.get_secret_value(), "secret_access_key": secret.get_secret_value()}
    if settings.s3_session_token:
        config["session_token"] = settings.s3_session_token.get_secret_value()
    return config
