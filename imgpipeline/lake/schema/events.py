"""The columns of `frame_changes` and `events`, which rules find, and of the counts at zones and lines."""

from imgpipeline.lake.schema.tables import Column, Table

EVENT_SCHEMA_VERSION = 1
"""Version of these columns. Raising it changes the recipe of both tables."""
_DAY = Column("day", "DATE", "UTC", "Day of `timestamp`; in Parquet it is part of the path.")


def _of_frames(name: str, duckdb_type: str, unit: str, meaning: str, *made_of: str) -> Column:
    return Column(name, duckdb_type, unit, meaning, tuple(f"frames.{column}" for column in made_of))


FRAME_CHANGES = Table(
    "frame_changes",
    "one frame compared with the previous frame of its source and day; the first frame of a day has no row",
    (
        _DAY,
        _of_frames("frame_id", "VARCHAR", "32 hexadecimal digits", "The frame.", "frame_id"),
        _of_frames("previous_frame_id", "VARCHAR", "32 hexadecimal digits", "The previous frame.", "frame_id"),
        _of_frames("source", "VARCHAR", "", "The camera, video or folder.", "source"),
        _of_frames("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time.", "timestamp"),
        _of_frames("previous_timestamp", "TIMESTAMPTZ", "UTC", "Time of the previous frame.", "timestamp"),
        _of_frames("source_image_path", "VARCHAR", "", "The frame's image.", "source_image_path"),
        _of_frames("previous_image_path", "VARCHAR", "", "The previous frame's image.", "source_image_path"),
        Column("outcome", "VARCHAR", "`compared`, `sizes_differ`, `unreadable`", "Whether they could be compared."),
        Column(
            "norm", "DOUBLE", "from 0",
            "L2 norm of the difference of all values of all pixels, 0 to 255 each; 0 for equal images, NULL unless "
            "compared.",
        ),
        Column("reason", "VARCHAR", "", "Why they could not be compared; NULL if they were."),
    ),
)  # fmt: skip
"""`frame_changes/day=…/frame_changes.parquet`."""

EVENTS = Table(
    "events",
    "one event: something that a rule found",
    (
        _DAY,
        Column("event_id", "VARCHAR", "32 hexadecimal digits", "Hash of the event's rule and evidence."),
        Column("rule", "VARCHAR", "", "Name of the rule."),
        Column(
            "kind", "VARCHAR",
            "`zone_occupancy`, `count`, `absence`, `dwell_time`, `line_crossing`, `image_change`",
            "Kind of the rule.",
        ),
        Column("source", "VARCHAR", "", "The camera, video or folder.", ("frames.source",)),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "Time of the frame that met the rule.", ("frames.timestamp",)),
        Column("started_at", "TIMESTAMPTZ", "UTC", "When the condition of the rule began.", ("frames.timestamp",)),
        Column("ended_at", "TIMESTAMPTZ", "UTC", "Last frame of the day that met it.", ("frames.timestamp",)),
        Column("place", "VARCHAR", "", "The zone or line, or NULL."),
        Column("label", "VARCHAR", "", "Label of all objects that met the rule; NULL for several or none.",
               ("detections.label",)),
        Column("direction", "VARCHAR", "", "Direction in which a line was crossed, or NULL."),
        Column(
            "value", "DOUBLE", "objects, seconds or norm",
            "What was measured, by kind: objects at once, seconds of absence or in the zone, norm of the change; "
            "NULL if nothing could be.",
        ),
        Column("reason", "VARCHAR", "", "What happened, for a person."),
        Column("frame_ids", "VARCHAR[]", "", "Frames that show it, by time; the last one met the rule.",
               ("frames.frame_id",)),
        Column("image_paths", "VARCHAR[]", "", "Their images, in the same order.", ("frames.source_image_path",)),
        Column("track_ids", "VARCHAR[]", "", "The tracked objects that took part, by their `object_id`.",
               ("tracks.object_id",)),
        Column("difference_image", "VARCHAR", "", "Key of the difference image (image changes), or NULL."),
    ),
)  # fmt: skip
"""`events/day=…/events.parquet`."""


def _by_hour(place: str) -> tuple[Column, ...]:
    return (
        _DAY,
        Column("hour", "TIMESTAMPTZ", "UTC", "Start of the hour.", ("frames.timestamp",)),
        Column("source", "VARCHAR", "", f"The camera, video or folder of the {place}.", ("frames.source",)),
        Column(place, "VARCHAR", "", f"Name of the {place}."),
        Column("label", "VARCHAR", "", "Label of the objects; that of the track if they were tracked.",
               ("detections.label", "tracks.label")),
    )  # fmt: skip


_PLACED = tuple(f"detections.{name}" for name in ("x", "y", "width", "height"))
_TRACKED = ("tracks.object_id",)

ZONE_OCCUPANCY = Table(
    "zone_occupancy",
    "one label in one zone in one hour in which such an object was in the zone",
    (
        *_by_hour("zone"),
        Column("frames", "BIGINT", "frames", "Processed frames of the source in the hour.", ("frames.frame_id",)),
        Column("occupied_frames", "BIGINT", "frames", "Those with at least one such object in the zone.", _PLACED),
        Column("detections", "BIGINT", "detections", "Objects in the zone, added up over all frames: divided by "
               "`frames`, the mean number at once.", _PLACED),
        Column("most_at_once", "BIGINT", "objects", "The largest number in one frame.", _PLACED),
        Column("objects", "BIGINT", "objects", "Different tracked objects that were in the zone in the hour.",
               _TRACKED),
        Column("occupied_s", "DOUBLE", "seconds, 0 to 3600", "Time between consecutive frames, at most a minute apart, "
               "that both show such an object in the zone.", ("frames.timestamp",)),
    ),
)  # fmt: skip
"""`summaries/zone_occupancy/day=…/zone_occupancy.parquet`."""

LINE_CROSSINGS = Table(
    "line_crossings",
    "one label that crossed one line in one direction in one hour",
    (
        *_by_hour("line"),
        Column("direction", "VARCHAR", "", "The line's name for the direction."),
        Column("crossings", "BIGINT", "crossings", "How often the line was crossed.", _PLACED),
        Column("objects", "BIGINT", "objects", "Different tracked objects that crossed it.", _TRACKED),
    ),
)  # fmt: skip
"""`summaries/line_crossings/day=…/line_crossings.parquet`."""

PLACE_TABLES = (ZONE_OCCUPANCY, LINE_CROSSINGS)
"""The counts at zones and lines."""
EVENT_TABLES = (FRAME_CHANGES, EVENTS)
"""The tables that rules make, in the order in which they are built."""
