"""`compare_versions`: each part of a store is compared with the program, before an upgrade and before a downgrade."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import day_table_key, segment_key
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import TABLES
from imgpipeline.daily.versions import PartVersions, Verdict, compare_versions
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.bundles.samples import bundle_all
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, frame, gap, write_chain

pytestmark = pytest.mark.medium

LIVE = [seen(0), gap(1, 20_000), frame(20_000)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def fill(store: ObjectStore, settings: Settings) -> None:
    """Store a day with a bundle, its tables and a summary."""
    write_chain(store, *([outcome] for outcome in LIVE))
    assert any(done.size_bytes for done in bundle_all(store))
    done = list(build_day(store, settings, DAY, (TABLES, "label_counts"), BuildOptions(), clock=lambda: NOON))
    assert [each.error for each in done if each.error] == []


def compared(store: ObjectStore, settings: Settings) -> Mapping[str, PartVersions]:
    return {each.part: each for each in compare_versions(store, settings, now=NOON)}


def other_than_same(parts: Mapping[str, PartVersions]) -> dict[str, Verdict]:
    return {name: each.verdict for name, each in parts.items() if each.verdict is not Verdict.SAME}


def test_an_empty_store_has_nothing_to_compare(store, settings):
    parts = compared(store, settings)
    assert ({each.stored for each in parts.values()}, other_than_same(parts)) == ({None}, {})


def test_a_store_of_this_release_is_the_same(store, settings):
    fill(store, settings)
    parts = compared(store, settings)
    assert other_than_same(parts) == {}
    assert [(name, each.stored) for name, each in parts.items() if each.stored == str(each.program)] == [
        ("segments", "5"), ("bundles", "1"), ("tables", "4")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("constant", "written", "verdicts"),
    [
        ("ledger.segment.FORMAT_VERSION", 99, {"segments": Verdict.TOO_OLD}),
        ("ledger.segment.FORMAT_VERSION", 1, {"segments": Verdict.TOO_NEW}),
        ("lake.storage.manifest.SCHEMA_VERSION", 99, {"tables": Verdict.TOO_OLD}),
        ("lake.storage.manifest.SCHEMA_VERSION", 1, {"tables": Verdict.OUTDATED}),
        ("ledger.bundles.stored.FORMAT_VERSION", 99, {"bundles": Verdict.IGNORED}),
        ("ledger.bundles.stored.FORMAT_VERSION", 0, {"bundles": Verdict.IGNORED}),
    ],
)
def test_a_store_of_another_release_says_whether_this_one_may_start(
    constant, written, verdicts, store, settings, monkeypatch
):
    with monkeypatch.context() as other_release:
        other_release.setattr(f"imgpipeline.{constant}", written)
        fill(store, settings)
    parts = compared(store, settings)
    assert other_than_same(parts) == verdicts
    assert {parts[name].stored for name in verdicts} == {str(written)}


def test_other_settings_keep_the_objects_until_someone_rebuilds_them(store, settings):
    fill(store, settings)
    other = settings.model_copy(update={"summary_threshold": 0.5})
    parts = compared(store, other)
    assert other_than_same(parts) == {"recipes": Verdict.KEPT}
    assert parts["recipes"].stored == f"label_counts of {DAY}"


@pytest.mark.parametrize(
    ("key", "part", "stored"),
    [
        (segment_key(CHAIN, 20_000), "segments", "?"),
        (day_table_key("frames", DAY), "tables", "4, ?"),
    ],
    ids=["segment", "table"],
)
def test_what_cannot_be_read_may_be_of_a_later_release_and_stops_the_start(key, part, stored, store, settings):
    fill(store, settings)
    store.put(key, b"written in a format of the future")
    found = compared(store, settings)[part]
    assert (found.stored, found.verdict, found.may_start) == (stored, Verdict.UNREADABLE, False)
