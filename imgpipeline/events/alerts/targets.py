"""The targets of alerts: apprise URLs in the settings, optionally with names that rules refer to.

`guards=mailtos://… ntfys://…`: a rule with `notify = ["guards"]` reaches the first one, a rule without `notify` both.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import Rules
from imgpipeline.settings import Settings

_NAMED = re.compile(r"(?:(?P<names>[A-Za-z0-9_-]+(?:,[A-Za-z0-9_-]+)*)=)?(?P<url>.*)")


@dataclass(frozen=True, slots=True)
class Target:
    """A recipient of alerts."""

    name: str
    """Its scheme and a short hash, such as `json-1a2b`; not secret."""
    url: str
    """The apprise URL; secret."""
    names: frozenset[str] = frozenset()

    def is_for(self, notify: Sequence[str]) -> bool:
        """Whether it gets the alerts of a rule that notifies these names; no names: all targets."""
        return not notify or not self.names.isdisjoint(notify)


def read_targets(settings: Settings) -> tuple[Target, ...]:
    """Returns the targets in the settings; none if unset.

    Raises:
        ConfigurationError: apprise does not support a target's URL; the message names its position, not the URL.
    """
    import apprise  # noqa: PLC0415 - loads 100 modules

    given = settings.alert_targets.get_secret_value().split() if settings.alert_targets else []
    names: dict[str, set[str]] = {}
    for position, text in enumerate(given, start=1):
        found = _NAMED.fullmatch(text)
        url = found["url"] if found else ""
        if not apprise.Apprise().add(url):
            raise ConfigurationError(
                f"IMGPIPELINE_ALERT_TARGETS: apprise does not support the URL of target {position} of {len(given)}.",
                next_step="correct it, then run `imgpipeline alerts test`",
            )
        names.setdefault(url, set()).update(found["names"].split(",") if found and found["names"] else ())
    return tuple(Target(_name(url), url, frozenset(of)) for url, of in names.items())


def missing_names(targets: Sequence[Target], notify: Sequence[str]) -> tuple[str, ...]:
    """Returns the names in `notify` that no target has."""
    known = {name for target in targets for name in target.names}
    return tuple(name for name in notify if name not in known)


def check_names(targets: Sequence[Target], rules: Rules) -> None:
    """Raises a ConfigurationError if a rule notifies a name that no target has; accepts any name without targets."""
    for rule in rules.rule if targets else ():
        for name in missing_names(targets, rule.notify):
            raise ConfigurationError(
                f"The rule {rule.name!r} notifies {name!r}, but no target in IMGPIPELINE_ALERT_TARGETS has this name.",
                next_step=f"put {name}= before the URL of a target, or correct `notify` in the rules",
            )


def send(target: Target, title: str, body: str) -> bool:
    """Sends one message to one target; returns whether it accepted it."""
    import apprise  # noqa: PLC0415 - loads 100 modules

    # Its messages about failures contain the target's URL.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service = apprise.Apprise()
    service.add(target.url)
    return bool(service.notify(title=title, body=body))


def _name(url: str) -> str:
    return f"{url.partition(':')[0].lower()}-{sha256(url.encode()).hexdigest()[:4]}"
