"""Builds of one day race with each other and with a writer, in threads and after kills of real processes."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import summary_key
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.storage.manifest import read_manifest, read_stored
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.audits import is_current
from imgpipeline_tests.lake.oracle import check
from imgpipeline_tests.lake.samples import day_outcomes
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, write_chain
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, store_settings
from imgpipeline_tests.servers.waiting import wait_until

TABLES = ("frames", "detections", "dead_letters")
RACING = ("label_counts", "label_totals", "frame_stats")
"""One over a day table, one over a summary, one over several tables."""
REPOSITORY = Path(__file__).resolve().parents[3]

_BUILDER = """
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.contracts.times import utc_now
from imgpipeline_tests.ledger.samples import DAY
store = open_store(load_settings())
while True:
    rebuild_day(store, DAY, force=True, now=utc_now())
    print("built", flush=True)
"""


@pytest.fixture(params=SHARED_KINDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a fresh store that several processes can open."""
    return store_settings(request.param, request)


def variables(settings: Settings) -> dict[str, str]:
    found = {"IMGPIPELINE_STORE_URL": settings.store_url}
    if settings.s3_endpoint and settings.s3_access_key_id and settings.s3_secret_access_key:
        found["IMGPIPELINE_S3_ENDPOINT"] = settings.s3_endpoint
        found["AWS_ACCESS_KEY_ID"] = settings.s3_access_key_id.get_secret_value()
        found["AWS_SECRET_ACCESS_KEY"] = settings.s3_secret_access_key.get_secret_value()
    return found


def reached(store: ObjectStore) -> list[int]:
    manifests = [read_manifest(store, table, DAY) for table in TABLES]
    return [manifest.ends.get(CHAIN, 0) if manifest else 0 for manifest in manifests]


def summarised(store: ObjectStore) -> list[int]:
    found = [read_stored(store, summary_key(name, DAY)) for name in RACING]
    return [each.manifest.ends.get(CHAIN, 0) if each else 0 for each in found]


@pytest.mark.medium
@pytest.mark.fault(30)
@pytest.mark.fault(32)
def test_ends_only_grow_while_builds_race_with_a_writer(store: ObjectStore, lake):
    made = write_chain(store, day_outcomes(0, 5))
    over, seen = threading.Event(), [[*reached(store), *summarised(store)]]

    def build() -> None:
        while not over.is_set():
            with contextlib.suppress(TransientError):  # overtaken by the others, eight times
                rebuild_day(store, DAY, force=True, now=NOON)
                for name in RACING:
                    build_summary(store, name, DAY, settings=Settings(), now=NOON)

    def watch() -> None:
        while not over.is_set():
            seen.append([*reached(store), *summarised(store)])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(build) for _ in range(3)] + [pool.submit(watch)]
        for start in range(5, 45, 5):
            append(made, [*day_outcomes(start, start + 4), dead_letter(start + 4)])
            wait_until(lambda at=start: min(reached(store)) >= at, limit_s=60, what="a build")
        over.set()
        for future in working:
            future.result(60)
    for ends in zip(*seen, strict=True):
        assert list(ends) == sorted(ends)
    rebuild_day(store, DAY, now=NOON)
    for name in RACING:
        build_summary(store, name, DAY, settings=Settings(), now=NOON)
    assert {*reached(store), *summarised(store)} == {45}
    assert is_current(audit(store, list, full=True, now=NOON))
    with lake(store) as session:
        check(session, store)


@pytest.mark.medium
@pytest.mark.fault(5)
def test_a_build_killed_at_any_moment_leaves_correct_tables(settings: Settings, lake):
    store = open_store(settings)
    made = write_chain(store, day_outcomes(0, 5))
    for delay_s in (0.0, 0.03, 0.07):
        environment = os.environ | variables(settings)
        builder = subprocess.Popen(
            [sys.executable, "-c", _BUILDER], env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert builder.stdout is not None
        assert builder.stdout.readline() == "built\n"
        append(made, day_outcomes(made.end.offset, made.end.offset + 5))
        time.sleep(delay_s)  # somewhere in a build, each time somewhere else
        builder.kill()
        builder.wait(30)
        builder.stdout.close()
        report = audit(store, list, full=True, now=NOON)
        assert report.ok, report.problems
        with lake(store) as session:
            check(session, store)
    rebuild_day(store, DAY, now=NOON)
    assert reached(store) == [20, 20, 20]
