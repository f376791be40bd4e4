"""Exports to the sinks: one asset and one run per sink, so a sink that is away holds nothing back.

The sensor compares the store's e-tags with those that it saw when it requested the last run of a sink. The run compares
versions, so what the sensor remembers only saves work.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from functools import cache
from itertools import takewhile

import dagster as dg

from imgpipeline.contracts.times import back_off_s, format_time, utc_now
from imgpipeline.defs.dagster_internals import kept_instance
from imgpipeline.defs.lost_runs import LAUNCHED_HERE, ended_at, is_orphan
from imgpipeline.defs.maintenance import stopwatch
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import MAX_RUNTIME_TAG, WORK_TAG
from imgpipeline.defs.specs import OWNERS
from imgpipeline.errors import ConfigurationError, ImgpipelineError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.protocol import SinkConfig

JOB_NAME = "export_to_sinks"
_SINK_TAG = "imgpipeline/sink"
_CHECK = "rows_have_arrived"
_LONGEST_S = 1800.0
_LONGEST_PAUSE_S = 3600.0
_COMPARE_EVERY = timedelta(hours=1)
"""A sink is compared after this time even if the store has not changed: somebody may have restored it."""
_RUNS_READ = 50
_Seen = tuple[object, object]
"""E-tags of days that are over, and of today."""


def sink_definitions() -> dg.Definitions:
    """Returns assets, checks, job and sensor of the configured sinks; nothing if the setting is invalid."""
    try:
        configs = load_sinks(load_settings())
        assets = [_asset_of(config) for config in configs]
    except ConfigurationError as error:  # detection and builds continue without sinks
        logging.getLogger(__name__).warning("Warning: nothing is exported to sinks: %s", error)
        assets = []
    if not assets:
        return dg.Definitions()
    job = dg.define_asset_job(
        JOB_NAME,
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
        tags={WORK_TAG: "sinks", **LAUNCHED_HERE},
        description="Copies the days whose tables differ into sinks. Started by sinks_sensor, one run per sink.",
    )
    return dg.Definitions(assets=assets, jobs=[job], sensors=[_sensor(configs)])


@cache  # the sensor asks at each tick, and some sinks make a client
def _stored_tables(config: SinkConfig) -> tuple[str, ...]:
    """Returns the names of the stored tables that a sink copies."""
    sink, tables = open_sink(config)
    with closing(sink):
        return tuple(sorted({name for table in tables for name in table.stored}))


def _asset_of(config: SinkConfig) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"sink_{config.name}",
        deps=[dg.AssetKey(name) for name in _stored_tables(config)],
        group_name="sinks",
        kinds={config.kind},
        owners=OWNERS,
        description=f"Which days has {config.url}? The days whose tables differ were copied by this run.",
        check_specs=[dg.AssetCheckSpec(_CHECK, asset=f"sink_{config.name}", description="As many rows as written.")],
    )
    def export_days(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with checks, Dagster does not take MaterializeResult[None]
        from imgpipeline.sinks.exporting import Exporter, row_differences  # noqa: PLC0415 - loads DuckDB

        with known_failures():
            store, settings = pipeline.store(), pipeline.settings()
            exporter = Exporter(store, settings, config, is_over=stopwatch(_LONGEST_S))
            with closing(exporter.sink):
                rows = days = 0
                for done in exporter.export():
                    rows, days = rows + done.rows, days + 1
                    context.log.info(str(done))
                wrong = row_differences(exporter)
        shown = {table: {str(day): counts for day, counts in days.items()} for table, days in wrong.items()}
        found = dg.AssetCheckResult(
            check_name=_CHECK, passed=not wrong, severity=dg.AssetCheckSeverity.WARN,
            description="Rows were removed or added by others; `imgpipeline sinks remove` and `run` export them again."
            if wrong else "Each day has the rows that were written.", metadata={"expected_and_found": shown},
        )  # fmt: skip
        return dg.MaterializeResult(metadata={"rows": rows, "days_of_tables": days}, check_results=[found])

    return export_days


def _sensor(configs: Sequence[SinkConfig]) -> dg.SensorDefinition:
    seen: dict[str, _Seen] = {}

    @dg.sensor(
        name="sinks_sensor",
        job_name=JOB_NAME,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests an export when tables have changed: of days that are over within 30 s, of today at most "
        "every IMGPIPELINE_SINKS_TODAY_S. After failures, pauses for one minute up to one hour. Turn it off to pause "
        "all sinks.",
    )
    def sinks_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance, now = kept_instance(context), utc_now()
        reasons, requests = [], []
        for config in configs:
            try:
                reason = _reason_to_wait(instance, Pipeline().store(patience_s=5.0), config, now, seen)
            except ImgpipelineError as error:
                reason = str(error)
            if reason:
                reasons.append(f"{config.name}: {reason}")
            else:
                requests.append(
                    dg.RunRequest(
                        asset_selection=[dg.AssetKey(f"sink_{config.name}")],
                        tags={_SINK_TAG: config.name, MAX_RUNTIME_TAG: str(round(2 * _LONGEST_S))},
                    )
                )
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(" ".join(reasons))

    return sinks_sensor


def _reason_to_wait(
    instance: dg.DagsterInstance, store: ObjectStore, config: SinkConfig, now: datetime, seen: dict[str, _Seen]
) -> str | None:
    """Returns why no export is needed; None if one is needed."""
    from imgpipeline.sinks.exporting import read_statuses  # noqa: PLC0415 - loads DuckDB

    of_sink = dg.RunsFilter(job_name=JOB_NAME, tags={_SINK_TAG: config.name})
    records = instance.get_run_records(of_sink, limit=_RUNS_READ)
    if any(not record.dagster_run.is_finished and not is_orphan(record, now) for record in records):
        return "an export is running."
    failed = list(takewhile(lambda record: record.dagster_run.status is dg.DagsterRunStatus.FAILURE, records))
    if failed:
        again_at = ended_at(failed[0]) + timedelta(seconds=back_off_s(len(failed), 60.0, _LONGEST_PAUSE_S))
        return None if now >= again_at else f"the last export failed; the next one starts at {format_time(again_at)}."
    if records and any(each.name == config.name and each.days_behind for each in read_statuses(store, load_settings())):
        return None  # the last export ran out of time
    tags, before = _tags(store, config, now.date()), seen.get(config.name)
    since = now - ended_at(records[0]) if records else _COMPARE_EVERY
    pause = timedelta(seconds=load_settings().sinks_today_s)
    if before and since < _COMPARE_EVERY and tags[0] == before[0] and (tags[1] == before[1] or since < pause):
        return "nothing new to export."
    seen[config.name] = tags
    return None


def _tags(store: ObjectStore, config: SinkConfig, today: date) -> _Seen:
    from imgpipeline.lake.days.summary_inputs import list_versions  # noqa: PLC0415 - loads DuckDB

    tags = [(name, day, tag) for name in _stored_tables(config) for day, tag in list_versions(store, name).items()]
    return sorted(each for each in tags if each[1] < today), sorted(each for each in tags if each[1] >= today)
