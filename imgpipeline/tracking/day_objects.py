"""Joins the tracks of a day's slices to objects, and makes the rows of the stored tables.

Tracks of consecutive slices are one object if they share detections in the overlap. Stitching also joins tracks across
short times without detections.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from imgpipeline.lake.days.summaries import SUMMARIES, parameters_of, set_parameters
from imgpipeline.lake.storage.engine import Engine, read_sql
from imgpipeline.settings import Settings

_PACKAGE = "imgpipeline.tracking"
_FRAME_STATS = "frame_stats"
_QUERIES = ("day_points", "tracks", "objects", "unique_objects", "unique_totals")
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
"""The rows of each stored table, from the tables of `name_tracks` and `count_objects`; part of the recipe."""
_SHARED = """
SELECT count(*), epoch(beyond.slice_start), CAST(split_part(beyond.track_id, '/', -1) AS INTEGER), beyond.track_id,
       epoch(followed.slice_start), followed."number", followed.track_id
FROM overlap_points AS beyond JOIN points USING (source, class_group, frame_id, detection_number)
JOIN followed ON followed.track_id = points.track_id
WHERE beyond.frame_day = $day AND followed.slice_start = beyond.slice_start + INTERVAL 10 minutes
GROUP BY ALL"""

_NAMED = """
CREATE TABLE named AS
SELECT unnest(?::VARCHAR[]) AS track_id, unnest(?::VARCHAR[]) AS object_id,
       unnest(?::VARCHAR[]) AS continues_track_id"""


def queries() -> tuple[str, ...]:
    """Returns all queries that make the stored tables, for the recipe."""
    own = (read_sql(_PACKAGE, name) for name in _QUERIES)
    return (*own, *STORED_QUERIES.values(), _SHARED, SUMMARIES[_FRAME_STATS].sql)


def name_tracks(engine: Engine, day: date) -> None:
    """Adds the table `named`: the object of each track of the day."""
    midnight_s = datetime.combine(day, time(), UTC).timestamp()
    tracks = [TrackRef(*row) for row in engine.run('SELECT epoch(slice_start), "number", track_id FROM followed')]
    pairs = best_pairs(
        Shared(count, TrackRef(*found[:3]), TrackRef(*found[3:])) for count, *found in engine.run(_SHARED, {"day": day})
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
    objects = name_objects(tracks, [*joined, *stitched])
    before = [continues.get(name) for name in objects]
    engine.run(_NAMED, [list(objects), list(objects.values()), [name if name in there else None for name in before]])


def count_objects(engine: Engine, day: date, settings: Settings) -> None:
    """Adds the tables `day_points`, `day_tracks`, `unique_rows` and `total_rows`, from the table `named`."""
    engine.run(f"CREATE TABLE day_points AS {read_sql(_PACKAGE, 'day_points')}", {"day": day})
    engine.run(f"CREATE TABLE day_tracks AS {read_sql(_PACKAGE, 'tracks')}")
    set_parameters(engine, parameters_of(SUMMARIES[_FRAME_STATS], settings))
    engine.run(f"CREATE TABLE day_objects AS {read_sql(_PACKAGE, 'objects')}", {"least_s": settings.unique_min_s})
    for table in ("frames", "notices"):
        engine.run(f"CREATE VIEW {table} AS SELECT * FROM all_{table} WHERE day = DATE '{day}'")  # noqa: S608 - a date
    # Observed time does not depend on dead letters.
    engine.run('CREATE VIEW dead_letters AS SELECT day, "timestamp", source FROM frames WHERE false')
    engine.run(f"CREATE TABLE observed AS SELECT hour, source, observed_s FROM ({SUMMARIES[_FRAME_STATS].sql}\n)")  # noqa: S608 - own SQL
    engine.run(f"CREATE TABLE unique_rows AS {read_sql(_PACKAGE, 'unique_objects')}")
    engine.run(f"CREATE TABLE total_rows AS {read_sql(_PACKAGE, 'unique_totals')}")


@dataclass(frozen=True, slots=True, order=True)
class TrackRef:
    """One track, ordered by time."""

    slice_s: float
    """Start of its slice, seconds since 1970."""
    number: int
    """Number within source, class group and slice."""
    track_id: str


@dataclass(frozen=True, slots=True)
class Shared:
    """Two tracks of consecutive slices that share detections in the overlap."""

    detections: int
    earlier: TrackRef
    later: TrackRef


def best_pairs(shared: Iterable[Shared]) -> list[Shared]:
    """Returns the pairs of tracks to join: most shared detections first, each track at most once on either side."""
    chosen: list[Shared] = []
    earlier: set[str] = set()
    later: set[str] = set()
    for pair in sorted(shared, key=lambda each: (-each.detections, each.earlier, each.later)):
        if pair.earlier.track_id not in earlier and pair.later.track_id not in later:
            earlier.add(pair.earlier.track_id)
            later.add(pair.later.track_id)
            chosen.append(pair)
    return chosen


def name_objects(tracks: Sequence[TrackRef], links: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Returns for each track of a day the id of the first track of its object.

    The links are pairs of tracks that are one object, and may include tracks of other days.
    """
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while (found := above.get(name, name)) != name:
            above[name] = above.get(found, found)
            name = found
        return name

    for one, other in links:
        above[root(one)] = root(other)
    first: dict[str, str] = {}
    return {track.track_id: first.setdefault(root(track.track_id), track.track_id) for track in sorted(tracks)}
