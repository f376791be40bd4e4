"""Columns and tables as values, and the tables of the lake but those of tracks, events and redetections.

* Day tables: `frames`, whose columns have the names of the metadata contract, `detections`, `dead_letters`, `notices`.
* Summaries. Their queries are in `lake/days/sql`, their registry in `lake/days/summaries.py`.
* Tables that are not stored: `dead_letters` and `segments` show the ledger in a query session. The histogram views show
  `frame_stats` with one row per bin, for tools that cannot read maps and lists. `about` and `about_chains` describe an
  exported file.
"""

from dataclasses import dataclass, replace

SCHEMA_VERSION = 4
"""Stored in every manifest; a table with another version is refused. Raise it when a column is added, removed or
changes its meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Name in Parquet and SQL."""
    duckdb_type: str
    """DuckDB's type; times are `TIMESTAMPTZ` in UTC."""
    unit: str
    """Unit or range of the values; empty if there is none."""
    meaning: str
    """Description for readers. A column that can be NULL says so here."""
    made_of: tuple[str, ...] = ()
    """Columns of stored tables that the values come from, such as `detections.timestamp`; empty if they come from
    the ledger."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view of the lake."""

    name: str
    """Name in SQL, and in keys if the table is stored."""
    row: str
    columns: tuple[Column, ...]
    """All columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def typed_columns(self) -> str:
        """The columns as `CREATE TABLE` takes them: quoted names with types."""
        return ", ".join(f'"{column.name}" {column.duckdb_type}' for column in self.columns)


_SUMMARY_DAY = Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path.")
_MODELS_MEANING = "Models in use, as `name hash >threshold`, sorted; several if the model or threshold changed."


def _models(table: str) -> Column:
    made_of = tuple(f"{table}.{name}" for name in ("model_used", "model_sha256", "confidence_threshold"))
    return Column("models", "VARCHAR[]", "", _MODELS_MEANING, made_of)


def _of_detections(name: str, duckdb_type: str, unit: str, meaning: str, *made_of: str) -> Column:
    return Column(name, duckdb_type, unit, meaning, tuple(f"detections.{column}" for column in made_of))


_SOURCE_AND_LABEL_BY_HOUR = (
    _SUMMARY_DAY,
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
        _SUMMARY_DAY,
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
        _SUMMARY_DAY,
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
        _SUMMARY_DAY,
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
        *_CHAIN,
        Column("end_offset", "BIGINT", "from 0", "The file holds the outcomes of all offsets below this."),
    ),
)
"""Up to which offsets all tables of the file are complete."""


_DAY = Column("day", "DATE", "UTC", "Day of the frame's own time; in Parquet it is part of the path.")
_ORIGIN = (
    Column("source_kafka_topic", "VARCHAR", "", "Kafka topic of the announcement."),
    Column("source_kafka_topic_id", "VARCHAR", "", "Id of the topic; a re-created topic has another one."),
    Column("source_kafka_partition", "INTEGER", "from 0", "Kafka partition of the announcement."),
    Column("source_kafka_offset", "BIGINT", "from 0", "Kafka offset of the announcement."),
)
_MODEL = (
    Column("model_used", "VARCHAR", "", "Name of the model in the registry."),
    Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file."),
)

FRAMES = Table(
    "frames",
    "one frame; a frame that was announced several times in a day has one row",
    (
        _DAY,
        Column(
            "frame_id",
            "VARCHAR",
            "32 hexadecimal digits",
            "Identifies the frame within its day; the key is (`day`, `frame_id`). An image announced without a time "
            "has the same `frame_id` on each day that it is announced.",
        ),
        Column("source", "VARCHAR", "", "The camera, video or folder it came from."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time; Kafka's if none was announced."),
        Column("frame_number", "BIGINT", "from 0", "Number within the source; NULL if it was not announced."),
        Column("source_image_path", "VARCHAR", "", "`s3://bucket/key`, or a key below the store's prefix."),
        *_ORIGIN,
        Column("processing_timestamp", "TIMESTAMPTZ", "UTC", "When its outcome was ready."),
        Column("image_width", "INTEGER", "pixels", "Width of the original image, upright."),
        Column("image_height", "INTEGER", "pixels", "Height of the original image, upright."),
        Column("size_bytes", "BIGINT", "bytes", "Size of the encoded image."),
        Column(
            "sha256",
            "VARCHAR",
            "64 hexadecimal digits",
            "SHA-256 of the encoded image, as `sha256sum` prints it; NULL if the image was not read.",
        ),
        Column("brightness", "DOUBLE", "0 to 255", "Mean luma: 0 is black."),
        Column("sharpness", "DOUBLE", "from 0", "Variance of the Laplacian: larger is sharper."),
        *_MODEL,
        Column("confidence_threshold", "DOUBLE", "0 to 1", "Detections have a confidence above this."),
        Column("nms_threshold", "DOUBLE", "0 to 1", "Overlap (IoU) above which the weaker of two boxes was dropped."),
        Column("orientation", "INTEGER", "1 to 8", "EXIF orientation that was applied; 1 is upright."),
        Column("status", "VARCHAR", "`processed`, `gated`", "Whether a detector processed it."),
        Column("gate_reason", "VARCHAR", "", "Why it was skipped before detection; NULL for a processed frame."),
        Column(
            "gate_measurements",
            "MAP(VARCHAR, DOUBLE)",
            "",
            "The measurements behind `gate_reason`, such as `brightness`; NULL if nothing was measured.",
        ),
        Column(
            "clock_source",
            "VARCHAR",
            "`exif`, `container`, `rtcp`, `receiver`, `producer`",
            "Origin of `timestamp`; NULL if the producer did not say.",
        ),
        Column(
            "region_of_interest",
            "DOUBLE[][][]",
            "pixels",
            "The part of the original image that counts, as polygons of points [x, y]; NULL for the whole image.",
        ),
        Column(
            "detectors",
            'STRUCT(model VARCHAR, sha256 VARCHAR, "precision" VARCHAR, confidence_threshold DOUBLE, '
            "nms_threshold DOUBLE)[]",
            "",
            "Every detector that processed it, `model_used` first; NULL if that was the only one.",
        ),
        Column("replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it replays, or NULL."),
        Column("attributes", "VARCHAR", "JSON", "The producer's other fields, and `video_id` and `frame_id`: JSON."),
    ),
)
"""Day table: `frames/day=…/frames.parquet`."""

DETECTIONS = Table(
    "detections",
    "one object found in one frame",
    (
        _DAY,
        Column(
            "frame_id", "VARCHAR", "32 hexadecimal digits", "The frame it was found in; join on (`day`, `frame_id`)."
        ),
        Column("detection_number", "INTEGER", "from 0", "Number within the frame, strongest first."),
        Column("source", "VARCHAR", "", "The camera, video or folder."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time."),
        Column("frame_number", "BIGINT", "from 0", "The frame's number within the source, or NULL."),
        Column("source_image_path", "VARCHAR", "", "The frame's image."),
        *_ORIGIN,
        Column("label", "VARCHAR", "", "Class name, as in the model's list of labels."),
        Column("class_id", "INTEGER", "from 0", "Index of the class in the model's list of labels."),
        Column("confidence", "DOUBLE", "0 to 1", "Score: objectness x class."),
        Column("x", "DOUBLE", "pixels", "Left edge of the box in the original image."),
        Column("y", "DOUBLE", "pixels", "Upper edge of the box in the original image."),
        Column("width", "DOUBLE", "pixels", "Width of the box."),
        Column("height", "DOUBLE", "pixels", "Height of the box."),
        Column("image_width", "INTEGER", "pixels", "Width of the original image, upright."),
        Column("image_height", "INTEGER", "pixels", "Height of the original image, upright."),
        Column("model_used", "VARCHAR", "", "Name of the model that found it."),
        Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the file of that model."),
        Column(
            "precision", "VARCHAR", "", "Number format of the model, such as `bf16` or `int8`; NULL for 32-bit floats."
        ),
        Column("confidence_threshold", "DOUBLE", "0 to 1", "The confidence threshold of that model."),
        Column("status", "VARCHAR", "`processed`", "The frame's status."),
    ),
)
"""Day table: `detections/day=…/detections.parquet`."""

_KEPT_OF_LETTERS = ("day", "topic", "topic_id", "partition", "kafka_offset", "code", "message", "timestamp", "source",
                    "image_path", "raw_size_bytes", "replay_of")  # fmt: skip

STORED_DEAD_LETTERS = Table(
    "dead_letters",
    DEAD_LETTERS.row,
    tuple(column for name in _KEPT_OF_LETTERS for column in DEAD_LETTERS.columns if column.name == name),
)
"""Day table: `dead_letters/day=…/dead_letters.parquet`. The view in query sessions adds the result of replays."""

NOTICES = Table(
    "notices",
    "one offset whose record reports on a source",
    (
        Column("day", "DATE", "UTC", "Day of `interval_start`; in Parquet it is part of the path."),
        *(column for column in DEAD_LETTERS.columns if column.name in ("topic", "topic_id", "partition")),
        Column("kafka_offset", "BIGINT", "from 0", "Kafka offset of the record."),
        Column("source", "VARCHAR", "", "The source that it reports on."),
        Column("session", "VARCHAR", "", "The source's session: one connection, or one run over a folder."),
        Column("kind", "VARCHAR", "`account`, `started`, `ended`, `offline`, `online`", "What it reports."),
        Column("interval_start", "TIMESTAMPTZ", "UTC", "Start of the reported interval of frame time."),
        Column("interval_end", "TIMESTAMPTZ", "UTC", "End of the interval; equals its start except for accounts."),
        Column("reason", "VARCHAR", "", "Why, or NULL."),
        Column("received", "BIGINT", "frames", "Frames that the source received; NULL unless it is an account."),
        Column("announced", "BIGINT", "frames", "Frames that it announced; NULL unless it is an account."),
        Column("gated", "BIGINT", "frames", "Frames that it skipped on purpose; NULL unless it is an account."),
        Column("dropped", "MAP(VARCHAR, BIGINT)", "frames", "Frames that it lost, by reason; NULL unless an account."),
        Column("failed", "BIGINT", "frames", "Frames that it could not decode or store; NULL unless an account."),
        Column("observed_s", "DOUBLE", "seconds", "How long frames were arriving; NULL unless it is an account."),
        Column(
            "received_from", "TIMESTAMPTZ", "UTC", "When the first frame arrived, by the receiver's clock, or NULL."
        ),
        Column("received_to", "TIMESTAMPTZ", "UTC", "When the last frame arrived, by the receiver's clock, or NULL."),
        Column("replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it replays, or NULL."),
        Column("attributes", "VARCHAR", "JSON", "Other fields of the notice: a JSON object as text."),
    ),
)
"""Day table: `notices/day=…/notices.parquet`."""

DAY_TABLES = (FRAMES, DETECTIONS, STORED_DEAD_LETTERS, NOTICES)
"""The tables that a build makes of a day's ledger, in the order in which they are stored."""
DAY_TABLE_NAMES = tuple(table.name for table in DAY_TABLES)
"""Their names, in the same order."""

WEAK_DETECTIONS = Table(
    "weak_detections",
    "one object found in one frame below the confidence threshold; no count includes it",
    tuple(
        replace(column, meaning="Its number within the frame, after those of `detections`, strongest first.")
        if column.name == "detection_number"
        else column
        for column in DETECTIONS.columns
    ),
)
"""Day table: `weak_detections/day=…/weak_detections.parquet`. Only days with weak detections have it. It is stored
before the others, so if it is missing, the day has no weak detections up to the ends of `frames`."""
