"""Looks up the path of an image by `video_id` and `frame_id` in a PostgreSQL table `frames`, as classic consumers do.

The table may be the producer's, or the view of that name that the sink makes (docs/sinks.md).
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode, TransientError

_PATH = "SELECT path FROM frames WHERE video_id = %s AND frame_id = %s"
_TIMEOUT_S = 10


@dataclass(slots=True)
class FramePaths:
    """A `PathTemplate` that asks the database; used by many threads, which share one connection."""

    url: SecretStr
    fields: tuple[str, ...] = ("video_id", "frame_id")
    numbers: tuple[str, ...] = ()
    _open: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Returns the path of a frame.

        Raises:
            BadInputError: The table has no such frame.
            ConfigurationError: psycopg2 is not installed, or the database refuses the login or has no such table.
            TransientError: The database does not answer.
        """
        try:
            import psycopg2  # noqa: PLC0415 - an optional package
        except ImportError:
            raise ConfigurationError(
                "IMGPIPELINE_FRAMES_DATABASE needs psycopg2.", next_step='run `pip install "imgpipeline[sinks]"`'
            ) from None
        given = [value_of(name) for name in self.fields]
        try:
            with self._lock:
                row = self._ask(psycopg2, given)
        except psycopg2.Error as error:
            raise _failure(psycopg2, error) from None
        if row is None:
            wanted = ", ".join(f"{name} {value!r}" for name, value in zip(self.fields, given, strict=True))
            raise BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, f"The table frames has no path for {wanted}.")
        return str(row[0])

    def _ask(self, psycopg2: Any, given: list[str]) -> Any:
        if self._open is None:
            self._open = psycopg2.connect(self.url.get_secret_value(), connect_timeout=_TIMEOUT_S)
            self._open.autocommit = True
        try:
            with self._open.cursor() as cursor:
                cursor.execute(_PATH, given)
                return cursor.fetchone()
        except psycopg2.Error:
            with contextlib.suppress(psycopg2.Error):
                self._open.close()
            self._open = None
            raise


def _failure(psycopg2: Any, error: Exception) -> ConfigurationError | TransientError:
    reason = str(error).strip().partition("\n")[0]
    is_refusal = isinstance(error, psycopg2.ProgrammingError) or "authentication failed" in reason
    if is_refusal:
        return ConfigurationError(
            f"The database of IMGPIPELINE_FRAMES_DATABASE refuses: {reason}",
            next_step="correct its URL; it needs a table frames(video_id, frame_id, path)",
        )
    return TransientError(f"The database of IMGPIPELINE_FRAMES_DATABASE does not answer: {reason}")
