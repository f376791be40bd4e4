"""Stored tracks follow the detections across slices and midnight, and only changed slices are followed again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import load_settings
from imgpipeline.tracking.day_tracks import TracksBuild
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.tracking.films import Car, film

NEXT = DAY + timedelta(days=1)
Rows = list[tuple]


def at(hour: int, minute: int = 0, second: int = 0, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)


def build(store: ObjectStore, day: date = DAY, *, force: bool = False, **changes: object) -> TracksBuild:
    rebuild_day(store, day, now=NOON)
    return build_tracks(store, day, settings=load_settings(**changes), force=force, now=NOON)


def tracks_of(done: TracksBuild):
    return done.manifests[stored_key("tracks", DAY)]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator:
    """Ask the stored tables by plain DuckDB."""

    @contextmanager
    def opened(store: ObjectStore, day: date = DAY) -> Iterator:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for table in STORED_TRACK_TABLES:
                path = tmp_path / f"{table.name}.parquet"
                path.write_bytes(store.get(stored_key(table.name, day)))
                connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM read_parquet('{path}')")  # noqa: S608 - own path
            yield lambda sql: connection.execute(sql).fetchall()

    return opened


@pytest.mark.medium
def test_a_car_that_is_seen_in_three_slices_is_one_object(memory, stored):
    write_chain(memory, film(at(12, 5), at(12, 25), [Car(at(12, 5), at(12, 25))]))
    done = build(memory)
    assert (done.slices_followed, done.slices_kept, tracks_of(done).rows) == (3, 0, 3)
    with stored(memory) as ask:
        first = "gate/car/20260109T1200/1"
        assert ask("SELECT track_id, object_id, points FROM tracks ORDER BY slice_start") == [
            (first, first, 60),
            ("gate/car/20260109T1210/1", first, 120),
            ("gate/car/20260109T1220/1", first, 60),
        ]
        assert ask("SELECT count(*), count(DISTINCT (frame_id, detection_number)) FROM track_points") == [(240, 240)]
        assert ask("SELECT objects, tracks, longest_stay_s FROM unique_objects") == [(1, 3, 1195.0)]


@pytest.mark.medium
def test_cars_and_people_are_followed_apart_and_vans_with_cars(memory, stored):
    cars = [Car(at(12), at(12, 1), label, y=90.0 * n) for n, label in enumerate(("car", "person", "dog"))]
    write_chain(memory, film(at(12), at(12, 1), [*cars, Car(at(12), at(12, 1), "van", y=300)]))
    build(memory)
    with stored(memory) as ask:
        assert ask("SELECT class_group, label FROM tracks ORDER BY 1, 2") == [
            ("car", "car"), ("car", "van"), ("dog", "dog"), ("person", "person"),
        ]  # fmt: skip


@pytest.mark.medium
def test_an_object_at_midnight_is_joined_with_the_day_before_in_any_order_of_builds(memory, stored):
    evening = film(at(23, 55), at(23, 55) + timedelta(minutes=10), [Car(at(23, 55), at(0, 4, day=NEXT))])
    write_chain(memory, evening)
    rebuild_day(memory, NEXT, now=NOON)
    rebuild_day(memory, DAY, now=NOON)
    build(memory, NEXT)
    build(memory, DAY)
    keys = [stored_key(table.name, day) for table in STORED_TRACK_TABLES for day in (DAY, NEXT)]
    made = {key: memory.get(key) for key in keys}
    with stored(memory, NEXT) as ask:
        assert ask("SELECT track_id, object_id, continues_track_id, points FROM tracks") == [
            ("gate/car/20260110T0000/1", "gate/car/20260110T0000/1", "gate/car/20260109T2350/1", 48)
        ]
    for day in (DAY, NEXT):
        assert build(memory, day, force=True).slices_kept == 0
    assert {key: memory.get(key) for key in keys} == made


@pytest.mark.medium
def test_only_slices_whose_detections_changed_are_followed_again(memory, stored):
    cars = [Car(at(12), at(12, 40))]
    chain = write_chain(memory, film(at(12), at(12, 30), cars))
    assert build(memory).slices_followed == 3
    assert build(memory).skipped
    append(chain, film(at(12, 30), at(12, 31), cars, offset=360))
    extended = build(memory)
    # The new minute is one slice, and the overlap of the slice before it.
    assert (extended.slices_followed, extended.slices_kept) == (2, 2)
    append(chain, film(at(12, 31), at(12, 32), cars, offset=372))
    assert (done := build(memory)).slices_followed == 1
    kept = {table.name: memory.get(stored_key(table.name, DAY)) for table in STORED_TRACK_TABLES}
    assert build(memory, force=True).slices_followed == 4
    assert {table.name: memory.get(stored_key(table.name, DAY)) for table in STORED_TRACK_TABLES} == kept
    assert done.slices_kept == 3
    with stored(memory) as ask:
        assert ask("SELECT count(DISTINCT object_id) FROM tracks") == [(1,)]


@pytest.mark.medium
def test_the_first_minute_of_the_next_day_makes_the_last_slice_stale_and_later_frames_do_not(memory):
    cars = [Car(at(23, 40), at(0, 20, day=NEXT))]
    chain = write_chain(memory, film(at(23, 40), at(0, day=NEXT), cars))
    assert build(memory).slices_followed == 2
    append(chain, film(at(0, day=NEXT), at(0, 5, day=NEXT), cars, offset=240))
    rebuild_day(memory, NEXT, now=NOON)
    assert build(memory).slices_followed == 1
    append(chain, film(at(0, 5, day=NEXT), at(0, 8, day=NEXT), cars, offset=300))
    rebuild_day(memory, NEXT, now=NOON)
    assert build(memory).skipped


@pytest.mark.medium
def test_other_parameters_follow_all_slices_again_and_other_limits_of_counts_none(memory, stored):
    write_chain(memory, film(at(12), at(12, 30), [Car(at(12), at(12, 30)), Car(at(12), at(12, 0, 15), y=300)]))
    assert build(memory).slices_followed == 3
    counted = build(memory, unique_min_s=60)
    assert (counted.skipped, counted.slices_followed, counted.slices_kept) == (False, 0, 3)
    with stored(memory) as ask:
        assert ask("SELECT objects, tracks FROM unique_objects") == [(1, 4)]
    assert build(memory, track_lost_s=20).slices_followed == 3


@pytest.mark.medium
def test_an_offline_notice_ends_tracks(memory, stored):
    frames = film(at(12), at(12, 5), [Car(at(12), at(12, 5))])
    cut = at(12, 2) - timedelta(milliseconds=500)
    write_chain(memory, [*frames, Notice(60, NoticeKind.OFFLINE, "gate", "s1", cut, cut, reason="cable")])
    build(memory)
    with stored(memory) as ask:
        assert ask("SELECT points, ended_by, object_id = track_id FROM tracks ORDER BY first_seen") == [
            (24, "outage", True), (36, "slice", True),
        ]  # fmt: skip


@pytest.mark.medium
def test_a_hidden_car_is_one_unique_object_of_two_tracks(memory, stored):
    hidden = (at(12, 9, 58), at(12, 10, 2))
    write_chain(memory, film(at(12, 5), at(12, 15), [Car(at(12, 5), at(12, 15), hidden=hidden)], rate=2))
    build(memory)
    with stored(memory) as ask:
        assert ask("SELECT objects, tracks FROM unique_objects") == [(1, 2)]


@pytest.mark.medium
def test_totals_add_up_over_the_day(memory, stored):
    cars = [Car(at(10, 59), at(11, 2)), Car(at(11, 3), at(11, 4), y=300), Car(at(12, 1), at(12, 3), "dog")]
    write_chain(memory, film(at(10, 59), at(11, 5), cars), film(at(12), at(12, 4), cars, offset=72))
    build(memory)
    with stored(memory) as ask:
        assert ask("SELECT hour(hour), label, new_objects, objects FROM unique_totals") == [
            (10, "car", 1, 1), (11, "car", 1, 2), (12, "dog", 1, 1),
        ]  # fmt: skip
        assert ask("SELECT hour(hour), label, objects, observed_s FROM unique_objects ORDER BY 1") == [
            (10, "car", 1, 60.0), (11, "car", 2, 355.0), (12, "dog", 1, 235.0),
        ]  # fmt: skip


def test_the_best_image_is_the_largest_and_sharpest(memory, stored):
    write_chain(memory, film(at(12), at(12, 0, 20), [Car(at(12), at(12, 0, 20))], rate=1))
    build(memory)
    with stored(memory) as ask:
        assert ask("SELECT best_frame_id, best_detection_number FROM tracks") == ask(
            'SELECT frame_id, detection_number FROM track_points ORDER BY "timestamp" LIMIT 1 OFFSET 6'
        )


@pytest.mark.medium
def test_the_manifest_names_parameters_library_and_frame_rate(memory):
    write_chain(memory, film(at(12), at(12, 1), [Car(at(12), at(12, 1))], rate=5))
    manifest = tracks_of(build(memory))
    assert (manifest.library.split()[0], manifest.settings["track_lost_s"]) == ("trackers", 1.0)
    assert manifest.frame_rates == {"gate": 5.0}
    assert set(manifest.made_of) == {
        "frames", "detections", "notices", f"rows of {DAY - timedelta(days=1)}", f"rows of {NEXT}",
    }  # fmt: skip


def test_a_day_without_detections_has_empty_tables(memory, stored):
    write_chain(memory, film(at(12), at(12, 1), []))
    assert tracks_of(build(memory)).rows == 0
    with stored(memory) as ask:
        assert [ask(f"SELECT count(*) FROM {table.name}") for table in STORED_TRACK_TABLES] == [[(0,)]] * 6  # noqa: S608 - own names


def test_a_day_without_tables_is_refused(memory):
    with pytest.raises(PermanentError, match="the day has no table `frames` yet"):
        build_tracks(memory, DAY, settings=load_settings(), now=NOON)


def dimmed(outcomes: Sequence[Frame], first: datetime, last: datetime, confidence: float = 0.2) -> list[Frame]:
    """Return frames whose detections are weak from one time to another."""
    return [
        replace(each, detections=(), weak_detections=tuple(replace(d, confidence=confidence) for d in each.detections))
        if first <= each.timestamp < last
        else each
        for each in outcomes
    ]


def without_weak(outcomes: Sequence[Frame]) -> list[Frame]:
    return [replace(each, weak_detections=()) for each in outcomes]


@pytest.mark.medium
def test_weak_detections_keep_one_track_through_a_dim_stretch_that_breaks_it_without_them(memory, stored):
    bright = film(at(12), at(12, 2), [Car(at(12), at(12, 2))], rate=2)
    dim = dimmed(bright, at(12, 0, 40), at(12, 1, 10))
    plain = open_memory_store()
    write_chain(plain, without_weak(dim))
    write_chain(memory, dim)
    assert (tracks_of(build(plain)).rows, tracks_of(build(memory)).rows) == (2, 1)
    with stored(memory) as ask:
        assert ask("SELECT points FROM tracks") == [(240,)]
        assert ask("SELECT count(*), min(confidence) FROM track_points") == [(240, 0.2)]
    made = {table.name: memory.get(stored_key(table.name, DAY)) for table in STORED_TRACK_TABLES}
    assert build(memory, force=True).slices_kept == 0
    assert {table.name: memory.get(stored_key(table.name, DAY)) for table in STORED_TRACK_TABLES} == made
    manifest = tracks_of(build(memory))
    assert manifest.made_of.keys() - tracks_of(build(plain)).made_of.keys() == {"weak_detections"}


@pytest.mark.medium
def test_weak_detections_begin_no_track_however_strong_they_are(memory):
    write_chain(memory, dimmed(film(at(12), at(12, 1), [Car(at(12), at(12, 1))], rate=2), at(12), at(12, 1), 0.45))
    assert tracks_of(build(memory)).rows == 0


@pytest.mark.medium
def test_only_slices_with_new_weak_detections_are_followed_again(memory):
    cars = [Car(at(10), at(10, 40))]
    chain = write_chain(memory, film(at(10), at(10, 30), cars))
    assert build(memory).slices_followed == 3
    append(chain, dimmed(film(at(10, 35), at(10, 36), cars, offset=360), at(10), at(11)))
    extended = build(memory)
    assert (extended.slices_followed, extended.slices_kept) == (1, 3)
