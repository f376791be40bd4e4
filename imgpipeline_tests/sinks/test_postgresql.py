"""The classic table `frames`, and what readers notice of an export: nothing until it ends."""

from dataclasses import replace

import pyarrow as pa
import pytest

from imgpipeline.sinks.postgresql import PostgresqlSink
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, remove_day
from imgpipeline_tests.sinks.rebuilds import TABLE, Seen, numbers, seen_during_50_rebuilds
from imgpipeline_tests.sinks.targets import PostgresTarget
from imgpipeline_tests.sinks.test_exporting import export, exporter

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("name", ["frames", "detections"])
def test_a_reader_does_not_wait_while_a_day_is_copied(store, postgres, toxiproxy, name):
    target = PostgresTarget(postgres, toxiproxy)
    put_day(store, day_number(0), frames_of(day_number(0), 3))
    export(store, target)
    table = next(
        each for each in exporter(store, target).tables if each.name == {"frames": "frame_paths"}.get(name, name)
    )
    with target.cursor() as cursor:
        cursor.execute(f'SELECT * FROM "{table.name}" LIMIT 0')  # noqa: S608 - own SQL
        names = [column.name for column in cursor.description]
    answers = []

    def rows():
        with target.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
            cursor.execute(f"SELECT count(*) AS found FROM {name}")  # noqa: S608 - own SQL
            answers.append(cursor.fetchone()["found"])
        yield from ()

    schema = pa.schema([(each, pa.string()) for each in names])
    PostgresqlSink(target.config).replace_day(
        table, day_number(0), pa.RecordBatchReader.from_batches(schema, rows()), "2"
    )
    assert answers in ([3], [6])


def test_a_reader_never_sees_half_a_day_while_it_is_rebuilt_50_times(postgres, toxiproxy):
    target = PostgresTarget(postgres, toxiproxy)
    with target.cursor() as cursor:

        def look() -> Seen:
            cursor.execute("SELECT min(build), max(build), count(*) FROM counted")
            return tuple(cursor.fetchone().values())

        seen = seen_during_50_rebuilds(PostgresqlSink(target.config), look)
    assert {(first == last, count == 1000 + last) for first, last, count in seen} == {(True, True)}
    assert len({last for _, last, _ in seen}) > 10


def test_days_of_a_dropped_table_are_missing_although_one_of_them_was_copied_again(postgres, toxiproxy):
    target = PostgresTarget(postgres, toxiproxy)
    sink = PostgresqlSink(target.config)
    for number in (0, 1):
        sink.replace_day(TABLE, day_number(number), numbers(3, 0, number), "v")
    with target.cursor() as cursor:
        cursor.execute("DROP TABLE counted")
    sink.replace_day(TABLE, day_number(0), numbers(3, 1), "v")
    assert sink.stored_days(TABLE).keys() == {day_number(0)}


def shown(target) -> list[tuple[str, str, str]]:
    with target.cursor() as cursor:
        cursor.execute("SELECT video_id, frame_id, path FROM frames ORDER BY 1, 2")
        return [tuple(row.values()) for row in cursor.fetchall()]


def test_of_frames_with_the_same_identifiers_of_a_producer_on_one_day_the_newest_counts(store, postgres, toxiproxy):
    target, monday = PostgresTarget(postgres, toxiproxy), day_number(0)
    given = {"frame_id": "frame_00007", "video_id": "clip"}
    put_day(store, monday, [replace(each, attributes=given) for each in frames_of(monday, 3)])
    export(store, target)
    assert shown(target) == [("clip", "frame_00007", "images/cam-1/2.jpg")]


def test_frames_without_identifiers_of_a_producer_all_arrive_although_their_numbers_repeat(store, postgres, toxiproxy):
    target, monday = PostgresTarget(postgres, toxiproxy), day_number(0)
    frames = [replace(each, frame_number=7) for each in frames_of(monday, 3)]
    put_day(store, monday, frames)
    export(store, target)
    assert shown(target) == sorted(("cam-1", each.frame_id, each.source_image_path) for each in frames)


def test_the_newest_day_of_a_frame_counts_and_the_older_one_again_once_it_is_removed(store, postgres, toxiproxy):
    target, monday, tuesday = PostgresTarget(postgres, toxiproxy), day_number(0), day_number(1)
    named = {"frame_id": "17", "video_id": "clip"}
    for day in (monday, tuesday):
        (frame,) = frames_of(day, 1)
        put_day(store, day, [replace(frame, attributes=named, source_image_path=f"images/{day}.jpg")])
    export(store, target)
    assert shown(target) == [("clip", "17", f"images/{tuesday}.jpg")]
    remove_day(store, tuesday)
    export(store, target)
    assert shown(target) == [("clip", "17", f"images/{monday}.jpg")]
