"""Who may use the viewer: holders of API keys, people whom a trusted proxy names, or this machine alone.

Without keys and proxies nobody is asked, and the server listens on a loopback address. A browser sends an API key as
the password of HTTP Basic authentication.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope, sent_secret

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_READING = ("GET", "HEAD", "OPTIONS")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request."""

    name: str
    """What acknowledgements say."""
    scopes: frozenset[Scope]
    """What they may do."""


THIS_MACHINE = Visitor("viewer without login", frozenset({Scope.READ, Scope.ACKNOWLEDGE, Scope.REPLAY}))
"""Whoever uses a server that asks nobody."""


class Access:
    """Decides about requests."""

    def __init__(self, settings: Settings) -> None:
        """Takes the file of keys and the trusted proxies from the settings.

        Raises:
            ConfigurationError: A trusted proxy is not an address or network.
        """
        self._keys = KeyFile(settings.api_keys_file)
        self._proxies = _networks(settings.trusted_proxies)
        self._header = settings.identity_header
        self._proxy_scopes = frozenset({Scope.READ, Scope.ACKNOWLEDGE})

    def is_needed(self) -> bool:
        """Tells whether requests are refused unless they say who sends them.

        Raises:
            ConfigurationError: The file of keys cannot be read.
        """
        return bool(self._proxies) or self._keys.are_needed(Scope.READ)

    def visitor(self, request: Request) -> Visitor | None:
        """Returns who sends a request; None if nobody knows.

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
        try:
            address = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def is_forged(request: Request) -> bool:
    """Tells whether a page of another site makes a browser send a request that changes something.

    Browsers say so themselves, in headers that no page can set; other programs send neither.
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
            f"IMGPIPELINE_TRUSTED_PROXIES is wrong: {error}.",
            next_step="give addresses or networks, such as 127.0.0.1,10.0.3.0/24",
        ) from None
