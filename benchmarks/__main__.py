"""Measures imgpipeline on real servers: `make bench`.

    python -m benchmarks                          everything, in about forty minutes on two cores
    python -m benchmarks --quick                  a glance, in about four minutes
    python -m benchmarks --only latency,memory    some of it
    python -m benchmarks --only sources --sources folder,http      some sources beside a plain loop
    python -m benchmarks --only sources --sources cameras,overload  the two long runs, seven minutes
    python -m benchmarks --only pipeline,idle,beside --before DIR   next to an older checkout
    python -m benchmarks --render FILE.json       docs/performance.md with the figures of an earlier run, to stdout

Everything of one run is measured in sequence on one machine, so that ratios hold. Prints tables, and writes
the JSON they are made of. Needs the servers of `make servers`; says what it leaves out where test data are missing.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.alerts import measure_alerts
from benchmarks.batch import measure_batch
from benchmarks.beside import measure_beside
from benchmarks.bundles import measure_bundles
from benchmarks.classic import measure_classic
from benchmarks.cold import measure_cold
from benchmarks.days_over import measure_days_over
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.growth import measure_growth
from benchmarks.idle import measure_idle
from benchmarks.image_batches import measure_image_batches
from benchmarks.latency import measure_latency
from benchmarks.ledger import measure_ledger
from benchmarks.machine import describe_machine
from benchmarks.memory import measure_memory
from benchmarks.page import PAGE, render_page
from benchmarks.pipeline import measure_pipeline
from benchmarks.place import Place, open_place, say
from benchmarks.precision import measure_precision
from benchmarks.reduction import measure_reduction
from benchmarks.sensor import measure_sensor
from benchmarks.small import measure_small
from benchmarks.sources import SOURCES, measure_sources
from benchmarks.tables import tables_of
from benchmarks.throughput import measure_throughput
from benchmarks.tracking import measure_tracking
from benchmarks.viewer import measure_viewer

_JSON = Path(".benchmarks", "results.json")
_MEASURES: dict[str, Callable[[Place, Effort], dict[str, Any]]] = {
    "throughput": measure_throughput,
    "classic": measure_classic,
    "beside": lambda place, effort: measure_beside(place, effort, effort.before),
    "latency": measure_latency,
    "alerts": measure_alerts,
    "cold": measure_cold,
    "pipeline": lambda place, effort: measure_pipeline(place, effort, effort.before) if effort.before else {},
    "idle": lambda place, effort: measure_idle(place, effort, effort.before),
    "memory": measure_memory,
    "ledger": lambda place, effort: measure_ledger(place.s3, effort.ledger_segments),
    "growth": lambda place, effort: measure_growth(place.s3, place.folder, effort.grown_segments),
    "days": lambda place, effort: measure_days_over(place.s3, place.folder, effort.days_over, effort.day_partitions),
    "bundles": lambda place, effort: measure_bundles(place.s3, effort.bundled_segments),
    "batch": measure_batch,
    "sensor": lambda place, effort: dict(measure_sensor(place.kafka, place.s3, effort.sensor_segments)),
    "reduction": measure_reduction,
    "precision": measure_precision,
    "batching": measure_image_batches,
    "small": measure_small,
    "sources": measure_sources,
    "tracking": lambda place, _: measure_tracking(place.s3),
    "viewer": measure_viewer,
}

NAMES = tuple(_MEASURES)


def main() -> None:
    """Measures and prints, or renders what was measured."""
    chosen = _arguments()
    if chosen.render:
        results = json.loads(chosen.render.read_text(encoding="utf-8"))
        sys.stdout.write(render_page(PAGE.read_text(encoding="utf-8"), results))
        return
    effort = replace(QUICK if chosen.quick else FULL, before=tuple(chosen.before), sources=chosen.sources)
    if chosen.bundled:
        effort = replace(effort, bundled_segments=chosen.bundled)
    if chosen.days:
        effort = replace(effort, viewer_days=chosen.days)
    if chosen.frames:
        effort = replace(effort, viewer_frames=chosen.frames)
    results = measure(chosen.only, effort)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, tables in tables_of(results).items():
        print(f"\n## {name}\n\n" + "\n\n".join(table.render() for table in tables))


def measure(names: list[str], effort: Effort) -> dict[str, Any]:
    """Runs benchmarks on servers of their own.

    Args:
        names: Which, of those above.
        effort: How much.

    Returns:
        What was measured where: a JSON document.
    """
    results: dict[str, Any] = {"machine": describe_machine(effort.name), "benchmarks": {}}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, open_place(Path(folder)) as place:
        for name in names:
            began_s = time.monotonic()
            results["benchmarks"][name] = _MEASURES[name](place, effort)
            say(f"{name}: done in {time.monotonic() - began_s:.0f} s")
    return results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure imgpipeline on real servers.")
    parser.add_argument("--quick", action="store_true", help="a glance instead of figures to quote")
    parser.add_argument("--only", type=_names, default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument(
        "--before", type=_checkout, action="append", default=[], metavar="FOLDER",
        help="an older checkout for `pipeline`, `idle` and `beside` to measure as well; repeat it, oldest first",
    )  # fmt: skip
    parser.add_argument(
        "--bundled", type=_counts, metavar="COUNTS",
        help="segments of the days that `bundles` reads, such as 64000 (about fifteen minutes)",
    )  # fmt: skip
    parser.add_argument(
        "--sources", type=_sources, default=(), metavar="NAMES",
        help="parts of `sources` whose names begin so, such as folder,mqtt or cameras,overload",
    )  # fmt: skip
    parser.add_argument("--days", type=int, help="days of the store that `viewer` shows")
    parser.add_argument("--frames", type=int, help="frames of the store that `viewer` shows, on all days together")
    parser.add_argument("--json", type=Path, default=_JSON, help=f"file for the results; {_JSON}")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write docs/performance.md with these results")
    return parser.parse_args()


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / "imgpipeline" / "definitions.py").exists():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected the folder of a checkout of imgpipeline")
    return folder


def _sources(text: str) -> tuple[str, ...]:
    chosen = tuple(name for name in SOURCES if name.startswith(tuple(text.split(","))))
    if not text or not chosen:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected the beginnings of some of: {', '.join(SOURCES)}")
    return chosen


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted(int(count) for count in text.split(",")))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers such as 1000,4000")
    return counts


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected some of {','.join(NAMES)}")
    return [name for name in NAMES if name in names]


if __name__ == "__main__":
    main()
