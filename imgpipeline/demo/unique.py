"""Compares the unique objects of the demo's clip with the truth.

The numbers are read from the pipeline's Parquet files by DuckDB alone, and the truth comes from the simulator alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from imgpipeline.contracts.keys import summary_key
from imgpipeline.sources.simulator import FrameTruth, countable

MOST_OFF = 1
"""An object that is not found for a while can be counted twice, and two that pass each other as one."""


@dataclass(frozen=True, slots=True)
class UniqueComparison:
    """The unique objects of one source, by label, and the truth."""

    source: str
    """The camera."""
    detections: Mapping[str, int]
    """Boxes that were counted, from `label_counts`."""
    objects: Mapping[str, int]
    """Different objects, from `unique_totals`."""
    truth: Mapping[str, int]
    """Different objects that could be seen for long enough."""

    @property
    def labels(self) -> list[str]:
        """All labels that were counted or are there."""
        return sorted({*self.objects, *self.truth})

    @property
    def failures(self) -> list[str]:
        """Differences larger than `MOST_OFF`; empty if there are none."""
        return [
            f"unique objects at {self.source}: {label} {self.objects.get(label, 0)} (truth {self.truth.get(label, 0)})"
            for label in self.labels
            if abs(self.objects.get(label, 0) - self.truth.get(label, 0)) > MOST_OFF
        ]


def compare_unique(
    store: Path, days: Iterable[date], truths: Iterable[FrameTruth], source: str, *, least_s: float
) -> UniqueComparison:
    """Compares the unique objects of a source with the truth.

    Args:
        store: The folder of the object store.
        days: The days that were counted.
        truths: What really is in each frame.
        source: The camera; its truth is one scene, in which an object keeps its `track_id`.
        least_s: Objects that can be seen for a shorter time are not counted, in seconds.
    """
    days = list(days)
    seen: dict[tuple[str, int], list[datetime]] = {}
    for frame in truths:
        for thing in frame.objects if frame.source == source else ():
            if countable(thing):
                seen.setdefault((thing.label, thing.track_id), []).append(frame.timestamp)
    stays = ((label, (max(times) - min(times)).total_seconds()) for (label, _), times in seen.items())
    return UniqueComparison(
        source,
        _sum_by_label(store, "label_counts", "count", days, source),
        _sum_by_label(store, "unique_totals", "new_objects", days, source),
        Counter(label for label, stay_s in stays if stay_s >= least_s),
    )


def show_unique(found: UniqueComparison, console: Console) -> None:
    """Shows the unique objects next to detections and truth as a table."""
    table = Table(title=f"unique_totals: how many different objects passed at {found.source}", title_justify="left")
    table.add_column("label")
    for heading in ("detections", "unique objects", "truth", "difference"):
        table.add_column(heading, justify="right")
    for label in found.labels:
        objects, truth = found.objects.get(label, 0), found.truth.get(label, 0)
        difference = f"{objects - truth:+d}" if objects != truth else "="
        table.add_row(label, str(found.detections.get(label, 0)), str(objects), str(truth), difference)
    console.print(table)


def _sum_by_label(store: Path, summary: str, column: str, days: list[date], source: str) -> dict[str, int]:
    files = [str(store / summary_key(summary, day)) for day in days]
    query = f"SELECT label, sum({column})::BIGINT FROM read_parquet($files) WHERE source = $source GROUP BY label"  # noqa: S608 - our own names
    return dict(duckdb.execute(query, {"files": files, "source": source}).fetchall())
