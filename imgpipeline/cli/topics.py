"""`imgpipeline topics`: create the Kafka topics of the frames, and show their records."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import FollowOption, JsonOption, command, followed_topic
from imgpipeline.cli.output import note, show_json, shown, write_text
from imgpipeline.contracts.messages import holds_image
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.errors import BadInputError, UsageError
from imgpipeline.settings import load_settings
from imgpipeline.stream import fetch as peeking
from imgpipeline.stream.fetch import Edge, ReadFrom
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import create_topic
from imgpipeline.vision.header import read_header

app = typer.Typer()
_SHOWN_TEXT = 120


@command(app, "create")
def create(
    partitions: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of partitions. Frames of one source share a partition.")
    ] = 3,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, max=32, help="Copies of each partition. Default: the broker's setting.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that IMGPIPELINE_KAFKA_TOPIC names. An existing topic is not changed."""
    settings = load_settings()
    done: list[dict[str, Any]] = []
    for topic in settings.kafka_topics:
        own = settings.model_copy(update={"kafka_topics": (topic,)})
        created = create_topic(own, partitions=partitions, replication_factor=replication_factor)
        done.append({"topic": topic, "created": created, "partitions": len(read_log(own))})
    if as_json:
        show_json(done[0] if len(done) == 1 else {"topics": done})
        return
    for one in done:
        how = "was created" if one["created"] else "already exists, unchanged,"
        there = counted(one["partitions"], "partition")
        note(f"The topic {one['topic']} {how} with {there} at {settings.kafka_bootstrap_servers}.")


@command(app, "peek")
def peek(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many records before --follow.")] = 10,
    start: Annotated[
        str,
        typer.Option("--from", help="beginning, end (the last records), an offset, or a time: 2026-01-09T12:00:00Z."),
    ] = "end",
    follow: FollowOption = False,
    idle_s: Annotated[float, typer.Option(min=0.1, help="Stop after this many seconds without a record.")] = 10.0,
    topic: Annotated[str | None, typer.Option(help="Only this topic of IMGPIPELINE_KAFKA_TOPIC.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show records in order of time: topic, partition, offset, time, key and value.

    Commits nothing and leaves no consumer group behind. With --json and --follow, each record is one line.
    """
    begin, settings = _read_start(start), followed_topic(load_settings(), topic)
    logs = read_log(settings)
    records = peeking.peek(settings, logs, begin, limit=limit, idle_s=idle_s)
    if as_json and not follow:
        show_json([_as_json(record) for record in records])
    else:
        for record in records:
            _write(record, as_json=as_json)
    if not follow:
        waiting = sum(log.log_end - log.log_start for log in logs)
        note(f"{counted(len(records), 'record')} shown; Kafka has {counted(waiting, 'offset')}.")
        return
    for record in peeking.follow(settings, logs, begin, records, idle_s=idle_s):
        _write(record, as_json=as_json)
    note(f"No record for {idle_s:g} s.")


def _read_start(text: str) -> "ReadFrom":
    try:
        if text in set(Edge):
            return Edge(text)
        return int(text) if text.isdecimal() and len(text) < 19 else parse_time(text)
    except ValueError:
        raise UsageError(
            f"--from {text!r} is not a start.",
            next_step="give beginning, end, an offset, or a time such as 2026-01-09T12:00:00Z",
        ) from None


def _write(record: "KafkaRecord", *, as_json: bool) -> None:
    if as_json:
        line = json.dumps(_as_json(record), ensure_ascii=False, allow_nan=False, default=_time_text)
    else:
        time = format_time(record.time)[:23] + "Z" if record.time else "-"
        where = (record.topic, str(record.partition), str(record.offset))
        line = shown("  ".join((*where, time, _key(record) or "-", _value(record)))).replace("\n", "\\n")
    write_text(f"{line}\n")


def _time_text(value: object) -> str:
    return format_time(value) if isinstance(value, datetime) else str(value)


def _as_json(record: "KafkaRecord") -> dict[str, Any]:
    text = None if holds_image(record) else _text(record.value)
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.time,
        "key": _key(record),
        "headers": {name: _text(value) or value.hex() for name, value in record.headers},
        "size_bytes": len(record.value or b""),
        "value": text,
        "shown_as": _value(record),
    }


def _key(record: "KafkaRecord") -> str | None:
    return None if record.key is None else _text(record.key) or record.key.hex()


def _value(record: "KafkaRecord") -> str:
    """Returns a value as one line: the format and size of an image, or shortened text."""
    if record.value is None:
        return "null"
    size = counted(len(record.value), "byte")
    if holds_image(record):
        return f"{_image_format(record.value)}, {size}"
    text = _text(record.value)
    if text is None:
        return f"binary, {size}"
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_TEXT else f"{line[: _SHOWN_TEXT - 1]}…"


def _image_format(data: bytes) -> str:
    try:
        return {"webp": "WebP"}.get(name := read_header(data).format, name.upper())
    except BadInputError:
        return "image"


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None
