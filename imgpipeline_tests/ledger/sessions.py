"""Outcomes of a source's session: notices, and records that name the session."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import DeadLetter, Frame, make_dead_letter
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline_tests.ledger.samples import CHAIN, DAY, frame

SESSION = "b3f0"


def minute_of(minute: float, day: date = DAY) -> datetime:
    """Return a time after noon of a day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(minutes=minute)


def said(
    offset: int,
    kind: NoticeKind,
    *,
    minute: float = 0,
    source: str = "cam-1",
    session: str = SESSION,
    reason: str | None = None,
    day: date = DAY,
) -> Notice:
    """Return a notice that is not an account."""
    at = minute_of(minute, day)
    return Notice(offset, kind, source, session, at, at, reason=reason)


def account(
    offset: int,
    announced: int,
    *,
    gated: int = 0,
    dropped: Mapping[str, int] | None = None,
    failed: int = 0,
    received: int | None = None,
    minute: float = 0,
    source: str = "cam-1",
    session: str = SESSION,
    observed_s: float = 60.0,
    day: date = DAY,
) -> Notice:
    """Return the account of a minute; it adds up unless `received` is given."""
    lost = dict(dropped or {})
    total = announced + gated + sum(lost.values()) + failed if received is None else received
    start = minute_of(minute, day)
    figures = Account(total, announced, gated, lost, failed, observed_s)
    return Notice(offset, NoticeKind.ACCOUNT, source, session, start, start + timedelta(minutes=1), account=figures)


def shot(offset: int, *, source: str = "cam-1", session: str | None = SESSION, day: date = DAY) -> Frame:
    """Return a frame that names its session, or none."""
    named = {"session": session} if session else {}
    return replace(frame(offset, day, source), attributes=named)


def buried(
    offset: int, said_in: str, *, source: str | None = "cam-1", session: str = SESSION, day: date | None = DAY
) -> DeadLetter:
    """Return a dead letter that names its session in `attributes`, a `header` or `nothing`; or that of a `notice`."""
    value: dict[str, object] = {"image_path": "a.jpg"}
    if said_in == "attributes":
        value["attributes"] = {"session": session}
    if said_in == "notice":
        value = {"source": source, "session": session, "kind": "account"}
    headers = (("session", session.encode()),) if said_in == "header" else ()
    record = KafkaRecord(CHAIN.topic, CHAIN.partition, offset, -1, b"cam-1", json.dumps(value).encode(), headers)
    error = BadInputError(DeadLetterCode.INVALID_MESSAGE, "no message")
    letter = make_dead_letter(record, error, message=None, day=day, most_bytes=1000)
    return replace(letter, source=source, session=(source, letter.session[1])) if source and letter.session else letter
