"""The memory of a detection run over a long backlog: it must not grow with it.

The network finds nothing and takes no time, and the pictures are small: what is left is all that the pipeline itself
keeps for a frame, at the greatest rate.
"""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import run_contender
from benchmarks.material import make_pictures, null_network
from benchmarks.place import Effort, Place, announce_backlog, say, store_pictures
from benchmarks.report import Table, at_most
from benchmarks.rounds import Figures, take_turns
from imgpipeline.settings import Settings

_STEP_S = 0.5


def measure_memory(place: Place, effort: Effort) -> list[Table]:
    """Watches the resident memory of a run of each checkout."""
    total = effort.of(100_000, 4_000)
    settings = place.settings("memory", linger_s=0.5, max_run_s=3600.0, **null_network(place.folder).settings())
    say(f"memory: announcing {total:,} frames")
    announce_backlog(settings, store_pictures(settings, make_pictures(160, 90, 60)), total, step_s=_STEP_S)
    contenders = {name: partial(_run, place, settings, total, folder) for name, folder in effort.checkouts.items()}
    found = take_turns(contenders, 1, shown="growth_mib")
    columns = ("messages", "checkout", "frames/s", "at 10 %", "at 50 %", "at 100 %", "growth from 10 % on", "goal",
               "peak")  # fmt: skip
    rows = []
    for name, [one] in found.figures.items():
        shares = (f"{one[share]:.0f} MiB" for share in ("10 %", "50 %", "100 %"))
        goal = at_most(one["growth_mib"], 50.0, "< 50 MiB")
        rows.append((f"{total:,}", name, f"{one['frames_per_s']:.0f}", *shares, f"{one['growth_mib']:.1f} MiB", goal,
                     f"{one['peak_rss_mib']:.0f} MiB"))  # fmt: skip
    return [Table(columns, rows)]


def _run(place: Place, backlog: Settings, total: int, checkout: Path) -> Figures:
    samples: list[tuple[int, float]] = []

    def note(line: dict[str, Any]) -> None:
        samples.append((int(line["frames"]), float(line["rss_mib"])))

    result = run_contender("lane", place.again(backlog, "run"), on_progress=note, checkout=checkout)
    shares = {f"{share} %": rss_at(samples, total * share / 100) for share in (10, 50, 100)}
    return {**result, **shares, "growth_mib": growth_mib(samples, total)}


def rss_at(samples: list[tuple[int, float]], frames: float) -> float:
    """Returns the memory at the first sample that had so many frames; the last one where none had."""
    return next((rss_mib for done, rss_mib in samples if done >= frames), samples[-1][1])


def growth_mib(samples: list[tuple[int, float]], total: int) -> float:
    """Returns how far the memory rose above what it was at a tenth of the backlog."""
    start = rss_at(samples, total / 10)
    return max(rss_mib for done, rss_mib in samples if done >= total / 10 or rss_mib == samples[-1][1]) - start
