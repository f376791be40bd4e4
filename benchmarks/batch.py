"""The batch side compared with Hadoop Streaming, pandas, polars and bare DuckDB, on the same documents.

Each contender is a separate process, and its answer is compared with ours before its time counts.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.children import Child, run_command
from benchmarks.place import Effort, Place, say
from benchmarks.report import Table, at_least
from benchmarks.synthetic_days import SyntheticDay, make_day
from imgpipeline.ledger.segment import decode_segment
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.hadoop import HadoopStreaming

_SCRIPT = Path(__file__).with_name("classic_label_hour.py")
_HEAP_MB = 1024
_MAPPERS = 2
_FRAME_LINE = len('{"frame":')
_LIMIT_S = 300.0
_HADOOP = "Hadoop Streaming"
_COSTS = ("whole, s", "CPU, s", "peak, MiB")
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """One day in several forms, in a temporary folder."""

    folder: Path
    settings: Settings
    """Name the store in a folder that holds the day's ledger."""
    day: SyntheticDay
    lines: Path
    """The day's documents as JSON lines."""
    one_a_file: Path
    """A folder with the first of them, one a file."""


def make_material(folder: Path, frames: int, files: int) -> Material:
    """Makes a day.

    Args:
        folder: An empty folder.
        frames: How many frames the day has.
        files: How many documents are written one a file.
    """
    settings = load_settings(store_url=(folder / "store").as_uri())
    store, day = open_store(settings), SyntheticDay(frames)
    say(f"batch: making a day of {frames:,} frames")
    make_day(store, day)
    material = Material(folder, settings, day, folder / "day.jsonl", folder / "files")
    _write_lines(store, material, files)
    return material


def _write_lines(store: ObjectStore, material: Material, files: int) -> None:
    written = 0
    material.one_a_file.mkdir()
    with material.lines.open("wb") as whole:
        for info in sorted(store.list_objects("metadata"), key=lambda info: info.key):
            body = decode_segment(store.get(info.key), info.key).body
            documents = [line[_FRAME_LINE:-1] + b"\n" for line in body.splitlines()]
            whole.writelines(documents)
            for number, document in enumerate(documents[: max(0, files - written)], start=written):
                (material.one_a_file / f"{number:06d}.json").write_bytes(document)
            written += len(documents)


def digest_of_lines(path: Path) -> str:
    """Returns a hash of what `label-hour` wrote, a file or Hadoop's folder; the order of the times does not matter."""
    digest = sha256()
    for part in sorted(path.glob("part-*")) if path.is_dir() else [path]:
        with part.open("rb") as lines:
            for line in lines:
                key, count, times = line.rstrip(b"\n").split(b"\t")
                digest.update(b"%s\t%s\t%s\n" % (key, count, b", ".join(sorted(times[1:-1].split(b", ")))))
    return digest.hexdigest()


def run_batch(kind: str, settings: Settings, **task: Any) -> Child:
    """Runs one of `batch_contenders` to its end."""
    command = [sys.executable, "-m", "benchmarks.batch_contenders", kind]
    return run_command(command, settings, task=task, limit_s=_LIMIT_S)


def measure_batch(place: Place, effort: Effort) -> list[Table]:
    """Measures label@hour of JSON lines and of documents one a file, and a day's tables and summaries."""
    with tempfile.TemporaryDirectory(prefix="batch-", dir=place.folder) as name:
        material = make_material(Path(name), effort.of(1_000_000, 20_000), effort.of(300, 20))
        bench = _Bench(material, effort.of(3, 1))
        day = bench.day()
        return [bench.documents(day), bench.one_a_file(), bench.day_table(day)]


class _Bench:
    def __init__(self, material: Material, rounds: int) -> None:
        self._material, self._rounds = material, rounds
        self._settings, self._folder = material.settings, material.folder
        hadoop = self._folder / "hadoop"
        hadoop.mkdir()
        self._hadoop = HadoopStreaming(hadoop, heap_mb=_HEAP_MB, parallel_maps=_MAPPERS)

    def documents(self, day: dict[str, Child]) -> Table:
        """label@hour of JSON lines; the others are measured once, since they take long."""
        lines, segments = self._material.lines, self._folder / "store" / "metadata"
        found = {
            "ours, JSON lines": self._several(lambda: self._ours(lines, self._folder / "ours")),
            "ours, segments": self._several(lambda: self._ours(segments, self._folder / "segments")),
        }
        expected = digest_of_lines(self._folder / "ours")
        _check("ours, segments", digest_of_lines(self._folder / "segments"), expected)
        found |= self._others(lines, "lines", expected)
        goals = {"ours, JSON lines": 12.0, "ours, label_counts": 50.0, "ours, label_timestamps": 50.0}
        found |= {f"ours, {name}": day[name] for name in ("label_counts", "label_timestamps")}
        size = lines.stat().st_size / 1e6
        caption = f"label@hour of {self._material.day.frames:,} documents, {size:,.0f} MB of JSON lines:"
        return _against_hadoop(found, goals, caption)

    def one_a_file(self) -> Table:
        """label@hour of documents one a file."""
        source = self._material.one_a_file
        found = {"ours": self._several(lambda: self._ours(source, self._folder / "ours-files"))}
        found |= self._others(source, "document", digest_of_lines(self._folder / "ours-files"))
        caption = f"label@hour of {len(list(source.iterdir()))} documents, one a file:"
        return _against_hadoop(found, {"ours": 50.0}, caption)

    def day(self) -> dict[str, Child]:
        """The day tables and two summaries of the ledger in a folder, and the same tables by bare DuckDB."""
        say("batch: building the day")
        day, bare = str(self._material.day.day), self._folder / "bare"
        bare.mkdir()
        source = str(self._folder / "store" / "metadata")
        found = {"bare DuckDB": run_batch("bare_day", self._settings, source=source, target=str(bare))}
        found["frames and detections"] = run_batch("build_day", self._settings, day=day)
        for name in ("label_counts", "label_timestamps"):
            found[name] = self._several(
                lambda name=name: run_batch("build_summary", self._settings, day=day, summary=name)  # type: ignore[misc]  # bound for the loop
            )
        counts = [[one.result[name] for name in ("frames", "detections")] for one in list(found.values())[:2]]
        _check("bare DuckDB", *counts)
        return found

    def day_table(self, day: dict[str, Child]) -> Table:
        """Makes the table of `day`."""
        columns = ("what", "work alone, s", *_COSTS, "share of bare DuckDB's speed", "goal")
        bare_s, rows = day["bare DuckDB"].result["work_s"], []
        for name, child in day.items():
            share, work_s = ("", "none"), child.result["work_s"]
            if name == "frames and detections":
                share = f"{bare_s / work_s:.2f}", at_least(bare_s / work_s, 0.5)
            rows.append((name, f"{work_s:.2f}", *_shown(child), *share))
        return Table(columns, rows, f"A day of {self._material.day.frames:,} frames from its segments:")

    def _ours(self, source: Path, target: Path) -> Child:
        command = [sys.executable, "-m", "imgpipeline.cli", "mapreduce", "label-hour"]
        return run_command([*command, "--input", source, "--output", target], self._settings)

    def _others(self, source: Path, part: str, expected: str) -> dict[str, Child]:
        found = {}
        for who in (_HADOOP, "pandas", "polars"):
            say(f"batch: label@hour, {who}")
            target = self._folder / f"{who}-{part}"
            if who == _HADOOP:
                script = f"{sys.executable} {_SCRIPT}"
                command = self._hadoop.command(source, target, f"{script} {part}", f"{script} reduce", options=None)
                found[who] = run_command(command, self._settings, limit_s=_LIMIT_S)
            else:
                found[who] = run_batch(f"{who}_documents", self._settings, source=str(source), target=str(target))
            _check(who, digest_of_lines(target), expected)
        return found

    def _several(self, run: Callable[[], Child]) -> Child:
        """Runs something several times and returns the run in the middle."""
        runs = sorted((run() for _ in range(self._rounds)), key=lambda child: child.whole_s)
        return runs[(len(runs) - 1) // 2]


def _against_hadoop(found: dict[str, Child], goals: dict[str, float], caption: str) -> Table:
    rows: list[Row] = []
    for who, child in found.items():
        ratio = found[_HADOOP].whole_s / child.whole_s
        rows.append((who, *_shown(child), f"{ratio:.1f}", at_least(ratio, goals[who]) if who in goals else "none"))
    return Table(("who", *_COSTS, "times Hadoop", "goal"), rows, caption)


def _shown(child: Child) -> Sequence[str]:
    return f"{child.whole_s:.2f}", f"{child.cpu_s:.1f}", f"{child.peak_mib:,.0f}"


def _check(who: str, got: object, expected: object) -> None:
    if got != expected:
        raise RuntimeError(f"{who}: got the answer {got}, expected {expected}")
