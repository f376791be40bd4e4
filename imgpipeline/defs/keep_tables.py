"""Keeps the tables up to date: a sensor that compares the store with itself and requests what is due.

A look compares every object of every day, so an event that is lost, a killed run or a restart is made up for. Twice a
minute, and sooner after an event of `frame_metadata`, the sensor reads a few signs of news in the store; without any,
it skips the look. Signs and events only wake it. What it remembers only saves work.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.keys import METADATA
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.objects import OBJECT_OF, OBJECTS
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.dagster_internals import kept_instance
from imgpipeline.defs.day_schedules import rebuild_days
from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.lost_runs import LAUNCHED, as_utc, ended_at, is_orphan, uses_processes
from imgpipeline.defs.partitions import days_of_run, has_day, range_tags
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import (
    FAILED_OBJECTS_TAG,
    MAX_RUNTIME_TAG,
    PARTITION_TAG,
    REASON_TAG,
    WORK_TAG,
    parse_failed,
    read_noted,
)
from imgpipeline.detect.state import read_state
from imgpipeline.errors import ImgpipelineError
from imgpipeline.ledger.repair.repair_list import last_handled, list_repairs
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.daily.pace import PastRun, Plan, Wanted
    from imgpipeline.daily.states import DayStates
    from imgpipeline.objectstore import ObjectStore

LOOK_EVERY_S = 30.0
WOKEN_EVERY_S = 10.0
"""Shortest time between two looks while events arrive."""
_REST_PER_LOOK = 20.0
"""The shortest time between two looks as a multiple of the last one's duration, which grows with the partitions."""
LONGEST_WAIT_S = 60.0
"""However long a look takes, the next one follows within this time."""
LONGEST_REST_S = 600.0
"""Everything is compared after this time without signs of news: an object may have been removed."""
SIGN_OF_LIFE_S = 12 * 3600.0
"""After this time without a build, the last day is built again, so that `label_counts` stays fresh without frames."""
_STARTING_S = 30.0
"""A detection run loads its model this long after its start; a build beside it would slow it down on a busy machine."""
_LONGEST_HOLD_S = 60.0
"""Detection runs of many lanes start one after the other; builds wait no longer than this."""
_LONGEST_RUN_S = "3600"
"""Dagster fails a run after this time. Days wait this long if a restart of the container killed their run. A run that
is stopped too early is requested again and skips what it has built."""
_RUNS_READ = 200
_STORE_PATIENCE_S = 5.0


@dataclass(slots=True)
class _Memory:
    """What the last look of this code server saw."""

    at_s: float = float("-inf")
    """When, by a monotonic clock."""
    took_s: float = 0.0
    """How long the last comparison took."""
    event: int = 0
    """Storage id of the newest event of `frame_metadata` at that time."""
    compared_at_s: float = float("-inf")
    """When everything was compared, by the same clock."""
    signs: object = None
    """The signs of news at that time."""
    states: "Mapping[date, DayStates]" = field(default_factory=dict)
    due_at: datetime | None = None
    """When the first pause ends, UTC."""
    held_since_s: float | None = None
    """Since when requests wait for the start of a detection run."""
    said: str = ""


class TableKeeper:
    """The work of the sensor's ticks. A code server has one."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Remembers nothing, so the first tick looks."""
        self._monotonic = monotonic
        self._memory = _Memory()
        self._lock = threading.Lock()

    def tick(
        self, instance: dg.DagsterInstance, settings: Settings, store: "ObjectStore", now: datetime
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Looks if it is time, and returns the requests, or why there are none.

        Raises:
            ImgpipelineError: The store cannot be read.
        """
        with self._lock:
            now_s, event = self._monotonic(), _newest_event(instance)
            since_s = now_s - self._memory.at_s
            rest_s = max(WOKEN_EVERY_S, min(LONGEST_WAIT_S, _REST_PER_LOOK * self._memory.took_s))
            is_woken = event != self._memory.event or _has_failed(instance, now)
            if since_s < rest_s or (since_s < LOOK_EVERY_S and not is_woken):
                return dg.SkipReason(self._memory.said or "Looked half a minute ago.")
            signs = _read_signs(store, now)
            can_rest = self._can_rest(event, signs, now, now_s)
            self._memory.at_s, self._memory.event = now_s, event
            if can_rest:
                return dg.SkipReason(self._memory.said)
            planned = self._look(instance, settings, store, now)
            runs = [*planned.runs] or sign_of_life(instance, self._memory.states, now)
            if runs and self._must_hold(instance, now, now_s):
                return dg.SkipReason("A detection run is starting on a busy machine; builds wait for at most a minute.")
            if not runs:
                self._rest(planned, signs, now_s)
                return dg.SkipReason(self._memory.said)
            self._memory.signs = None
            return [request_of(run) for run in runs]

    def _can_rest(self, event: int, signs: object, now: datetime, now_s: float) -> bool:
        last = self._memory
        is_paused = last.due_at is not None and now >= last.due_at
        is_same = signs is not None and signs == last.signs and event == last.event
        return is_same and not is_paused and now_s - last.compared_at_s < LONGEST_REST_S

    def _rest(self, planned: "Plan", signs: object, now_s: float) -> None:
        """Remembers a look that requested nothing. Days that a run builds are compared again after half a minute."""
        ends = list(planned.waiting.values())
        self._memory.signs = None if None in ends else signs
        self._memory.due_at = min((end for end in ends if end), default=None)
        self._memory.compared_at_s, self._memory.said = now_s, planned.explain()

    def _look(self, instance: dg.DagsterInstance, settings: Settings, store: "ObjectStore", now: datetime) -> "Plan":
        from imgpipeline.daily.pace import plan  # noqa: PLC0415 - loads DuckDB
        from imgpipeline.daily.states import day_states, note_features  # noqa: PLC0415 - as above

        began_s = self._monotonic()
        note_features(store, settings, now=now)
        found = day_states(store, settings, now=now)
        self._memory.states = states = {day: each for day, each in found.items() if has_day(day)}
        self._memory.took_s = self._monotonic() - began_s
        if not any(found.is_due for each in states.values() for found in each.values()):
            return plan(states, (), now=now)
        return plan(states, past_runs(instance, now), now=now)

    def _must_hold(self, instance: dg.DagsterInstance, now: datetime, now_s: float) -> bool:
        if not is_starting(instance, now):
            self._memory.held_since_s = None
            return False
        since_s = self._memory.held_since_s
        self._memory.held_since_s = now_s if since_s is None else since_s
        return since_s is None or now_s - since_s < _LONGEST_HOLD_S


keeper = TableKeeper()


@dg.sensor(
    name="keep_tables_current",
    job=rebuild_days,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds the tables of each day that are missing, or older than the ledger or their inputs, including "
    "past days. Looks into the store twice a minute, and within ten seconds of new frames. Between two builds of a "
    "day, pauses for twenty times the duration of the last one: at least one minute, at most three. After failures, "
    "pauses for ten seconds up to one hour.",
)
def keep_tables_current(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests what is due."""
    instance, pipeline = kept_instance(context), Pipeline()
    try:
        return keeper.tick(instance, pipeline.settings(), pipeline.store(patience_s=_STORE_PATIENCE_S), utc_now())
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))


def _read_signs(store: "ObjectStore", now: datetime) -> object:
    """Returns what changes with segments of Kafka, imports and repairs; None while `frames_sensor` is off."""
    state = read_state(store)
    if not state.is_recent(now):
        return None
    topics, repairs = list(store.list_folders(METADATA)), last_handled(list_repairs(store), after=0)
    return now.date(), state.moved_at, topics, repairs


def past_runs(instance: dg.DagsterInstance, now: datetime) -> "list[PastRun]":
    """Returns the newest runs that automation, schedules or people requested for days."""
    records = instance.get_run_records(dg.RunsFilter(tags={WORK_TAG: "tables"}), limit=_RUNS_READ)
    return [run for record in records if (run := _past_run(record, now)) is not None]


def _past_run(record: dg.RunRecord, now: datetime) -> "PastRun | None":
    from imgpipeline.daily.pace import PastRun  # noqa: PLC0415 - loads DuckDB

    run = record.dagster_run
    days = days_of_run(run)
    if not days:
        return None
    keys = run.asset_selection
    tables = OBJECT_OF if keys is None else {key.to_user_string() for key in keys}
    began = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else as_utc(record.create_timestamp)
    is_lost = is_orphan(record, now)
    has_failed = is_lost or run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    failed = parse_failed(read_noted(run, FAILED_OBJECTS_TAG)) if has_failed else None
    return PastRun(
        frozenset(OBJECT_OF[table] for table in tables if table in OBJECT_OF),
        days[0],
        days[-1],
        began,
        ended_at(record) if is_lost or run.is_finished else None,
        has_failed,
        failed,
    )


def is_starting(instance: dg.DagsterInstance, now: datetime) -> bool:
    """Tells whether a detection run has just started while the machine is busy, if runs execute on this machine."""
    if not uses_processes(instance) or os.getloadavg()[0] < (os.cpu_count() or 1):
        return False
    statuses = list(LAUNCHED)
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB_NAME, statuses=statuses), limit=_RUNS_READ)
    since = (now - timedelta(seconds=_STARTING_S)).timestamp()
    return any(record.start_time is None or record.start_time > since for record in records)


def sign_of_life(instance: dg.DagsterInstance, states: "Mapping[date, DayStates]", now: datetime) -> "list[Wanted]":
    """Returns a build of the last day if nothing was built for long; none before the first build."""
    from imgpipeline.daily.pace import Wanted  # noqa: PLC0415 - loads DuckDB

    last = instance.get_latest_materialization_event(dg.AssetKey("label_counts"))
    if last is None or not states or now.timestamp() - last.timestamp < SIGN_OF_LIFE_S:
        return []
    return [Wanted(("day_tables", "label_counts"), (max(states),), f"no build for {SIGN_OF_LIFE_S / 3600:.0f} h")]


def request_of(run: "Wanted") -> dg.RunRequest:
    """Returns the request of a run."""
    first, last = run.days[0].isoformat(), run.days[-1].isoformat()
    return dg.RunRequest(
        asset_selection=[dg.AssetKey(table) for name in run.objects for table in OBJECTS[name].tables],
        tags={
            **({PARTITION_TAG: first} if first == last else range_tags(first, last)),
            MAX_RUNTIME_TAG: _LONGEST_RUN_S,
            REASON_TAG: run.why,
        },
    )


def _has_failed(instance: dg.DagsterInstance, now: datetime) -> bool:
    """Tells whether a build has just failed: its machine may be lost, and its pause is short."""
    since = now - timedelta(seconds=LOOK_EVERY_S)
    failed = dg.RunsFilter(tags={WORK_TAG: "tables"}, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    return instance.get_runs_count(failed) > 0


def _newest_event(instance: dg.DagsterInstance) -> int:
    records = instance.fetch_materializations(FRAME_METADATA, limit=1).records
    return records[0].storage_id if records else 0
