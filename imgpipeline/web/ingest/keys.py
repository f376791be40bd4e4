"""API keys: random secrets in a file of their hashes, each for some sources.

A key has 256 random bits, so one SHA-256 protects it; there is no password to guess.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from threading import Lock

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, UsageError


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without its secret."""

    id: str
    """Names it in lists; the first part of the key."""
    sha256: str
    """Hash of the whole key, hexadecimal."""
    sources: tuple[str, ...]
    """The sources that it may post to; `*` and `?` are wildcards."""
    created: str
    """When, RFC 3339."""

    def allows(self, source: str) -> bool:
        """Tells whether the key may post frames of a source."""
        return any(fnmatchcase(source, pattern) for pattern in self.sources)


class KeyFile:
    """The keys of a file. A change of the file holds from the next request on. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Names the file; it need not exist yet."""
        self.path = path
        self._lock = Lock()
        self._version: tuple[int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def keys(self) -> tuple[ApiKey, ...]:
        """Returns all keys.

        Raises:
            ConfigurationError: The file cannot be read as keys.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        with self._lock:
            if self._version != (stat.st_mtime_ns, stat.st_ino):
                self._keys = _read(self.path)
                self._version = (stat.st_mtime_ns, stat.st_ino)
            return self._keys

    def find(self, secret: str) -> ApiKey | None:
        """Returns the key that a client sent, or None."""
        digest = sha256(secret.encode()).hexdigest()
        return next((key for key in self.keys() if compare_digest(key.sha256, digest)), None)

    def add(self, sources: tuple[str, ...], now: datetime) -> str:
        """Makes a key and returns it; only its hash is kept.

        Raises:
            UsageError: No source is named.
            ConfigurationError: The file cannot be read or written.
        """
        if not sources:
            raise UsageError("The key is for no source.", next_step="name one: --source gate; or all: --source '*'")
        name = secrets.token_hex(4)
        secret = f"img_{name}_{secrets.token_urlsafe(32)}"
        key = ApiKey(name, sha256(secret.encode()).hexdigest(), sources, format_time(now))
        self._write((*self.keys(), key))
        return secret

    def remove(self, name: str) -> None:
        """Removes a key.

        Raises:
            UsageError: There is none of that id.
            ConfigurationError: The file cannot be read or written.
        """
        kept = tuple(key for key in self.keys() if key.id != name)
        if len(kept) == len(self.keys()):
            raise UsageError(f"There is no key {name!r}.", next_step="imgpipeline serve-ingest keys list")
        self._write(kept)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        unfinished = self.path.with_name(f"{self.path.name}.unfinished")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump([asdict(key) for key in keys], file, indent=2)
            unfinished.replace(self.path)
        except OSError as error:
            raise ConfigurationError(
                f"The file of API keys {self.path} cannot be written: {error.strerror}.",
                next_step="set IMGPIPELINE_API_KEYS_FILE to a file that this user may write",
            ) from error


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(ApiKey(str(k["id"]), str(k["sha256"]), tuple(k["sources"]), str(k["created"])) for k in found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as API keys: {type(error).__name__}.",
            next_step="make it again: imgpipeline serve-ingest keys add --source NAME",
        ) from None
