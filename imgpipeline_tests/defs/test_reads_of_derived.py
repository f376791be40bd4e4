"""Summaries, checks, reports and previews of a day read only tables and manifests, as a proxy before S3 records."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest

from imgpipeline.defs.previews import preview_dead_letters, preview_detections, preview_summary
from imgpipeline.events.configuration import parse_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.quality.day_warnings import judge_darkness, judge_label_drop, judge_stored_rows
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.daily.builds import build_report, build_summary, build_table, build_tracks
from imgpipeline_tests.defs.stored_days import add_frames
from imgpipeline_tests.ledger.samples import dead_letter, write_chain
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
RULES = '[[rule]]\nname = "seen"\nkind = "count"\nabove = 0\n'

pytestmark = pytest.mark.servers


@pytest.fixture
def built(bucket: S3Bucket) -> ObjectStore:
    """A bucket with a day's tables, tracks and events, newer segments of the day, and an audit."""
    store = open_store(s3_settings(bucket))
    add_frames(store, DAY, 0.6, 0.9)
    write_chain(store, [dead_letter(0, DAY), dead_letter(1, DAY)])
    rebuild_day(store, DAY, now=NOW)
    build_tracks(store, DAY, settings=load_settings(), now=NOW)
    for table in (*EVENT_TABLES, *PLACE_TABLES):
        build_table(store, DAY, table, rules=parse_rules(RULES, name="rules.toml"), settings=load_settings(), now=NOW)
    audit(store, list, now=NOW)
    add_frames(store, DAY, 0.7, number=1, camera=1)
    return store


@pytest.fixture
def proxy(
    s3: S3Server, bucket: S3Bucket, built: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[AnswerLosingProxy]:
    """The store of the environment, through a proxy that records every request; no cache has what it holds."""
    with AnswerLosingProxy(s3.port) as made:
        variables = bucket.environment() | {
            "IMGPIPELINE_STORE_URL": built.url,
            "IMGPIPELINE_S3_ENDPOINT": made.endpoint,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield made


def read_keys(proxy: AnswerLosingProxy, part: str) -> list[str]:
    """Return the keys with a part that were read, as a whole or in part."""
    return [unquote(path) for method, path, _ in proxy.seen if method == "GET" and part in unquote(path)]


def build_all(store: ObjectStore) -> None:
    settings = load_settings()
    for name in SUMMARIES:
        assert not build_summary(store, name, DAY, settings=settings, now=NOW).skipped
    report = build_report(store, settings, DAY, now=NOW)
    assert not report.skipped
    assert report.manifest.events == 1


def test_summaries_and_report_read_no_segment_and_fetch_each_table_once(proxy):
    build_all(open_store(load_settings()))
    assert read_keys(proxy, "/metadata/") == []
    fetched = Counter(unquote(path) for path in proxy.whole)
    tables = {key: times for key, times in fetched.items() if key.endswith(("/frames.parquet", "/detections.parquet"))}
    assert len(tables) == 2, "the proxy sees requests"
    assert set(tables.values()) == {1}


def test_previews_and_checks_read_no_segment(proxy):
    settings = load_settings()
    store = open_store(settings)
    build_all(store)
    assert preview_detections(settings, store, DAY)
    assert preview_dead_letters(settings, store, DAY)
    assert all(preview_summary(settings, store, summary.table, DAY) for summary in SUMMARIES.values())
    assert judge_stored_rows(store, DAY, now=NOW).ok
    assert judge_darkness(store, DAY, settings).ok
    assert judge_label_drop(store, DAY, settings, now=NOW).ok
    assert read_keys(proxy, "/metadata/") == []
