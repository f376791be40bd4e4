"""Measures imgpipeline on real servers: `make bench`.

    python -m benchmarks                          everything
    python -m benchmarks --quick                  a glance, in about six minutes
    python -m benchmarks --only latency,memory    some of it
    python -m benchmarks --only sources --sources folder,http       some sources
    python -m benchmarks --only throughput,idle --before FOLDER     an older checkout in the same turns
    python -m benchmarks --render docs/performance.json             docs/performance.md with these figures, to stdout

Everything in one run is measured in sequence on one machine, so that ratios hold. Prints tables, and adds them to a
JSON file. Needs the servers of `make servers`; reports what it leaves out where test data are missing.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.batch import measure_batch
from benchmarks.classic import measure_classic
from benchmarks.growth import measure_growth
from benchmarks.idle import measure_idle
from benchmarks.latency import measure_cold, measure_latency
from benchmarks.memory import measure_memory
from benchmarks.place import Effort, Place, describe_machine, open_place, say
from benchmarks.report import PAGE, Table, read_results, render_page
from benchmarks.same_cores import measure_same_cores
from benchmarks.sources import measure_sources
from benchmarks.throughput import measure_throughput

_JSON = Path(".benchmarks", "results.json")
_MEASURES: dict[str, Callable[[Place, Effort], list[Table]]] = {
    "throughput": measure_throughput,
    "same_cores": measure_same_cores,
    "classic": measure_classic,
    "latency": measure_latency,
    "cold": measure_cold,
    "idle": measure_idle,
    "memory": measure_memory,
    "batch": measure_batch,
    "growth": measure_growth,
    "sources": measure_sources,
}
NAMES = tuple(_MEASURES)


def main() -> None:
    """Measures and prints, or renders what was measured."""
    chosen = _arguments()
    if chosen.render:
        results = read_results(json.loads(chosen.render.read_text(encoding="utf-8")))
        sys.stdout.write(render_page(PAGE.read_text(encoding="utf-8"), results))
        return
    effort = Effort(chosen.quick, tuple(chosen.before), tuple(filter(None, chosen.sources.split(","))))
    found = {"machine": [Table(("what", "value"), list(describe_machine(effort).items()))]}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, open_place(Path(folder)) as place:
        for name in chosen.only:
            began_s = time.monotonic()
            found[name] = _MEASURES[name](place, effort)
            _keep(chosen.json, found)
            say(f"{name}: done in {time.monotonic() - began_s:.0f} s")
    for name, tables in found.items():
        print(f"\n## {name}\n\n" + "\n\n".join(table.render() for table in tables))


def _keep(path: Path, found: dict[str, list[Table]]) -> None:
    """Writes tables to the JSON file; those of other benchmarks stay there."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = {name: [table.to_json() for table in tables] for name, tables in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept | new, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure imgpipeline on real servers.")
    parser.add_argument("--quick", action="store_true", help="a glance instead of figures to quote")
    parser.add_argument("--only", type=_names, default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument(
        "--before", type=_checkout, action="append", default=[], metavar="FOLDER",
        help="an older checkout for throughput, same_cores, latency, idle and memory; repeat it, oldest first",
    )  # fmt: skip
    parser.add_argument("--sources", default="", metavar="NAMES", help="beginnings of some sources, as folder,mqtt")
    parser.add_argument("--json", type=Path, default=_JSON, help=f"file to which the results are added; {_JSON}")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write docs/performance.md with these results")
    return parser.parse_args()


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / "imgpipeline" / "definitions.py").exists():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected the folder of a checkout of imgpipeline")
    return folder


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected some of {','.join(NAMES)}")
    return [name for name in NAMES if name in names]


if __name__ == "__main__":
    main()
