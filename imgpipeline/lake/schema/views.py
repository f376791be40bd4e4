"""The columns of tables that are not stored in the lake.

`dead_letters` and `segments` show the ledger in a query session. The histogram views show `frame_stats` with one row
per bin, for tools that cannot read maps and lists. `about` and `about_chains` describe an exported file.
"""

from imgpipeline.lake.schema.columns import Column, Table
from imgpipeline.lake.schema.summaries import FRAME_STATS

_CHAIN = (
    Column("topic", "VARCHAR", "", "Kafka topic."),
    Column("topic_id", "VARCHAR", "", "Id of the topic; a re-created topic has another one."),
    Column("partition", "INTEGER", "from 0", "Kafka partition."),
)

DEAD_LETTERS = Table(
    "dead_letters",
    "one offset whose record or image is invalid",
    (
        *_CHAIN,
        Column("kafka_offset", "BIGINT", "from 0", "Kafka offset of the record."),
        Column("code", "VARCHAR", "", "Why it could not become a frame."),
        Column("message", "VARCHAR", "", "What was wrong with it."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "Time of the Kafka record, or NULL."),
        Column("day", "DATE", "UTC", "The day it is listed under; NULL if its time is outside the accepted window."),
        Column("source", "VARCHAR", "", "The source; NULL if the record does not tell."),
        Column("image_path", "VARCHAR", "", "The announced path; NULL if the record does not tell."),
        Column("raw_size_bytes", "BIGINT", "bytes", "Size of the record's value."),
        Column("raw_sha256", "VARCHAR", "hexadecimal", "SHA-256 of its value, which is in `metadata_raw_records/`."),
        Column("session", "VARCHAR[]", "source, session", "Whose accounts include it; NULL if it names no source."),
        Column("replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it replays, or NULL."),
        Column(
            "state",
            "VARCHAR",
            "`open`, `replayed`, `resolved`",
            "Result of its replays: nothing yet, another dead letter when it was replayed, or a frame. A session of "
            "some days knows only the replays on those days.",
        ),
        Column("became", "VARCHAR", "topic/partition/offset", "The later dead letter or frame; NULL while it is open."),
    ),
)
"""View over the ledger; not stored."""

SEGMENTS = Table(
    "segments",
    "one segment of the ledger: the outcomes of the offsets from `start` up to, not including, `end_offset`",
    (
        *_CHAIN,
        Column("start", "BIGINT", "from 0", "First offset it covers."),
        Column("end_offset", "BIGINT", "from 1", "First offset after it."),
        Column("frames", "BIGINT", "offsets", "Processed frames."),
        Column("gated", "BIGINT", "offsets", "Gated frames."),
        Column("dead_letters", "BIGINT", "offsets", "Dead letters."),
        Column("notices", "BIGINT", "offsets", "Notices."),
        Column("gaps", "MAP(VARCHAR, BIGINT)", "offsets", "Offsets in gaps, by reason."),
        Column("days", "DATE[]", "UTC", "Days of its frames, dead letters and notices."),
        Column("model_used", "VARCHAR", "", "Name of the model; empty for imports."),
        Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file; empty for imports."),
        Column("settings_hash", "VARCHAR", "", "Hash of the settings that change results."),
        Column("run_id", "VARCHAR", "", "The run that wrote it."),
        Column("writer_id", "VARCHAR", "", "Unique to one attempt to write one segment."),
        Column("created_at", "TIMESTAMPTZ", "UTC", "When it was made."),
        Column("key", "VARCHAR", "", "The segment's object."),
    ),
)
"""View over the ledger; not stored."""


_FRAMES = "How many frames of this hour and source are in the bin."
_SCALARS = (
    "day",
    "hour",
    "source",
    "frames",
    "processed",
    "gated",
    "dead_letters",
    "size_bytes",
    "observed_s",
    "observed_by",
)


def _taken_over(name: str) -> Column:
    column = next(column for column in FRAME_STATS.columns if column.name == name)
    meaning = "The day." if name == "day" else column.meaning
    return Column(name, column.duckdb_type, column.unit, meaning, (f"{FRAME_STATS.name}.{name}",))


def _binned(name: str, of_map: str, row: str, *bins: tuple[str, str, str, str]) -> Table:
    made_of = (f"{FRAME_STATS.name}.{of_map}",)
    return Table(
        name,
        f"{row} in one hour of one source",
        (
            *map(_taken_over, _SCALARS[:3]),
            *(Column(*column, made_of) for column in bins),
            Column("frames", "BIGINT", "frames", _FRAMES, made_of),
        ),
    )


HISTOGRAM_VIEWS = (
    Table(
        "frame_hours",
        "one source in one hour; `frame_stats` without its maps and lists",
        tuple(map(_taken_over, _SCALARS)),
    ),
    _binned(
        "frame_sizes",
        "sizes",
        "one power of two in bytes",
        ("from_bytes", "BIGINT", "bytes", "The images have at least this size; 0 for empty ones."),
        ("below_bytes", "BIGINT", "bytes", "The images are smaller than this: twice `from_bytes`."),
    ),
    _binned(
        "frame_dimensions",
        "dimensions",
        "one width and height",
        ("image_width", "INTEGER", "pixels", "Width of the images, upright."),
        ("image_height", "INTEGER", "pixels", "Height of the images, upright."),
    ),
    _binned(
        "frame_brightness",
        "brightness",
        "one step of 16 in brightness",
        ("from_brightness", "INTEGER", "0 to 240", "The images have at least this brightness: a multiple of 16."),
        ("below_brightness", "INTEGER", "16 to 256", "The images are darker than this: `from_brightness` plus 16."),
    ),
    _binned(
        "frame_sharpness",
        "sharpness",
        "one power of two in sharpness",
        ("from_sharpness", "BIGINT", "from 0", "The images have at least this sharpness; 0 for those below 1."),
        ("below_sharpness", "BIGINT", "from 1", "The images are less sharp than this: twice `from_sharpness`."),
    ),
    _binned(
        "frame_latency",
        "latency",
        "one power of two in seconds",
        ("from_s", "DOUBLE", "seconds", "The outcome came at least this long after the frame; 0 for no time."),
        ("below_s", "DOUBLE", "seconds", "It came sooner than this: twice `from_s`, or one microsecond if that is 0."),
    ),
)  # fmt: skip
"""Views of query sessions over `frame_stats`, and tables of exported files; not stored."""


ABOUT = Table(
    "about",
    "the exported file",
    (
        Column("store_url", "VARCHAR", "", "The exported object store and prefix, without credentials."),
        Column("exported_at", "TIMESTAMPTZ", "UTC", "When the export started; later outcomes may be missing."),
        Column("imgpipeline_version", "VARCHAR", "", "Version of imgpipeline that wrote the file."),
        Column("summary_threshold", "DOUBLE", "0 to 1", "Label summaries count confidences from this on."),
        Column("all_days", "BOOLEAN", "", "Whether the file holds all days of the store."),
        Column("first_day", "DATE", "UTC", "The first day in the file; NULL if it holds none."),
        Column("last_day", "DATE", "UTC", "The last day in the file; NULL if it holds none."),
    ),
)
"""One row."""

ABOUT_CHAINS = Table(
    "about_chains",
    "one chain of segments",
    (
        Column("topic", "VARCHAR", "", "Kafka topic."),
        Column("topic_id", "VARCHAR", "", "Id of the topic; a re-created topic has another one."),
        Column("partition", "INTEGER", "from 0", "Kafka partition."),
        Column("end_offset", "BIGINT", "from 0", "The file holds the outcomes of all offsets below this."),
    ),
)
"""Up to which offsets all tables of the file are complete."""

EXPORT_TABLES = (ABOUT, ABOUT_CHAINS)
"""Tables that only exported files have."""
