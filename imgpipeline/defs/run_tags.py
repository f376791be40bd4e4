"""Tags of runs: those that people read in the UI, and hidden ones that only this code reads.

Dagster hides tags that begin with `.dagster/`. Runs of earlier releases have them under visible names.
"""

import dagster as dg

WORK_TAG = "imgpipeline/work"
"""What a run is for; dagster.yaml gives each kind of work slots of its own."""
REASON_TAG = "imgpipeline/reason"
"""Why a run was requested."""
LANE_TAG = "imgpipeline/lane"
"""Which lane a detection run follows, such as `0/4`."""
CAREFUL_TAG = "imgpipeline/careful"
"""Set where a detection run looks for the record that ends its process."""
ENDS_TAG = ".dagster/imgpipeline_ledger_ends"
"""Where the ledger ended in each partition with lag when the run was requested: `0:120 3:99`."""
PROCESS_TABLE_TAG = ".dagster/imgpipeline_process_table"
"""Process table of the code server that requested the run, which is the one that launches it."""
PROCESS_TAG = ".dagster/imgpipeline_process"
"""Which process executes the run."""
ENDING_TAG = ".dagster/imgpipeline_ended"
"""How a run that failed has ended, as a value of `Ending`; a run whose process died cannot set it."""
SEEN_EVENTS_TAG = ".dagster/imgpipeline_seen_events"
"""Which events of Dagster's storage a run that watched for events has seen, by asset: `{"frame_metadata": 120}`."""
DELIVER_AT_TAG = ".dagster/imgpipeline_deliver_at"
"""When the next delivery of alerts is due after such a run, RFC 3339."""
_EARLIER = {
    ENDS_TAG: "imgpipeline/ledger_ends",
    PROCESS_TAG: "imgpipeline/process",
    ENDING_TAG: "imgpipeline/ended",
}


def noted(run_id: str, tag: str, value: str) -> dict[str, str]:
    """Returns what a run notes of itself: `read_noted` reads it, but not from a copy of the run.

    A run that is executed again has all tags of the first one, its process among them.
    """
    return {tag: f"{run_id} {value}"}


def read_noted(run: dg.DagsterRun, tag: str) -> str | None:
    """Returns what a run has noted of itself, or None."""
    of, _, value = run.tags.get(tag, "").partition(" ")
    if of == run.run_id:
        return value
    return run.tags.get(_EARLIER[tag]) if run.parent_run_id is None else None


def read_ends(run: dg.DagsterRun) -> str:
    """Returns the tag `ENDS_TAG` of a run; empty if it has none."""
    return run.tags.get(ENDS_TAG) or run.tags.get(_EARLIER[ENDS_TAG], "")
