"""Counts of labels per source add up to the counts of all sources together."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.lake.quality.day_warnings import judge_label_drop
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.summaries import LabelChoice, summarise
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.days.test_summary_numbers import build_day, eventful
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, write_chain

pytestmark = pytest.mark.medium

SETTINGS = Settings(_env_file=None)
_OF_ALL_SOURCES = """
SELECT
    day,
    time_bucket(INTERVAL 1 hour, "timestamp")  AS hour,
    label,
    count(*)                                   AS count,
    count(DISTINCT frame_id)                   AS distinct_frames,
    count(DISTINCT source)                     AS distinct_sources,
    min("timestamp")                           AS first_seen,
    max("timestamp")                           AS last_seen,
    avg(CAST(confidence AS DECIMAL(9, 6)))     AS mean_confidence,
    min(confidence)                            AS min_confidence,
    max(confidence)                            AS max_confidence,
    list_sort(coalesce(list(DISTINCT model) FILTER (model <> ''), [])) AS models
FROM (
    SELECT
        *,
        concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
    FROM detections)
WHERE confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY day, hour, label
ORDER BY hour, label
""".strip()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_totals_over_all_sources_are_those_of_a_query_without_sources(memory):
    """They are equal to the last digit of the mean."""
    write_chain(memory, eventful(), [seen(16 + n, ["car"] * (n % 4), source=f"cam-{n % 5}") for n in range(40)])
    build_day(memory)
    with open_lake(memory, settings=SETTINGS) as session:
        direct = session.query(_OF_ALL_SOURCES)
    now = summarise(memory, SETTINGS, "label_counts", Span(DAY, DAY)).answer
    assert now.columns == (*direct.columns, "observed_s")
    assert [row[:-1] for row in now.rows] == [row for row in direct.rows if row[0] == DAY]
    assert max(row[5] for row in now.rows) > 3, "several sources saw the same label in one hour"


def test_frames_are_not_summed_over_labels(memory):
    """A frame with a car and a dog is one frame: without labels in the groups there is no such column."""
    write_chain(memory, [seen(0, ["car", "dog"]), seen(1, ["car", "car"])])
    build_day(memory)
    of_all = summarise(memory, SETTINGS, "label_counts", Span(DAY, DAY), LabelChoice(by=("day",))).answer
    assert "distinct_frames" not in of_all.columns
    only = summarise(memory, SETTINGS, "label_counts", Span(DAY, DAY), LabelChoice(labels=("car",), by=("day",))).answer
    assert dict(zip(only.columns, only.rows[0], strict=True))["distinct_frames"] == 2


def test_default_counts_are_sums_over_sources(memory):
    """Three days of 30 cars from two cameras; then a day of 6."""
    days = [DAY + timedelta(days=n) for n in range(4)]
    frames = [
        seen(offset, ["car"] * (15 if day < days[3] else 3), day, source=f"cam-{offset % 2}")
        for offset, day in enumerate(day for day in days for _ in range(2))
    ]
    write_chain(memory, frames)
    for day in days:
        build_day(memory, day)
    after = datetime.combine(days[3] + timedelta(days=1), datetime.min.time(), UTC)
    verdict = judge_label_drop(memory, days[3], SETTINGS, now=after)
    assert "car: 6 (usually 30)" in verdict.said
