"""The columns of tracks and unique objects. `imgpipeline.tracking` builds them; a day without them reads as empty."""

from dataclasses import replace

from imgpipeline.lake.schema.tables import DETECTIONS, Column, Table

TRACKS_SCHEMA_VERSION = 1
"""Version of these columns."""
_DAY = Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path.")
_SOURCE = Column("source", "VARCHAR", "", "The camera, video or folder.", ("detections.source",))
_GROUP = Column(
    "class_group",
    "VARCHAR",
    "",
    "First label of the group that is tracked together (`car` for vans).",
    ("detections.label",),
)
_BOXES = tuple(f"detections.{name}" for name in ("timestamp", "label", "confidence", "x", "y", "width", "height"))
_TRACK_ID = Column(
    "track_id", "VARCHAR", "source/group/slice/number", "The track, such as `gate/car/20260109T1210/3`.", _BOXES
)
_SLICE = Column("slice_start", "TIMESTAMPTZ", "UTC", "Start of the ten minutes that were tracked independently.")


def _of_detections(*names: str) -> tuple[Column, ...]:
    """Returns columns that are taken over from the table `detections`."""
    columns = {column.name: column for column in DETECTIONS.columns}
    return tuple(replace(columns[name], made_of=(f"detections.{name}",)) for name in names)


TRACKS = Table(
    "tracks",
    "one object tracked within one slice of ten minutes",
    (
        _DAY,
        _TRACK_ID,
        Column(
            "object_id",
            "VARCHAR",
            "",
            "First track of the same object on the day, joined over slices and over short times without detections.",
        ),
        Column(
            "continues_track_id", "VARCHAR", "", "Track of the day before that the object had at midnight, or NULL."
        ),
        _SOURCE,
        _GROUP,
        Column("label", "VARCHAR", "", "The label with the most confidence over all points.", ("detections.label",)),
        _SLICE,
        Column("first_seen", "TIMESTAMPTZ", "UTC", "Time of its first point.", ("detections.timestamp",)),
        Column("last_seen", "TIMESTAMPTZ", "UTC", "Time of its last point.", ("detections.timestamp",)),
        Column("points", "BIGINT", "detections", "Its rows in `track_points`."),
        Column("mean_confidence", "DOUBLE", "0 to 1", "Mean confidence of its points.", ("detections.confidence",)),
        Column("frame_rate", "DOUBLE", "frames/s", "Observed frame rate during the track.", ("frames.timestamp",)),
        Column(
            "ended_by",
            "VARCHAR",
            "`lost`, `gap`, `outage`, `frame_rate`, `slice`",
            "Why it ends; `slice`: it was still there when the slice or the frames ended.",
        ),
        Column(
            "stitched_after",
            "VARCHAR",
            "",
            "Track of the same object that was lost shortly before, by motion and size, or NULL.",
        ),
        Column("best_frame_id", "VARCHAR", "", "Frame with its largest and sharpest image.", ("frames.frame_id",)),
        Column("best_detection_number", "INTEGER", "from 0", "The detection there; the track's preview shows it."),
    ),
)
"""`tracks/day=…/tracks.parquet`."""

TRACK_POINTS = Table(
    "track_points",
    "one detection of one track; a detection is in one track at most",
    (
        _DAY,
        _TRACK_ID,
        _SOURCE,
        _GROUP,
        *_of_detections("frame_id", "detection_number"),
        *_of_detections("timestamp", "label", "confidence", "x", "y", "width", "height"),
    ),
)
"""`track_points/day=…/track_points.parquet`."""

TRACK_SLICES = Table(
    "track_slices",
    "one slice of one source that was tracked",
    (
        _DAY,
        _SOURCE,
        _SLICE,
        Column("digest", "VARCHAR", "", "Hash of the frames, detections and notices of the slice."),
        Column("frames", "BIGINT", "frames", "Processed frames of the slice and its overlap."),
        Column("frame_rate", "DOUBLE", "frames/s", "Observed frame rate, by the median time between frames."),
        Column("tracks", "BIGINT", "tracks", "Tracks in all class groups."),
    ),
)
"""`track_slices/day=…/track_slices.parquet`; not in query sessions."""

TRACK_OVERLAPS = Table(
    "track_overlaps",
    "one detection of a track in the minute after its slice, by which the tracks of two slices are joined",
    (
        _DAY,
        _TRACK_ID,
        _SOURCE,
        _GROUP,
        _SLICE,
        Column("frame_day", "DATE", "UTC", "Day of the frame."),
        *_of_detections("frame_id", "detection_number"),
        Column("stitched_after", "VARCHAR", "", "As in `tracks`."),
        Column("is_stored", "BOOLEAN", "", "Whether the track has points in its slice, so that `tracks` has it."),
    ),
)
"""`track_overlaps/day=…/track_overlaps.parquet`; not in query sessions."""

_BY_HOUR = (
    _DAY,
    Column("hour", "TIMESTAMPTZ", "UTC", "Start of the hour.", ("detections.timestamp",)),
    Column("source", "VARCHAR", "", "The camera, video or folder.", ("detections.source",)),
    Column("label", "VARCHAR", "", "Label of the object: that of most of its points.", ("detections.label",)),
)

UNIQUE_OBJECTS = Table(
    "unique_objects",
    "one label of one source in one hour in which such an object was seen",
    (
        *_BY_HOUR,
        Column("objects", "BIGINT", "objects", "Different objects seen in the hour and, in all, for at least "
               "`IMGPIPELINE_UNIQUE_MIN_S`; an object seen in two hours counts in both rows.", _BOXES),
        Column("tracks", "BIGINT", "tracks", "Tracks in the hour, including the shortest.", _BOXES),
        Column("mean_stay_s", "DOUBLE", "seconds", "Mean time from first to last sight of these objects on the day.",
               ("detections.timestamp",)),
        Column("longest_stay_s", "DOUBLE", "seconds", "The longest of these times.",
               ("detections.timestamp",)),
        Column("frame_rate", "DOUBLE", "frames/s", "Mean observed frame rate of the tracks.", ("frames.timestamp",)),
        Column("observed_s", "DOUBLE", "seconds, 0 to 3600", "How long the source delivered frames in the hour.",
               ("frames.timestamp", "notices.observed_s")),
    ),
)  # fmt: skip
"""`summaries/unique_objects/day=…/unique_objects.parquet`."""

UNIQUE_TOTALS = Table(
    "unique_totals",
    "one label of one source in one hour in which a new object was seen",
    (
        *_BY_HOUR,
        Column("new_objects", "BIGINT", "objects", "Objects first seen in this hour.", _BOXES),
        Column("objects", "BIGINT", "objects", "Different objects since the day began.", _BOXES),
    ),
)
"""`summaries/unique_totals/day=…/unique_totals.parquet`."""

TRACK_TABLES = (TRACKS, TRACK_POINTS, UNIQUE_OBJECTS, UNIQUE_TOTALS)
"""The tables that query sessions offer."""
DAY_TRACK_TABLES = (TRACK_SLICES, TRACK_OVERLAPS, TRACK_POINTS, TRACKS)
"""Those that are not summaries."""
STORED_TRACK_TABLES = (*DAY_TRACK_TABLES, UNIQUE_OBJECTS, UNIQUE_TOTALS)
"""All objects of one build, in the order in which they are stored."""
