"""Three days of frames through the real daemon, by automation, a backfill and a redetection: is every number right?

Each number of every stored table is compared with plain Python over the ledger's lines (`summary_oracle`). Among the
frames are some that were announced twice, one that comes late for a day that was built, and records that are wrong.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.defs.partitions import redetection_tags
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.ledger.days import known_days
from imgpipeline.ledger.reading import fix_ends, list_chains
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.stream.log import read_log
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import MODULE, Site, site_over
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.lake.days.test_summary_numbers import assert_same, stored_rows
from imgpipeline_tests.lake.samples import chosen_frames
from imgpipeline_tests.lake.summary_oracle import expected_rows
from imgpipeline_tests.ledger.samples import stored_segments
from imgpipeline_tests.redetect.days import read_rows, redetected_rows
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until

DAYS = [START.date() + timedelta(days=n) for n in range(3)]
STRICTER = "demo@0.9"
"""The same model with a higher threshold: it has to find exactly the stronger ones of the live detections."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory, kafka: KafkaBroker, s3: S3Server) -> Iterator[Site]:
    """A site whose daemon has built three days, the first of them twice because a frame was late."""
    topic, bucket = "three-days", s3.create_bucket("three-days")
    kafka.create_topic(topic, partitions=2)
    home = tmp_path_factory.mktemp("three") / "dagster"
    site = site_over(home, kafka, topic, bucket, IMGPIPELINE_REDETECT_MODELS=STRICTER)
    store = open_store(site.settings)
    _announce_three_days(site)
    site.start_daemon()
    _wait_until_current(site, store)
    _announce_late_frame(site)
    _wait_until_current(site, store)
    yield site
    site.stop()


def _announce_three_days(site: Site) -> None:
    for number, day in enumerate(DAYS):
        begin = datetime.combine(day, START.timetz()) - timedelta(seconds=3)
        for source in ("gate", "yard"):
            announce_frames(site.settings, 6 + number, start=begin, source=source)
    announce_frames(site.settings, 3, start=START - timedelta(seconds=3), source="gate")  # announced a second time
    with Announcer(site.settings) as announcer:
        for n in range(3):
            announcer.announce(FrameMessage("gate", f"images/gate/missing-{n}.jpg", START + timedelta(hours=n)))


def _announce_late_frame(site: Site) -> None:
    announce_frames(
        site.settings, 1, start=datetime.combine(DAYS[0], START.timetz()) + timedelta(hours=5), source="late"
    )


def _wait_until_current(site: Site, store: ObjectStore) -> None:
    """Wait until every offset has its outcome, and every day its tables, summaries and report."""

    def is_current() -> bool:
        logs = read_log(site.settings)
        ends = {chain.partition: end.offset for chain, end in fix_ends(store).items()}
        if any(ends.get(log.partition, 0) < log.log_end for log in logs) or due_days(
            day_states(store, site.settings, now=utc_now())
        ):
            return False
        return all(store.head(summary_key(name, day)) for name in SUMMARIES for day in DAYS)

    wait_until(is_current, limit_s=240, what="automation to be done", interval_s=2)
    site.wait_for_runs_to_end()


def test_automation_has_every_number_right(three_days, tmp_path):
    check_every_number(open_store(three_days.settings), tmp_path)
    held = check(three_days.settings)
    assert held.codes == {"OBJECT_NOT_FOUND": 3}


def test_a_forced_backfill_of_all_days_changes_no_number(three_days, tmp_path):
    store = open_store(three_days.settings)
    before = {day: table_content(store, day) for day in DAYS}
    built = {day: store.head(summary_key("label_totals", day)) for day in DAYS}
    config = {"ops": {"build_days": {"config": {"force": True}}}}
    three_days.run(
        "dagster", "job", "backfill", "-m", MODULE, "-j", "rebuild_days", "--partitions", ",".join(map(str, DAYS)),
        "--tags", json.dumps({"why": "test"}), "--noprompt",
    )  # fmt: skip
    three_days.wait_for_runs_to_end(limit_s=240)
    tags = {"dagster/asset_partition_range_start": str(DAYS[0]), "dagster/asset_partition_range_end": str(DAYS[-1])}
    three_days.run(
        "dagster", "job", "launch", "-m", MODULE, "-j", "rebuild_days", "--tags", json.dumps(tags),
        "--config-json", json.dumps(config),
    )  # fmt: skip
    three_days.wait_for_runs_to_end(limit_s=240)
    assert all(store.head(summary_key("label_totals", day)) != built[day] for day in DAYS)
    assert {day: table_content(store, day) for day in DAYS} == before
    check_every_number(store, tmp_path)


def test_a_redetection_and_its_comparison_have_every_number_right(three_days):
    """It is launched as a range by tags; automation builds the comparison, and the live tables stay unchanged."""
    store = open_store(three_days.settings)
    before = {day: table_content(store, day) for day in DAYS}
    tags = json.dumps(redetection_tags(STRICTER, DAYS[0], DAYS[-1]))
    three_days.run("dagster", "job", "launch", "-m", MODULE, "-j", "redetect_days", "--tags", tags)
    wait_until(
        lambda: all(store.head(summary_key("model_comparison", day)) for day in DAYS),
        limit_s=240,
        what="the comparisons",
        interval_s=2,
    )
    three_days.wait_for_runs_to_end()
    for day in DAYS:
        live = detections_of(store, day)
        strong = [each for each in live if each[2] > float(STRICTER.partition("@")[2])]
        assert 0 < len(strong) < len(live)
        assert detected(redetected_rows(store, "detections", STRICTER, day)) == strong
        compared = read_rows(store, summary_key("model_comparison", day))
        labels = Counter(label for _, label, _ in live)
        assert [row["label"] for row in compared] == sorted(labels)
        for row in compared:
            assert (row["model_a"], row["model_b"]) == ("live", STRICTER)
            count, kept = labels[row["label"]], sum(label == row["label"] for _, label, _ in strong)
            counted = tuple(row[name] for name in ("count_a", "count_b", "matched", "only_a", "only_b"))
            assert counted == (count, kept, kept, count - kept, 0)
            assert row["frames"] == len(chosen_frames(store, day))
    assert {day: table_content(store, day) for day in DAYS} == before


def table_content(store: ObjectStore, day: date) -> str:
    """Return all rows of all tables and summaries of a day."""
    keys = [day_table_key(name, day) for name in ("frames", "detections", "dead_letters")]
    return repr([read_rows(store, key) for key in (*keys, *(summary_key(name, day) for name in SUMMARIES))])


def detected(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    return sorted((row["frame_id"], row["label"], row["confidence"]) for row in rows)


def detections_of(store: ObjectStore, day: date) -> list[tuple[str, str, float]]:
    """Return frame, label and confidence of each detection of a day in the ledger."""
    frames = chosen_frames(store, day).values()
    return sorted((frame.frame_id, each.label, each.confidence) for frame in frames for each in frame.detections)


def check_every_number(store: ObjectStore, folder: Path) -> None:
    """Compare every table of every day with plain Python."""
    assert known_days(store) == DAYS
    for day in DAYS:
        frames = read_rows(store, day_table_key("frames", day))
        assert sorted(row["frame_id"] for row in frames) == sorted(chosen_frames(store, day))
        assert detected(read_rows(store, day_table_key("detections", day))) == detections_of(store, day)
        letters = read_rows(store, day_table_key("dead_letters", day))
        assert sorted(row["kafka_offset"] for row in letters) == sorted(
            outcome.offset
            for chain in list_chains(store)
            for segment in stored_segments(store, chain)
            for outcome in segment.outcomes()
            if isinstance(outcome, DeadLetter) and outcome.day == day
        )
        for name in SUMMARIES:
            assert_same(stored_rows(store, name, folder, day), expected_rows(store, name, day), name)
