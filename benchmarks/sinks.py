"""Exports many days into PostgreSQL and ClickHouse, next to the least that any load of the same files has to do.

    python -m benchmarks.sinks                a year of days with 10^7 detections
    python -m benchmarks.sinks --days 20      some of it; each day as large
    python -m benchmarks.sinks --outage       detection while every sink is down, next to detection without sinks

The other load is, for PostgreSQL, DuckDB's CSV of each file and COPY into a table of the same columns and key; for
ClickHouse (chdb behind HTTP), the client's insert of each file, or one that the engine reads from disk, without a
client. Both ways take turns.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.children import Child, run_command
from benchmarks.material import usual_network
from benchmarks.place import announce_backlog, open_place, say
from benchmarks.report import Table, at_least
from benchmarks.rounds import Figures, take_turns
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from benchmarks.throughput import prepare
from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.storage.manifest import read_manifest, write_parquet
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sinks.configuration import load_sinks
from imgpipeline.sinks.exporting import Exporter
from imgpipeline_tests.servers.chdb_http import PASSWORD, USER
from imgpipeline_tests.servers.clickhouse_server import ClickHouseServer
from imgpipeline_tests.servers.postgres_server import PostgresServer

_DETECTIONS_A_DAY = 27_400
"""10^7 in a year."""
_TABLE = "detections"
_TURNS = 4
_GOAL = 0.7
_OUTAGE_FRAMES = 1200
_DOWN = " ".join(
    f"{kind.partition('+')[0]}={kind}://user:password@127.0.0.1:9"
    for kind in ("postgresql", "clickhouse", "opensearch+http", "elasticsearch+http", "meilisearch+http")
)
"""One sink of each kind, at a port where nothing listens."""
_Files = list[tuple[str, str]]
"""Day and path of each file."""


def main() -> None:
    """Measures and prints; as a child of itself, does one task."""
    if sys.argv[1:] == ["task"]:
        task = json.load(sys.stdin)
        began_s = time.perf_counter()
        tasks = {"export": _export, "copy": _copy, "insert": _insert, "read": _read, "fail": _fail}
        tasks[task["kind"]](**task["arguments"])
        print(json.dumps({"result": {"seconds": time.perf_counter() - began_s}}))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sinks", description="Measure exports to databases.")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--outage", action="store_true", help="measure detection while every sink is down")
    chosen = parser.parse_args()
    print((_measure_outage() if chosen.outage else _measure_exports(chosen.days)).render())


def _measure_exports(days: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name, ExitStack() as stack:
        folder = Path(name)
        settings = load_settings(store_url=(folder / "store").as_uri())
        files = _make_days(open_store(settings), folder / "store", days)
        postgres = stack.enter_context(PostgresServer())
        clickhouse = stack.enter_context(ClickHouseServer(folder / "clickhouse"))
        clickhouse.ask("CREATE DATABASE other")
        url = f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{clickhouse.port}"
        columns = ("target", "days", "detections", "export", "plain load", "ratio", "goal", "peak of the export")
        rows = [
            _compare("PostgreSQL", settings, files, postgres.url, "copy"),
            _compare("ClickHouse, client", settings, files, f"{url}/default", "insert"),
            _compare("ClickHouse, engine", settings, files, f"{url}/other", "read"),
        ]
    return Table(columns, rows)


def _measure_outage() -> Table:
    """Detects the same backlog in turns. Exports to the sinks that are down are tried at the start of a run.

    Dagster tries a failed export again after a minute or more.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name, open_place(Path(name)) as place:
        contest = prepare(place, usual_network(), (640, 360), 60)
        announce_backlog(contest.settings, contest.urls, _OUTAGE_FRAMES)
        sinks = load_settings(sinks=_DOWN).sinks

        def detect_during_outage() -> Figures:
            settings = contest.settings.model_copy(update={"sinks": sinks})
            with ThreadPoolExecutor(1) as pool:
                tried = pool.submit(_child, settings, "fail")
                return {**contest.run(sinks=sinks), "export_cpu_s": tried.result().cpu_s}

        contenders = {"without sinks": contest.run, "all sinks down": detect_during_outage}
        rounds = take_turns(contenders, 2, shown="frames_per_s")
    ratio = rounds.ratio("all sinks down", "without sinks", "frames_per_s")
    speeds = [f"{rounds.median(who, 'frames_per_s'):.1f}" for who in contenders]
    cpu_s = f"{rounds.median('all sinks down', 'export_cpu_s'):.1f} s"
    columns = ("frames", "frames/s without sinks", "frames/s while all sinks are down", "ratio", "least to greatest",
               "CPU of the exports")  # fmt: skip
    return Table(columns, [(str(_OUTAGE_FRAMES), *speeds, f"{ratio.median:.2f}", ratio.spread, cpu_s)])


def _make_days(store: ObjectStore, root: Path, count: int) -> _Files:
    """Detects one day, and stores it under many dates, each with a manifest of its own."""
    make_day(store, SyntheticDay(_DETECTIONS_A_DAY // 3))
    rebuild_day(store, DAY, now=utc_now())
    manifest = read_manifest(store, _TABLE, DAY)
    if manifest is None:
        raise RuntimeError("the day has no table")
    files = []
    with open_tables(store, (_TABLE,), DAY, memory=None) as opened:
        for number in range(count):
            day = DAY + timedelta(days=number)
            shifted = (
                f'SELECT * EXCLUDE (day) REPLACE ("timestamp" + INTERVAL {number} DAY AS "timestamp", '  # noqa: S608 - own SQL
                f"'{day}' || substr(frame_id, 11) AS frame_id) FROM {_TABLE} ORDER BY ALL"
            )
            data, _ = write_parquet(opened.engine, shifted, replace(manifest, day=day), object_bytes=500_000_000)
            key = day_table_key(_TABLE, day)
            store.put(key, bytes(data))
            files.append((str(day), str(root / key)))
    say(f"sinks: {count} days are stored")
    return files


def _compare(name: str, settings: Settings, files: _Files, url: str, plain: str) -> tuple[str, ...]:
    """Returns the row of one target."""
    chosen = settings.model_copy(update={"sinks": load_settings(sinks=f"target={url}?tables={_TABLE}").sinks})
    chosen.model_fields_set.add("sinks")
    export_s, plain_s, peak_mib = 0.0, 0.0, 0.0
    size = -(-len(files) // _TURNS)
    for start in range(0, len(files), size):
        part = files[start : start + size]
        exported = _child(chosen, "export", first=part[0][0], last=part[-1][0])
        loaded = _child(chosen, plain, files=part, url=url)
        export_s, plain_s = export_s + exported.result["seconds"], plain_s + loaded.result["seconds"]
        peak_mib = max(peak_mib, exported.peak_mib)
        say(f"sinks: {name}: {start + len(part)} days: {export_s:.1f} s, plain {plain_s:.1f} s")
    ratio = plain_s / export_s
    total = f"{len(files) * (_DETECTIONS_A_DAY // 3) * 3:,}"
    goal = at_least(ratio, _GOAL)
    return (name, str(len(files)), total, f"{export_s:.1f} s", f"{plain_s:.1f} s", f"{ratio:.2f}", goal,
            f"{peak_mib:.0f} MiB")  # fmt: skip


def _child(settings: Settings, kind: str, **arguments: Any) -> Child:
    command = [sys.executable, "-m", "benchmarks.sinks", "task"]
    return run_command(command, settings, task={"kind": kind, "arguments": arguments})


def _export(first: str, last: str) -> None:
    settings = load_settings()
    exporter = Exporter(open_store(settings), settings, load_sinks(settings)[0])
    for _ in exporter.export(Span(date.fromisoformat(first), date.fromisoformat(last))):
        pass


def _fail() -> None:
    """Exports to each sink, none of which answers."""
    settings = load_settings()
    for config in load_sinks(settings):
        try:
            list(Exporter(open_store(settings), settings, config).export())
        except TransientError:
            continue
        raise RuntimeError(f"{config.name} is not down")


def _copy(files: _Files, url: str) -> None:
    engine = duckdb.connect()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS plain (LIKE {_TABLE} INCLUDING ALL)")
    with psycopg2.connect(url) as connection, tempfile.NamedTemporaryFile(suffix=".csv") as csv:
        for day, path in files:
            rows = engine.sql(f"SELECT DATE '{day}' AS day, * FROM read_parquet('{path}', hive_partitioning = false)")  # noqa: S608 - own SQL
            rows.write_csv(csv.name, header=True)
            columns = ", ".join(f'"{column}"' for column in rows.columns)
            with connection.cursor() as cursor, Path(csv.name).open("rb") as file:
                cursor.copy_expert(f"COPY plain ({columns}) FROM STDIN (FORMAT csv, HEADER)", file)
            connection.commit()


def _insert(files: _Files, url: str) -> None:
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    client.command(f"CREATE TABLE IF NOT EXISTS plain AS {_TABLE}")
    for day, path in files:
        rows = pq.read_table(path, partitioning=None)
        days = pa.array([date.fromisoformat(day)] * rows.num_rows, pa.date32())
        client.insert_arrow("plain", rows.append_column("day", days))


def _read(files: _Files, url: str) -> None:
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    client.command(f"CREATE TABLE IF NOT EXISTS plain AS {_TABLE}")
    columns = ", ".join(f'"{name}"' for name in pq.read_schema(files[0][1]).names)
    for day, path in files:
        rows = f"SELECT toDate32('{day}'), {columns} FROM file('{path}', Parquet)"  # noqa: S608 - own SQL
        client.command(f"INSERT INTO plain (day, {columns}) {rows}")


if __name__ == "__main__":
    main()
