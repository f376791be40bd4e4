"""Alerts: the asset, the check that targets have them, the job `watch_events` that raises them, and its sensor.

A run ends when it is idle. The sensor starts the next run when detection has reported new frames, when a delivery is
due, or after a failure. A run can be killed at any step, and two runs at the same time do no harm. The asset is
external: a run writes alerts one by one, and reports the days that they belong to.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import day_of, format_time, parse_time, utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.dagster_internals import as_evaluation, kept_instance
from imgpipeline.defs.lost_runs import LAUNCHED_HERE, ended_at, is_orphan, note_process
from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.previews import show_picture, show_table
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import DELIVER_AT_TAG, MAX_RUNTIME_TAG, SEEN_EVENTS_TAG, WORK_TAG
from imgpipeline.defs.specs import OWNERS
from imgpipeline.detect.state import read_state
from imgpipeline.errors import ImgpipelineError
from imgpipeline.events.alerts.chain import Alert
from imgpipeline.events.alerts.delivery import Undelivered, check_names, delivering, find_undelivered, read_targets
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings

ALERTS = dg.AssetKey("alerts")
_JOB_NAME = "watch_events"
CHECK = "alerts_are_delivered"
_SHOWN_EVERY_S = 10.0
"""Minimum time between two materializations of a run, in seconds."""
_RUNS_READ = 12
_LONGEST_PAUSE_S = 600.0
_LONGEST_END_S = 300.0
_MOST_ROWS = 10
_NOTHING_NEW = "No frame was processed since the last run."


class WatchConfig(dg.Config):
    """Limits of a run."""

    idle_s: float | None = None
    """Stop after this many idle seconds; default: `IMGPIPELINE_LINGER_S`."""
    max_run_s: float | None = None
    """Stop after this many seconds; default: `IMGPIPELINE_MAX_RUN_S`."""


class _Shown:
    """Reports new alerts to Dagster, and the check of their delivery when its answer changes."""

    def __init__(self, context: dg.OpExecutionContext, settings: Settings, store: ObjectStore) -> None:
        self._context, self._settings, self._store = context, settings, store
        self._new: dict[date, list[Alert]] = defaultdict(list)
        self._shown_at_s = 0.0
        self._said = ""
        self.raised = 0

    def note(self, alerts: Sequence[Alert], by_day: Mapping[date, int], *, is_last: bool = False) -> None:
        for alert in alerts:
            self._new[day_of(alert.event.timestamp)].append(alert)
        self.raised += len(alerts)
        if not is_last and time.monotonic() - self._shown_at_s < _SHOWN_EVERY_S:
            return
        for day, latest in self._new.items():
            self._context.log_event(alerts_materialization(self._settings, self._store, day, latest, by_day[day]))
        self._new.clear()
        self._show_delivery()
        self._shown_at_s = time.monotonic()

    def _show_delivery(self) -> None:
        found = find_undelivered(self._store, self._settings, now=utc_now())
        if found.said != self._said:
            self._context.instance.report_runless_asset_event(as_evaluation(ALERTS, CHECK, delivery_result(found)))
            self._said = found.said


@dg.op(name="watch_ledger", description="Follows the ledger, raises an alert for each event, and delivers the alerts.")
def watch_ledger_op(context: dg.OpExecutionContext, config: WatchConfig, pipeline: Pipeline) -> None:
    """Watches until the run is idle."""
    from imgpipeline.events.alerts.watching import Watch  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - only if events are found

    with known_failures():
        note_process(context.instance, context.run_id)
        settings, store = pipeline.settings(), pipeline.store()
        idle_s = settings.linger_s if config.idle_s is None else config.idle_s
        seconds = settings.max_run_s if config.max_run_s is None else config.max_run_s
        rules = read_rules(settings, store)
        check_names(read_targets(settings), rules)
        watch = Watch(store, settings, rules, utc_now)
        shown = _Shown(context, settings, store)
        with delivering(store, settings, utc_now):
            for alerts in watch.run(threading.Event(), seconds=seconds, idle_s=idle_s):
                shown.note(alerts, watch.chain.by_day)
            seen = newest_events(context.instance, is_tracked=bool(watch.tracked_rules))
            last = watch.look()  # includes everything that was reported before
        shown.note(last, watch.chain.by_day, is_last=True)
        found = find_undelivered(store, settings, now=utc_now())
        tags = {SEEN_EVENTS_TAG: json.dumps(seen)}
        if found.retry_at:
            tags[DELIVER_AT_TAG] = format_time(found.retry_at)
        context.instance.add_run_tags(context.run_id, tags)
        context.log.info(f"Raised {counted(shown.raised, 'alert')}. {found.said}")
        context.add_output_metadata({"alerts": shown.raised, "undelivered": len(found.numbers)})


@dg.job(
    name=_JOB_NAME,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "alerts", **LAUNCHED_HERE},
    description="Raises an alert for each event that the rules find in new frames, and delivers the alerts. Started "
    "by events_sensor.",
)
def watch_events() -> None:
    """Watches for events."""
    watch_ledger_op()


alerts = dg.AssetSpec(
    ALERTS,
    deps=[FRAME_METADATA, dg.AssetKey(EVENTS.name)],
    partitions_def=DAYS,
    group_name="events",
    kinds={"s3"},
    owners=OWNERS,
    description="Which alerts were raised? One numbered object below alerts/ for each event in frames that arrived "
    "while a run was watching. Written by watch_events; a day gets a materialization when it has new alerts.",
)


@dg.sensor(
    name="events_sensor",
    target=watch_events,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING if load_settings().rules_file else dg.DefaultSensorStatus.STOPPED,
    description="Starts watch_events runs while frames arrive, and when a delivery of alerts is due. On by default if "
    "IMGPIPELINE_RULES_FILE is set. Turn it off to pause alerts.",
)
def events_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Starts a run if there are new frames, or a delivery is due."""
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - only if events are found

    instance, now, pipeline = kept_instance(context), utc_now(), Pipeline()
    try:
        settings = pipeline.settings()
        if settings.rules_file is None:
            return dg.SkipReason("IMGPIPELINE_RULES_FILE is not set.")
        records = instance.get_run_records(dg.RunsFilter(job_name=_JOB_NAME), limit=_RUNS_READ)
        if any(not record.dagster_run.is_finished and not is_orphan(record, now) for record in records):
            return dg.SkipReason("A run is watching.")
        rules = read_rules(settings, pipeline.store())
        is_tracked = any(rule.reads == "track_points" for rule in rules.rule)
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    newest = newest_events(instance, is_tracked=is_tracked)
    wait = _reason_to_wait(records, newest, now, settings.retry_pause_s)
    if wait == _NOTHING_NEW and _has_moved(pipeline.store(), records):
        wait = None
    if wait is not None:
        return dg.SkipReason(wait)
    tags = {MAX_RUNTIME_TAG: str(int(settings.max_run_s + _LONGEST_END_S))}
    return dg.SensorResult(run_requests=[dg.RunRequest(tags=tags)])


def newest_events(instance: dg.DagsterInstance, *, is_tracked: bool) -> dict[str, int]:
    """Returns the storage id of the newest materialization of each asset that a watch depends on.

    Args:
        is_tracked: Whether a rule is about tracked objects, so its events come from the table `events`.
    """
    assets = (FRAME_METADATA, *([dg.AssetKey(EVENTS.name)] if is_tracked else []))
    found = {asset.to_user_string(): instance.fetch_materializations(asset, limit=1).records for asset in assets}
    return {name: records[0].storage_id for name, records in found.items() if records}


def _reason_to_wait(
    records: Sequence[dg.RunRecord], newest: Mapping[str, int], now: datetime, retry_pause_s: float
) -> str | None:
    """Returns why no run is needed; None if one is needed."""
    failed = list(takewhile(lambda record: record.dagster_run.status is dg.DagsterRunStatus.FAILURE, records))
    if failed:
        pause_s = min(_LONGEST_PAUSE_S, retry_pause_s * 2.0 ** (len(failed) - 1))
        again_at = ended_at(failed[0]) + timedelta(seconds=pause_s)
        return None if now >= again_at else f"The last run failed; the next one starts at {format_time(again_at)}."
    runs = (record.dagster_run for record in records)
    good = next((run for run in runs if run.status is dg.DagsterRunStatus.SUCCESS), None)
    seen = json.loads(good.tags.get(SEEN_EVENTS_TAG, "{}")) if good else {}
    if any(event > seen.get(name, 0) for name, event in newest.items()):
        return None
    deliver_at = good.tags.get(DELIVER_AT_TAG) if good else None
    if deliver_at is None:
        return _NOTHING_NEW
    if now >= parse_time(deliver_at):
        return None
    return f"The next delivery is due at {deliver_at}."


def _has_moved(store: ObjectStore, records: Sequence[dg.RunRecord]) -> bool:
    """Tells whether the ledger has moved since the last run: a detection run may die before its event."""
    try:
        moved_at = read_state(store).moved_at
    except ImgpipelineError:  # the next tick asks again
        return False
    return moved_at is not None and all(moved_at > ended_at(record) for record in records)


def alerts_materialization(
    settings: Settings, store: ObjectStore, day: date, latest: Sequence[Alert], in_all: int
) -> dg.AssetMaterialization:
    """Returns the materialization of a day with new alerts.

    Args:
        day: UTC day.
        latest: Its new alerts, in order; not empty.
        in_all: Number of alerts of the day.
    """
    last = latest[-1]
    rows = [
        (alert.number, format_time(alert.event.timestamp), alert.event.rule, alert.event.source, alert.event.reason)
        for alert in latest[: -_MOST_ROWS - 1 : -1]
    ]
    picture = show_picture(settings, store, last.images[-1][1], ()) if last.images else None
    return dg.AssetMaterialization(
        ALERTS,
        partition=day.isoformat(),
        metadata={
            "alerts": dg.MetadataValue.int(in_all),
            "last_number": dg.MetadataValue.int(last.number),
            "latest": show_table(("number", "time", "rule", "source", "reason"), rows),
            **({"sample": picture} if picture else {}),
        },
        tags={"dagster/data_version": str(last.number)},
    )


@dg.asset_check(
    asset=ALERTS,
    name=CHECK,
    description="Every target in IMGPIPELINE_ALERT_TARGETS has its alerts. Evaluated by watch_events when the answer "
    "changes.",
)
def alerts_are_delivered(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Evaluates the check."""
    with known_failures():
        return delivery_result(find_undelivered(pipeline.store(), pipeline.settings(), now=utc_now()))


def delivery_result(found: Undelivered) -> dg.AssetCheckResult:
    """Returns the result of the check."""
    return dg.AssetCheckResult(
        passed=not found.late,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.said,
        metadata={
            "undelivered": dg.MetadataValue.int(len(found.numbers)),
            **({"late_alerts": dg.MetadataValue.json(list(found.late))} if found.late else {}),
        },
    )
