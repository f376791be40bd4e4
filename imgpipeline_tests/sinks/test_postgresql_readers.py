"""What readers of PostgreSQL notice of an export: nothing until it ends."""

import pyarrow as pa
import pytest

from imgpipeline.sinks.postgresql import PostgresqlSink
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
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
