"""The columns of the day tables `frames`, `detections`, `dead_letters` and `notices`.

The columns of `frames` have the names of the metadata contract.
"""

from dataclasses import replace

from imgpipeline.lake.schema.columns import Column, Table
from imgpipeline.lake.schema.views import DEAD_LETTERS

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
        Column("attributes", "VARCHAR", "JSON", "The producer's fields outside the contract: a JSON object as text."),
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
