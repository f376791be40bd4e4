"""Delivers alerts through apprise at least once to each target that a rule notifies, and records every attempt.

A message carries the alert's `event_id` as its idempotency key: if a process dies between sending and recording, the
next process sends the same message again with the same key.

Targets are apprise URLs in the settings, optionally with names that rules refer to. `guards=mailtos://… ntfys://…`: a
rule with `notify = ["guards"]` reaches the first one, a rule without `notify` both.
"""

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import DELIVERED, attempts_prefix, numbered_key, parse_number
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Clock, Timestamp, back_off_s, format_time
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.events.alerts.chain import Alert, alert_numbers, read_alert
from imgpipeline.events.configuration import Rules
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.numbered import append_entry, read_entries
from imgpipeline.settings import Settings

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 900.0
_LISTED_IN_SUMMARY = 10
_POLL_S = 2.0
_LOG = logging.getLogger(__name__)
_READ = 50
"""Maximum number of undelivered alerts whose attempts are read, oldest first; newer ones usually fail for the same
reason."""
_UNTRIED_LIMIT = timedelta(minutes=1)


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
    given = settings.alert_targets.get_secret_value().split() if settings.alert_targets else []
    names: dict[str, set[str]] = {}
    for position, text in enumerate(given, start=1):
        found = _NAMED.fullmatch(text)
        url = found["url"] if found else ""
        if not _service().add(url):
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
    service = _service()
    service.add(target.url)
    return bool(service.notify(title=title, body=body))


def _service() -> Any:
    import apprise  # noqa: PLC0415 - loads 100 modules

    # Its messages about wrong URLs and failures contain the URL.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return apprise.Apprise()


def _name(url: str) -> str:
    return f"{url.partition(':')[0].lower()}-{sha256(url.encode()).hexdigest()[:4]}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver an alert to all targets that do not have it."""

    at: Timestamp
    accepted: tuple[str, ...]
    failed: tuple[str, ...]
    """Names of the targets that did not accept it, and names in the rule that no target has."""
    alerts: int
    """Number of alerts in the message; more than one in a summary."""


_ATTEMPT = TypeAdapter(Attempt)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one pass."""

    delivered: int
    failed: int
    """Alerts that a target did not accept; they are sent again later."""
    waiting: int
    """Alerts whose next attempt is not due yet."""


@dataclass(slots=True)
class MessagePace:
    """Limits the messages that one process sends, and its requests between them."""

    per_minute: int
    """Maximum number of messages in 60 seconds."""
    waiting: dict[int, datetime] = field(default_factory=dict)
    """When the next attempt of each alert that has to wait is due, so that its attempts are not read until then."""
    _sent: list[datetime] = field(default_factory=list)

    def allowance(self, now: datetime) -> int:
        """Returns the number of messages that may be sent now."""
        self._sent = [at for at in self._sent if now - at < timedelta(minutes=1)]
        return max(0, self.per_minute - len(self._sent))

    def take(self, now: datetime) -> None:
        """Records that a message is sent."""
        self._sent.append(now)


def undelivered_numbers(store: ObjectStore) -> list[int]:
    """Returns the sorted numbers of the alerts that some target may not have; takes two listings.

    Raises:
        PermanentError: Numbers of alerts are missing.
        TransientError: The store does not answer.
    """
    delivered = {parse_number(info.key) for info in store.list_objects(DELIVERED)}
    return [number for number in alert_numbers(store) if number not in delivered]


def read_attempts(store: ObjectStore, number: int) -> list[Attempt]:
    """Returns the attempts to deliver an alert, in order.

    Raises:
        PermanentError: A record is damaged.
        TransientError: The store does not answer.
    """
    return [_ATTEMPT.validate_python(entry) for entry in read_entries(store, attempts_prefix(number))]


def deliver(
    store: ObjectStore, settings: Settings, *, now: datetime, is_retry: bool = False, pace: MessagePace | None = None
) -> Delivery:
    """Sends each alert that is due to the targets that do not have it; sends a summary if there are too many alerts.

    Args:
        settings: The targets, and the limit of messages per minute.
        now: Time of the attempt, UTC.
        is_retry: Also send alerts whose next attempt is not due yet.
        pace: Limits the messages of this process; default: the limit in the settings, starting now.

    Raises:
        ConfigurationError: apprise does not support a target's URL.
        PermanentError: A stored object is damaged.
        TransientError: The store does not answer.
    """
    targets = read_targets(settings)
    if not targets:
        return Delivery(0, 0, 0)
    numbers = undelivered_numbers(store)
    pace = pace or MessagePace(settings.alert_messages_per_minute)
    allowance = pace.allowance(now)
    asked = [number for number in numbers if allowance and (is_retry or pace.waiting.get(number, now) <= now)]
    attempts = {number: read_attempts(store, number) for number in asked}
    due_at = {number: next_attempt_at(attempts[number]) or now for number in asked}
    due = [number for number in asked if is_retry or due_at[number] <= now]
    waiting = {**pace.waiting, **due_at}
    pace.waiting = {number: waiting[number] for number in numbers if number in waiting}
    alerts = [read_alert(store, number) for number in due]
    is_storm = len(alerts) > allowance
    delivered = 0
    for group in [alerts] if is_storm else [[alert] for alert in alerts]:
        lacking = {alert.number: _lacking(targets, alert, attempts[alert.number]) for alert in group}
        wanted = {target: [each for each in group if target in lacking[each.number]] for target in targets}
        pace.take(now)
        accepted = {target for target, alerts_of in wanted.items() if alerts_of and send(target, *_message(alerts_of))}
        reach("alert sent", str(group[0].number))
        for alert in group:
            took = [target.name for target in lacking[alert.number] if target in accepted]
            refused = [target.name for target in lacking[alert.number] if target not in accepted]
            attempt = Attempt(now, tuple(took), (*refused, *missing_names(targets, alert.notify)), len(group))
            delivered += _record(store, alert.number, attempt)
    return Delivery(delivered, len(alerts) - delivered, len(numbers) - len(due))


def _record(store: ObjectStore, number: int, attempt: Attempt) -> bool:
    """Records an attempt; returns whether all targets of the alert have it now."""
    append_entry(store, attempts_prefix(number), _ATTEMPT.dump_python(attempt, mode="json"))
    if attempt.failed:
        return False
    store.put(numbered_key(DELIVERED, number), b"{}")
    return True


def _lacking(targets: Sequence[Target], alert: Alert, attempts: Iterable[Attempt]) -> list[Target]:
    have = {name for attempt in attempts for name in attempt.accepted}
    return [target for target in targets if target.is_for(alert.notify) and target.name not in have]


def next_attempt_at(attempts: Sequence[Attempt]) -> datetime | None:
    """Returns when the next attempt to deliver an alert is due, UTC; None: now."""
    if not attempts:
        return None
    return attempts[-1].at + timedelta(seconds=back_off_s(len(attempts), _FIRST_PAUSE_S, _LONGEST_PAUSE_S))


def _message(alerts: Sequence[Alert]) -> tuple[str, str]:
    """Returns title and body of the message about one or more alerts."""
    if len(alerts) == 1:
        return f"Alert {alerts[0].number}: {alerts[0].event.rule} at {alerts[0].event.source}", _body(alerts[0])
    first, last = alerts[0].number, alerts[-1].number
    listed = [
        f"{alert.number}: {alert.event.rule} at {alert.event.source}, {format_time(alert.event.timestamp)}"
        for alert in alerts[:_LISTED_IN_SUMMARY]
    ]
    more = len(alerts) - len(listed)
    body = "\n".join([*listed, *([f"and {more} more: imgpipeline alerts list"] if more else []),
                      f"idempotency key: {_key_of(alerts)}"])  # fmt: skip
    return f"{counted(len(alerts), 'alert')}: {first} to {last}", body


def _body(alert: Alert) -> str:
    event = alert.event
    lines = [f"{event.reason}, {format_time(event.timestamp)}"]
    lines += [f"{name}: {path}" for name, path in alert.images]
    return "\n".join([*lines, f"idempotency key: {event.event_id}"])


def _key_of(alerts: Sequence[Alert]) -> str:
    return sha256(" ".join(alert.event.event_id for alert in alerts).encode()).hexdigest()[:32]


@contextmanager
def delivering(store: ObjectStore, settings: Settings, clock: Clock) -> Iterator[None]:
    """Delivers alerts in a thread while the block runs, and once more at its end; does nothing without targets.

    A thread, so a slow target does not delay new alerts. Failures are logged and retried.

    Raises:
        ConfigurationError: apprise does not support a target's URL.
    """
    if not read_targets(settings):
        yield
        return
    stop, pace = threading.Event(), MessagePace(settings.alert_messages_per_minute)

    def loop() -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(_POLL_S)
            try:
                done = deliver(store, settings, now=clock(), pace=pace)
                if done.failed:
                    _LOG.warning("Not delivered: %s. The next attempts follow.", counted(done.failed, "alert"))
            except (PermanentError, TransientError) as error:
                _LOG.warning("%s", error)

    thread = threading.Thread(target=loop, name="alert delivery")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The alerts that some target does not have."""

    numbers: tuple[int, ...]
    late: tuple[int, ...]
    """Numbers of the alerts that a target refused, or that were not sent within a minute."""
    retry_at: datetime | None
    """When the next attempt is due, UTC; None if all alerts are delivered."""
    said: str


def find_undelivered(store: ObjectStore, settings: Settings, *, now: datetime) -> Undelivered:
    """Finds the alerts that some target does not have; without targets there are none.

    Args:
        now: The clock, UTC.

    Raises:
        ConfigurationError: apprise does not support a target's URL.
        PermanentError: A stored object is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    if not read_targets(settings):
        return Undelivered((), (), None, "IMGPIPELINE_ALERT_TARGETS is not set, so alerts are stored but not sent.")
    numbers = undelivered_numbers(store)
    late, due = [], []
    for number in numbers[:_READ]:
        attempts = read_attempts(store, number)
        due_at = next_attempt_at(attempts)
        raised_at = None if due_at else read_alert(store, number).raised_at
        due.append(due_at or now)
        if raised_at is None or now - raised_at > _UNTRIED_LIMIT:
            late.append(number)
    return Undelivered(tuple(numbers), tuple(late), min(due, default=None), _said(numbers, late))


def _said(numbers: list[int], late: list[int]) -> str:
    if not numbers:
        return "Every target has every alert."
    if not late:
        return f"{counted(len(numbers), 'new alert')} not delivered yet."
    return (
        f"{counted(len(numbers), 'alert')} not delivered to every target, such as alert {late[0]}; retried later. "
        f"`imgpipeline alerts show {late[0]} --json` lists the attempts; `imgpipeline alerts test` tests the targets."
    )
