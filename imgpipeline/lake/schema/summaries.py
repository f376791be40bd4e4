"""The columns of the summaries. Their queries are in `lake/build/sql`, their registry in `lake/build/summaries.py`."""

from dataclasses import replace

from imgpipeline.lake.schema.columns import Column, Table

_DAY = Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path.")
_MODELS_MEANING = "Models in use, as `name hash >threshold`, sorted; several if the model or threshold changed."


def _models(table: str) -> Column:
    made_of = tuple(f"{table}.{name}" for name in ("model_used", "model_sha256", "confidence_threshold"))
    return Column("models", "VARCHAR[]", "", _MODELS_MEANING, made_of)


def _of_detections(name: str, duckdb_type: str, unit: str, meaning: str, *made_of: str) -> Column:
    return Column(name, duckdb_type, unit, meaning, tuple(f"detections.{column}" for column in made_of))


_SOURCE_AND_LABEL_BY_HOUR = (
    _DAY,
    _of_detections("hour", "TIMESTAMPTZ", "UTC", "Start of the hour.", "timestamp"),
    _of_detections("source", "VARCHAR", "", "The camera, video or folder.", "source"),
    _of_detections("label", "VARCHAR", "", "Class name.", "label"),
)
_COUNT_MEANING = "How many were detected; an object in ten frames counts ten times."

LABEL_COUNTS = Table(
    "label_counts",
    "one label of one source in one hour",
    (
        *_SOURCE_AND_LABEL_BY_HOUR,
        _of_detections("count", "BIGINT", "detections", _COUNT_MEANING, "label", "confidence"),
        _of_detections("distinct_frames", "BIGINT", "frames", "Number of frames with it.", "frame_id"),
        _of_detections("first_seen", "TIMESTAMPTZ", "UTC", "Time of the first frame with it.", "timestamp"),
        _of_detections("last_seen", "TIMESTAMPTZ", "UTC", "Time of the last frame with it.", "timestamp"),
        _of_detections(
            "mean_confidence", "DOUBLE", "0 to 1", "Mean of the confidences, each rounded to 6 decimals.", "confidence"
        ),
        _of_detections("min_confidence", "DOUBLE", "0 to 1", "The lowest confidence.", "confidence"),
        _of_detections("max_confidence", "DOUBLE", "0 to 1", "The highest confidence.", "confidence"),
        _models("detections"),
    ),
)
"""Summary: `summaries/label_counts/day=…/label_counts.parquet`."""

LABEL_TIMESTAMPS = Table(
    "label_timestamps",
    "one label of one source in one hour",
    (
        *_SOURCE_AND_LABEL_BY_HOUR,
        _of_detections("count", "BIGINT", "detections", _COUNT_MEANING, "label", "confidence"),
        _of_detections(
            "timestamps",
            "TIMESTAMPTZ[]",
            "UTC",
            "Times of the frames with it, sorted; once for each detection, so that there are `count` of them.",
            "timestamp",
        ),
    ),
)
"""Summary: `summaries/label_timestamps/day=…/label_timestamps.parquet`."""

LABEL_TOTALS = Table(
    "label_totals",
    "one label of one source",
    (
        _DAY,
        Column("source", "VARCHAR", "", "The camera, video or folder.", ("label_counts.source",)),
        Column("label", "VARCHAR", "", "Class name.", ("label_counts.label",)),
        Column("count", "BIGINT", "detections", _COUNT_MEANING, ("label_counts.count",)),
    ),
)
"""Summary: `summaries/label_totals/day=…/label_totals.parquet`."""


def _of_frames(name: str, duckdb_type: str, unit: str, meaning: str, *made_of: str) -> Column:
    return Column(name, duckdb_type, unit, meaning, tuple(f"frames.{column}" for column in made_of))


_SOURCE = Column(
    "source",
    "VARCHAR",
    "",
    "The camera, video or folder; NULL for dead letters whose record does not tell.",
    ("frames.source", "dead_letters.source"),
)
_OUTCOMES = (
    _of_frames("frames", "BIGINT", "frames", "How many; each `frame_id` counts once.", "frame_id"),
    _of_frames("processed", "BIGINT", "frames", "How many of them a detector processed.", "status"),
    _of_frames("gated", "BIGINT", "frames", "How many of them were skipped before detection.", "status"),
    Column(
        "dead_letters",
        "BIGINT",
        "offsets",
        "Offsets whose record or image is invalid, whether or not they were resolved later.",
        ("dead_letters.kafka_offset",),
    ),
)
_SIZE_BYTES = _of_frames("size_bytes", "BIGINT", "bytes", "Size of all encoded images.", "size_bytes")

_OBSERVED = ("notices.interval_start", "notices.interval_end", "notices.observed_s", "frames.timestamp")

FRAME_STATS = Table(
    "frame_stats",
    "one source in one hour",
    (
        _DAY,
        Column(
            "hour",
            "TIMESTAMPTZ",
            "UTC",
            "Start of the hour; NULL for dead letters of this day whose record was written on another one.",
            ("frames.timestamp", "dead_letters.timestamp", "notices.interval_start", "notices.interval_end"),
        ),
        replace(_SOURCE, made_of=(*_SOURCE.made_of, "notices.source")),
        *_OUTCOMES,
        _SIZE_BYTES,
        _of_frames(
            "sizes", "MAP(BIGINT, BIGINT)", "bytes → frames",
            "Frames by the largest power of two up to their size; 0 for empty images.", "size_bytes",
        ),
        _of_frames(
            "dimensions", "MAP(VARCHAR, BIGINT)", "pixels → frames", "Frames by width and height, such as `640x360`.",
            "image_width", "image_height",
        ),
        _of_frames(
            "brightness", "MAP(INTEGER, BIGINT)", "0 to 240 → frames",
            "Frames by the largest multiple of 16 up to their brightness.", "brightness",
        ),
        _of_frames(
            "sharpness", "MAP(BIGINT, BIGINT)", "from 0 → frames",
            "Frames by the largest power of two up to their sharpness; 0 for those below 1.", "sharpness",
        ),
        _of_frames(
            "latency", "MAP(DOUBLE, BIGINT)", "seconds → frames",
            "Frames by the largest power of two (also 0.5, 0.25 …) up to the time from the frame to its outcome; 0 if "
            "it took none. Imported documents with only one time are left out.",
            "processing_timestamp", "timestamp", "source_kafka_topic",
        ),
        _models("frames"),
        Column(
            "observed_s", "DOUBLE", "seconds, 0 to 3600",
            "How long the source delivered frames; NULL if it has only dead letters.",
            _OBSERVED,
        ),
        Column(
            "observed_by", "VARCHAR", "`accounts`, `gaps`",
            "The basis of `observed_s`: the source's accounts, or the gaps between frames, each up to "
            "`IMGPIPELINE_OBSERVED_GAP_S`.",
            _OBSERVED,
        ),
    ),
)  # fmt: skip
"""Summary: `summaries/frame_stats/day=…/frame_stats.parquet`."""

SOURCE_ACTIVITY = Table(
    "source_activity",
    "one source",
    (
        _DAY,
        _SOURCE,
        *_OUTCOMES,
        _of_frames("first_seen", "TIMESTAMPTZ", "UTC", "Time of its first frame; NULL without frames.", "timestamp"),
        _of_frames("last_seen", "TIMESTAMPTZ", "UTC", "Time of its last frame; NULL without frames.", "timestamp"),
        _of_frames("active_hours", "BIGINT", "hours, 0 to 24", "Number of hours in which it had frames.", "timestamp"),
        _of_frames(
            "longest_pause_s", "DOUBLE", "seconds",
            "Longest time from one frame to the next within the day; NULL with fewer than two frames.", "timestamp",
        ),
        _SIZE_BYTES,
        _models("frames"),
    ),
)  # fmt: skip
"""Summary: `summaries/source_activity/day=…/source_activity.parquet`."""

SUMMARY_TABLES = (LABEL_COUNTS, LABEL_TIMESTAMPS, LABEL_TOTALS, FRAME_STATS, SOURCE_ACTIVITY)
"""The tables of all summaries, in the order in which they can be built."""
