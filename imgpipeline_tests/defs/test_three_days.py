"""Three days of frames through the real daemon, by automation, a backfill and a redetection: is every number right?

Each number of every stored table is compared with plain pandas over the ledger's lines (`plain_numbers`). Among the
frames are some that were announced twice, one that comes late for a day that was built, and records that are wrong.
"""

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from imgpipeline.contracts.keys import redetection_key, summary_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.defs.partitions import redetection_tags
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.stream.log import read_log
from imgpipeline_tests.defs import plain_numbers as plain
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import MODULE, Site, make_site
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until

DAYS = [START.date() + timedelta(days=n) for n in range(3)]
KEYS = {
    "label_counts": ("hour", "source", "label"),
    "label_timestamps": ("hour", "source", "label"),
    "label_totals": ("source", "label"),
    "frame_stats": ("hour", "source"),
    "source_activity": ("source",),
}

STRICTER = "demo@0.9"
"""The same model with a higher threshold: it has to find exactly the stronger ones of the live detections."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory, kafka: KafkaBroker, s3: S3Server) -> Iterator[Site]:
    """A site whose daemon has built three days, the first of them twice because a frame was late."""
    topic, bucket = "three-days", s3.create_bucket("three-days")
    kafka.create_topic(topic, partitions=2)
    site = make_site(
        tmp_path_factory.mktemp("three") / "dagster",
        {
            **bucket.environment(),
            "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "IMGPIPELINE_KAFKA_TOPIC": topic,
            "IMGPIPELINE_KAFKA_GROUP": f"group-of-{topic}",
            "IMGPIPELINE_LINGER_S": "2",
            "IMGPIPELINE_COMMIT_INTERVAL_S": "0.5",
            "IMGPIPELINE_MODEL_THREADS": "1",
            "IMGPIPELINE_REDETECT_MODELS": STRICTER,
        },
    )
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


def test_automation_has_every_number_right(three_days: Site) -> None:
    check_every_number(open_store(three_days.settings))
    held = check(three_days.settings)
    assert held.codes == {"OBJECT_NOT_FOUND": 3}


def test_a_forced_backfill_of_all_days_changes_no_number(three_days: Site) -> None:
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
    check_every_number(store)


def test_a_redetection_and_its_comparison_have_every_number_right(three_days: Site) -> None:
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
    ledger = plain.Ledger(store)
    for day in DAYS:
        live = ledger.detections_of(day)
        strong = live[live["confidence"] > float(STRICTER.partition("@")[2])]
        assert 0 < len(strong) < len(live)
        found = plain.read_rows(store.get(redetection_key(STRICTER, day, "detections")))
        assert sorted((r["frame_id"], r["label"], r["confidence"]) for r in found) == sorted(
            zip(strong["frame_id"], strong["label"], strong["confidence"], strict=True)
        )
        compared = plain.by(plain.stored_rows(store, "model_comparison", day), "model_a", "model_b", "label")
        for label, rows in live.groupby("label"):
            row = compared["live", STRICTER, label]
            kept = int((strong["label"] == label).sum())
            counted = tuple(row[name] for name in ("count_a", "count_b", "matched", "only_a", "only_b"))
            assert counted == (len(rows), kept, kept, len(rows) - kept, 0)
            assert row["frames"] == len(ledger.frames_of(day))
    assert {day: table_content(store, day) for day in DAYS} == before


def table_content(store: ObjectStore, day: date) -> str:
    """Return all rows of all tables and summaries of a day."""
    tables = {name: plain.stored_table(store, name, day) for name in ("frames", "detections", "dead_letters")}
    return repr(tables | {name: plain.stored_rows(store, name, day) for name in SUMMARIES})


def check_every_number(store: ObjectStore) -> None:
    """Compare every table of every day with pandas."""
    ledger = plain.Ledger(store)
    assert ledger.days() == DAYS
    for day in DAYS:
        frames = plain.by(plain.stored_table(store, "frames", day), "frame_id")
        assert {key[0] for key in frames} == set(ledger.frames_of(day)["frame_id"])
        found = ledger.detections_of(day)
        stored = [(r["frame_id"], r["label"], r["confidence"]) for r in plain.stored_table(store, "detections", day)]
        assert sorted(stored) == sorted(zip(found["frame_id"], found["label"], found["confidence"], strict=True))
        assert len(plain.stored_table(store, "dead_letters", day)) == len(ledger.letters_of(day))
        for name, compute in plain.SUMMARIES.items():
            expected = plain.by(compute(ledger, day), *KEYS[name])
            shown = plain.by(plain.stored_rows(store, name, day), *KEYS[name])
            assert expected.keys() == shown.keys(), (day, name)
            for key, row in expected.items():
                for column, value in row.items():
                    assert same(shown[key][column], value), (day, name, key, column, shown[key][column], value)


def same(stored: Any, value: Any) -> bool:
    """Compare a stored value with a computed one; bins of latencies count the same frames."""
    if isinstance(value, pd.Series):
        return sum(n for _, n in stored) == len(value)
    if isinstance(value, dict):
        return dict(stored) == dict(value)
    if isinstance(value, list):
        return list(pd.DatetimeIndex(stored, tz="UTC")) == value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return stored is None or pd.isna(stored)
    if isinstance(value, float):
        return math.isclose(stored, value, rel_tol=1e-12, abs_tol=1e-9)
    return bool(stored == value)
