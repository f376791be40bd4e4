"""A setting limits the memory of DuckDB, whatever the size of a day."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.synthetic_days import SyntheticDay, make_day
from imgpipeline.defs.previews import preview_dead_letters, preview_detections, preview_summary
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.day_warnings import judge_stored_rows
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.frames import find_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.schema.tables import LABEL_COUNTS
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage import engine
from imgpipeline.lake.storage.engine import BuildLimits, machine_memory_bytes, open_engine
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.redetect.pairs import compare_day
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.lake.audits import build_all, log_range, run_audit
from imgpipeline_tests.ledger.samples import DAY, NOON

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 2**20
LIMIT_MB = 250
FRAMES = 500_000
ALLOWANCE_MIB = 200
TOO_LITTLE = "1KB"
LITTLE = Settings(duckdb_memory=TOO_LITTLE)
_BUILDER = """
import json, pathlib, resource, sys, tempfile
from imgpipeline.lake.query.export import export_duckdb
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.contracts.times import utc_now
from imgpipeline_tests.daily.builds import build_summary
from benchmarks.synthetic_days import DAY

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

settings = load_settings()
store = open_store(settings)
before = peak_mib()
built = rebuild_day(store, DAY, now=utc_now(), limits=BuildLimits.of(settings))
summary = build_summary(store, "label_counts", DAY, settings=settings, now=utc_now())
with open_lake(store, settings=settings) as session:
    counted = session.query("SELECT sum(count)::BIGINT FROM label_counts").rows[0][0]
with tempfile.TemporaryDirectory() as folder:
    exported = export_duckdb(store, settings, pathlib.Path(folder) / "lake.duckdb", now=utc_now()).rows
print(json.dumps({"frames": built.of("frames").rows, "detections": built.of("detections").rows,
                  "duplicates": built.of("frames").duplicates,
                  "counted": counted, "exported": exported["detections"],
                  "before_mib": before, "peak_mib": peak_mib()}))
"""


def limit_mib(memory: str | None) -> float:
    with open_engine(memory=memory) as opened:
        return int(opened.value("SELECT parse_formatted_bytes(current_setting('memory_limit'))")) / MIB


def test_an_engine_stays_within_its_memory_limit(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_DUCKDB_MEMORY", "300MiB")
    assert limit_mib("512MiB") == pytest.approx(512, rel=0.01)


def test_an_engine_does_not_read_settings(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_DUCKDB_MEMORY", "300MiB")
    monkeypatch.setenv("IMGPIPELINE_LANES", "many")
    assert limit_mib(None) == pytest.approx(machine_memory_bytes() / MIB / 4, rel=0.05)


STEPS: dict[str, Callable[[ObjectStore], object]] = {
    "build": lambda store: rebuild_day(store, DAY, force=True, now=NOON, limits=BuildLimits(TOO_LITTLE)),
    "check": lambda store: judge_stored_rows(store, DAY, now=NOON + timedelta(days=1), memory=TOO_LITTLE),
    "comparison": lambda store: compare_day(store, DAY, "live", "demo", memory=TOO_LITTLE),
    "audit": lambda store: run_audit(store, log_range(12), memory=TOO_LITTLE),
    "query": lambda store: find_frames(store, LITTLE, Span(DAY, DAY), WantedFrames()),
    "detections preview": lambda store: preview_detections(LITTLE, store, DAY),
    "dead letters preview": lambda store: preview_dead_letters(LITTLE, store, DAY),
    "summary preview": lambda store: preview_summary(LITTLE, store, LABEL_COUNTS, DAY),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_passes_the_limit_of_the_settings_to_duckdb(step, memory):
    build_all(memory)
    with pytest.raises(PermanentError, match="ran out of memory"):
        STEPS[step](memory)


def test_explicit_settings_override_the_environment(monkeypatch, memory, tmp_path):
    monkeypatch.setenv("IMGPIPELINE_DUCKDB_MEMORY", "512MiB")
    given = load_settings(duckdb_memory="300MiB")
    asked = "SELECT current_setting('memory_limit')"
    with open_lake(memory, settings=given, cache_dir=tmp_path) as session:
        assert session.query(asked).rows == [("300.0 MiB",)]
    with open_lake(memory, settings=given, summaries=["label_counts"], cache_dir=tmp_path) as session:
        assert session.query(asked).rows == [("300.0 MiB",)]


def test_the_memory_limit_of_a_container_applies(tmp_path, monkeypatch):
    limits = [tmp_path / "memory.max", tmp_path / "none"]
    limits[0].write_text("268435456\n")
    monkeypatch.setattr(engine, "CGROUP_LIMITS", limits)
    assert machine_memory_bytes.__wrapped__() == 256 * MIB
    limits[0].write_text("max\n")
    assert machine_memory_bytes.__wrapped__() > 256 * MIB


def test_little_memory_means_few_threads():
    with open_engine(memory="150MB") as opened:
        assert opened.value("SELECT current_setting('threads')") == 1


@pytest.mark.parametrize("text", ["much", "10", "-1GB", "1 GB; SET threads = 1"])
def test_a_wrong_limit_is_named(text):
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_DUCKDB_MEMORY"):
        load_settings(duckdb_memory=text)


@pytest.mark.slow
def test_a_day_larger_than_the_limit_is_built_summarised_queried_and_exported_within_it(tmp_path):
    """Adds one allowance for what a process needs besides DuckDB: Python, Parquet footers, segments being read."""
    settings = load_settings(store_url=(tmp_path / "store").as_uri())
    lines_mb = make_day(open_store(settings), SyntheticDay(FRAMES)) / 1e6
    assert lines_mb > 1.5 * LIMIT_MB
    variables = {
        "IMGPIPELINE_STORE_URL": settings.store_url,
        "IMGPIPELINE_DUCKDB_MEMORY": f"{LIMIT_MB}MB",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    ended = subprocess.run(
        [sys.executable, "-c", _BUILDER], cwd=REPOSITORY, env=os.environ | variables, stdout=subprocess.PIPE,
        check=True, timeout=280,
    )  # fmt: skip
    told = json.loads(ended.stdout)
    assert (told["frames"], told["detections"], told["duplicates"]) == (FRAMES, 3 * FRAMES, 0)
    assert told["counted"] == told["exported"] == 3 * FRAMES
    assert told["peak_mib"] - told["before_mib"] < LIMIT_MB + ALLOWANCE_MIB, told
