"""What holds for ClickHouse alone: the classic table, its readers while a day is replaced, and overtaken exports."""

import re
import threading
from uuid import uuid4

import pyarrow as pa
import pytest

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.sinks.clickhouse import ClickHouseSink
from imgpipeline.sinks.configuration import load_sinks
from imgpipeline_tests.conftest import REPOSITORY
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.sinks.clickhouse_target import ClickHouseTarget
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
from imgpipeline_tests.sinks.rebuilds import MONDAY, TABLE, Seen, numbers, seen_during_50_rebuilds
from imgpipeline_tests.sinks.test_exporting import export

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def target(clickhouse, toxiproxy) -> ClickHouseTarget:
    return ClickHouseTarget(clickhouse, toxiproxy)


@pytest.fixture
def sink(target):
    made = ClickHouseSink(target.config)
    yield made
    made.close()


def test_the_classic_queries_of_images_metadata_work(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 12))
    export(store, target)
    assert target.ask("SELECT COUNT(*) FROM images_metadata") == b"12\n"
    rows = target.ask("SELECT timestamp, source, brightness, width, height, path FROM images_metadata LIMIT 10")
    assert len(rows.splitlines()) == 10
    types = dict(line.split("\t")[:2] for line in target.ask("DESCRIBE TABLE images_metadata").decode().splitlines())
    assert types == {
        "day": "Date32",
        "timestamp": "DateTime(\\'UTC\\')",
        "source": "String",
        "brightness": "Nullable(Float64)",
        "width": "Nullable(Int32)",
        "height": "Nullable(Int32)",
        "path": "Nullable(String)",
    }


def test_a_reader_never_sees_half_a_day_while_it_is_rebuilt_50_times(target, sink):
    def look() -> Seen:
        answer = target.ask(f"SELECT min(build), max(build), count() FROM counted WHERE day = '{MONDAY}'")  # noqa: S608 - own SQL
        return tuple(map(int, answer.split()))

    seen = seen_during_50_rebuilds(sink, look)
    assert {(first == last, count == 1000 + last) for first, last, count in seen} == {(True, True)}
    assert len({last for _, last, _ in seen}) > 10


def test_a_lost_answer_of_the_server_does_not_double_rows(target, sink):
    sink.check()
    with target.proxy.fault("limit_data", bytes=1), pytest.raises(TransientError):
        sink.replace_day(TABLE, MONDAY, numbers(300), "1")
    sink.replace_day(TABLE, MONDAY, numbers(300), "1")
    assert sink.row_counts(TABLE) == {MONDAY: 300}


def test_an_export_that_was_overtaken_neither_changes_rows_nor_version(target, sink):
    sink.replace_day(TABLE, MONDAY, numbers(5), "before")
    began, overtaken = threading.Event(), threading.Event()

    def slow():
        rows = numbers(50)
        began.set()
        overtaken.wait(60)
        yield from rows

    first, errors = ClickHouseSink(target.config), []

    def run() -> None:
        try:
            rows = pa.RecordBatchReader.from_batches(numbers(1).schema, slow())
            first.replace_day(TABLE, MONDAY, rows, "overtaken")
        except ImgpipelineError as error:
            errors.append(error)

    other = threading.Thread(target=run)
    other.start()
    assert began.wait(60)
    sink.replace_day(TABLE, MONDAY, numbers(0), "newer")
    overtaken.set()
    other.join(60)
    first.close()
    assert [type(error) for error in errors] == [TransientError]
    assert sink.row_counts(TABLE) == {}
    assert {day: stored.version for day, stored in sink.stored_days(TABLE).items()} == {MONDAY: "newer"}


def test_an_export_that_dies_after_the_rows_changed_leaves_no_version(target, sink):
    sink.replace_day(TABLE, MONDAY, numbers(5), "1")
    # The second write of a version has a row that this constraint refuses: the first one removes the older version.
    target.ask("ALTER TABLE imgpipeline_exports ADD CONSTRAINT refuse CHECK version != '2'")
    with pytest.raises(PermanentError):
        sink.replace_day(TABLE, MONDAY, numbers(7), "2")
    assert sink.row_counts(TABLE) == {MONDAY: 7}
    assert sink.stored_days(TABLE) == {}


def test_staging_tables_of_killed_exports_are_dropped_by_the_next_one(target, sink):
    sink.replace_day(TABLE, MONDAY, numbers(5), "1")
    target.ask(f"CREATE TABLE imgpipeline_staging_counted_{'0' * 32} AS counted")
    sink.replace_day(TABLE, day_number(1), numbers(0), "1")
    assert b"staging" not in target.ask("SHOW TABLES")


def test_an_unknown_database_is_an_error_with_a_next_step(target, sink):
    target.ask(f"DROP DATABASE {target.database}")
    with pytest.raises(ConfigurationError) as refused:
        sink.check()
    assert "database" in str(refused.value.next_step)


def test_a_table_with_columns_of_other_types_is_exported_again_once_it_is_dropped(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 3))
    target.ask(
        "CREATE TABLE label_counts (day Date32, count Array(Int8)) ENGINE = MergeTree PARTITION BY day ORDER BY day"
    )
    with pytest.raises(PermanentError) as refused:
        export(store, target)
    assert "label_counts" in str(refused.value)
    target.ask("DROP TABLE label_counts SYNC")
    assert {name for name, _, _ in export(store, target)} == {"label_counts"}
    target.ask("DROP TABLE label_counts SYNC")
    assert {name for name, _, _ in export(store, target)} == {"label_counts"}


def test_the_variables_of_older_pipelines_name_the_server(monkeypatch):
    monkeypatch.setenv("CLICKHOUSE_HOST", "clickhouse-db")
    monkeypatch.setenv("CLICKHOUSE_PORT", "9000")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "p@ss")
    (config,) = load_sinks(load_settings(sinks="clickhouse"))
    assert (config.kind, config.url) == ("clickhouse", "http://@clickhouse-db")
    assert config.password is not None
    assert config.password.get_secret_value() == "p@ss"


def test_the_view_of_the_docs_reads_the_bucket_without_a_copy(s3, target):
    bucket = s3.create_bucket(f"view-{uuid4().hex[:8]}")
    store = open_store(s3_settings(bucket))
    for number in range(2):
        put_day(store, day_number(number), frames_of(day_number(number), 3 + number))
    page = (REPOSITORY / "docs" / "sinks.md").read_text()
    create, select = re.search(r"```sql\n(CREATE VIEW .*?;)\n\n(SELECT .*?;)\n", page, re.DOTALL).groups()
    names = {"https://s3.example.com/bucket": f"{bucket.endpoint}/{bucket.name}/lake", "KEY": bucket.access_key_id}
    for name, value in {**names, "SECRET": bucket.secret_access_key}.items():
        create = create.replace(name, value)
    target.ask(create.removesuffix(";"))
    answer = target.ask(select.removesuffix(";").replace("2026-01-01", str(day_number(1))))
    assert sorted(answer.split(b"\n")) == [
        b"",
        *(f"{day_number(1)}\t{label}\t4".encode() for label in ("car", "person")),
    ]
