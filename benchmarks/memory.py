"""The memory of a detection run over a long backlog: it must not grow with it.

The network finds nothing and takes no time, and the pictures are small: what is left is all that the pipeline itself
keeps for a frame, at the greatest rate.
"""

from pathlib import Path
from typing import Any

from benchmarks.children import REPOSITORY, run_contender
from benchmarks.effort import Effort
from benchmarks.networks import nothing_seen
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, announce_backlog, say, store_pictures
from imgpipeline.settings import Settings

_WIDTH, _HEIGHT = 160, 90
_SHOWN_TENTHS = range(1, 11)
_SAY_EVERY = 10_000
_STEP_S = 0.5


def measure_memory(place: Place, effort: Effort) -> dict[str, Any]:
    """Watches the resident memory of one run.

    Returns:
        The memory at each tenth of the backlog, its growth from the first tenth on, and the greatest, in MiB.
    """
    total = effort.memory_messages
    return watch_memory(prepare_backlog(place, effort, total), total)


def prepare_backlog(place: Place, effort: Effort, total: int) -> Settings:
    """Announces so many small pictures for the null network, and returns the settings."""
    settings = place.settings("memory", linger_s=0.5, max_run_s=3600.0, **nothing_seen(place.folder).settings())
    say(f"memory: announcing {total:,} frames")
    pictures = make_pictures(_WIDTH, _HEIGHT, min(60, effort.pictures))
    announce_backlog(settings, store_pictures(settings, pictures), total, step_s=_STEP_S)
    return settings


def watch_memory(settings: Settings, total: int, *, checkout: Path = REPOSITORY) -> dict[str, Any]:
    """Runs over a backlog and watches; the code of the run is that of a checkout. Returns as `measure_memory` does."""
    samples: list[tuple[int, float]] = []

    def note(line: dict[str, Any]) -> None:
        before = samples[-1][0] if samples else 0
        samples.append((int(line["frames"]), float(line["rss_mib"])))
        if samples[-1][0] // _SAY_EVERY > before // _SAY_EVERY:
            say(f"memory: {samples[-1][0]:,} frames, {samples[-1][1]:.0f} MiB")

    result = run_contender("lane", settings, on_progress=note, checkout=checkout)
    return {
        "network": "null network",
        "size": f"{_WIDTH}x{_HEIGHT}",
        "messages": total,
        "frames": result["frames"],
        "frames_per_s": result["frames_per_s"],
        "peak_rss_mib": result["peak_rss_mib"],
        "growth_mib": growth_mib(samples, total),
        "tenths_mib": [rss_at(samples, total * tenth / 10) for tenth in _SHOWN_TENTHS],
    }


def rss_at(samples: list[tuple[int, float]], frames: float) -> float:
    """Returns the memory at the first sample that had so many frames; the last one where none had."""
    return next((rss_mib for done, rss_mib in samples if done >= frames), samples[-1][1])


def growth_mib(samples: list[tuple[int, float]], total: int) -> float:
    """Returns how far the memory rose above what it was at a tenth of the backlog."""
    start = rss_at(samples, total / 10)
    return max(rss_mib for done, rss_mib in samples if done >= total / 10 or rss_mib == samples[-1][1]) - start
