"""The columns of the ledger as tables: `dead_letters` and `segments` of a query session."""

from imgpipeline.lake.schema.columns import Column, Table

_CHAIN = (
    Column("topic", "VARCHAR", "", "Kafka topic."),
    Column("topic_id", "VARCHAR", "", "Which incarnation of the topic."),
    Column("partition", "INTEGER", "from 0", "Kafka partition."),
)

DEAD_LETTERS = Table(
    "dead_letters",
    "one offset whose record or image is wrong",
    (
        *_CHAIN,
        Column("kafka_offset", "BIGINT", "from 0", "Kafka offset of the record."),
        Column("code", "VARCHAR", "", "Why it could not become a frame."),
        Column("message", "VARCHAR", "", "What was wrong with it."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The Kafka record's own time, or NULL."),
        Column("day", "DATE", "UTC", "The day it is listed under; NULL if its time is outside the accepted window."),
        Column("source", "VARCHAR", "", "The source; NULL if the record could not be read that far."),
        Column("image_path", "VARCHAR", "", "The announced path; NULL if the record could not be read that far."),
        Column("raw_size_bytes", "BIGINT", "bytes", "Size of the record's value."),
        Column("raw_base64", "VARCHAR", "base64", "The record's value; NULL if it was null or larger than is kept."),
        Column("key_base64", "VARCHAR", "base64", "The record's key, or NULL."),
        Column(
            "replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it is another attempt at, or NULL."
        ),
        Column("headers", "VARCHAR[][]", "name, base64", "The record's headers, or NULL."),
        Column(
            "state",
            "VARCHAR",
            "`open`, `replayed`, `resolved`",
            "What became of it: nothing, a later dead letter "
            "that stands for it, or a frame. In a session of some days only: as the ledger has it for those days.",
        ),
        Column(
            "became", "VARCHAR", "topic/partition/offset", "That later dead letter or frame; NULL while it is open."
        ),
    ),
)
"""View over the ledger; not stored."""

SEGMENTS = Table(
    "segments",
    "one segment of the ledger: the outcomes of the offsets from `start` up to, not including, `end_offset`",
    (
        *_CHAIN,
        Column("start", "BIGINT", "from 0", "First offset it covers."),
        Column("end_offset", "BIGINT", "from 1", "First offset behind it."),
        Column("frames", "BIGINT", "offsets", "Processed frames."),
        Column("gated", "BIGINT", "offsets", "Gated frames."),
        Column("dead_letters", "BIGINT", "offsets", "Dead letters."),
        Column("notices", "BIGINT", "offsets", "Notices."),
        Column("format_version", "INTEGER", "1, 2", "Version of the segment's format."),
        Column("gaps", "MAP(VARCHAR, BIGINT)", "offsets", "Offsets in gaps, by reason."),
        Column("days", "DATE[]", "UTC", "Days of its frames, dead letters and notices."),
        Column("model_used", "VARCHAR", "", "Name of the model; empty for imports."),
        Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file; empty for imports."),
        Column("settings_hash", "VARCHAR", "", "Hash of the settings that change results."),
        Column("run_id", "VARCHAR", "", "The run that wrote it."),
        Column("writer_id", "VARCHAR", "", "Unique for one attempt to write one segment."),
        Column("created_at", "TIMESTAMPTZ", "UTC", "When it was made."),
        Column("key", "VARCHAR", "", "The segment's object."),
    ),
)
"""View over the ledger; not stored."""
