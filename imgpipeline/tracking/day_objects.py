"""From the tracks of a day's slices to objects, and to the rows of the stored tables."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import cache
from importlib import resources

from imgpipeline.lake.build.summaries import SUMMARIES, parameters_of, read_sql, set_parameters
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.settings import Settings
from imgpipeline.tracking.joining import Shared, TrackRef, best_pairs, name_objects

_FRAME_STATS = "frame_stats"
_QUERIES = ("day_points", "tracks", "unique_objects", "unique_totals")
_POINTS = (
    'track_id, source, class_group, frame_id, detection_number, "timestamp", label, confidence, x, y, width, height'
)
STORED_QUERIES: Mapping[str, str] = {
    "tracks": "SELECT * FROM day_tracks",
    "track_points": f"SELECT {_POINTS} FROM day_points",  # noqa: S608 - own names
    "track_slices": "SELECT * FROM slices ORDER BY slice_start, source",
    "track_overlaps": "SELECT * FROM overlap_points ORDER BY slice_start, track_id, frame_day, frame_id",
    "unique_objects": "SELECT * FROM unique_rows",
    "unique_totals": "SELECT * FROM total_rows",
}
"""What each stored table holds, over the tables of `name_tracks` and `count_objects`."""
_SHARED = """
SELECT count(*), epoch(beyond.slice_start), beyond.track_id, epoch(followed.slice_start), followed."number",
       followed.track_id
FROM overlap_points AS beyond JOIN points USING (source, class_group, frame_id, detection_number)
JOIN followed ON followed.track_id = points.track_id
WHERE beyond.frame_day = $day AND followed.slice_start = beyond.slice_start + INTERVAL 10 minutes
GROUP BY ALL"""


@cache
def read_query(name: str) -> str:
    """Returns one of the queries in `sql/`."""
    return resources.files("imgpipeline.tracking").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8").strip()


def queries() -> tuple[str, ...]:
    """Returns all queries that make the stored tables, for the recipe."""
    return (*map(read_query, _QUERIES), *STORED_QUERIES.values(), _SHARED, read_sql(_FRAME_STATS))


def name_tracks(engine: Engine, day: date) -> None:
    """Adds the table `named`: the objects of the day's tracks.

    Args:
        engine: DuckDB with the tables of `slice_rows`.
        day: UTC day.
    """
    import pyarrow as pa  # noqa: PLC0415 - the code location reads the queries and does not need it

    midnight_s = datetime.combine(day, time(), UTC).timestamp()
    tracks = [TrackRef(*row) for row in engine.run('SELECT epoch(slice_start), "number", track_id FROM followed')]
    pairs = best_pairs(
        Shared(count, TrackRef(at_s, _number(name), name), TrackRef(next_s, number, later))
        for count, at_s, name, next_s, number, later in engine.run(_SHARED, {"day": day})
    )
    joined = [(p.later.track_id, p.earlier.track_id) for p in pairs if p.earlier.slice_s >= midnight_s]
    stitched = engine.run(
        "SELECT track_id, stitched_after FROM followed WHERE stitched_after IS NOT NULL UNION "
        "SELECT DISTINCT track_id, stitched_after FROM overlap_points "
        "WHERE stitched_after IS NOT NULL AND slice_start >= ?",
        [datetime.combine(day, time(), UTC)],
    )
    there = {name for (name,) in engine.run("SELECT DISTINCT track_id FROM overlap_points WHERE is_stored")}
    continues = {p.later.track_id: p.earlier.track_id for p in pairs if p.earlier.slice_s < midnight_s}
    objects = name_objects(tracks, joined)
    unique = name_objects(tracks, [*joined, *((one, other) for one, other in stitched)])
    before = [continues.get(name) for name in objects]
    columns: dict[str, list[str | None]] = {
        "track_id": list(objects),
        "object_id": list(objects.values()),
        "unique_id": [unique[name] for name in objects],
        "continues_track_id": [name if name in there else None for name in before],
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    engine.connection.register("fresh", table)
    engine.run("CREATE TABLE named AS SELECT * FROM fresh")
    engine.connection.unregister("fresh")


def _number(track_id: str) -> int:
    return int(track_id.rpartition("/")[2])


def count_objects(engine: Engine, day: date, settings: Settings) -> None:
    """Adds the tables `day_points`, `day_tracks`, `unique_rows` and `total_rows`.

    Args:
        engine: DuckDB with the table `named`.
        day: UTC day.
        settings: Those that the queries read.
    """
    engine.run(f"CREATE TABLE day_points AS {read_query('day_points')}", {"day": day})
    engine.run(f"CREATE TABLE day_tracks AS {read_query('tracks')}")
    set_parameters(engine, {**parameters_of(SUMMARIES[_FRAME_STATS], settings), "unique_min_s": settings.unique_min_s})
    for table in ("frames", "notices"):
        engine.run(f"CREATE VIEW {table} AS SELECT * FROM all_{table} WHERE day = DATE '{day}'")  # noqa: S608 - a date
    # Observed time does not depend on dead letters.
    engine.run('CREATE VIEW dead_letters AS SELECT day, "timestamp", source FROM frames WHERE false')
    engine.run(f"CREATE TABLE observed AS SELECT hour, source, observed_s FROM ({read_sql(_FRAME_STATS)}\n)")  # noqa: S608 - own SQL
    engine.run(f"CREATE TABLE unique_rows AS {read_query('unique_objects')}")
    engine.run(f"CREATE TABLE total_rows AS {read_query('unique_totals')}")
