"""What holds for every sink: its rows are those of the store, whatever fails on the way."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.lake.query.days import Span
from imgpipeline.settings import load_settings
from imgpipeline.sinks.exporting import Exporter, SinkStatus, read_statuses, row_differences
from imgpipeline.sinks.protocol import SinkTable
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, remove_day, wanted_rows
from imgpipeline_tests.sinks.targets import WRONG

MONDAY, TUESDAY = day_number(0), day_number(1)
ODD_NAMES = ["a/b c", 'it\'s "quoted"', "straße 🚦", "back\\slash\tand\nline", "%s {} $1 ; --"]


def exporter(store, target, **options) -> Exporter:
    return Exporter(store, load_settings(), target.config, **options)


def export(store, target, **options) -> list[tuple[str, date, int]]:
    """Export what is due; return table, day and rows of each day."""
    made = exporter(store, target, **options)
    try:
        return [(done.table.name, done.day, done.rows) for done in made.export()]
    finally:
        made.sink.close()


def differs(store, target, tables: Iterable[SinkTable], *days: date) -> list[tuple[str, date]]:
    """Return the days on which the target has other rows than the store."""
    return [
        (table.name, day)
        for table in tables
        for day in days
        if target.rows(table, day) != wanted_rows(store, table, day)
    ]


def status_of(store) -> SinkStatus:
    (status,) = read_statuses(store, load_settings(sinks="target=postgresql://anywhere"))
    return status


def stored_tables(store, target) -> list[SinkTable]:
    """Return the sink's tables of which the store has a day."""
    return list({each.table: None for each in exporter(store, target).differences()})


@pytest.fixture
def tables(store, target) -> list[SinkTable]:
    put_day(store, MONDAY, frames_of(MONDAY, 30))
    put_day(store, TUESDAY, frames_of(TUESDAY, 20))
    return stored_tables(store, target)


def test_all_rows_of_all_days_arrive(store, target, tables):
    done = export(store, target)
    assert {(name, day) for name, day, _ in done} == {
        (table.name, day) for table in tables for day in (MONDAY, TUESDAY)
    }
    assert not differs(store, target, tables, MONDAY, TUESDAY)
    assert all(
        rows == len(wanted_rows(store, table, day))
        for table in tables
        for name, day, rows in done
        if name == table.name
    )


def test_a_repeated_export_copies_nothing(store, target, tables):
    export(store, target)
    assert export(store, target) == []


def test_rows_that_a_rebuilt_day_no_longer_has_are_removed(store, target, tables):
    export(store, target)
    put_day(store, MONDAY, frames_of(MONDAY, 7, labels=["dog"]))
    assert {day for _, day, _ in export(store, target)} == {MONDAY}
    assert not differs(store, target, tables, MONDAY, TUESDAY)


def test_a_day_that_the_store_no_longer_has_is_removed(store, target, tables):
    export(store, target)
    remove_day(store, MONDAY)
    export(store, target)
    assert not any(target.rows(table, MONDAY) for table in tables)
    assert not differs(store, target, tables, TUESDAY)
    assert exporter(store, target).differences() == []


def test_a_store_without_any_day_removes_nothing(store, target, tables):
    export(store, target)
    remove_day(store, MONDAY)
    remove_day(store, TUESDAY)
    with pytest.raises(PermanentError, match="has no days"):
        export(store, target)
    assert target.rows(tables[0], MONDAY)


def test_days_are_removed_although_the_store_has_none(store, target, tables):
    export(store, target)
    remove_day(store, MONDAY)
    remove_day(store, TUESDAY)
    assert exporter(store, target).remove(Span(MONDAY, MONDAY))[tables[0].name] == 1
    assert not any(target.rows(table, MONDAY) for table in tables)
    assert target.rows(tables[0], TUESDAY)


def test_an_empty_day_replaces_the_rows_that_were_there(store, target, tables):
    export(store, target)
    put_day(store, MONDAY, frames_of(MONDAY, 3, labels=[]))
    export(store, target)
    assert not differs(store, target, tables, MONDAY, TUESDAY)
    assert exporter(store, target).differences() == []


def test_a_sink_that_was_away_catches_up_and_says_meanwhile_that_it_is_behind(store, target, tables):
    export(store, target)
    with target.outage():
        put_day(store, MONDAY, frames_of(MONDAY, 5))
        for number in range(2, 5):
            put_day(store, day_number(number), frames_of(day_number(number), 4))
        with pytest.raises(TransientError) as failed:
            export(store, target)
    status = status_of(store)
    assert (status.error, status.behind_since) == (str(failed.value), status.checked_at)
    export(store, target)
    assert not differs(store, target, tables, *map(day_number, range(5)))
    status = status_of(store)
    assert (status.error, status.behind_since, status.days_behind) == (None, None, 0)


def test_a_killed_export_leaves_old_rows_or_none_and_is_repeated(store, target, tables, tmp_path):
    export(store, target)
    put_day(store, MONDAY, frames_of(MONDAY, 12))
    program = (
        "from imgpipeline.objectstore import open_store\n"
        "from imgpipeline.settings import load_settings\n"
        "from imgpipeline.sinks.configuration import load_sinks\n"
        "from imgpipeline.sinks.exporting import Exporter\n"
        "settings = load_settings()\n"
        "made = Exporter(open_store(settings), settings, load_sinks(settings)[0])\n"
        "rows = made.sink.replace_day\n"
        "def wait(table, day, batches, version):\n"
        "    import pyarrow as pa\n"
        "    def slow():\n"
        "        for batch in batches:\n"
        "            yield batch\n"
        "        print('sent', flush=True)\n"
        "        import time; time.sleep(600)\n"
        "    return rows(table, day, pa.RecordBatchReader.from_batches(batches.schema, slow()), version)\n"
        "made.sink.replace_day = wait\n"
        "list(made.export())\n"
    )
    password = target.config.password
    login = f":{password.get_secret_value()}@" if password else "@"
    url = target.config.url.replace("@", login, 1).replace("http://", f"{target.config.kind}+http://", 1)
    environment = {**os.environ, "IMGPIPELINE_STORE_URL": store.url, "IMGPIPELINE_SINKS": f"target={url}"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"sent\n"
        os.kill(child.pid, signal.SIGKILL)
    wait_until(exporter(store, target).differences, limit_s=60, what="differences")
    export(store, target)
    assert not differs(store, target, tables, MONDAY, TUESDAY)
    assert exporter(store, target).differences() == []


def test_a_refused_login_is_an_error_without_the_password(store, target, tables):
    made = Exporter(store, load_settings(), target.refused)
    with pytest.raises(ConfigurationError) as refused:
        made.sink.check()
    assert WRONG not in str(refused.value)
    assert refused.value.next_step or "password" in str(refused.value)


def test_check_names_the_system_and_its_version(target, store):
    assert any(part.isdigit() for part in exporter(store, target).sink.check().replace(".", " ").split())


def test_a_column_that_a_release_adds_is_added_to_the_rows_of_all_days(store, target, tables):
    made = exporter(store, target)
    table = made.tables[0]
    before = replace(table, query=f"SELECT * EXCLUDE (added) FROM ({with_column(table)})")  # noqa: S608 - own SQL
    export_table(store, target, before)
    after = replace(table, query=with_column(table))
    export_table(store, target, after)
    assert not differs(store, target, [after], MONDAY, TUESDAY)


def with_column(table: SinkTable) -> str:
    return f"SELECT *, 'new' AS added FROM ({table.query})"  # noqa: S608 - own SQL


def export_table(store, target, table: SinkTable) -> None:
    made = exporter(store, target)
    made.tables = (table,)
    list(made.export())
    made.sink.close()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_with_any_characters_arrive_unchanged(store, target, name):
    changed = [replace(each, source=name) for each in frames_of(MONDAY, 2, labels=[name])]
    put_day(store, MONDAY, changed)
    tables = stored_tables(store, target)
    export(store, target)
    assert not differs(store, target, tables, MONDAY)


def test_two_exports_at_once_leave_the_rows_of_one(store, target, tables):
    threads = [threading.Thread(target=ignoring_errors, args=(partial(export, store, target),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    export(store, target)
    assert not differs(store, target, tables, MONDAY, TUESDAY)
    assert not row_differences(exporter(store, target))


def ignoring_errors(call) -> None:
    try:
        call()
    except ImgpipelineError:
        return  # the other export won; the next comparison corrects it


def test_an_older_export_that_ends_last_is_corrected_by_the_next(store, target, tables):
    made = exporter(store, target)
    table = made.tables[0]
    with open_tables(store, table.stored, MONDAY, memory=None) as opened:
        older = opened.engine.connection.sql(table.query).to_arrow_reader(1000)
        put_day(store, MONDAY, frames_of(MONDAY, 9))
        export(store, target)
        made.sink.replace_day(table, MONDAY, older, "older")
    export(store, target)
    assert not differs(store, target, tables, MONDAY, TUESDAY)


def test_rows_that_others_removed_are_noticed(store, target, tables):
    export(store, target)
    made = exporter(store, target)
    assert not row_differences(made)
    target.lose_rows(tables[0], MONDAY)
    count = len(wanted_rows(store, tables[0], MONDAY))
    assert row_differences(made) == {tables[0].name: {MONDAY: (count, 0)}}


def test_a_table_that_others_dropped_is_exported_again(store, target, tables):
    export(store, target)
    target.drop(tables[0])
    assert {(name, day) for name, day, _ in export(store, target)} == {
        (tables[0].name, MONDAY),
        (tables[0].name, TUESDAY),
    }
    assert not differs(store, target, tables, MONDAY, TUESDAY)


def test_a_day_that_is_not_over_is_exported_at_most_every_15_minutes(store, target, tables):
    def exported_after(minutes: float) -> list[date]:
        at = utc_now() + timedelta(minutes=minutes)
        put_day(store, at.date(), frames_of(at.date(), 1 + round(minutes)))
        return [day for _, day, _ in export(store, target, clock=lambda: at) if day == at.date()]

    assert exported_after(0)
    assert not exported_after(14)
    assert exported_after(16)
