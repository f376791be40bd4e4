"""Tags of runs: visible ones for people, and hidden ones that only this code reads.

Dagster hides tags that start with `.dagster/`.
"""

from collections.abc import Iterable
from datetime import date

import dagster as dg

WORK_TAG = "imgpipeline/work"
"""Kind of work of a run; dagster.yaml limits the concurrent runs of each kind."""
REASON_TAG = "imgpipeline/reason"
"""Why a run was requested."""
LANE_TAG = "imgpipeline/lane"
"""The lane of a detection run, such as `0/4`."""
CAREFUL_TAG = "imgpipeline/careful"
"""Set on a detection run that searches for the record that kills its process."""
PARTITION_TAG = "dagster/partition"
"""Dagster's tag with the partition of a run; a run for several partitions has other tags."""
RANGE_START_TAG = "dagster/asset_partition_range_start"
"""Dagster's tag with the first partition of a run for several."""
RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Dagster's tag with the last partition of a run for several."""
MAX_RUNTIME_TAG = "dagster/max_runtime"
"""Dagster's tag for the time after which it fails a run, in seconds."""
ENDS_TAG = ".dagster/imgpipeline_ledger_ends"
"""End of the ledger in each partition with lag when the run was requested: `0:120 3:99`."""
PROCESS_TABLE_TAG = ".dagster/imgpipeline_process_table"
"""Process table of the code server that has the job and launches the run."""
PROCESS_TAG = ".dagster/imgpipeline_process"
"""The process that executes the run."""
ENDING_TAG = ".dagster/imgpipeline_ended"
"""How a run failed, as a value of `Ending`; a run whose process died cannot set it."""
FAILED_OBJECTS_TAG = ".dagster/imgpipeline_failed_objects"
"""What a run could not build: `tracks:2026-01-09 daily_report:2026-01-09`."""
FAILURE_TAG = ".dagster/imgpipeline_failure"
"""The error with which a detection run ended."""
SEEN_EVENTS_TAG = ".dagster/imgpipeline_seen_events"
"""Newest event in Dagster's storage that a `watch_events` run has seen, by asset: `{"frame_metadata": 120}`."""
DELIVER_AT_TAG = ".dagster/imgpipeline_deliver_at"
"""When the next delivery of alerts is due after a `watch_events` run, RFC 3339."""

_MOST_FAILED = 1000
"""Databases index tags and reject long ones."""


def noted(run_id: str, tag: str, value: str) -> dict[str, str]:
    """Returns the tag with which a run records something about itself.

    A re-executed run has copies of all tags of the first run; the run id lets `read_noted` ignore them.
    """
    return {tag: f"{run_id} {value}"}


def read_noted(run: dg.DagsterRun, tag: str) -> str | None:
    """Returns what a run has recorded about itself, or None."""
    of, _, value = run.tags.get(tag, "").partition(" ")
    return value if of == run.run_id else None


def format_failed(failed: Iterable[tuple[str, date]]) -> str:
    """Returns objects of days as a tag; empty if the text is too long for one."""
    text = " ".join(f"{name}:{day}" for name, day in failed)
    return text if len(text) <= _MOST_FAILED else ""


def parse_failed(tag: str | None) -> frozenset[tuple[str, date]] | None:
    """Reads the output of `format_failed`; None if it says nothing."""
    pairs = (part.partition(":") for part in (tag or "").split())
    return frozenset((name, date.fromisoformat(day)) for name, _, day in pairs) or None


def read_ends(run: dg.DagsterRun) -> str:
    """Returns the tag `ENDS_TAG` of a run; empty if it has none."""
    return run.tags.get(ENDS_TAG, "")
