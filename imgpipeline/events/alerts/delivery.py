"""Delivers alerts through apprise, at least once to each target that a rule notifies; every attempt is recorded.

A message carries the alert's `event_id` as its idempotency key: if a process dies between sending and recording, the
next one sends the same message again with the same key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import DELIVERED, attempts_prefix, delivered_key, parse_number
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.alerts.chain import alert_numbers, read_alert
from imgpipeline.events.alerts.numbered import append_entry, read_entries
from imgpipeline.events.alerts.targets import Target, missing_names, read_targets, send
from imgpipeline.events.alerts.values import Alert
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 900.0
_LISTED_IN_SUMMARY = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver an alert to all targets that lack it."""

    at: datetime
    """When, UTC."""
    accepted: tuple[str, ...]
    """Names of the targets that accepted it."""
    failed: tuple[str, ...]
    """Names of the targets that did not, and names in rules that no target has."""
    alerts: int
    """How many alerts the message was about; more than one in a summary."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Attempt":
        """Reads what `to_json` wrote."""
        return cls(parse_time(data["at"]), tuple(data["accepted"]), tuple(data["failed"]), int(data["alerts"]))

    def to_json(self) -> dict[str, Any]:
        """Returns the attempt as one JSON object."""
        lists = {"accepted": list(self.accepted), "failed": list(self.failed)}
        return {"at": format_time(self.at), **lists, "alerts": self.alerts}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one pass has done."""

    delivered: int
    """Alerts that every target has now."""
    failed: int
    """Alerts that a target did not accept; they are tried again."""
    waiting: int
    """Alerts whose next attempt is not due yet."""


@dataclass(slots=True)
class MessagePace:
    """How many messages one process may still send."""

    per_minute: int
    """At most this many in 60 seconds."""
    _sent: list[datetime] = field(default_factory=list)

    def allowance(self, now: datetime) -> int:
        """Returns how many messages may be sent now."""
        self._sent = [at for at in self._sent if now - at < timedelta(minutes=1)]
        return max(0, self.per_minute - len(self._sent))

    def take(self, now: datetime) -> None:
        """Notes that a message is sent."""
        self._sent.append(now)


def undelivered_numbers(store: ObjectStore) -> list[int]:
    """Returns the numbers of the alerts that some target may lack, sorted: two listings.

    Raises:
        PermanentError: Numbers of alerts are missing.
        TransientError: The store does not answer.
    """
    delivered = {parse_number(info.key) for info in store.list_objects(DELIVERED)}
    return [number for number in alert_numbers(store) if number not in delivered]


def read_attempts(store: ObjectStore, number: int) -> list[Attempt]:
    """Returns the attempts to deliver an alert, in their order.

    Raises:
        PermanentError: One is damaged.
        TransientError: The store does not answer.
    """
    return [Attempt.from_json(entry) for entry in read_entries(store, attempts_prefix(number))]


def deliver(
    store: ObjectStore, settings: Settings, *, now: datetime, is_retry: bool = False, pace: MessagePace | None = None
) -> Delivery:
    """Sends the alerts that are due to the targets that lack them; more than a few as one summary.

    Args:
        store: The object store.
        settings: The targets, and how many messages they get.
        now: Time of the attempt, UTC.
        is_retry: Try now what waits for its next attempt.
        pace: How many messages this process may still send; default: as many as the settings allow in a minute.

    Raises:
        ConfigurationError: A target is no URL that apprise knows.
        PermanentError: A stored object is damaged.
        TransientError: The store does not answer.
    """
    targets = read_targets(settings)
    if not targets:
        return Delivery(0, 0, 0)
    numbers = undelivered_numbers(store)
    attempts = {number: read_attempts(store, number) for number in numbers}
    pace = pace or MessagePace(settings.alert_messages_per_minute)
    allowance = pace.allowance(now)
    due = [number for number in numbers if allowance and (is_retry or _is_due(attempts[number], now))]
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
    """Records an attempt; returns whether all targets have the alert now."""
    append_entry(store, attempts_prefix(number), attempt.to_json())
    if attempt.failed:
        return False
    store.put(delivered_key(number), b"{}")
    return True


def _lacking(targets: Sequence[Target], alert: Alert, attempts: Iterable[Attempt]) -> list[Target]:
    have = {name for attempt in attempts for name in attempt.accepted}
    return [target for target in targets if target.is_for(alert.notify) and target.name not in have]


def next_attempt_at(attempts: Sequence[Attempt]) -> datetime | None:
    """Returns when an alert that some target lacks is due again, UTC; None: at once."""
    if not attempts:
        return None
    pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(len(attempts) - 1, 20), _LONGEST_PAUSE_S)
    return attempts[-1].at + timedelta(seconds=pause_s)


def _is_due(attempts: Sequence[Attempt], now: datetime) -> bool:
    due_at = next_attempt_at(attempts)
    return due_at is None or now >= due_at


def _message(alerts: Sequence[Alert]) -> tuple[str, str]:
    """Returns title and body of the message about one alert or several."""
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
