"""What is asked about a golden store, in SQL and names that every release understands."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import LogRange
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.quality.audit_report import AuditReport
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import ObjectStore

DAYS = (date(2026, 3, 1), date(2026, 3, 2))
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
CHAINS = (ChainId("frames", "Z29sZGVu_topic-id", 0), ChainId("frames", "Z29sZGVu_topic-id", 1))

QUERIES: Mapping[str, str] = {
    "frames": """SELECT day, frame_id, source, "timestamp", frame_number, source_image_path, source_kafka_partition,
        source_kafka_offset, image_width, size_bytes, brightness, model_used, status, gate_reason, replay_of, attributes
        FROM frames ORDER BY day, frame_id""",
    "detections": """SELECT day, frame_id, detection_number, source, label, class_id, confidence, x, y, width, height,
        model_used, confidence_threshold FROM detections ORDER BY day, frame_id, detection_number""",
    "dead_letters": """SELECT day, topic, "partition", code, message, source, image_path, replay_of, state, became
        FROM dead_letters ORDER BY topic, "partition", message""",
    "segments": """SELECT topic, "partition", start, frames, gated, dead_letters, gaps, days, writer_id, key
        FROM segments ORDER BY "partition", start""",
    "label_counts": """SELECT day, hour, source, label, count, distinct_frames, first_seen, last_seen, mean_confidence,
        models FROM label_counts ORDER BY hour, source, label""",
    "label_totals": "SELECT day, source, label, count FROM label_totals ORDER BY day, source, label",
    "label_timestamps": "SELECT day, source, label, timestamps FROM label_timestamps ORDER BY day, source, label",
    "frame_stats": """SELECT day, hour, source, frames, processed, gated, dead_letters, size_bytes, sizes, dimensions,
        brightness, models FROM frame_stats ORDER BY day, hour, source""",
    "source_activity": """SELECT day, source, frames, processed, gated, dead_letters, first_seen, last_seen,
        active_hours, longest_pause_s, size_bytes FROM source_activity ORDER BY day, source""",
}


def read_answers(store: ObjectStore) -> dict[str, Any]:
    """Return the rows of all queries and the audit's figures, as JSON has them."""
    with tempfile.TemporaryDirectory() as folder, open_lake(store, cache_dir=Path(folder)) as lake:
        rows = {
            name: [[_as_json(value) for value in row] for row in lake.query(sql).rows] for name, sql in QUERIES.items()
        }
    partitions = [part.to_json() for part in audit_golden(store, full=True).partitions]
    kept = ("partition", "ledger_end", "frames", "gated", "dead_letters", "gaps", "missing", "overlapping")
    return {**rows, "audit": [{name: part[name] for name in kept} for part in partitions]}


def audit_golden(store: ObjectStore, *, full: bool = False) -> AuditReport:
    """Audit a golden store whose logs end where its chains do."""
    logs = [LogRange(c.topic, c.topic_id, c.partition, 0, end.offset) for c, end in fix_ends(store).items()]
    return audit(store, lambda: logs, full=full, now=NOW)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _as_json(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(of) for of in value]
    return str(value) if isinstance(value, date) else value
