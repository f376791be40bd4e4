"""Label summaries of releases without counts per source: one row for all sources."""

from datetime import date

from imgpipeline.contracts.keys import summary_key
from imgpipeline.lake.build.summary_inputs import find_inputs, open_inputs
from imgpipeline.lake.schema import SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import Manifest, write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import NOON

LABEL_COUNTS = """
SELECT
    day,
    time_bucket(INTERVAL 1 hour, "timestamp")  AS hour,
    label,
    count(*)                                   AS count,
    count(DISTINCT frame_id)                   AS distinct_frames,
    count(DISTINCT source)                     AS distinct_sources,
    min("timestamp")                           AS first_seen,
    max("timestamp")                           AS last_seen,
    avg(CAST(confidence AS DECIMAL(9, 6)))     AS mean_confidence,
    min(confidence)                            AS min_confidence,
    max(confidence)                            AS max_confidence,
    list_sort(coalesce(list(DISTINCT model) FILTER (model <> ''), [])) AS models
FROM (
    SELECT
        *,
        concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
    FROM detections)
WHERE confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY day, hour, label
ORDER BY hour, label
""".strip()
LABEL_TIMESTAMPS = """
SELECT
    day,
    time_bucket(INTERVAL 1 hour, "timestamp")  AS hour,
    label,
    count(*)                                   AS count,
    list("timestamp" ORDER BY "timestamp")     AS timestamps
FROM detections
WHERE confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY day, hour, label
ORDER BY hour, label
""".strip()
LABEL_TOTALS = """
SELECT
    day,
    label,
    CAST(sum(count) AS BIGINT)                 AS count
FROM label_counts
GROUP BY day, label
ORDER BY label
""".strip()
_MADE = {
    "label_counts": ("detections", LABEL_COUNTS, "2b45f9a25c3e8b10"),
    "label_timestamps": ("detections", LABEL_TIMESTAMPS, "93f9e17c1b8ad042"),
    "label_totals": ("label_counts", LABEL_TOTALS, "c09f21d4e65b7a38"),
}
"""Inputs, query and recipe of each."""


def put_older_summaries(store: ObjectStore, day: date) -> None:
    """Replace the summaries of labels of a built day by those of an older release."""
    for name, (read, sql, made_by) in _MADE.items():
        found = find_inputs(store, [read], day, wanted_by=name)
        with open_inputs(store, found, day, wanted_by=name, memory=None) as inputs:
            assert inputs is not None
            inputs.engine.run(f"CREATE TABLE made AS {sql}")
            below = inputs.manifests[read]
            manifest = Manifest(
                table=name,
                day=day,
                schema_version=SCHEMA_VERSION,
                made_by=made_by,
                ends=below.ends,
                rows=inputs.engine.value("SELECT count(*) FROM made"),
                built_at=NOON,
                made_of=inputs.versions,
                sql=sql,
                parameters={"summary_threshold": 0.0},
                queries={read: below.sql} if below.sql else {},
            )
            data = write_parquet(inputs.engine, "SELECT * EXCLUDE (day) FROM made", manifest, object_bytes=10**9)
        store.put(summary_key(name, day), bytes(data))
