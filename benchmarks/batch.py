"""The batch side against Hadoop Streaming, pandas, polars and bare DuckDB, on the same documents.

Each contender is a process of its own, and its answer is compared with ours before its time counts.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.batch_answers import digest_of_lines, same_table, sum_of_counts
from benchmarks.batch_child import Cost, run_command, run_contender
from benchmarks.batch_material import Material, make_detections, make_material, upload
from benchmarks.effort import Effort
from benchmarks.place import Place, say
from imgpipeline.settings import Settings
from imgpipeline_tests.servers.hadoop import HadoopStreaming

_SCRIPT = Path(__file__).with_name("classic_label_hour.py")
_HEAP_MB = 1024
_MAPPERS = 2
_LONGEST_S = 300
_LIMIT = "500MB"


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all parts share."""

    place: Place
    effort: Effort
    material: Material
    hadoop: HadoopStreaming

    @property
    def folder(self) -> Path:
        """For answers."""
        return self.material.folder

    def ours(self, source: Path | str, target: Path, settings: Settings | None = None) -> Cost:
        """Runs `imgpipeline mapreduce label-hour`."""
        command = [sys.executable, "-m", "imgpipeline.cli", "mapreduce", "label-hour"]
        command += ["--input", str(source), "--output", str(target)]
        return run_command(command, settings or self.material.settings)

    def other(self, kind: str, source: Path, target: Path, **task: Any) -> Cost:
        """Runs a contender of `batch_contenders`."""
        return run_contender(
            kind, self.material.settings, {"source": str(source), "target": str(target), **task}, limit_s=_LONGEST_S
        )

    def classic(self, source: Path, target: Path, part: str) -> Cost:
        """Runs the job on Hadoop Streaming."""
        script = f"{sys.executable} {_SCRIPT}"
        command = self.hadoop.command(source, target, f"{script} {part}", f"{script} reduce", options=None)
        return run_command(command, self.material.settings, limit_s=_LONGEST_S)

    def several(self, run: Callable[[], Cost]) -> dict[str, Any]:
        """Runs something several times and returns the run in the middle."""
        costs = sorted((run() for _ in range(self.effort.batch_rounds)), key=lambda cost: cost.work_s or cost.whole_s)
        return costs[(len(costs) - 1) // 2].to_json()


def measure_batch(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures the batch side.

    Returns:
        Contests by name, each a list of contenders with their costs; and the growth.
    """
    with tempfile.TemporaryDirectory(prefix="batch-", dir=place.folder) as name:
        folder = Path(name)
        material = make_material(folder, effort.batch_frames, effort.batch_files)
        (folder / "hadoop").mkdir()
        hadoop = HadoopStreaming(folder / "hadoop", heap_mb=_HEAP_MB, parallel_maps=_MAPPERS)
        bench = _Bench(place, effort, material, hadoop)
        return {
            "frames": effort.batch_frames,
            "lines_bytes": material.lines.stat().st_size,
            "files": effort.batch_files,
            "documents": _documents(bench),
            "one_a_file": _one_a_file(bench),
            "day": _day(bench),
            "detections": _detections(bench),
            "growth": _growth(bench),
        }


def _documents(bench: _Bench) -> list[dict[str, Any]]:
    """label@hour of JSON lines; Hadoop, pandas and polars are measured once, since they take long."""
    source, folder = bench.material.lines, bench.folder
    say("batch: label@hour of JSON lines")
    ours = bench.several(lambda: bench.ours(source, folder / "ours"))
    expected = digest_of_lines(folder / "ours")
    found = [{"who": "ours, JSON lines", **ours}]
    segments = folder / "store" / "metadata"
    found.append({"who": "ours, segments", **bench.several(lambda: bench.ours(segments, folder / "segments"))})
    _check("our segments", digest_of_lines(folder / "segments"), expected)
    for who, run in _others(bench, source, "lines").items():
        say(f"batch: label@hour of JSON lines, {who}")
        target = folder / f"{who}-lines"
        cost = run(target)
        _check(who, digest_of_lines(target), expected)
        found.append({"who": who, **cost.to_json()})
    return found


def _one_a_file(bench: _Bench) -> list[dict[str, Any]]:
    source, folder = bench.material.one_a_file, bench.folder
    say("batch: documents one a file")
    found = [{"who": "ours", **bench.several(lambda: bench.ours(source, folder / "ours-files"))}]
    expected = digest_of_lines(folder / "ours-files")
    for who, run in _others(bench, source, "document").items():
        say(f"batch: documents one a file, {who}")
        cost = run(folder / f"{who}-files")
        _check(who, digest_of_lines(folder / f"{who}-files"), expected)
        found.append({"who": who, **cost.to_json()})
    return found


def _others(bench: _Bench, source: Path, part: str) -> Mapping[str, Callable[[Path], Cost]]:
    return {
        "Hadoop Streaming": lambda target: bench.classic(source, target, part),
        "pandas": lambda target: bench.other("pandas_documents", source, target),
        "polars": lambda target: bench.other("polars_documents", source, target),
    }


def _day(bench: _Bench) -> list[dict[str, Any]]:
    """The day tables and summaries of the ledger, in a folder and on S3, beside bare DuckDB."""
    bucket = bench.place.settings("batch")
    say("batch: putting the ledger into S3")
    upload(bench.material.settings, bucket)
    stores = {"folder": bench.material.settings, "S3": bucket}
    found = []
    for where, settings in stores.items():
        say(f"batch: building the day, {where}")
        bare = _bare(bench, where, settings)
        built = run_contender("build_day", settings, {"day": str(bench.material.day.day)})
        _check(f"day on {where}", *[[cost.told[name] for name in ("frames", "detections")] for cost in (built, bare)])
        found.append({"who": "bare DuckDB", "where": where, **bare.to_json()})
        found.append({"who": "frames and detections", "where": where, **built.to_json()})
        for name in ("label_counts", "label_timestamps"):
            task = {"day": str(bench.material.day.day), "summary": name}
            cost = bench.several(lambda task=task, settings=settings: run_contender("build_summary", settings, task))
            found.append({"who": name, "where": where, **cost})
    say("batch: label@hour of segments on S3")
    source, target = f"{bucket.store_url}/metadata", bench.folder / "s3"
    found.append({"who": "mapreduce label-hour", "where": "S3", **bench.ours(source, target, bucket).to_json()})
    _check("segments on S3", digest_of_lines(target), digest_of_lines(bench.folder / "ours"))
    return found


def _bare(bench: _Bench, where: str, settings: Settings) -> Cost:
    target = bench.folder / f"bare-{where}"
    target.mkdir()
    source = {"download": True} if where == "S3" else {"source": str(bench.folder / "store" / "metadata")}
    return run_contender("bare_day", settings, {"target": str(target), **source})


def _detections(bench: _Bench) -> list[dict[str, Any]]:
    """label@hour of detections in Parquet: counts, lists of times, and all columns of `label_counts`."""
    found = []
    rows = [bench.effort.batch_detections // 100, bench.effort.batch_detections // 10, bench.effort.batch_detections]
    for count in rows:
        source = bench.folder / f"{count}.parquet"
        make_detections(source, count)
        for question in ("count", "times", "all"):
            if question == "all" and count != rows[-1]:
                continue
            found += _ask(bench, source, count, question)
        source.unlink()
    return found


def _ask(bench: _Bench, source: Path, rows: int, question: str) -> list[dict[str, Any]]:
    kinds = {"ours": "our_detections", "polars": "polars_detections"}
    if question == "count":
        kinds["pandas"] = "pandas_detections"
    found, task = [], {"question": question, "rounds": 2 * bench.effort.batch_rounds + 1}
    ours = bench.folder / "ours.parquet"
    for who, kind in kinds.items():
        say(f"batch: {question} of {rows:,} detections, {who}")
        target = bench.folder / f"{who}.parquet"
        cost = bench.other(kind, source, target, **task)
        _check(f"{who}, {question}", same_table(ours, target, question), True)
        found.append({"who": who, "question": question, "rows": rows, **cost.to_json()})
    return found


def _growth(bench: _Bench) -> list[dict[str, Any]]:
    """label@hour from a tenth of the day's documents to ten times as many, ours and polars."""
    material, found = bench.material, []
    limited = material.settings.model_copy(update={"duckdb_memory": _LIMIT})
    contenders: Mapping[str, Callable[[Path, Path], Cost]] = {
        "ours": bench.ours,
        f"ours, DuckDB within {_LIMIT}": lambda source, target: bench.ours(source, target, limited),
        "polars": lambda source, target: bench.other("polars_documents", source, target),
    }
    frames = material.day.frames
    for source, documents in (
        (material.tenth, frames // 10),
        (material.lines, frames),
        (material.tenfold, 10 * frames),
    ):
        counts = set()
        for who, run in contenders.items():
            say(f"batch: label@hour of {documents:,} documents, {who}")
            target = bench.folder / "grown"
            cost = run(source, target)
            counts.add(sum_of_counts(target))
            found.append({"who": who, "documents": documents, **cost.to_json()})
        _check(f"{documents} documents", len(counts), 1)
    return found


def _check(who: str, got: object, expected: object) -> None:
    if got != expected:
        raise RuntimeError(f"{who}: got the answer {got}, expected {expected}")
