"""The address of a camera, with its user and password kept apart from everything that is shown or stored."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from imgpipeline.errors import ConfigurationError, UsageError

_EXAMPLE = "rtsp://camera.local:554/stream1"


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """Where a camera streams."""

    shown: str
    """Scheme, host, port and path: what may be logged and shown."""
    secret: str = field(repr=False)
    """The whole URL with user, password and query; only the process that reads the camera gets it."""

    @property
    def path(self) -> str:
        """The path without its slashes; empty if there is none."""
        return urlsplit(self.shown).path.strip("/")


def read_address(url: str, credentials: str | None = None) -> RtspAddress:
    """Reads the URL of a camera.

    Args:
        url: `rtsp://` or `rtsps://`, with or without `user:password@`.
        credentials: `user:password`, as plain text; replaces those in the URL.

    Returns:
        The address.

    Raises:
        UsageError: It is not such a URL. The message does not show it, because it may hold a password.
        ConfigurationError: The credentials are not `user:password`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("rtsp", "rtsps") or not host:
        raise UsageError(
            f"The camera's URL is not an RTSP URL, expected one such as {_EXAMPLE}.", next_step="correct the URL"
        )
    where = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if credentials is not None:
        user, colon, password = credentials.partition(":")
        if not colon or not user:
            raise ConfigurationError(
                f"The credentials of {parts.scheme}://{where} are not of the form user:password.",
                next_step="write the user, a colon and the password, nothing else",
            )
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    return RtspAddress(
        shown=f"{parts.scheme}://{where}{parts.path}", secret=f"{parts.scheme}://{login}{where}{parts.path}{query}"
    )


def read_credentials(variable: str | None, file: Path | None) -> str | None:
    """Returns `user:password` from an environment variable or the first line of a file; None if neither is named.

    Raises:
        UsageError: Both are named.
        ConfigurationError: The variable is not set, or the file cannot be read.
    """
    if variable and file:
        raise UsageError("Credentials are given twice.", next_step="name a variable or a file, not both")
    if variable:
        value = os.environ.get(variable)
        if not value:
            raise ConfigurationError(
                f"The environment variable {variable} is not set, expected user:password.",
                next_step=f"export {variable}=user:password, or use --credentials-file",
            )
        return value.strip()
    if file:
        try:
            return (file.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"The credentials file {file} cannot be read: {type(error).__name__}.",
                next_step="name a text file whose first line is user:password",
            ) from error
    return None
