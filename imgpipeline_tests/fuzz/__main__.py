"""`python -m imgpipeline_tests.fuzz`: hostile input for border, decoders, viewer and a real lane; then a table."""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imgpipeline.errors import ImgpipelineError
from imgpipeline_tests.fuzz.border import (
    MOST_GROWTH_BYTES,
    MemoryPeak,
    decode_images,
    hostile_settings,
    work_on_records,
)
from imgpipeline_tests.fuzz.cases import Tally
from imgpipeline_tests.fuzz.images import good_files, hostile_images, huge_claims
from imgpipeline_tests.fuzz.lane import follow_hostile_records
from imgpipeline_tests.fuzz.messages import hostile_records
from imgpipeline_tests.fuzz.requests import fill_store, send_requests
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.programs import MissingProgramError
from imgpipeline_tests.web.viewer.viewing import viewing

_SHOWN = 20
_console = Console()


def main() -> int:
    """Runs everything; returns 1 where something was violated."""
    options = _read_options()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    _console.print(f"seed {seed} (again: --seed {seed})")
    _leave_decoders_speechless()
    good_files(), huge_claims()  # made before memory is measured
    with tempfile.TemporaryDirectory() as folder:
        with MemoryPeak() as memory:
            tallies = {
                "records": work_on_records(
                    hostile_records(seed, options.messages),
                    hostile_settings(f"file://{folder}/border"),
                    _progress("records", options.messages),
                ),
                "images": decode_images(hostile_images(seed, options.images), _progress("images", options.images)),
            }
        if options.requests:
            tallies["requests"] = _to_the_viewer(seed, options.requests, Path(folder))
        if options.lane:
            tallies["lane"] = _through_a_lane(seed, options.lane, Path(folder))
    for name, tally in tallies.items():
        _show(name, tally)
    violations = [violation for tally in tallies.values() for violation in tally.violations]
    _console.print(
        f"peak memory of records and images: +{memory.grown_bytes >> 20} MiB, limit {MOST_GROWTH_BYTES >> 20} MiB"
    )
    if memory.grown_bytes > MOST_GROWTH_BYTES:
        violations.append(f"memory grew by {memory.grown_bytes >> 20} MiB")
    for violation in violations[:_SHOWN]:
        _console.print(violation, style="red", markup=False, soft_wrap=True)
    _console.print(f"{len(violations)} violations, seed {seed}")
    return 1 if violations else 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m imgpipeline_tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="records through the per-message border")
    parser.add_argument("--images", type=int, default=3_000, help="files through the decoders")
    parser.add_argument("--requests", type=int, default=100_000, help="HTTP requests to the viewer; 0: none")
    parser.add_argument("--lane", type=int, default=10_000, help="records through real Kafka and a real lane; 0: none")
    parser.add_argument("--seed", type=int, help="of an earlier run; default: another one each time")
    return parser.parse_args()


def _leave_decoders_speechless() -> None:
    """Sends away what libjpeg, libpng and libtiff write to stderr, thousands of lines; ours goes to stdout."""
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(2)
    os.dup2(nowhere, 2)
    sys.stderr = os.fdopen(kept, "w")


def _progress(what: str, whole: int) -> Callable[[int], None]:
    began_s, every = time.monotonic(), max(1, whole // 10)

    def tell(done: int) -> None:
        if done % every == 0:
            _console.print(f"{what}: {done:,} of {whole:,}, {done / (time.monotonic() - began_s):,.0f} a second")

    return tell


def _to_the_viewer(seed: int, count: int, folder: Path) -> Tally:
    settings, known = fill_store(folder / "viewed")
    with viewing(settings) as viewer:
        return send_requests(str(viewer.http.base_url), known, seed, count, _progress("requests", count))


def _through_a_lane(seed: int, count: int, folder: Path) -> Tally:
    records, tally = list(islice(hostile_records(seed + 1, count), count)), Tally()
    try:
        with KafkaBroker(folder / "kafka") as broker:
            broker.create_topic("fuzz")
            _console.print(f"lane: {count:,} records through Kafka")
            return follow_hostile_records(records, broker, "fuzz", folder / "lane")
    except (ImgpipelineError, AssertionError, MissingProgramError) as error:
        tally.violations.append(f"lane: {error!r}")
    return tally


def _show(name: str, tally: Tally) -> None:
    table = Table(title=f"{name}: {sum(tally.outcomes.values()):,}")
    for column in ("what", "outcome", "times"):
        table.add_column(column, justify="right" if column == "times" else "left")
    rows = tally.outcomes if name != "images" else _without_whole_names(tally)
    for (kind, outcome), times in sorted(rows.items()):
        table.add_row(kind, outcome, f"{times:,}")
    _console.print(table)


def _without_whole_names(tally: Tally) -> dict[tuple[str, str], int]:
    rows: dict[tuple[str, str], int] = {}
    for (kind, outcome), times in tally.outcomes.items():
        short = ("whole file" if kind.startswith("whole ") else kind, outcome)
        rows[short] = rows.get(short, 0) + times
    return rows


if __name__ == "__main__":
    sys.exit(main())
