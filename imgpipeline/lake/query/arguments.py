"""What callers of `Lake` give as arguments: read, or refused with an error that names what is allowed."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import check_timezone
from imgpipeline.errors import ConfigurationError, UsageError

Names = str | Sequence[str]
"""One name, or several."""


def read_names(given: Names | None) -> tuple[str, ...]:
    """Returns one name or several as a tuple; None is not a name."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def read_status(given: str | None) -> FrameStatus | None:
    """Returns a frame's status."""
    if given is not None and given not in set(FrameStatus):
        raise UsageError(f"status is {given!r}.", next_step=f"give one of {', '.join(FrameStatus)}")
    return None if given is None else FrameStatus(given)


def read_limit(given: int | None) -> int | None:
    """Returns how many rows are wanted; None: all."""
    if given is not None and given < 1:
        raise UsageError(f"limit is {given}.", next_step="give a number from 1, or None for all")
    return given


def read_hour(given: int | None) -> int | None:
    """Returns an hour of the day; None: the whole day."""
    if given is not None and not 0 <= given <= 23:
        raise UsageError(f"hour is {given}.", next_step="give an hour from 0 to 23")
    return given


def read_timezone(given: str) -> str:
    """Returns the name of a time zone."""
    try:
        return check_timezone(given)
    except ValueError as error:
        raise UsageError(f"timezone: {error}.", next_step="give an IANA name such as Asia/Kolkata") from None


def check_folder(store_url: str) -> None:
    """Refuses a folder that does not exist: a mistyped name is not an empty store."""
    parts = urlsplit(store_url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise ConfigurationError(
            f"There is no store at {store_url}.",
            next_step="give the URL or folder of a store to Lake.open(), or set IMGPIPELINE_STORE_URL",
        )
