"""Redetections are killed, stopped and run concurrently, as real processes on a real S3 server."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import redetection_key
from imgpipeline.errors import ConfigurationError
from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.redetect.manifest import read_redetection
from imgpipeline.redetect.manifest import whole as whole_of
from imgpipeline.redetect.run import redetect_day
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import environment
from imgpipeline_tests.faults.child_runs import state_of
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.redetect.days import (
    DAY,
    LOW,
    build_live,
    live_rows,
    objects_below,
    redetected_rows,
    redetector,
)
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until

FRAMES, PART_FRAMES = 18, 4
PARTS = 5
COMMAND = ("redetect", "--model", "demo", "--day", str(DAY), "--json")
TABLES = [redetection_key("demo", DAY, name) for name in ("detections", "frames")]


class Site:
    """A bucket with a day of live detections, and the command of a user."""

    def __init__(self, bucket: S3Bucket, cwd: Path) -> None:
        self.settings: Settings = s3_settings(bucket, redetect_part_frames=PART_FRAMES)
        self.store: ObjectStore = open_store(self.settings)
        self._cwd = cwd
        self._environment = {
            **bucket.environment(),
            "IMGPIPELINE_STORE_URL": self.settings.store_url,
            "IMGPIPELINE_REDETECT_PART_FRAMES": str(PART_FRAMES),
        }
        build_live(self.settings, self.store, range(FRAMES))

    @contextmanager
    def command(self, plan: str = "") -> Iterator["subprocess.Popen[str]"]:
        """Start the command; it does not outlive the test."""
        env = environment(self._environment | ({PLAN_VARIABLE: plan} if plan else {}))
        line = [sys.executable, "-m", "imgpipeline.cli", *COMMAND]
        with subprocess.Popen(
            line, env=env, cwd=self._cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, plan: str = "") -> tuple[int, str]:
        """Run the command to its end; returns its status and what it said."""
        with self.command(plan) as process:
            said, _ = process.communicate(timeout=120)
            return process.returncode, said

    def parts(self) -> list[str]:
        return [
            key for key in objects_below(self.store, "redetections") if "/parts/" in key and key.endswith(".parquet")
        ]

    def check_whole(self) -> None:
        """Every frame is there once, with what live detection found in it, and nothing else was left."""
        assert objects_below(self.store, "redetections") == TABLES
        assert redetected_rows(self.store, "detections", "demo") == live_rows(self.store, "detections")
        named = [row["frame_id"] for row in redetected_rows(self.store, "frames", "demo")]
        assert named == [row["frame_id"] for row in live_rows(self.store, "frames")]
        assert len(set(named)) == FRAMES


@pytest.fixture
def site(bucket: S3Bucket, tmp_path: Path) -> Site:
    return Site(bucket, tmp_path)


@pytest.mark.parametrize(
    ("step", "parts", "tables"),
    [
        pytest.param("look again:6", None, 0, marks=pytest.mark.slow),
        pytest.param("redetection part done:3", 3, 0, marks=pytest.mark.slow),
        pytest.param("table put done:1", PARTS, 1, marks=pytest.mark.slow),
        pytest.param("table put done:2", PARTS, 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_step_it_continues_where_it_stopped(site, step, parts, tables):
    status, _ = site.run(f"{step}=kill")
    assert status == -signal.SIGKILL
    kept = site.parts()
    assert parts is None or len(kept) == parts
    assert len(set(objects_below(site.store, "redetections")) & set(TABLES)) == tables
    seen = sum(_frames_of(site, key) for key in kept)

    status, said = site.run()
    assert status == 0
    (row,) = json.loads(said)
    assert row["looked_at"] == FRAMES - seen
    assert row["skipped"] == (tables == 2)
    site.check_whole()


def _frames_of(site: Site, key: str) -> int:
    return int(pq.read_metadata(io.BytesIO(site.store.get(key))).num_rows)


@pytest.mark.slow
def test_one_that_sleeps_while_another_does_all_takes_nothing_back(site):
    with site.command("table put:1=stop") as older:
        wait_until(lambda: state_of(older.pid) == "T", limit_s=60, what="the command to stop itself")
        assert site.run()[0] == 0
        done = {key: site.store.get(key) for key in TABLES}
        older.send_signal(signal.SIGCONT)
        said, _ = older.communicate(timeout=60)
    assert older.returncode == 0
    assert json.loads(said)[0]["frames"] == FRAMES
    assert {key: site.store.get(key) for key in TABLES} == done
    site.check_whole()


@pytest.mark.slow
def test_one_that_wakes_in_the_middle_of_its_parts_leaves_the_rest_to_the_other(site):
    with site.command("redetection part:2=stop") as older:
        wait_until(lambda: state_of(older.pid) == "T", limit_s=60, what="the command to stop itself")
        status, said = site.run()
        assert status == 0
        assert FRAMES - PART_FRAMES <= json.loads(said)[0]["looked_at"] < FRAMES
        older.send_signal(signal.SIGCONT)
        older.communicate(timeout=60)
    assert older.returncode == 0
    site.check_whole()


@pytest.mark.medium
def test_several_at_once_share_the_work_and_duplicate_nothing(settings, store):
    build_live(settings, store, range(40))
    # Four frames are read ahead, which is one part: nobody has begun more than two.
    settings = settings.model_copy(update={"prefetch_images": 2, "detect_workers": 1})
    workers = [redetector(settings, store, LOW, name) for name in ("one", "two", "three")]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda worker: redetect_day(worker, DAY), workers))
    whole = whole_of(read_redetection(store, LOW, DAY))
    assert whole is not None
    assert (whole.frames, whole.processed) == (40, 40)
    assert objects_below(store, "redetections") == [redetection_key(LOW, DAY, n) for n in ("detections", "frames")]
    assert len({row["frame_id"] for row in redetected_rows(store, "frames")}) == 40
    shared = redetected_rows(store, "detections")
    redetect_day(redetector(settings, store), DAY, force=True)
    assert redetected_rows(store, "detections") == shared
    # At the end, each may also make the two parts that each of the two others has begun and not finished.
    assert sum(each.looked_at for each in done) <= 40 + 3 * 2 * 2 * PART_FRAMES


@pytest.mark.medium
def test_an_error_of_the_environment_fails_the_run_and_keeps_the_parts(settings, store, monkeypatch):
    build_live(settings, store, range(12))
    eyes = redetector(settings, store)
    found, calls = eyes.detector.detect, []

    def break_later(picture: object) -> object:
        calls.append(1)
        if len(calls) > 7:
            raise ConfigurationError("the model broke")
        return found(picture)

    monkeypatch.setattr(eyes.detector, "detect", break_later)
    with pytest.raises(ConfigurationError, match="the model broke"):
        redetect_day(eyes, DAY)
    assert any("/parts/" in key and key.endswith(".parquet") for key in objects_below(store, "redetections"))
    assert not any(key.endswith("frames.parquet") for key in objects_below(store, "redetections"))
    monkeypatch.setattr(eyes.detector, "detect", found)
    assert redetect_day(eyes, DAY).looked_at in (4, 8)


@pytest.mark.medium
def test_parts_of_others_that_vanish_are_made_again(settings, store):
    """Somebody who has finished an older version removes the parts of a newer one: only work is lost."""
    build_live(settings, store, range(12))

    def remove_parts(done: int, _total: int) -> None:
        if done == 6:
            for key in objects_below(store, "redetections"):
                store.delete(key)

    done = redetect_day(redetector(settings, store), DAY, progress=remove_parts)
    assert done.manifest.frames == 12
    assert objects_below(store, "redetections") == [redetection_key(LOW, DAY, n) for n in ("detections", "frames")]


@pytest.mark.slow
def test_two_that_store_the_same_result_at_once_process_no_frame_again(site):
    with site.command("table put:2=stop") as first:
        wait_until(lambda: state_of(first.pid) == "T", limit_s=60, what="the first to stop between its two tables")
        with site.command("table put:1=stop") as second:
            wait_until(lambda: state_of(second.pid) == "T", limit_s=60, what="the second to stop before its tables")
            first.send_signal(signal.SIGCONT)
            first.communicate(timeout=60)
            second.send_signal(signal.SIGCONT)
            said, _ = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert json.loads(said)[0]["looked_at"] == 0
    site.check_whole()
