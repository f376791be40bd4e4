"""Segments in the making: the outcomes of a partition since its last segment.

Decides when a segment is due (count, bytes, age) and what it holds; `ledger.ChainWriter` puts it.
"""

import json
import math
from dataclasses import dataclass, field
from datetime import datetime

from imgpipeline.contracts.log import Partition
from imgpipeline.contracts.messages import KafkaRecord
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome
from imgpipeline.ledger import Fingerprint

_MAX_BYTES = 4 * 2**20


@dataclass(slots=True)
class SegmentDraft:
    """What the next segment of one partition holds so far."""

    partition: Partition
    """Its topic and partition."""
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order of offsets."""
    record_times: list[datetime] = field(default_factory=list)
    """Kafka times of its records, for the latency."""
    fingerprint: Fingerprint | None = None
    """Fingerprint of its last record; None if it has none. The record itself, which may be large, is not kept."""
    opened_at_s: float = 0.0
    """When its first outcome was ready, by a monotonic clock."""
    ready_at_s: float = math.inf
    """When its last outcome was ready, by a monotonic clock."""
    size_bytes: int = 0
    """About how large it will be before compression."""

    def add(self, outcome: Outcome, record: KafkaRecord | None, now_s: float) -> None:
        """Takes the outcome of the next offset (or gap)."""
        if not self.outcomes:
            self.opened_at_s = now_s
        self.ready_at_s = now_s
        self.outcomes.append(outcome)
        self.size_bytes += _weight(outcome)
        if record is not None:
            self.fingerprint = Fingerprint.of(record)
            if record.time is not None and record.replay_of is None:  # else it is old for another reason
                self.record_times.append(record.time)

    def is_due(self, now_s: float, *, max_records: int, max_age_s: float) -> bool:
        """Whether the segment should be put now."""
        if not self.outcomes:
            return False
        full = len(self.outcomes) >= max_records or self.size_bytes >= _MAX_BYTES
        return full or now_s - self.opened_at_s >= max_age_s

    @property
    def is_suspicious(self) -> bool:
        """Whether it holds dead letters and no frame: then the environment is tested before the records are blamed."""
        return any(isinstance(o, DeadLetter) for o in self.outcomes) and not any(
            isinstance(o, Frame) for o in self.outcomes
        )


def _weight(outcome: Outcome) -> int:
    if isinstance(outcome, Gap):
        return 80
    if isinstance(outcome, Notice):
        return 500 + len(json.dumps(dict(outcome.attributes)))
    if isinstance(outcome, DeadLetter):
        return 500 + len(outcome.raw_base64 or "") + len(outcome.key_base64 or "")
    # A producer may put megabytes into attributes.
    boxes = len(outcome.detections) + len(outcome.weak_detections)
    return 900 + 100 * boxes + len(json.dumps(dict(outcome.attributes)))
