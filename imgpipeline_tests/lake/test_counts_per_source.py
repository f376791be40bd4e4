"""Counts of labels per source: they add up to the totals of earlier releases, whose stores still work."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.lake.build.day_tables import list_days, rebuild_day
from imgpipeline.lake.build.summaries import build_summary
from imgpipeline.lake.quality.day_warnings import LabelHistory
from imgpipeline.lake.query.explain import explain
from imgpipeline.lake.query.explanation import NumberId
from imgpipeline.lake.query.stored_summaries import open_summaries
from imgpipeline.lake.query.summaries import LabelChoice, ask
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.lake import older_release
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.build.test_summary_numbers import SOURCES, assert_same, build_day, eventful
from imgpipeline_tests.lake.samples import chosen_frames, seen
from imgpipeline_tests.lake.summary_oracle import expected_rows
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain

OF_LABELS = ("label_counts", "label_timestamps", "label_totals")
SETTINGS = Settings(_env_file=None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def older(memory: ObjectStore) -> ObjectStore:
    """A store whose summaries of labels an older release has built."""
    write_chain(memory, eventful())
    build_day(memory)
    older_release.put_older_summaries(memory, DAY)
    return memory


@pytest.mark.medium
def test_totals_over_all_sources_are_the_rows_of_the_older_query(memory: ObjectStore):
    """`label-counts` returns the same as before, to the last digit of the mean."""
    write_chain(memory, eventful(), [seen(16 + n, ["car"] * (n % 4), source=f"cam-{n % 5}") for n in range(40)])
    build_day(memory)
    with open_lake(memory, settings=SETTINGS) as session:
        before = session.query(older_release.LABEL_COUNTS)
    now = ask(memory, SETTINGS, "label_counts", [DAY]).answer
    assert now.columns == (*before.columns, "observed_s")
    assert [row[:-1] for row in now.rows] == [row for row in before.rows if row[0] == DAY]
    assert max(row[5] for row in now.rows) > 3, "several sources saw the same label in one hour"


@pytest.mark.medium
def test_counts_by_source_are_those_of_the_frames(memory: ObjectStore):
    write_chain(memory, eventful())
    build_day(memory)
    days = [DAY + timedelta(days=n) for n in (-1, 0, 1)]
    frames = [frame for day in days for frame in chosen_frames(memory, day).values()]
    counted = Counter((frame.source, found.label) for frame in frames for found in frame.detections)
    for name in ("label_counts", "label_totals"):
        answer = ask(memory, SETTINGS, name, None, LabelChoice(by=("label", "source"))).answer
        assert answer.columns[:3] == ("source", "label", "count")
        assert {row[:2]: row[2] for row in answer.rows} == counted
    chosen = LabelChoice(sources=(SOURCES[1], "import", "nobody"), labels=("car",), by=("source",))
    rows = ask(memory, SETTINGS, "label_totals", days, chosen).answer.rows
    assert {row[0]: row[1] for row in rows} == {source: counted[source, "car"] for source in (SOURCES[1], "import")}


@pytest.mark.medium
def test_frames_are_not_summed_over_labels(memory: ObjectStore):
    """A frame with a car and a dog is one frame: without labels in the groups there is no such column."""
    write_chain(memory, [seen(0, ["car", "dog"]), seen(1, ["car", "car"])])
    build_day(memory)
    of_all = ask(memory, SETTINGS, "label_counts", [DAY], LabelChoice(by=("day",))).answer
    assert "distinct_frames" not in of_all.columns
    only = ask(memory, SETTINGS, "label_counts", [DAY], LabelChoice(labels=("car",), by=("day",))).answer
    assert dict(zip(only.columns, only.rows[0], strict=True))["distinct_frames"] == 2


@pytest.mark.medium
def test_the_audit_of_an_older_store_passes(older: ObjectStore):
    """Each summary is rebuilt by the query in its manifest, from tables and from the ledger."""
    found = {audited.name: (audited.ok, audited.stale) for audited in run_audit(older, full=True).summaries}
    assert found == dict.fromkeys((*OF_LABELS, "frame_stats", "source_activity"), (True, False))
    append(write_chain(older), [seen(16, ["dog"])])
    rebuild_day(older, DAY, now=NOON)
    found = {audited.name: (audited.ok, audited.stale) for audited in run_audit(older, full=True).summaries}
    assert all(ok for ok, _ in found.values())
    assert found["label_counts"] == (True, True)


@pytest.mark.medium
def test_summaries_of_an_older_release_are_not_current_and_their_days_are_counted_live(older: ObjectStore):
    for built in (False, True):
        with open_summaries(older, SETTINGS, OF_LABELS, days=[DAY]) as span:
            for name in OF_LABELS:
                assert span.counted_now[name] == (() if built else (DAY,))
                rows = span.query(f"SELECT * EXCLUDE (day) FROM {name} ORDER BY ALL NULLS LAST").rows  # noqa: S608 - own names
                assert_same(rows, expected_rows(older, name, DAY), name)
        builds = [build_summary(older, name, DAY, settings=SETTINGS, now=NOON) for name in OF_LABELS]
        assert [done.skipped for done in builds] == [built] * 3


@pytest.mark.medium
def test_a_number_of_an_older_store_is_traced(older: ObjectStore):
    with open_lake(older, settings=SETTINGS, days=[DAY]) as lake:
        of_all = explain(lake, older, NumberId(DAY, None, "car"), SETTINGS)
        of_one = explain(lake, older, NumberId(DAY, None, "car", "import"), SETTINGS)
    assert of_all.stored is not None
    assert (of_all.stored.count, of_all.stored.is_by_present_recipe) == (of_all.count, False)
    assert (of_one.stored, of_one.count) == (None, 1)


@pytest.mark.medium
def test_default_counts_are_sums_over_sources_in_both_forms(memory: ObjectStore):
    """Three days of 30 cars from two cameras, one of them stored by an older release; then a day of 6."""
    days = [DAY + timedelta(days=n) for n in range(4)]
    frames = [
        seen(offset, ["car"] * (15 if day < days[3] else 3), day, source=f"cam-{offset % 2}")
        for offset, day in enumerate(day for day in days for _ in range(2))
    ]
    write_chain(memory, frames)
    for day in days:
        build_day(memory, day)
    older_release.put_older_summaries(memory, days[1])
    history = LabelHistory(memory, list_days(memory, "summaries/label_totals"))
    after = datetime.combine(days[3] + timedelta(days=1), datetime.min.time(), UTC)
    verdict = history.judge(days[3], SETTINGS, now=after)
    assert "car: 6 (usually 30)" in verdict.said
