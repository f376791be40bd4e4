"""Why Kafka has no record for an offset.

Owns finding that out: a hole is read once more without `read_committed`. A record that is there then was aborted; one
that is not there either was compacted where the topic is compacted, else it is a transaction's marker. (In a compacted
topic the two cannot be told apart; both count as compacted.)
"""

from itertools import groupby

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole

_IDLE_POLLS = 10


def explain_hole(settings: Settings, hole: Hole) -> list[Gap]:
    """Returns a hole as gaps with their reasons, which cover it exactly.

    Raises:
        TransientError: The broker does not answer.
    """
    with open_admin(settings) as admin:
        absent = GapReason.COMPACTED if _is_compacted(admin, settings.kafka_topic) else GapReason.MARKER
    aborted = _offsets_there(settings, hole)
    gaps: list[Gap] = []
    for was_there, run in groupby(range(hole.start, hole.end), key=aborted.__contains__):
        offsets = list(run)
        gaps.append(Gap(offsets[0], offsets[-1] + 1, GapReason.ABORTED if was_there else absent))
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


def _offsets_there(settings: Settings, hole: Hole) -> set[int]:
    where = TopicPartition(settings.kafka_topic, hole.partition)
    there: set[int] = set()
    options = {**FETCH_OPTIONS, "isolation_level": "read_uncommitted"}
    with open_consumer(settings, **options) as consumer:
        consumer.assign([where])
        consumer.seek(where, hole.start)
        idle = 0
        while idle < _IDLE_POLLS and consumer.position(where) < hole.end:
            records = consumer.poll(timeout_ms=200).get(where, [])
            there.update(r.offset for r in records if hole.start <= r.offset < hole.end)
            idle = 0 if records else idle + 1
    return there
