"""The memory of a job depends on DuckDB's limit, not on how much there is to count."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.children import run_command
from imgpipeline.settings import load_settings

pytestmark = pytest.mark.slow

_LABELS = [{"label": label, "box": [1, 2, 3, 4]} for label in ("car", "person", "dog", "bus") * 50]


def peak_mib(source: Path, target: Path) -> float:
    command = [sys.executable, "-m", "imgpipeline.cli", "mapreduce", "label-hour"]
    command += ["--input", str(source), "--output", str(target)]
    return run_command(command, load_settings(duckdb_memory="250MB")).peak_mib


def test_eight_times_as_many_detections_need_little_more_memory(tmp_path):
    """Eight million detections have 170 MB of times, four hours with one list of each label.

    DuckDB takes up to about 200 MiB beside its limit, more or less of it by how its threads meet.
    """
    once, often = tmp_path / "once", tmp_path / "often"
    once.mkdir()
    often.mkdir()
    with (once / "0.jsonl").open("w") as file:
        for number in range(5_000):
            time = f"2026-01-09T{number % 4:02d}:{number % 60:02d}:{number % 59:02d}"
            file.write(json.dumps({"processing_timestamp": time, "detections": _LABELS}) + "\n")
    for number in range(8):
        (often / f"{number}.jsonl").hardlink_to(once / "0.jsonl")

    little, much = peak_mib(once, tmp_path / "little"), peak_mib(often, tmp_path / "much")

    assert (tmp_path / "much").stat().st_size > 160_000_000
    counts = [int(line.split(b"\t", 2)[1]) for line in (tmp_path / "much").read_bytes().splitlines()]
    assert counts == [500_000] * 16
    assert much < little + 250
