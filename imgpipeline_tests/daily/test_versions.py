"""`compare_versions`: each part of a store is compared with the program, before an upgrade and before a downgrade."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import day_table_key, segment_key
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import TABLES
from imgpipeline.daily.versions import PartVersions, compare_versions
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, write_chain

pytestmark = pytest.mark.medium


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def fill(store: ObjectStore, settings: Settings) -> None:
    """Store a day with its tables and a summary."""
    write_chain(store, [seen(0)], [seen(1)])
    done = list(build_day(store, settings, DAY, (TABLES, "label_counts"), BuildOptions(), clock=lambda: NOON))
    assert [each.error for each in done if each.error] == []


def compared(store: ObjectStore, settings: Settings) -> Mapping[str, PartVersions]:
    return {each.part: each for each in compare_versions(store, settings, now=NOON)}


def other_than_same(parts: Mapping[str, PartVersions]) -> dict[str, tuple[str, bool]]:
    return {name: (each.verdict, each.may_start) for name, each in parts.items() if each.verdict != "same"}


def test_an_empty_store_has_nothing_to_compare(store, settings):
    parts = compared(store, settings)
    assert ({each.stored for each in parts.values()}, other_than_same(parts)) == ({None}, {})


def test_a_store_of_this_release_is_the_same(store, settings):
    fill(store, settings)
    parts = compared(store, settings)
    assert other_than_same(parts) == {}
    assert [(name, each.stored) for name, each in parts.items() if each.stored == str(each.program)] == [
        ("segments", "5"), ("tables", "4")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("constant", "written", "part", "verdict"),
    [
        ("ledger.segment.FORMAT_VERSION", 99, "segments", "program too old: do not start"),
        ("ledger.segment.FORMAT_VERSION", 1, "segments", "program too new: do not start (docs/upgrading.md)"),
        ("lake.storage.manifest.SCHEMA_VERSION", 99, "tables", "program too old: do not start"),
        ("lake.storage.manifest.SCHEMA_VERSION", 1, "tables",
         "do not start: move them aside first (docs/upgrading.md)"),
    ],
)  # fmt: skip
def test_a_store_of_another_release_says_whether_this_one_may_start(
    constant, written, part, verdict, store, settings, monkeypatch
):
    with monkeypatch.context() as other_release:
        other_release.setattr(f"imgpipeline.{constant}", written)
        fill(store, settings)
    parts = compared(store, settings)
    assert other_than_same(parts) == {part: (verdict, False)}
    assert parts[part].stored == str(written)


def test_other_settings_keep_the_objects_until_someone_rebuilds_them(store, settings):
    fill(store, settings)
    other = settings.model_copy(update={"summary_threshold": 0.5})
    parts = compared(store, other)
    assert other_than_same(parts) == {"recipes": ("kept until you rebuild them (docs/backfills.md)", True)}
    assert parts["recipes"].stored == f"label_counts of {DAY}"


@pytest.mark.parametrize(
    ("key", "part", "stored"),
    [
        (segment_key(CHAIN, 1), "segments", "?"),
        (day_table_key("frames", DAY), "tables", "4, ?"),
    ],
    ids=["segment", "table"],
)
def test_what_cannot_be_read_may_be_of_a_later_release_and_stops_the_start(key, part, stored, store, settings):
    fill(store, settings)
    store.put(key, b"written in a format of the future")
    found = compared(store, settings)[part]
    assert (found.stored, found.verdict) == (stored, "do not start: damaged, or of a later release")
    assert not found.may_start
