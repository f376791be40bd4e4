"""What was measured, as tables: for the terminal and for docs/performance.md, by the same code from the same JSON."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.batch_tables import batch_tables
from benchmarks.beside import beside_tables
from benchmarks.bundle_tables import bundle_tables
from benchmarks.days_tables import days_tables
from benchmarks.image_batches import image_batch_tables
from benchmarks.pipeline_tables import pipeline_tables
from benchmarks.precision_tables import precision_tables
from benchmarks.reduction_tables import reduction_tables
from benchmarks.source_tables import source_tables
from benchmarks.table import Table, at_least, at_most
from benchmarks.viewer_tables import viewer_tables

_RATIO_COLUMNS = ("ratio", "least to greatest", "goal", "CPU ratio")


def tables_of(results: Mapping[str, Any]) -> dict[str, list[Table]]:
    """Makes the tables of all benchmarks in a document.

    Args:
        results: As `python -m benchmarks --json` wrote it.

    Returns:
        Tables by the benchmark's name, in the order of the page, of those that were run; and of the `machine`.
    """
    parts: Mapping[str, Any] = {"machine": results.get("machine"), **results["benchmarks"]}
    return {name: make(parts[name]) for name, make in _MAKERS.items() if parts.get(name)}


def _machine(part: Mapping[str, Any]) -> list[Table]:
    return [Table(("what", "value"), tuple((name, str(value)) for name, value in part.items()))]


def _throughput(part: Mapping[str, Any]) -> list[Table]:
    contests = part["contests"]
    columns = (
        "model",
        "pictures",
        "run, frames/s",
        "bare loop, frames/s",
        "ratio",
        "least to greatest",
        "goal",
        "CPU ratio",
    )
    rows = [
        (
            contest["network"],
            f"{contest['size']}, {contest['mean_bytes'] / 1000:.0f} kB",
            f"{contest['our_frames_per_s']:.1f}",
            f"{contest['their_frames_per_s']:.1f} ({_arrangement(contest)})",
            f"{contest['ratio']:.2f}",
            f"{contest['ratio_least']:.2f} to {contest['ratio_greatest']:.2f}",
            "none" if contest["network"].startswith("null") else at_least(contest["ratio"], 0.90),
            f"{contest['cpu_ratio']:.2f}",
        )
        for contest in contests
    ]
    return [Table(columns, tuple(rows)), _costs(contests), *map(_stages, contests), *_missing(part)]


def _arrangement(contest: Mapping[str, Any]) -> str:
    bare = contest["bare"][0]
    return f"{bare['workers']} x {bare['threads']}"


def _costs(contests: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("CPU ms a frame", "run", "bare loop", "Kafka", "S3 server", "peak MiB of the run")
    rows = []
    for contest in contests:
        run, bare = _middle(contest["pipeline"]), _middle(contest["bare"])
        figures = (run["cpu_ms_a_frame"], bare["cpu_ms_a_frame"], run["kafka_cpu_ms_a_frame"], run["s3_cpu_ms_a_frame"])
        name = f"{contest['network']}, {contest['size']}"
        rows.append((name, *(f"{figure:.2f}" for figure in figures), f"{run['peak_rss_mib']:.0f}"))
    return Table(columns, tuple(rows), "What a frame costs:")


def _middle(measured: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the measurement whose rate is the median (of an even number, the lower one of the middle)."""
    ordered = sorted(measured, key=lambda m: float(m["frames_per_s"]))
    return ordered[(len(ordered) - 1) // 2]


def _stages(contest: Mapping[str, Any]) -> Table:
    columns = ("stage", "items", "ms each", "at work", "waiting before it")
    rows = [
        (
            stage["stage"],
            f"{stage['items']:,}",
            f"{1000 * stage['busy_s'] / max(1, stage['items']):.2f}",
            f"{stage['at_work']:.2f}",
            f"{stage['queue_length']:.1f}",
        )
        for stage in _middle(contest["pipeline"])["stages"] or ()
    ]
    return Table(columns, tuple(rows), f"Where a run's time goes: {contest['network']}, {contest['size']}.")


def _classic(part: Mapping[str, Any]) -> list[Table]:
    columns = (*("store", "run, frames/s", "classic, frames/s"), *_RATIO_COLUMNS)
    rows = [
        (
            f"{contest['delay_ms']} ms added" if contest["delay_ms"] else "as it is",
            f"{contest['our_frames_per_s']:.1f}",
            f"{contest['their_frames_per_s']:.1f}",
            f"{contest['ratio']:.1f}",
            f"{contest['ratio_least']:.1f} to {contest['ratio_greatest']:.1f}",
            at_least(contest["ratio"], 4.0 if contest["delay_ms"] else 2.5),
            f"{contest['cpu_ratio']:.2f}",
        )
        for contest in part["contests"]
    ]
    return [Table(columns, tuple(rows)), *_missing(part)]


def _latency(part: Mapping[str, Any]) -> list[Table]:
    columns = ("frames", "at", "p50", "p95", "longest", "goal", "one query takes")
    times = (f"{part['p50_s']:.2f} s", f"{part['p95_s']:.2f} s", f"{part['longest_s']:.2f} s")
    goal = at_most(part["p95_s"], 2.0, "p95 < 2 s")
    return [
        Table(columns, ((str(part["count"]), f"{part['per_s']} a second", *times, goal, f"{part['query_s']:.2f} s"),))
    ]


def _alerts(part: Mapping[str, Any]) -> list[Table]:
    columns = ("alerts", "at", "announced →", "p50", "p95", "longest", "goal")
    goal = at_most(part["p95_s"] - part["segment_p95_s"], 2.0, "p95 < that of segments + 2 s")
    segment = ("", "", "segment", f"{part['segment_p50_s']:.2f} s", f"{part['segment_p95_s']:.2f} s", "", "")
    times = (f"{part['p50_s']:.2f} s", f"{part['p95_s']:.2f} s", f"{part['longest_s']:.2f} s")
    return [Table(columns, (segment, (str(part["count"]), f"{part['per_s']} a second", "alert", *times, goal)))]


def _cold(part: Mapping[str, Any]) -> list[Table]:
    columns = ("samples", "p50", "p95", "longest", "goal", "daemon and code server, idle")
    times = (f"{part['p50_s']:.1f} s", f"{part['p95_s']:.1f} s", f"{part['longest_s']:.1f} s")
    goal = at_most(part["p95_s"], 12.0, "p95 < 12 s")
    row = (str(part["count"]), *times, goal, f"{100 * part['idle_cpu_share']:.0f} % of a core")
    names = {
        "sensor_s": "announced → the sensor requests a run",
        "queue_s": "requested → taken from Dagster's queue",
        "process_s": "taken → the run's process has started",
        "step_s": "started → the step begins",
        "detect_s": "step begins → frame detected: model, store, broker, ledger's end",
        "visible_s": "detected → committed and queryable",
    }
    parts = tuple((text, f"{part['parts'][name]:.2f} s") for name, text in names.items())
    return [Table(columns, (row,)), Table(("part of the time", "median"), parts)]


def _idle(part: Mapping[str, Any]) -> list[Table]:
    checkouts = part["checkouts"]
    processes = [name for name in checkouts[-1]["idle"] if any(c["idle"].get(name, 0) >= 0.1 for c in checkouts)]
    figures: list[tuple[str, Callable[[Mapping[str, Any]], float]]] = [
        (f"idle {part['minute_s']:.0f} s of `dagster dev`", lambda c: sum(c["idle"].values())),
        *((f"- its {name}", lambda c, name=name: c["idle"].get(name, 0.0)) for name in processes),
        ("build with nothing to do, its process", lambda c: c["runs"]["build"]),
        ("detection run with nothing to read, its process", lambda c: c["runs"]["detection"]),
    ]
    names = [f"commit {c['commit']}" for c in checkouts[:-1]]
    columns = ("CPU seconds", *names, "this commit", *(f"less than {name.split()[1]}" for name in names))
    rows = []
    for text, figure in figures:
        values = [figure(checkout) for checkout in checkouts]
        rows.append((text, *(f"{v:.2f}" for v in values), *(_less(values[-1], old) for old in values[:-1])))
    return [Table(columns, tuple(rows))]


def _less(new: float, old: float) -> str:
    return f"{100 * (1 - new / old):.0f} %" if old else "-"


def _memory(part: Mapping[str, Any]) -> list[Table]:
    columns = ("messages", "frames/s", "at 10 %", "at 50 %", "at 100 %", "growth from 10 % on", "goal", "peak")
    tenths = part["tenths_mib"]
    row = (
        f"{part['messages']:,}",
        f"{part['frames_per_s']:.0f}",
        *(f"{tenths[index]:.0f} MiB" for index in (0, 4, 9)),
        f"{part['growth_mib']:.1f} MiB",
        at_most(part["growth_mib"], 50.0, "< 50 MiB"),
        f"{part['peak_rss_mib']:.0f} MiB",
    )
    return [Table(columns, (row,))]


def _growth(part: Mapping[str, Any]) -> list[Table]:
    columns = ("segments", "first build", "build after one more segment", "its requests", "bare rewrite", "goal")
    rows = [
        (
            f"{day['segments']:,}",
            f"{day['first_s']:.2f} s",
            f"{day['next_s']:.2f} s",
            f"{day['next_requests']}",
            f"{day['bare_s']:.2f} s",
            at_most(day["next_s"], 1.5 * day["bare_s"] + 0.5, f"{1.5 * day['bare_s'] + 0.5:.2f} s"),
        )
        for day in part["days"]
    ]
    return [Table(columns, tuple(rows))]


def _figures(part: Mapping[str, Any]) -> list[Table]:
    return [Table(("figure", "value"), tuple((name, f"{value:,.3f}") for name, value in part.items()))]


def _missing(part: Mapping[str, Any]) -> list[Table]:
    return [Table(("left out, because",), tuple((text,) for text in part["missing"]))] if part["missing"] else []


def _tracking(part: Mapping[str, Any]) -> list[Table]:
    columns = ("objects a frame", "frames/s", "the bare library", "ratio", "goal", "library without times", "ratio")
    speeds = [
        (
            str(speed["objects"]),
            f"{speed['frames_per_s']:,.0f}",
            f"{speed['library_frames_per_s']:,.0f}",
            f"{speed['ratio']:.2f}",
            at_least(speed["ratio"], 0.8),
            f"{speed['untimed_frames_per_s']:,.0f}",
            f"{speed['untimed_ratio']:.2f}",
        )
        for speed in part["speed"]
    ]
    grown = ("hours of the day", "slices", "first build", "slices followed for one more minute", "that build")
    days = [
        (str(d["hours"]), str(d["slices"]), f"{d['first_s']:.2f} s", str(d["next_slices"]), f"{d['next_s']:.2f} s")
        for d in part["days"]
    ]
    return [Table(columns, tuple(speeds)), Table(grown, tuple(days))]


_MAKERS: dict[str, Callable[[Mapping[str, Any]], list[Table]]] = {
    "machine": _machine,
    "throughput": _throughput,
    "classic": _classic,
    "latency": _latency,
    "beside": beside_tables,
    "alerts": _alerts,
    "cold": _cold,
    "pipeline": pipeline_tables,
    "idle": _idle,
    "memory": _memory,
    "batch": batch_tables,
    "ledger": _figures,
    "growth": _growth,
    "days": days_tables,
    "bundles": bundle_tables,
    "sensor": _figures,
    "reduction": reduction_tables,
    "precision": precision_tables,
    "batching": image_batch_tables,
    "small": _figures,
    "sources": source_tables,
    "tracking": _tracking,
    "viewer": viewer_tables,
}
