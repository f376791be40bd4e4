"""The columns of the histogram views: `frame_stats` with one row a bin, for tools that cannot read maps and lists."""

from imgpipeline.lake.schema.columns import Column, Table
from imgpipeline.lake.schema.summaries import FRAME_STATS

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
        ("below_bytes", "BIGINT", "bytes", "They are smaller than this: twice `from_bytes`."),
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
        ("below_brightness", "INTEGER", "16 to 256", "They are darker than this: `from_brightness` and 16."),
    ),
    _binned(
        "frame_sharpness",
        "sharpness",
        "one power of two in sharpness",
        ("from_sharpness", "BIGINT", "from 0", "The images have at least this sharpness; 0 for those below 1."),
        ("below_sharpness", "BIGINT", "from 1", "They are less sharp than this: twice `from_sharpness`."),
    ),
    _binned(
        "frame_latency",
        "latency",
        "one power of two in seconds",
        ("from_s", "DOUBLE", "seconds", "The outcome came at least this long after the frame; 0 for no time."),
        ("below_s", "DOUBLE", "seconds", "It came sooner than this: twice `from_s`; one microsecond if that is 0."),
    ),
)  # fmt: skip
"""Views of query sessions over `frame_stats`, and tables of exported files; not stored."""
