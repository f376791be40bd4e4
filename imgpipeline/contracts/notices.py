"""Notices: records in the frames topic in which a source reports on itself instead of announcing a frame.

    {"source": "cam-1", "session": "b3f0", "kind": "account", "from": "…T12:00:00Z", "to": "…T12:01:00Z",
     "received": 1500, "announced": 60, "gated": 1430, "dropped": {"queue": 10}, "failed": 0, "observed_s": 59.9}

An account counts the frames that a source received in an interval of frame time, by outcome. The other kinds report
that a session started or ended, or that the source went offline or online, with a `reason`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.message_fields import (
    checked_text,
    invalid_field,
    load_object,
    read_attributes,
    read_count,
    read_timestamp,
)
from imgpipeline.contracts.messages import (
    IMAGE_FIELDS,
    FrameMessage,
    MessageForm,
    holds_image,
    parse_message,
    read_replay_of,
)
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.contracts.times import day_of, format_time, parse_time

ANNOUNCED_BEFORE = "announced_before"
"""Attribute of an account in another topic than its frames. It maps each `topic/partition` to an offset; the announced
frames are before that offset."""
_MARKS = (b'"kind"', b'"session"')
"""Bytes that every notice contains. Checking them first avoids parsing all other records twice."""
_KNOWN = frozenset({
    "source", "session", "kind", "from", "to", "timestamp", "reason", "received_from", "received_to", "received",
    "announced", "gated", "dropped", "failed", "observed_s", "attributes",
})  # fmt: skip


class NoticeKind(StrEnum):
    """What a notice reports."""

    ACCOUNT = "account"
    """Counts of the frames received in an interval, by outcome."""
    STARTED = "started"
    ENDED = "ended"
    OFFLINE = "offline"
    """The source delivers no frames."""
    ONLINE = "online"
    """The source delivers frames again."""


@dataclass(frozen=True, slots=True)
class Account:
    """The frames that a source received, by outcome: `received = announced + gated + dropped + failed`."""

    received: int
    announced: int
    gated: int = 0
    """Frames that it skipped deliberately, such as unchanged ones."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Frames that it lost, by reason."""
    failed: int = 0
    """Frames that it could not decode or store."""
    observed_s: float = 0.0
    """Seconds of the interval in which it was delivering frames."""
    received_from: datetime | None = None
    """When the first frame arrived, by the receiver's clock, UTC; None if it is not known."""
    received_to: datetime | None = None
    """When the last frame arrived, by the receiver's clock, UTC; None if it is not known."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The outcome of an offset whose record reports on a source."""

    offset: int
    kind: NoticeKind
    source: str
    session: str
    """The source's session: one connection, or one run over a folder."""
    interval_start: datetime
    """Start of the reported interval of frame time, UTC; it determines the day."""
    interval_end: datetime
    """End of the interval, UTC, at most the next midnight; equal to the start unless it is an account."""
    reason: str | None = None
    """The reason, as text for people; None if none was given."""
    account: Account | None = None
    """The figures of an account; None for all other kinds."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this notice replays."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Other fields from the source, as JSON values."""

    @property
    def day(self) -> date:
        """The UTC day it is listed under."""
        return day_of(self.interval_start)

    def to_json(self) -> dict[str, Any]:
        """Returns the notice as one JSON object, without empty optional fields."""
        optional = {"reason": self.reason, "replay_of": self.replay_of, "attributes": dict(self.attributes)}
        return {
            "offset": self.offset,
            "kind": self.kind.value,
            "source": self.source,
            "session": self.session,
            "from": format_time(self.interval_start),
            "to": format_time(self.interval_end),
            **(_account_to_json(self.account) if self.account else {}),
            **{name: value for name, value in optional.items() if value},
        }

    def to_value(self) -> bytes:
        """Returns the record value of this notice; `parse_record` reads it."""
        data = self.to_json()
        del data["offset"]
        if self.account is None:
            data["timestamp"] = data.pop("from")
            del data["to"]
        return json.dumps(data, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Notice":
        """Reads the output of `to_json`."""
        return cls(
            offset=data["offset"],
            kind=NoticeKind(data["kind"]),
            source=data["source"],
            session=data["session"],
            interval_start=parse_time(data["from"]),
            interval_end=parse_time(data["to"]),
            reason=data.get("reason"),
            account=_account_from_json(data) if "received" in data else None,
            replay_of=data.get("replay_of"),
            attributes=data.get("attributes", {}),
        )


def _account_to_json(account: Account) -> dict[str, Any]:
    times = {"received_from": account.received_from, "received_to": account.received_to}
    return {
        **{name: format_time(time) for name, time in times.items() if time},
        "received": account.received,
        "announced": account.announced,
        "gated": account.gated,
        "dropped": dict(account.dropped),
        "failed": account.failed,
        "observed_s": round(account.observed_s, 6),
    }


def _account_from_json(data: Mapping[str, Any]) -> Account:
    return Account(
        received=data["received"],
        announced=data["announced"],
        gated=data["gated"],
        dropped=dict(data["dropped"]),
        failed=data["failed"],
        observed_s=float(data["observed_s"]),
        received_from=parse_time(data["received_from"]) if "received_from" in data else None,
        received_to=parse_time(data["received_to"]) if "received_to" in data else None,
    )


def parse_record(record: KafkaRecord, form: MessageForm | None = None) -> FrameMessage | Notice:
    """Parses a Kafka record as a notice or as a frame's announcement. A record with an image field is never a notice.

    Raises:
        BadInputError: As for `parse_message`; also for a notice with a missing or invalid field.
    """
    value = record.value or b""
    if all(mark in value for mark in _MARKS) and not holds_image(record):
        data = load_object(value)
        if data.get("kind") in list(NoticeKind) and IMAGE_FIELDS.isdisjoint(data):
            return _read_notice(data, record)
    return parse_message(record, form or MessageForm())


def _read_notice(data: Mapping[str, Any], record: KafkaRecord) -> Notice:
    kind = NoticeKind(data["kind"])
    is_account = kind is NoticeKind.ACCOUNT
    first = _time(data, "from" if is_account else "timestamp")
    last = _time(data, "to") if is_account else first
    if not first <= last <= _next_midnight(first):
        raise invalid_field("to", repr(data["to"]), "a time from `from` to the midnight (UTC) after it")
    reason = data.get("reason")
    return Notice(
        offset=record.offset,
        kind=kind,
        source=checked_text("source", data.get("source")),
        session=checked_text("session", data.get("session")),
        interval_start=first,
        interval_end=last,
        reason=None if reason is None else checked_text("reason", reason),
        account=_read_account(data) if is_account else None,
        replay_of=read_replay_of(record),
        attributes=read_attributes(data, _KNOWN),
    )


def _read_account(data: Mapping[str, Any]) -> Account:
    return Account(
        received=_count(data, "received"),
        announced=_count(data, "announced"),
        gated=read_count(data, "gated") or 0,
        dropped=_dropped(data.get("dropped")),
        failed=read_count(data, "failed") or 0,
        observed_s=_seconds(data),
        received_from=read_timestamp(data, ("received_from",)),
        received_to=read_timestamp(data, ("received_to",)),
    )


def _dropped(value: object) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid_field("dropped", repr(value), "an object of counts by reason")
    counts = {checked_text("dropped", reason): read_count(value, reason) for reason in value}
    return {reason: count for reason, count in sorted(counts.items()) if count is not None}


def _count(data: Mapping[str, Any], name: str) -> int:
    count = read_count(data, name)
    if count is None:
        raise invalid_field(name, "nothing", "a whole number from 0")
    return count


def _seconds(data: Mapping[str, Any]) -> float:
    value = data.get("observed_s")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86_400:
        raise invalid_field("observed_s", repr(value), "seconds from 0 to 86400")
    return round(float(value), 6)


def _time(data: Mapping[str, Any], name: str) -> datetime:
    found = read_timestamp(data, (name,))
    if found is None:
        raise invalid_field(name, "nothing", "an RFC 3339 time")
    return found


def _next_midnight(time: datetime) -> datetime:
    start = time.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        return start + timedelta(days=1)
    except OverflowError:
        return time
