"""A table that is too large for one object: several objects that are either one version or nothing."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from imgpipeline.contracts.keys import day_table_key, piece_prefix, summary_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.days import derived
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.storage import pieces
from imgpipeline.lake.storage.engine import NO_LIMITS, BuildLimits, open_engine
from imgpipeline.lake.storage.manifest import Manifest, Stored, read_stored, write_parquet, write_rows
from imgpipeline.lake.storage.pieces import fetch_table, pieces_of, plan_pieces
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.audits import is_current
from imgpipeline_tests.lake.oracle import check
from imgpipeline_tests.lake.samples import day_outcomes
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.waiting import wait_until

TABLES = tuple(table.name for table in DAY_TABLES)
KEYS = [*(day_table_key(name, DAY) for name in TABLES), *(summary_key(name, DAY) for name in SUMMARIES)]
FRAMES = day_table_key("frames", DAY)


class DiedError(Exception):
    """The process of a builder ended here."""


SMALL = BuildLimits(object_bytes=1_000)


def build_all(store: ObjectStore, limits: BuildLimits = SMALL, **options: bool) -> None:
    settings = Settings(table_object_bytes=limits.object_bytes)
    rebuild_day(store, DAY, limits=limits, now=NOON, **options)
    for name in SUMMARIES:
        build_summary(store, name, DAY, settings=settings, now=NOON, **options)


def stored(store: ObjectStore, key: str = FRAMES) -> Stored:
    found = read_stored(store, key)
    assert found is not None
    return found


def builds_with_pieces(store: ObjectStore, key: str = FRAMES) -> set[str]:
    """Return which builds have pieces in the store."""
    return {info.key.split("/")[-2] for info in store.list_objects(piece_prefix(key))}


def named(store: ObjectStore, key: str = FRAMES) -> set[str]:
    """Return which builds the stored version names."""
    found = stored(store, key).pieces
    return {found.id} if found else set()


@pytest.mark.medium
def test_every_reader_sees_the_whole_table(store, lake):
    write_chain(store, day_outcomes(0, 60))
    build_all(store)
    assert all(named(store, day_table_key(name, DAY)) for name in ("frames", "detections"))
    assert is_current(audit(store, list, full=True, now=NOON))
    with lake(store) as session:
        check(session, store)


@pytest.mark.medium
def test_a_table_in_pieces_has_the_rows_of_the_same_table_in_one_object(store):
    write_chain(store, day_outcomes(0, 60))
    build_all(store)
    in_pieces = {key: stored(store, key).manifest.content for key in KEYS}
    build_all(store, NO_LIMITS, force=True)
    assert {key: stored(store, key).manifest.content for key in KEYS} == in_pieces
    assert {key: stored(store, key).pieces for key in KEYS} == dict.fromkeys(KEYS), "they all fit into one object"
    assert {key: builds_with_pieces(store, key) for key in KEYS} == {key: set() for key in KEYS}


@pytest.mark.medium
def test_segments_are_added_to_a_table_in_pieces_and_the_old_pieces_are_removed(store, lake):
    made = write_chain(store, day_outcomes(0, 60))
    build_all(store)
    before = named(store)
    append(made, day_outcomes(60, 120))
    assert rebuild_day(store, DAY, limits=SMALL, now=NOON).is_extended
    assert named(store) != before
    for key in KEYS[: len(TABLES)]:
        assert builds_with_pieces(store, key) == named(store, key)
    extended = stored(store).manifest.content
    assert rebuild_day(store, DAY, limits=SMALL, now=NOON, seal=True).corrected == ()
    assert stored(store).manifest.content == extended
    with lake(store) as session:
        check(session, store)


def test_the_size_of_a_table_includes_its_pieces(store, tmp_path):
    write_chain(store, day_outcomes(0, 60))
    built = rebuild_day(store, DAY, limits=SMALL, now=NOON)
    for name in TABLES:
        fetch_table(store, day_table_key(name, DAY), tmp_path / name)
    assert built.size_bytes == sum((tmp_path / name).stat().st_size for name in TABLES)
    assert rebuild_day(store, DAY, limits=SMALL, now=NOON).size_bytes == built.size_bytes


@pytest.mark.medium
@pytest.mark.parametrize("step", ["first piece", "last piece", "object"])
def test_a_build_that_is_killed_between_its_puts_changes_nothing(store, lake, monkeypatch, step):
    made = write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    before = stored(store)
    append(made, day_outcomes(60, 120))
    with monkeypatch.context() as patched:
        _die(patched, step)
        with pytest.raises(DiedError):
            rebuild_day(store, DAY, limits=SMALL, now=NOON)
    if step != "object":
        assert stored(store) == before
        assert len(builds_with_pieces(store)) == 2, "those of the build that died are of no version"
    with lake(store) as session:
        check(session, store)
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    assert audit(store, list, full=True, now=NOON).ok
    monkeypatch.setattr(pieces, "ABANDONED", timedelta(seconds=-1))  # S3 tells times in whole seconds
    rebuild_day(store, DAY, limits=SMALL, now=NOON, force=True)
    assert builds_with_pieces(store) == named(store), "what was left behind is removed a day later"


def _die(patched: pytest.MonkeyPatch, step: str) -> None:
    def reach(name: str, detail: str = "") -> None:
        if (name, step) == ("table put done", "object") or (name, step) == ("table put", "last piece"):
            raise DiedError
        if (name, step) == ("table piece put", "first piece") and detail.endswith(" 0"):
            raise DiedError

    patched.setattr(derived, "reach", reach)
    patched.setattr(pieces, "reach", reach)


@pytest.mark.medium
def test_one_of_two_builds_wins_and_the_pieces_of_the_other_are_removed(store, lake, monkeypatch):
    """The slower one has put all its pieces when the faster one puts its object."""
    made = write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    append(made, day_outcomes(60, 90))
    put, turns = derived.put_pieces, []

    def overtaken(*arguments: Any) -> None:
        put(*arguments)
        if not turns:
            turns.append(1)
            append(made, day_outcomes(90, 120))
            rebuild_day(store, DAY, limits=SMALL, now=NOON)

    monkeypatch.setattr(derived, "put_pieces", overtaken)
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    assert turns
    assert builds_with_pieces(store) == named(store)
    assert stored(store).manifest.rows == 120
    with lake(store) as session:
        check(session, store)


@pytest.mark.medium
def test_a_reader_that_is_overtaken_by_a_build_reads_the_newer_version(store, monkeypatch, tmp_path):
    made = write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    append(made, day_outcomes(60, 90))
    overtaken = _overtake_once(monkeypatch, lambda: rebuild_day(store, DAY, limits=SMALL, now=NOON))
    path = tmp_path / "frames.parquet"
    assert fetch_table(store, FRAMES, path) == stored(store).e_tag
    assert overtaken
    with open_engine(memory=None) as engine:
        assert engine.value(f"SELECT count(*) FROM read_parquet('{path}')") == 90  # noqa: S608 - own path


def _overtake_once(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[int]:
    """Let something happen between the read of the table's end and that of its first piece."""
    turns: list[int] = []
    key_of = pieces.piece_key

    def overtaken(*arguments: Any) -> str:
        if not turns:
            turns.append(1)
            act()
        return key_of(*arguments)

    monkeypatch.setattr(pieces, "piece_key", overtaken)
    return turns


def test_a_program_that_reads_only_the_object_gets_an_error_and_not_some_rows(store, tmp_path):
    write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    path = tmp_path / "frames.parquet"
    path.write_bytes(store.get(FRAMES))
    with duckdb.connect() as connection, pytest.raises(duckdb.Error):
        connection.execute(f"SELECT * FROM read_parquet('{path}')").fetchall()  # noqa: S608 - own path


def test_a_missing_piece_is_named_with_what_to_do(store, tmp_path):
    write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    store.delete(next(iter(store.list_objects(piece_prefix(FRAMES)))).key)
    with pytest.raises(PermanentError, match="one of them is missing") as raised:
        fetch_table(store, FRAMES, tmp_path / "frames")
    assert raised.value.next_step == f"move {FRAMES} aside; it is then built again"


def test_a_cut_piece_is_named(store, tmp_path):
    write_chain(store, day_outcomes(0, 60))
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    first = next(iter(store.list_objects(piece_prefix(FRAMES)))).key
    store.put(first, store.get(first)[:-1])
    with pytest.raises(PermanentError, match=f"{first} has 999 bytes instead of 1000"):
        fetch_table(store, FRAMES, tmp_path / "frames")


@pytest.mark.slow
def test_builds_and_readers_race(store, lake):
    made, over = write_chain(store, day_outcomes(0, 60)), threading.Event()
    rebuild_day(store, DAY, limits=SMALL, now=NOON)

    def build() -> None:
        while not over.is_set():
            with contextlib.suppress(TransientError):  # overtaken by the others, eight times
                rebuild_day(store, DAY, limits=SMALL, force=True, now=NOON)

    def read() -> None:
        while not over.is_set():
            with lake(store) as session:
                assert session.query("SELECT count(*) FROM frames").rows[0][0] >= 60

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(build) for _ in range(2)] + [pool.submit(read) for _ in range(2)]
        for start in range(60, 100, 20):
            append(made, day_outcomes(start, start + 20))
            wait_until(lambda at=start: stored(store).manifest.rows >= at + 20, limit_s=90, what="a build")
        over.set()
        for future in working:
            future.result(90)
    rebuild_day(store, DAY, limits=SMALL, now=NOON)
    assert builds_with_pieces(store) == named(store)
    with lake(store) as session:
        check(session, store)


def test_the_object_contains_the_footer_whatever_the_limit(tmp_path):
    with open_engine(tmp_path, memory=None) as engine:
        for rows in (10, 1_000, 100_000):
            data = write_rows(engine, "numbers", f"SELECT random() AS x FROM range({rows})", "{}", object_bytes=1_000)  # noqa: S608 - a number
            named = pieces_of(data)
            end = data[named.all_bytes :] if named else data
            assert pieces_of(end) == named, rows
            assert len(end) <= 2 * len(data) // 16 + 3_000 or named is None


def test_a_file_within_the_limit_stays_one_object(tmp_path):
    (tmp_path / "small").write_bytes(b"PAR1" + bytes(996))
    assert plan_pieces(tmp_path / "small", 1_000) is None


def _store_and_fetch(store: ObjectStore, rows: int, tmp_path: Path, limits: BuildLimits) -> int:
    """Publish a table of random numbers, read it back, and return how many pieces it has."""
    with open_engine(tmp_path, memory=None) as engine:
        query = f"SELECT random() AS x FROM range({rows})"  # noqa: S608 - a number
        manifest = Manifest(table="numbers", day=DAY, made_by="", built_at=NOON)
        data, _ = write_parquet(engine, query, manifest, object_bytes=limits.object_bytes)
        assert derived.publish(store, "numbers.parquet", data, None)
        path = tmp_path / "fetched.parquet"
        fetch_table(store, "numbers.parquet", path)
        assert path.stat().st_size == len(data)
        assert engine.value(f"SELECT count(x) FROM read_parquet('{path}')") == rows  # noqa: S608 - own path
    found = read_stored(store, "numbers.parquet")
    assert found is not None
    assert found.size_bytes == len(data)
    return found.pieces.count if found.pieces else 0


def test_a_large_table_is_stored_over_a_slow_connection(s3, bucket, toxiproxy, tmp_path):
    """8 MB at 4 MB/s with a time-out of 1 s, in pieces of 1 MB."""
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(
        s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_timeout_s=1.0, store_patience_s=20)
    )
    with proxy.fault("bandwidth", "upstream", rate=4_000):
        assert _store_and_fetch(store, 1_000_000, tmp_path, BuildLimits(object_bytes=10**6)) >= 6
    proxy.delete()


@pytest.mark.slow
def test_a_table_of_more_than_500_mb_is_stored_over_a_slow_connection(s3, bucket, toxiproxy, tmp_path):
    """600 MB at 40 MB/s, with the limits that users have."""
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}"))
    with proxy.fault("bandwidth", "upstream", rate=40_000):
        assert _store_and_fetch(store, 75_000_000, tmp_path, NO_LIMITS) == 1
    proxy.delete()
