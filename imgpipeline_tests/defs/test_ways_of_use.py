"""The ways to build days: commands, the UI's own request, and the nightly schedule.

All through one real daemon over real Kafka and S3. Automation is off here, so that nothing is built but what was asked
for; a way has worked when exactly its days have new tables.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.daily.objects import objects_of
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import MODULE, Site, make_site, site_over
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until

DAYS = [START.date() + timedelta(days=n) for n in range(4)]
TABLES = ("frames", "detections")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory, kafka: KafkaBroker, s3: S3Server) -> Iterator[Site]:
    """A site with two frames on each of four days in its ledger, and a daemon without automation."""
    topic, bucket = "ways-of-use", s3.create_bucket("ways-of-use")
    kafka.create_topic(topic)
    night = f"{datetime.now(UTC) + timedelta(hours=6):%H:%M}"
    site = site_over(tmp_path_factory.mktemp("ways") / "dagster", kafka, topic, bucket, IMGPIPELINE_NIGHTLY_AT=night)
    for day in DAYS:
        announce_frames(site.settings, 2, start=datetime.combine(day, START.timetz()))
    site.run("dagster", "job", "execute", "-m", MODULE, "-j", "detect_frames")
    for sensor in ("keep_tables_current", "frames_sensor"):
        site.run("dagster", "sensor", "stop", sensor, "-m", MODULE)
    site.start_daemon()
    yield site
    site.stop()


def versions(store: ObjectStore) -> dict[date, tuple[str, ...]]:
    """Return the versions of the tables and of one summary, of each day that has them all."""
    found = {}
    for day in DAYS:
        keys = [*(day_table_key(table, day) for table in TABLES), summary_key("label_counts", day)]
        infos = [store.head(key) for key in keys]
        if all(infos):
            found[day] = tuple(info.e_tag for info in infos if info)
    return found


def forget(site: Site, days: list[date]) -> ObjectStore:
    """Remove the tables, summaries and tracks of some days, so that a build of them is visible."""
    store = open_store(site.settings)
    for day in days:
        for prefix in (*TABLES, "dead_letters", "summaries", "reports"):
            for info in list(store.list_objects(prefix)):
                if f"/day={day}/" in info.key:
                    store.delete(info.key)
    return store


def wait_for_exactly(site: Site, store: ObjectStore, days: list[date], before: dict[date, tuple[str, ...]]) -> None:
    """Wait until days are built and no run is live; no other day may have changed."""
    wait_until(lambda: set(days) <= versions(store).keys(), limit_s=200, what=f"the tables of {days}", interval_s=0.5)
    site.wait_for_runs_to_end()
    after = versions(store)
    assert {day: after.get(day) for day in DAYS if day not in days} == {
        day: before.get(day) for day in DAYS if day not in days
    }


def runs_of_days(site: Site) -> list[dict[str, str]]:
    """Return the tags of the runs that build days; an hourly schedule may have requested others meanwhile."""
    tags = [record.dagster_run.tags for record in site.runs()]
    return [each for each in tags if "dagster/asset_partition_range_start" in each]


def range_tags(first: date, last: date) -> str:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return json.dumps(dict(zip(names, (str(first), str(last)), strict=True)))


def test_a_job_is_launched_for_one_day_by_its_tag(worked):
    store = forget(worked, DAYS[:1])
    before = versions(store)
    tags = json.dumps({"dagster/partition": str(DAYS[0])})
    worked.run("dagster", "job", "launch", "-j", "rebuild_days", "-m", MODULE, "--tags", tags)
    wait_for_exactly(worked, store, DAYS[:1], before)


def test_a_job_is_launched_for_a_range_by_tags_as_one_run(worked):
    store = forget(worked, DAYS[1:3])
    before, runs = versions(store), len(runs_of_days(worked))
    worked.run("dagster", "job", "launch", "-j", "rebuild_days", "-m", MODULE, "--tags", range_tags(*DAYS[1:3]))
    wait_for_exactly(worked, store, DAYS[1:3], before)
    assert len(runs_of_days(worked)) == runs + 1


def test_a_backfill_of_days_is_launched_by_command(worked):
    store = forget(worked, DAYS[2:4])
    before = versions(store)
    wanted = ",".join(map(str, DAYS[2:4]))
    worked.run(
        "dagster", "job", "backfill", "-m", MODULE, "-j", "rebuild_days", "--partitions", wanted, "--noprompt"
    )  # fmt: skip
    wait_for_exactly(worked, store, DAYS[2:4], before)


def test_one_day_of_one_asset_is_materialized_by_command(worked):
    store = forget(worked, DAYS[:1])
    before = versions(store)
    chosen = ("--select", "frames,detections,label_counts", "--partition", str(DAYS[0]))
    worked.run("dagster", "asset", "materialize", "-m", MODULE, *chosen)
    wait_for_exactly(worked, store, DAYS[:1], before)


def ask(address: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Send a request as the UI does."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 - our own server
    with urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
        data: dict[str, Any] = json.loads(answer.read())
    assert "errors" not in data, data
    return data["data"]


LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}
"""


def test_a_backfill_of_all_assets_is_launched_by_the_ui_s_own_request_and_redetects_nothing(worked):
    """One run builds the whole range."""
    store = forget(worked, DAYS)
    address = worked.start_webserver()
    runs = len(runs_of_days(worked))
    built = [table for each in objects_of(worked.settings).values() for table in each.tables]
    chosen = [{"path": [name]} for name in (*built, "redetections")]
    params = {"assetSelection": chosen, "partitionNames": [str(day) for day in DAYS], "title": "all days"}
    launched = ask(address, LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    wait_for_exactly(worked, store, DAYS, {})

    def is_done() -> bool:
        status = ask(address, STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]
        assert status not in ("FAILED", "COMPLETED_FAILED", "CANCELED"), status
        return status in ("COMPLETED", "COMPLETED_SUCCESS")

    wait_until(is_done, limit_s=120, what="the backfill to be completed", interval_s=1)
    assert len(runs_of_days(worked)) == runs + 1


def test_the_nightly_schedule_builds_only_days_that_are_behind(worked):
    """Two of four days, which are not consecutive, lost their tables; each is built by one run."""
    missing = [DAYS[0], DAYS[3]]
    store = forget(worked, missing)
    before = versions(store)
    site = make_site(worked.home.parent / "night", dict(worked.variables))
    for sensor in ("keep_tables_current", "frames_sensor"):
        site.run("dagster", "sensor", "stop", sensor, "-m", MODULE)
    # Whole minutes: one to two from now. A daemon that starts later than that misses the night.
    site.variables["IMGPIPELINE_NIGHTLY_AT"] = f"{datetime.now(UTC) + timedelta(minutes=2):%H:%M}"
    try:
        site.start_daemon()
        wait_for_exactly(site, store, missing, before)
        tags = runs_of_days(site)
        assert sorted(t["dagster/asset_partition_range_start"] for t in tags) == [str(day) for day in missing]
        assert {t["dagster/schedule_name"] for t in tags} == {"nightly_rebuild"}
    finally:
        site.stop()
