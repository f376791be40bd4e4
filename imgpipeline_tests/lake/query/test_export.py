"""An exported file has the rows of a query session at one moment, and opens without this project."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from imgpipeline import __version__
from imgpipeline.contracts.keys import segment_key
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.export import export_duckdb
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import ABOUT, ABOUT_CHAINS
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.days.test_summary_numbers import build_day
from imgpipeline_tests.lake.samples import again, day_outcomes, detection, gated, seen
from imgpipeline_tests.lake.sessions.test_tables import varied
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, frame, gap, notice, write_chain

REPOSITORY = Path(__file__).resolve().parents[3]
NEXT = DAY + timedelta(days=1)
STRICT = Settings(summary_threshold=0.52)
_STRANGER = """
import json, sys, duckdb
assert not any(name.startswith(("imgpipeline", "dagster", "obstore")) for name in sys.modules)
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would be on stdout if the machine is busy
    names = [row[0] for row in connection.execute("SHOW TABLES").fetchall()]
    rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY ALL NULLS LAST").fetchall() for name in names}
    frames = connection.execute("SELECT * FROM frames").df()
json.dump({"rows": {n: [list(map(str, row)) for row in found] for n, found in rows.items()},
           "pandas": list(frames.shape)}, sys.stdout)
"""


@pytest.fixture
def filled(folder: ObjectStore) -> ObjectStore:
    return fill(folder)


def fill(store: ObjectStore) -> ObjectStore:
    """Two days with tables, segments newer than these, a frame announced again, and dead letters without a day."""
    made = write_chain(
        store, [*day_outcomes(0, 40), gated(40)], [dead_letter(41), dead_letter(42, None), notice(43), gap(44, 50)]
    )
    append(
        made,
        [
            seen(50, ["dog", "car"], NEXT, source="it's", weak_detections=(detection(confidence=0.2),)),
            dead_letter(51, NEXT),
        ],
    )
    for day in (DAY, NEXT):
        rebuild_day(store, day, now=NOON)
    append(made, [again(52, of=0, labels=["car"]), seen(53, ["dög"], NEXT, attributes={"file": "ü.jpg"}), frame(54)])
    return store


def export(store: ObjectStore, path: Path, settings: Settings = STRICT, **options: object) -> object:
    return export_duckdb(store, settings, path, now=NOON, cache_dir=path.parent / "cache", **options)


def as_others_see_it(path: Path, folder: Path) -> dict[str, list[list[str]]]:
    """Open the file in a fresh process that knows DuckDB and pandas only."""
    ended = subprocess.run(
        [sys.executable, "-I", "-c", _STRANGER, path],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = json.loads(ended.stdout)
    assert told["pandas"][0] == len(told["rows"]["frames"])
    return told["rows"]


def as_shown(store: ObjectStore, cache: Path, days: list | None = None) -> dict[str, list[list[str]]]:
    with open_lake(store, settings=STRICT, cache_dir=cache, days=days) as lake:
        return {
            table.name: [
                list(map(str, row))
                for row in lake.query(f"SELECT * FROM {table.name} ORDER BY ALL NULLS LAST").rows  # noqa: S608 - own names
            ]
            for table in ALL
        }


@pytest.mark.medium
def test_every_number_equals_that_of_a_query_session_also_for_unbuilt_days(store, tmp_path):
    filled = fill(store)
    done = export(filled, tmp_path / "lake.duckdb")
    found = as_others_see_it(tmp_path / "lake.duckdb", tmp_path)
    expected = as_shown(filled, tmp_path / "cache")
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {ABOUT.name, ABOUT_CHAINS.name}
    assert done.rows == {name: len(rows) for name, rows in expected.items()}
    # Only what is stored; these days have none.
    tracks = {table.name for table in (*TRACK_TABLES, *EVENT_TABLES, *PLACE_TABLES, ACCURACY)}
    assert {name for name, rows in expected.items() if not rows} == tracks, "each other table has rows to compare"
    assert (done.days, dict(done.ends)) == ((DAY, NEXT), {CHAIN: 55})


@pytest.mark.medium
def test_the_file_describes_itself(filled, tmp_path):
    export(filled, tmp_path / "lake.duckdb")
    with duckdb.connect(tmp_path / "lake.duckdb", read_only=True) as connection:
        about = connection.execute("SELECT * FROM about").fetchall()
        assert about == [(filled.url, NOON, __version__, 0.52, True, DAY, NEXT)]
        chains = connection.execute("SELECT * FROM about_chains").fetchall()
        assert chains == [(CHAIN.topic, CHAIN.topic_id, CHAIN.partition, 55)]
        said = dict(connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        assert said["frame_sizes"] == "One row: one power of two in bytes in one hour of one source."
        meanings = connection.execute("SELECT comment FROM duckdb_columns() WHERE NOT internal").fetchall()
        assert all(meaning for (meaning,) in meanings)


@pytest.mark.medium
def test_only_the_requested_days_are_exported(filled, tmp_path):
    done = export(filled, tmp_path / "day.duckdb", days=[NEXT])
    found = as_others_see_it(tmp_path / "day.duckdb", tmp_path)
    expected = as_shown(filled, tmp_path / "cache", [NEXT])
    assert {name: found[name] for name in expected} == expected
    assert done.days == (NEXT,)
    assert found["about"][0][-3:] == ["False", str(NEXT), str(NEXT)]


@pytest.mark.medium
def test_an_empty_store_gives_all_tables_without_rows(folder, tmp_path):
    export(folder, tmp_path / "lake.duckdb")
    found = as_others_see_it(tmp_path / "lake.duckdb", tmp_path)
    assert {name for name, rows in found.items() if rows} == {"about"}
    assert set(found) == {table.name for table in (*ALL, ABOUT, ABOUT_CHAINS)}


@pytest.mark.medium
def test_the_file_has_the_format_of_duckdb_1(memory, tmp_path):
    write_chain(memory, day_outcomes(0, 5))
    export(memory, tmp_path / "lake.duckdb")
    with duckdb.connect(tmp_path / "lake.duckdb", read_only=True) as connection:
        (tags,) = (
            connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'lake'").fetchone() or ()
        )
    assert tags["storage_version"] == "v1.0.0+"


@pytest.mark.medium
def test_progress_ends_at_the_total(memory, tmp_path):
    write_chain(memory, day_outcomes(0, 5))
    told: list[tuple[int, int]] = []
    export(memory, tmp_path / "lake.duckdb", progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total in told} == {len(told)}


@pytest.mark.medium
def test_a_file_is_replaced_atomically_and_only_with_force(memory, tmp_path):
    made = write_chain(memory, day_outcomes(0, 5))
    path = tmp_path / "lake.duckdb"
    export(memory, path)
    before = path.read_bytes()
    append(made, day_outcomes(5, 9))
    with pytest.raises(ConfigurationError, match="exists") as refused:
        export(memory, path)
    assert "--replace" in str(refused.value.next_step)
    assert path.read_bytes() == before
    with duckdb.connect(path, read_only=True) as reader:
        export(memory, path, force=True)
        assert reader.execute("SELECT count(*) FROM frames").fetchall() == [(5,)], "a reader keeps what it opened"
    assert len(as_others_see_it(path, tmp_path)["frames"]) == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "lake.duckdb"]


@pytest.mark.medium
def test_a_link_stays_a_link(memory, tmp_path):
    write_chain(memory, day_outcomes(0, 5))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "lake.duckdb"
    link.symlink_to(tmp_path / "elsewhere" / "real.duckdb")
    export(memory, link)
    assert link.is_symlink()
    assert len(as_others_see_it(link, tmp_path)["frames"]) == 5


def test_nothing_is_left_of_an_export_that_fails_or_was_killed(memory, tmp_path):
    write_chain(memory, day_outcomes(0, 5))
    memory.put(segment_key(CHAIN, 0), b"")
    (tmp_path / ".lake.duckdb.export-of-a-killed-process").mkdir()
    with pytest.raises(LedgerError):
        export(memory, tmp_path / "lake.duckdb")
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_a_file_that_is_open_for_writing_is_not_replaced(memory, tmp_path):
    path = tmp_path / "lake.duckdb"
    with duckdb.connect(path) as writer:
        writer.execute("CREATE TABLE mine AS SELECT 1 AS n")
        assert Path(f"{path}.wal").exists()
        with pytest.raises(ConfigurationError, match=r"lake\.duckdb\.wal"):
            export(memory, path, force=True)
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("SELECT n FROM mine").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("folder", "not a file", id="folder"),
        pytest.param("absent/lake.duckdb", "cannot be written", id="place"),
    ],
)
def test_an_unwritable_place_is_named(memory, tmp_path, name, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=said):
        export(memory, tmp_path / name, force=True)


@pytest.mark.medium
def test_the_views_in_the_docs_read_the_store_without_an_export(folder, tmp_path):
    write_chain(folder, [varied(n) for n in range(30)])
    for day in (DAY, NEXT):
        build_day(folder, day)
    views = re.findall(r"CREATE VIEW .*?;", (REPOSITORY / "docs" / "bi.md").read_text(encoding="utf-8"), re.DOTALL)
    names = ["frames", "detections", "label_counts", "frame_stats", "frame_sizes"]
    with open_lake(folder, cache_dir=tmp_path / "cache") as lake, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for view in views:
            connection.execute(view.replace("s3://bucket/prefix", str(tmp_path / "store")))
        assert [view.split()[2] for view in views] == names
        for name in names:
            shown = connection.execute(f"SELECT * FROM {name} ORDER BY ALL NULLS LAST")  # noqa: S608 - own names
            columns = ", ".join(f'"{column[0]}"' for column in shown.description or ())
            expected = lake.query(f"SELECT {columns} FROM {name} ORDER BY ALL NULLS LAST").rows  # noqa: S608 - own names
            assert shown.fetchall() == expected
            assert expected
