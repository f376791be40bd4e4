"""Turns a bad record into a dead letter, and decides what is kept of the record for inspection and replay."""

import base64
from datetime import date

from imgpipeline.contracts.messages import FrameMessage, KafkaRecord
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.errors import BadInputError


def bury(
    record: KafkaRecord, error: BadInputError, *, message: FrameMessage | None, day: date | None, most_bytes: int
) -> DeadLetter:
    """Makes the dead letter of a record.

    Args:
        record: As it was fetched.
        error: Why it cannot become a frame.
        message: What it says, where it could be read that far.
        day: The UTC day it is listed under.
        most_bytes: Largest value, key and headers (each for itself) that are kept.

    Returns:
        The dead letter. Its value is kept only where key and headers are kept too: then the record can be announced
        again from it. Else the record is in Kafka, as long as Kafka keeps it.
    """
    headers_bytes = sum(len(name.encode("utf-8", "replace")) + len(value) for name, value in record.headers)
    fits = max(headers_bytes, len(record.key or b"")) <= most_bytes
    return DeadLetter(
        offset=record.offset,
        code=error.code,
        message=error.message,
        timestamp=record.time,
        day=day,
        source=message.source if message else None,
        image_path=message.image_path if message else None,
        raw_size_bytes=len(record.value or b""),
        raw_base64=_kept(record.value, most_bytes) if fits else None,
        key_base64=_kept(record.key, most_bytes),
        replay_of=record.replay_of,
        headers=tuple((name, _text(value)) for name, value in record.headers) if fits else (),
    )


def _kept(raw: bytes | None, most_bytes: int) -> str | None:
    return _text(raw) if raw is not None and len(raw) <= most_bytes else None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
