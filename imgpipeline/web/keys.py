"""API keys: random secrets with scopes; a file stores their hashes.

A key has 256 random bits, so a plain SHA-256 protects it.
"""

import os
import secrets
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, UsageError


class Scope(StrEnum):
    """Permission of a key."""

    INGEST = "ingest"
    """Post images to `serve-ingest`."""
    READ = "read"
    ACKNOWLEDGE = "acknowledge"
    """Acknowledge alerts, mark frames as reviewed, and give feedback."""
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without its secret."""

    id: str
    """Public id; the first part of the key."""
    sha256: str
    """Hash of the whole key, hexadecimal."""
    sources: tuple[str, ...]
    """Sources that it may post to; `*` and `?` are wildcards."""
    created: str
    """Time of creation, RFC 3339."""
    scopes: tuple[Scope, ...] = (Scope.INGEST,)
    name: str = ""
    """Name of its user, for acknowledgements."""

    def allows(self, source: str) -> bool:
        """Returns whether the key may post frames of a source."""
        return Scope.INGEST in self.scopes and any(fnmatchcase(source, pattern) for pattern in self.sources)


_KEYS = TypeAdapter(tuple[ApiKey, ...])


class KeyFile:
    """The keys in a file. A change of the file takes effect with the next request. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Keeps the path; the file may not exist yet."""
        self.path = path
        self._lock = Lock()
        self._version: tuple[int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()
        self._needed: set[Scope] = set()

    def keys(self, scope: Scope | None = None) -> tuple[ApiKey, ...]:
        """Returns all keys, or those with a scope.

        Raises:
            ConfigurationError: The file is not a valid file of keys.
        """
        return tuple(key for key in self._all() if scope is None or scope in key.scopes)

    def _all(self) -> tuple[ApiKey, ...]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        with self._lock:
            if self._version != (stat.st_mtime_ns, stat.st_ino):
                self._keys = _read(self.path)
                self._version = (stat.st_mtime_ns, stat.st_ino)
            return self._keys

    def are_needed(self, scope: Scope) -> bool:
        """Returns whether requests need a key: a key with the scope exists, or existed at an earlier call.

        So removing the last key does not open a running server to everyone.
        """
        if self.keys(scope):
            self._needed.add(scope)
        return scope in self._needed

    def find(self, secret: str) -> ApiKey | None:
        """Returns the key with a secret, or None."""
        digest = sha256(secret.encode()).hexdigest()
        return next((key for key in self.keys() if compare_digest(key.sha256, digest)), None)

    def add(
        self, sources: tuple[str, ...], now: datetime, *, scopes: tuple[Scope, ...] = (Scope.INGEST,), name: str = ""
    ) -> str:
        """Creates a key and returns its secret, of which only the hash is stored. Only the scope `ingest` has sources.

        Raises:
            UsageError: It has no scope, the scope `ingest` without sources, or sources without the scope `ingest`.
            ConfigurationError: The file cannot be read or written.
        """
        if not scopes:
            raise UsageError("The key has no scope.", next_step=f"give --scope {', '.join(Scope)}")
        if Scope.INGEST in scopes and not sources:
            raise UsageError("The key has no source.", next_step="name one: --source gate; or all: --source '*'")
        if sources and Scope.INGEST not in scopes:
            raise UsageError("--source needs the scope ingest.", next_step="add --scope ingest, or leave out --source")
        key_id = secrets.token_hex(4)
        secret = f"img_{key_id}_{secrets.token_urlsafe(32)}"
        digest = sha256(secret.encode()).hexdigest()
        self._write((*self.keys(), ApiKey(key_id, digest, sources, format_time(now), scopes, name)))
        return secret

    def remove(self, name: str) -> None:
        """Removes a key.

        Raises:
            UsageError: There is no key with this id.
            ConfigurationError: The file cannot be read or written.
        """
        kept = tuple(key for key in self.keys() if key.id != name)
        if len(kept) == len(self.keys()):
            raise UsageError(f"There is no key {name!r}.", next_step="imgpipeline keys list")
        self._write(kept)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        unfinished = self.path.with_name(f"{self.path.name}.unfinished")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_KEYS.dump_json(keys, indent=2))
            unfinished.replace(self.path)
        except OSError as error:
            raise ConfigurationError(
                f"The file of API keys {self.path} cannot be written: {error.strerror}.",
                next_step="set IMGPIPELINE_API_KEYS_FILE to a file that this user may write",
            ) from error


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return _KEYS.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} is not a valid file of API keys: {type(error).__name__}.",
            next_step="delete it and create the keys again: imgpipeline keys add",
        ) from None


def sent_secret(authorization: str) -> str:
    """Returns the secret in an `Authorization` header: `Bearer KEY`, or the password of `Basic`."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""
