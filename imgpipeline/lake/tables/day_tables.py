"""The columns of the day tables `frames`, `detections` and `dead_letters`.

Owns their names, types, units and meanings. It promises that the names of `frames` are those of the metadata contract.
"""

from imgpipeline.lake.tables.columns import Column, Table
from imgpipeline.lake.tables.ledger_tables import DEAD_LETTERS

_DAY = Column("day", "DATE", "UTC", "Day of the frame's own time; in Parquet it is part of the path.")
_ORIGIN = (
    Column("source_kafka_topic", "VARCHAR", "", "Kafka topic of the announcement."),
    Column("source_kafka_topic_id", "VARCHAR", "", "Which incarnation of the topic: names the chain of segments."),
    Column("source_kafka_partition", "INTEGER", "from 0", "Kafka partition of the announcement."),
    Column("source_kafka_offset", "BIGINT", "from 0", "Kafka offset of the announcement."),
)
_MODEL = (
    Column("model_used", "VARCHAR", "", "Name of the model in the registry."),
    Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file."),
)

FRAMES = Table(
    "frames",
    "one frame; a frame that was announced several times in a day is there once",
    (
        _DAY,
        Column(
            "frame_id",
            "VARCHAR",
            "32 hexadecimal digits",
            "Names the frame within its day; the key is (`day`, `frame_id`). An image announced without a time has the "
            "same `frame_id` on each day that it is announced.",
        ),
        Column("source", "VARCHAR", "", "The camera, video or folder it came from."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time; Kafka's where none was announced."),
        Column("frame_number", "BIGINT", "from 0", "Number within the source; NULL where it was not announced."),
        Column("source_image_path", "VARCHAR", "", "`s3://bucket/key`, or a key below the store's prefix."),
        *_ORIGIN,
        Column("processing_timestamp", "TIMESTAMPTZ", "UTC", "When its outcome was ready."),
        Column("image_width", "INTEGER", "pixels", "Width of the original image, upright."),
        Column("image_height", "INTEGER", "pixels", "Height of the original image, upright."),
        Column("size_bytes", "BIGINT", "bytes", "Size of the encoded image."),
        Column("brightness", "DOUBLE", "0 to 255", "Mean luma: 0 is black."),
        Column("sharpness", "DOUBLE", "from 0", "Variance of the Laplacian: larger is sharper."),
        *_MODEL,
        Column("confidence_threshold", "DOUBLE", "0 to 1", "Detections have a confidence above this."),
        Column("nms_threshold", "DOUBLE", "0 to 1", "Overlap (IoU) above which the weaker of two boxes was dropped."),
        Column("orientation", "INTEGER", "1 to 8", "EXIF orientation that was applied; 1 is upright."),
        Column("status", "VARCHAR", "`processed`, `gated`", "Whether a detector looked at it."),
        Column("gate_reason", "VARCHAR", "", "Why it was left out before detection; NULL for a processed frame."),
        Column("replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it replays, or NULL."),
        Column("attributes", "VARCHAR", "JSON", "What the producer said beside the contract: a JSON object as text."),
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
        Column("detection_number", "INTEGER", "from 0", "Its place within the frame, strongest first."),
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
        *_MODEL,
        Column("confidence_threshold", "DOUBLE", "0 to 1", "The threshold that its frame was detected with."),
        Column("status", "VARCHAR", "`processed`", "The frame's status."),
    ),
)
"""Day table: `detections/day=…/detections.parquet`."""

_KEPT_OF_LETTERS = ("day", "topic", "topic_id", "partition", "offset", "code", "message", "timestamp", "source",
                    "image_path", "raw_size_bytes", "replay_of")  # fmt: skip

STORED_DEAD_LETTERS = Table(
    "dead_letters",
    DEAD_LETTERS.row,
    tuple(column for name in _KEPT_OF_LETTERS for column in DEAD_LETTERS.columns if column.name == name),
)
"""Day table: `dead_letters/day=…/dead_letters.parquet`; what became of a dead letter only the view can say."""

DAY_TABLES = (FRAMES, DETECTIONS, STORED_DEAD_LETTERS)
"""What a day's reading of the ledger becomes, in the order in which it is put."""
