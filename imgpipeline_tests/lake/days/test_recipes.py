"""A summary depends only on its query, the settings that it reads, and the versions of its inputs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import resources

import duckdb
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.days import derived, summaries, summary_inputs
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES, recipe
from imgpipeline.lake.schema.tables import SUMMARY_TABLES
from imgpipeline.lake.storage.manifest import Stored, read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.days.test_summary_numbers import build_day, stored_rows
from imgpipeline_tests.lake.killed_builds import DiedError, die_after_detections, die_after_frames
from imgpipeline_tests.lake.samples import again, chosen_frames, counted_labels, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, write_chain

LATER = NOON + timedelta(hours=1)
OF_LABELS = {"label_counts", "label_timestamps", "label_totals"}
STRICT = Settings(summary_threshold=0.52)
READERS = {"label_counts": {"label_counts", "label_totals"}}
"""The summaries that change with the SQL of one, if not only itself."""


def recipes(settings: Settings) -> dict[str, str]:
    return {name: recipe(name, settings) for name in SUMMARIES}


def stored(store: ObjectStore, name: str) -> Stored:
    found = read_stored(store, summary_key(name, DAY))
    assert found is not None
    return found


def build(store: ObjectStore, name: str, settings: Settings | None = None) -> bool:
    """Build a summary if there is something to do; tell whether there was."""
    return not build_summary(store, name, DAY, settings=settings or Settings(), now=LATER).skipped


@pytest.fixture
def other_sql(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Change the SQL of one summary."""

    def change(name: str) -> None:
        read = summaries.read_sql
        monkeypatch.setattr(
            summaries, "read_sql", lambda package, which: read(package, which) + " -- new" * (which == name)
        )

    return change


def test_the_registry_is_in_build_order():
    assert tuple(SUMMARIES) == tuple(table.name for table in SUMMARY_TABLES)
    for place, summary in enumerate(SUMMARIES.values()):
        inputs = set(summary.inputs)
        assert inputs <= {"frames", "detections", "dead_letters", "notices", *list(SUMMARIES)[:place]}
        assert summary.question.endswith("?")


@pytest.mark.parametrize("name", SUMMARIES)
def test_another_query_changes_what_depends_on_it_and_nothing_else(name, other_sql):
    before = recipes(Settings())
    other_sql(name)
    after = recipes(Settings())
    assert {each for each in before if before[each] != after[each]} == READERS.get(name, {name})


def test_another_threshold_changes_the_summaries_of_labels_and_nothing_else():
    before, after = recipes(Settings()), recipes(STRICT)
    assert {name for name in before if before[name] != after[name]} == OF_LABELS
    assert recipes(Settings(lanes=7, confidence_threshold=0.3, nightly_at="02:00")) == before


@pytest.mark.medium
@pytest.mark.parametrize("name", SUMMARIES)
def test_another_query_is_a_reason_to_build(memory, name, other_sql):
    write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    build_day(memory)
    other_sql(name)
    built = {each for each in SUMMARIES if build(memory, each)}
    assert built == READERS.get(name, {name})
    assert all(stored(memory, each).manifest.made_by == recipe(each, Settings()) for each in SUMMARIES)


@pytest.mark.medium
def test_a_summary_made_with_another_threshold_is_rebuilt(memory, tmp_path):
    write_chain(memory, [seen(0, ["car", "car", "dog"])])  # 0.51, 0.52, 0.53
    build_day(memory)
    assert stored_rows(memory, "label_totals", tmp_path) == [("cam-1", "car", 2), ("cam-1", "dog", 1)]
    assert {name for name in SUMMARIES if build(memory, name, STRICT)} == OF_LABELS
    assert stored_rows(memory, "label_totals", tmp_path) == [("cam-1", "car", 1), ("cam-1", "dog", 1)]
    assert stored(memory, "label_totals").manifest.parameters == {"summary_threshold": 0.52}
    assert {name for name in SUMMARIES if build(memory, name)} == OF_LABELS


def test_a_summary_made_of_a_stale_summary_is_rebuilt_after_it(memory):
    """Between the two builds the totals match the stored counts, and do not claim the current recipe."""
    write_chain(memory, [seen(0, ["car", "car", "dog"])])
    build_day(memory)
    assert not build(memory, "label_totals", STRICT)
    assert stored(memory, "label_totals").manifest.made_by == recipe("label_totals", Settings())
    assert build(memory, "label_counts", STRICT)
    assert build(memory, "label_totals", STRICT)
    assert stored(memory, "label_totals").manifest.made_by == recipe("label_totals", STRICT)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["frame_stats", "label_totals"])
def test_a_manifest_names_the_version_of_each_input(memory, name):
    made = write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    build_day(memory)
    first, inputs = stored(memory, name), SUMMARIES[name].inputs
    keys = {each: summary_key(each, DAY) if each in SUMMARIES else day_table_key(each, DAY) for each in inputs}
    versions = {each: read_stored(memory, key) for each, key in keys.items()}
    assert first.manifest.made_of == {each: found and found.manifest.version for each, found in versions.items()}
    assert first.manifest.ends == {CHAIN: 7}
    append(made, [seen(7, ["dog"]), dead_letter(8)])
    rebuild_day(memory, DAY, now=LATER)
    build(memory, "label_counts")
    build(memory, name)
    assert stored(memory, name).manifest.ends == {CHAIN: 9}
    assert stored(memory, name).manifest.made_of.keys() == versions.keys()


@pytest.mark.medium
@pytest.mark.fault(32)
@pytest.mark.parametrize("die", [die_after_frames, die_after_detections])
def test_a_summary_of_several_tables_waits_for_equal_ends(memory, monkeypatch, die):
    made = write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    build_day(memory)
    append(made, [seen(7), dead_letter(8)])
    die(memory)
    monkeypatch.setattr(summary_inputs, "SETTLE_S", 0.2)
    with pytest.raises(TransientError, match=r"different offsets.*dagster asset materialize"):
        build(memory, "frame_stats")
    assert stored(memory, "frame_stats").manifest.ends == {CHAIN: 7}
    monkeypatch.setattr(summary_inputs, "SETTLE_S", 20.0)
    pauses: list[float] = []

    def finish(pause_s: float) -> None:
        pauses.append(pause_s)
        rebuild_day(memory, DAY, now=LATER)

    monkeypatch.setattr("tenacity.nap.time.sleep", finish)
    assert build(memory, "frame_stats")
    assert len(pauses) == 1
    assert stored(memory, "frame_stats").manifest.ends == {CHAIN: 9}


@pytest.mark.medium
@pytest.mark.fault(32)
@pytest.mark.parametrize("is_put", [False, True], ids=["before the put", "after the put"])
@pytest.mark.parametrize("name", ["label_counts", "label_totals"])
def test_a_killed_build_leaves_a_whole_summary_and_the_next_one_converges(memory, monkeypatch, name, *, is_put):
    made = write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    build_day(memory)
    append(made, [seen(7, ["dog"]), dead_letter(8)])
    rebuild_day(memory, DAY, now=LATER)
    build(memory, "label_counts")
    put, force = derived.publish, name == "label_counts"

    def die(*arguments) -> None:
        if is_put:
            put(*arguments)
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(derived, "publish", die)
        with pytest.raises(DiedError):
            build_summary(memory, name, DAY, settings=Settings(), now=LATER, force=force)
    assert stored(memory, name).manifest.ends == {CHAIN: 9 if is_put or force else 7}
    assert run_audit(memory).ok
    assert build(memory, name) is not (is_put or force)
    assert stored(memory, name).manifest.ends == {CHAIN: 9}


def test_a_missing_input_is_named_with_the_command_that_builds_it(memory):
    write_chain(memory, day_outcomes(0, 6))
    rebuild_day(memory, DAY, now=NOON)
    with pytest.raises(
        PermanentError, match=r"no table `label_counts` yet.*--select label_counts --partition 2026-01-09"
    ):
        build(memory, "label_totals")
    memory.delete(day_table_key("dead_letters", DAY))
    with pytest.raises(
        PermanentError, match=r"no table `dead_letters` yet.*--select frames,detections,dead_letters,notices"
    ):
        build(memory, "source_activity")


KEY = summary_key("label_counts", DAY)


def stored_counts(store: ObjectStore, tmp_path) -> list[tuple]:
    """Ask the stored summary by plain DuckDB."""
    path = tmp_path / "label_counts.parquet"
    path.write_bytes(store.get(KEY))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = "hour, source, label, count, distinct_frames, mean_confidence"
        return connection.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()  # noqa: S608 - own path


def several_hours() -> list:
    return [
        seen(n, ["car"] * (n % 3), timestamp=datetime(2026, 1, 9, n % 24, 30, tzinfo=UTC), source=f"cam-{n % 2}")
        for n in range(60)
    ]


def test_label_counts_are_what_plain_python_counts(store, tmp_path):
    write_chain(store, several_hours(), [dead_letter(60), gated(61), again(62, of=61, labels=["dog"])])
    rebuild_day(store, DAY, now=NOON)
    built = build_summary(store, "label_counts", DAY, settings=Settings(), now=NOON)
    expected = counted_labels(chosen_frames(store).values())
    found = stored_counts(store, tmp_path)
    assert [row[:5] for row in found] == [row[:5] for row in expected]
    assert [row[5] for row in found] == pytest.approx([row[5] for row in expected], abs=1e-9)
    assert (built.skipped, built.manifest.rows, built.manifest.ends) == (False, len(expected), {CHAIN: 63})


def test_first_and_last_seen_are_times_of_frames(folder, tmp_path):
    first, last = NOON + timedelta(minutes=2), NOON + timedelta(minutes=59)
    write_chain(folder, [seen(0, timestamp=last), seen(1, timestamp=first), seen(2, [], timestamp=NOON)])
    rebuild_day(folder, DAY, now=NOON)
    build_summary(folder, "label_counts", DAY, settings=Settings(), now=NOON)
    with duckdb.connect() as connection:
        asked = "SELECT first_seen, last_seen, day FROM read_parquet(?)"
        assert connection.execute(asked, [f"{tmp_path}/store/{KEY}"]).fetchall() == [(first, last, DAY)]


def test_a_summary_is_rebuilt_only_for_other_detections(store):
    made = write_chain(store, day_outcomes(0, 6))
    rebuild_day(store, DAY, now=NOON)
    first = build_summary(store, "label_counts", DAY, settings=Settings(), now=NOON)
    again_built = build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER)
    assert again_built.skipped
    assert (again_built.manifest, again_built.sizes) == (first.manifest, first.sizes)
    append(made, [seen(6, ["dog"])])
    rebuild_day(store, DAY, now=LATER)
    newer = build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER)
    assert (newer.skipped, newer.manifest.ends) == (False, {CHAIN: 7})
    assert build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER, force=True).skipped is False


def test_a_summary_names_its_detections_and_its_query(memory):
    write_chain(memory, day_outcomes(0, 6))
    rebuild_day(memory, DAY, now=NOON)
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    stored, detections = read_stored(memory, KEY), read_stored(memory, day_table_key("detections", DAY))
    assert stored is not None
    assert detections is not None
    assert stored.manifest.made_of == {"detections": detections.manifest.version}
    assert stored.manifest.ends == detections.manifest.ends
    assert stored.manifest.sql == SUMMARIES["label_counts"].sql


def test_a_summary_without_detections_says_what_to_do(memory):
    with pytest.raises(PermanentError, match="dagster asset materialize"):
        build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)


def test_every_summary_is_one_self_contained_sql_file():
    files = {item.name for item in resources.files("imgpipeline.lake.days").joinpath("sql").iterdir()}
    assert {f"{name}.sql" for name in SUMMARIES} == {name for name in files if name.endswith(".sql")}
    for summary in SUMMARIES.values():
        assert summary.sql.startswith("--")
        assert len(duckdb.extract_statements(summary.sql)) == 1
