"""The asset checks of the daily tables.

Rules for rows are checked inside a build, before anything is put. A build that breaks one fails, and its check is
blocking, so that automation does not continue with a day whose newest rows were rejected. The other checks only warn.
The rules are in `lake.build.day_rules` and `lake.quality.day_warnings`; this module turns their results into Dagster's
evaluations.

A run of one day evaluates each check for its partition. A run of a range evaluates it once, naming the failed days, and
once more for each of those days.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.dagster_internals import AssetCheckEvaluation, AssetCheckEvaluationTargetMaterializationData
from imgpipeline.defs.partitions import DAYS
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.lake.build.day_rules import RULES, SCHEMA, UNIQUE, UnsoundRowsError
from imgpipeline.lake.quality.day_warnings import Verdict
from imgpipeline.lake.schema import DAY_TABLES

_SHOWN_DAYS = 10
_SOUND = Verdict(True, "Checked before the table was put.")


def _check(asset: str, name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name, asset=dg.AssetKey(asset), description=description, blocking=blocking, partitions_def=DAYS
    )


BLOCKING_CHECKS = (
    *(
        _check(table.name, SCHEMA, "Columns and types are those of docs/tables.md.", blocking=True)
        for table in DAY_TABLES
    ),
    *(_check(rule.table, rule.name, rule.meaning, blocking=True) for rule in (UNIQUE, *RULES)),
)
"""What is looked at before a day's tables are put."""
AGREES = _check(
    "frames",
    "agrees_with_ledger",
    "The tables hold every row that the build has read from the ledger, by the hash in their manifests; tables that "
    "were extended during the day equal the nightly full build. Compared when a finished day is read as a whole: by "
    "its first build, at night, and by a forced build. The command imgpipeline audit reads the ledger again.",
)
DEAD_LETTERS = _check(
    "dead_letters", "few_dead_letters", "No more of the day's records are dead letters than "
    "IMGPIPELINE_WARN_DEAD_LETTER_SHARE.",
)  # fmt: skip
DARKNESS = _check(
    "frame_stats", "few_dark_frames", "No more of the day's frames are darker than IMGPIPELINE_DARK_BRIGHTNESS than "
    "IMGPIPELINE_WARN_DARK_SHARE.",
)  # fmt: skip
LABEL_DROP = _check(
    "label_totals", "usual_labels", "No label that is usually there was counted less often than "
    "IMGPIPELINE_WARN_LABEL_SHARE of its mean over the seven stored days before.",
)  # fmt: skip
DAY_TABLE_CHECKS = (*BLOCKING_CHECKS, AGREES, DEAD_LETTERS)
"""The checks of the step that builds the day tables."""


def judge(days: Iterable[date], judge_day: Callable[[date], Verdict]) -> dict[date, Verdict]:
    """Returns a verdict for each day; one that cannot be given is a warning of its own, and fails no build.

    Raises:
        TransientError: Store or machine are in trouble; the run is tried again.
    """
    verdicts = {}
    for day in days:
        try:
            verdicts[day] = judge_day(day)
        except TransientError:
            raise
        except ImgpipelineError as error:
            verdicts[day] = Verdict(False, f"This could not be checked: {error}")
    return verdicts


def evaluate(
    context: dg.AssetExecutionContext, spec: dg.AssetCheckSpec, verdicts: Mapping[date, Verdict]
) -> Iterator[dg.AssetCheckResult]:
    """Yields the evaluation of one check, if it was asked for.

    Args:
        context: The run.
        spec: The check.
        verdicts: What is said of each day that was judged; none: there is no evaluation.
    """
    if spec.key not in context.selected_asset_check_keys or not verdicts:
        return
    failing = {day: verdict for day, verdict in verdicts.items() if not verdict.ok}
    if len(verdicts) == 1:
        ((_, only),) = verdicts.items()
        said, figures = only.said, only.figures
    else:
        names = ", ".join(f"{day}: {verdict.said}" for day, verdict in list(failing.items())[:_SHOWN_DAYS])
        more = f" and {len(failing) - _SHOWN_DAYS} more" if len(failing) > _SHOWN_DAYS else ""
        said = (
            f"{len(failing)} of {counted(len(verdicts), 'day')} fail. {names}{more}"
            if failing
            else f"{len(verdicts)} days pass."
        )
        figures = {"failing_days": len(failing)}
        for day, verdict in failing.items():
            _store(context, spec, day, verdict)
    yield dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=not failing,
        severity=_severity(spec),
        description=said,
        metadata={**figures, **({"days": [str(day) for day in failing]} if failing else {})},
    )


def evaluate_rules(context: dg.AssetExecutionContext, days: Iterable[date]) -> Iterator[dg.AssetCheckResult]:
    """Yields that all rules hold: the days that they were built for could be built."""
    verdicts = dict.fromkeys(days, _SOUND)
    for spec in BLOCKING_CHECKS:
        yield from evaluate(context, spec, verdicts)


def store_broken_rules(context: dg.AssetExecutionContext, failed: Mapping[date, Exception]) -> None:
    """Stores the evaluations of the rules that days break, because Dagster stores none for a step that fails."""
    specs = {(spec.asset_key.to_user_string(), spec.name): spec for spec in BLOCKING_CHECKS}
    for day, error in failed.items():
        if isinstance(error, UnsoundRowsError):
            for found in error.violations:
                figures = {"rows": float(found.rows)}
                said = f"{found.rows} break this rule, such as {found.example}. Nothing was put; the old table stays."
                _store(context, specs[found.table, found.rule], day, Verdict(False, said, figures))


def _severity(spec: dg.AssetCheckSpec) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN


def _store(context: dg.AssetExecutionContext, spec: dg.AssetCheckSpec, day: date, verdict: Verdict) -> None:
    partition = day.isoformat()
    newest = dg.AssetRecordsFilter(spec.asset_key, asset_partitions=[partition])
    records = context.instance.fetch_materializations(newest, limit=1).records
    target = None
    if records:
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
        )
    context.log_event(
        AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=verdict.ok,
            metadata=dict(verdict.figures),
            target_materialization_data=target,
            severity=_severity(spec),
            description=verdict.said,
            blocking=spec.blocking,
            partition=partition,
        )
    )
