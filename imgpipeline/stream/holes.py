"""Why Kafka has no record for an offset.

Owns finding that out: a hole is read once more without `read_committed`. A record that is there then was aborted; one
that is not there either was compacted where the topic is compacted, else it is a transaction's marker. (In a compacted
topic the two cannot be told apart; both count as compacted.)
"""

from collections.abc import Iterable, Iterator

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole

_IDLE_POLLS = 10


def explain_hole(settings: Settings, hole: Hole) -> list[Gap]:
    """Returns a hole as gaps with their reasons, which cover it exactly.

    Raises:
        TransientError: The broker does not answer, or not with all of the hole.
    """
    with open_admin(settings) as admin:
        absent = GapReason.COMPACTED if _is_compacted(admin, settings.kafka_topic) else GapReason.MARKER
    return cover_hole(hole, _offsets_there(settings, hole), absent)


def cover_hole(hole: Hole, there: Iterable[int], absent: GapReason) -> list[Gap]:
    """Returns the gaps that cover a hole; a compacted one may have billions of offsets, so they are not walked.

    Args:
        hole: What is to be covered.
        there: Offsets in it that do hold a record, ascending.
        absent: Why the others hold none.
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
    """Finds a setting's value in what kafka-python answers: nested dicts and lists by resource."""
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


def _offsets_there(settings: Settings, hole: Hole) -> Iterator[int]:
    where = TopicPartition(settings.kafka_topic, hole.partition)
    options = {**FETCH_OPTIONS, "isolation_level": "read_uncommitted"}
    with open_consumer(settings, **options) as consumer:
        consumer.assign([where])
        consumer.seek(where, hole.start)
        idle = 0
        while consumer.position(where) < hole.end:
            records = consumer.poll(timeout_ms=200).get(where, [])
            yield from (r.offset for r in records if hole.start <= r.offset < hole.end)
            idle = 0 if records else idle + 1
            if idle > _IDLE_POLLS and consumer.position(where) < hole.end:
                # Not the end: what was not seen must not be taken for absent.
                raise TransientError(f"The broker did not send {where.topic}/{where.partition} up to {hole.end}.")
