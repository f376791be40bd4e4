"""Finds out why Kafka has no record for an offset.

A hole is read once more without `read_committed`. A record that appears then was aborted. Otherwise it was compacted if
the topic is compacted, or else it is a transaction marker. (In a compacted topic the two cannot be told apart; both
count as compacted.)
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin, open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole

_IDLE_POLLS = 10


class HoleExplainer:
    """Explains the holes of one run. May be used from several threads; they take turns.

    It keeps its client open: if every record is a transaction, every second offset is a hole, and opening a client
    takes a hundred times as long as a request.
    """

    def __init__(self, settings: Settings) -> None:
        """Starts without a connection; many runs never need one."""
        self._settings = settings
        self._lock = threading.Lock()
        self._clients = contextlib.ExitStack()
        self._consumer: KafkaConsumer | None = None
        self._absent: dict[str, GapReason] = {}

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the client, once its current user is done (a few seconds at most)."""
        with self._lock:
            self._clients.close()

    def explain(self, hole: Hole) -> list[Gap]:
        """Returns the gaps that cover a hole exactly, with their reasons.

        Raises:
            TransientError: The broker does not answer, or not for the whole hole.
        """
        with self._lock, kafka_errors(self._settings):
            topic = hole.at.topic
            if topic not in self._absent:
                with open_admin(self._settings) as admin:
                    compacted = _is_compacted(admin, topic)
                self._absent[topic] = GapReason.COMPACTED if compacted else GapReason.MARKER
            if self._consumer is None:
                options = {**FETCH_OPTIONS, "isolation_level": "read_uncommitted"}
                self._consumer = self._clients.enter_context(open_consumer(self._settings, **options))
            return cover_hole(hole, _offsets_there(self._consumer, TopicPartition(*hole.at), hole), self._absent[topic])


def cover_hole(hole: Hole, there: Iterable[int], absent: GapReason) -> list[Gap]:
    """Returns the gaps that cover a hole, without visiting each offset: a compacted hole may have billions.

    Args:
        hole: The hole to cover.
        there: Its offsets that hold a record, ascending.
        absent: Why the others do not.
    """
    gaps: list[Gap] = []
    position = hole.start
    for offset in there:
        if offset > position:
            gaps.append(Gap(position, offset, absent))
        if gaps and gaps[-1].reason is GapReason.ABORTED and gaps[-1].end == offset:
            gaps[-1] = Gap(gaps[-1].start, offset + 1, GapReason.ABORTED)
        else:
            gaps.append(Gap(offset, offset + 1, GapReason.ABORTED))
        position = offset + 1
    if position < hole.end:
        gaps.append(Gap(position, hole.end, absent))
    return gaps


def _is_compacted(admin: KafkaAdminClient, topic: str) -> bool:
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return "compact" in str(_find_value(described, "cleanup.policy"))


def _find_value(described: object, name: str) -> object:
    """Finds a setting in the answer of kafka-python, which nests dicts and lists by resource."""
    if isinstance(described, dict):
        if name in described:
            entry = described[name]
            return entry.get("value", entry) if isinstance(entry, dict) else entry
        if described.get("name") == name:
            return described.get("value")
        described = list(described.values())
    if isinstance(described, list | tuple):
        found = (_find_value(part, name) for part in described)
        return next((value for value in found if value is not None), None)
    return None


def _offsets_there(consumer: KafkaConsumer, where: TopicPartition, hole: Hole) -> Iterator[int]:
    consumer.assign([where])
    consumer.seek(where, hole.start)
    idle = 0
    while consumer.position(where) < hole.end:
        records = consumer.poll(timeout_ms=200).get(where, [])
        yield from (r.offset for r in records if hole.start <= r.offset < hole.end)
        idle = 0 if records else idle + 1
        if idle > _IDLE_POLLS and consumer.position(where) < hole.end:
            # The read ended early: offsets that were not seen must not count as absent.
            raise TransientError(f"The broker did not send {where.topic}/{where.partition} up to {hole.end}.")
