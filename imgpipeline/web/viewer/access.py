"""Who may use the viewer: holders of API keys, people named by a trusted proxy, or anyone on this machine.

Without keys and proxies there is no login, and the server only listens on a loopback address. A browser sends an API
key as the password of HTTP Basic authentication.
"""

import ipaddress
import os
from dataclasses import dataclass
from hmac import compare_digest
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import PREFIX, Settings
from imgpipeline.web.keys import KeyFile, Scope, sent_secret

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_READING = ("GET", "HEAD", "OPTIONS")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Visitor:
    """The sender of a request."""

    name: str
    """Name in acknowledgements and marks."""
    scopes: frozenset[Scope]


THIS_MACHINE = Visitor("viewer without login", frozenset({Scope.READ, Scope.ACKNOWLEDGE, Scope.REPLAY}))
"""Every visitor of a server without login."""


class Access:
    """Identifies the visitor of each request."""

    def __init__(self, settings: Settings) -> None:
        """Reads the trusted proxies from the settings. The file of API keys is read with each request.

        Raises:
            ConfigurationError: A trusted proxy is not an address or network, or its secret is empty.
        """
        self._keys = KeyFile(settings.api_keys_file)
        self._proxies = _networks(settings.trusted_proxies)
        self._header = settings.identity_header
        self._secret = settings.proxy_secret
        if self._proxies and self._secret is None and os.environ.get(f"{PREFIX}PROXY_SECRET") == "":
            raise ConfigurationError(
                f"{PREFIX}PROXY_SECRET is empty, so every program in the proxy's network could name a visitor.",
                next_step="set it to what the proxy sends as X-Proxy-Secret, or remove the variable",
            )
        self._proxy_scopes = frozenset({Scope.READ, Scope.ACKNOWLEDGE})

    def is_needed(self) -> bool:
        """Returns whether visitors have to log in.

        Raises:
            ConfigurationError: The file of keys cannot be read.
        """
        return bool(self._proxies) or self._keys.are_needed(Scope.READ)

    def visitor(self, request: Request) -> Visitor | None:
        """Returns the sender of a request; None if unknown.

        Raises:
            ConfigurationError: The file of keys cannot be read.
        """
        if not self.is_needed():
            return THIS_MACHINE
        named = request.headers.getlist(self._header)
        if len(named) == 1 and named[0].strip() and self._is_proxy(request):
            return Visitor(named[0].strip()[:_LONGEST_NAME], self._proxy_scopes)
        sent = sent_secret(request.headers.get("authorization", ""))
        key = self._keys.find(sent) if sent else None
        return Visitor(key.name or f"key {key.id}", frozenset(key.scopes)) if key else None

    def _is_proxy(self, request: Request) -> bool:
        if self._secret is not None:
            sent = request.headers.getlist("x-proxy-secret")
            if len(sent) != 1 or not compare_digest(sent[0].encode(), self._secret.get_secret_value().encode()):
                return False
        try:
            address = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def allowed(request: Request, scope: Scope) -> Visitor:
    """Returns the sender of a request that needs a scope.

    Raises:
        HTTPException: 403 if the sender does not have the scope.
    """
    visitor: Visitor = request.state.visitor
    if scope not in visitor.scopes:
        raise HTTPException(403, f"this needs an API key with the scope {scope}")
    return visitor


def is_forged(request: Request) -> bool:
    """Returns whether a page of another site made a browser send a request that changes something (CSRF).

    Browsers report this in headers that no page can set; other programs send neither header.
    See Fetch Metadata Request Headers (W3C), and RFC 6454 for `Origin`.
    """
    if request.method in _READING:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


def _networks(given: str) -> tuple[_Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in given.split(",") if one.strip())
    except ValueError as error:
        raise ConfigurationError(
            f"IMGPIPELINE_TRUSTED_PROXIES is not valid: {error}.",
            next_step="give addresses or networks, such as 127.0.0.1,10.0.3.0/24",
        ) from None
