"""The asset checks of the daily tables.

A build checks the rules for rows before it writes anything, and fails if a rule is broken. These checks are blocking,
so automation builds nothing from a day whose newest rows were rejected. The other checks only warn. The rules are in
`lake.build.day_rules` and `lake.quality.day_warnings`; this module turns their results into Dagster evaluations.

A run of one day evaluates each check for its partition. A run of a range evaluates it once, naming the failed days, and
again for each of those days.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.building import listed
from imgpipeline.defs.dagster_internals import AssetCheckEvaluation, AssetCheckEvaluationTargetMaterializationData
from imgpipeline.defs.partitions import DAYS
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.lake.build.day_rules import RULES, SCHEMA, UNIQUE, UnsoundRowsError
from imgpipeline.lake.quality.day_warnings import Verdict
from imgpipeline.lake.schema import DAY_TABLES

_SOUND = Verdict(True, "Checked before the table was written.")


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
"""The checks of rules that a build applies before it writes the tables of a day."""
AGREES = _check(
    "frames",
    "agrees_with_ledger",
    "The tables have every row that the build read from the ledger, according to the hashes in their manifests, and "
    "tables that were extended during the day equal the nightly full build. Evaluated when a build reads a whole past "
    "day: the first build, the nightly build, or a forced build. The command imgpipeline audit reads the ledger again.",
)
DEAD_LETTERS = _check(
    "dead_letters", "few_dead_letters", "The share of dead letters among the day's records is at most "
    "IMGPIPELINE_WARN_DEAD_LETTER_SHARE.",
)  # fmt: skip
DARKNESS = _check(
    "frame_stats", "few_dark_frames", "The share of the day's frames that are darker than IMGPIPELINE_DARK_BRIGHTNESS "
    "is at most IMGPIPELINE_WARN_DARK_SHARE.",
)  # fmt: skip
LABEL_DROP = _check(
    "label_totals", "usual_labels", "The count of each usual label is at least IMGPIPELINE_WARN_LABEL_SHARE of its "
    "mean over the previous seven stored days.",
)  # fmt: skip
DAY_TABLE_CHECKS = (*BLOCKING_CHECKS, AGREES, DEAD_LETTERS)
"""The checks of the step that builds the day tables."""


def as_evaluation(asset: dg.AssetKey, check: str, result: dg.AssetCheckResult) -> AssetCheckEvaluation:
    """Returns the result of a check as an event that sensors and ops may report without evaluating the check."""
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=check,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def judge(days: Iterable[date], judge_day: Callable[[date], Verdict]) -> dict[date, Verdict]:
    """Returns a verdict for each day; a day that cannot be judged gets a warning and does not fail the build.

    Raises:
        TransientError: The store does not answer, or the machine lacks resources; the run is retried.
    """
    verdicts = {}
    for day in days:
        try:
            verdicts[day] = judge_day(day)
        except TransientError:
            raise
        except ImgpipelineError as error:
            verdicts[day] = Verdict(False, f"The check could not be evaluated: {error}")
    return verdicts


def evaluate(
    context: dg.AssetExecutionContext, spec: dg.AssetCheckSpec, verdicts: Mapping[date, Verdict]
) -> Iterator[dg.AssetCheckResult]:
    """Yields the evaluation of one check, if the run selected it.

    Args:
        context: The run.
        spec: The check.
        verdicts: The verdict on each judged day; none: no evaluation.
    """
    if spec.key not in context.selected_asset_check_keys or not verdicts:
        return
    failing = {day: verdict for day, verdict in verdicts.items() if not verdict.ok}
    if len(verdicts) == 1:
        ((_, only),) = verdicts.items()
        said, figures = only.said, only.figures
    else:
        names = listed([f"{day}: {verdict.said}" for day, verdict in failing.items()])
        said = (
            f"{len(failing)} of {counted(len(verdicts), 'day')} fail. {names}"
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
    """Yields passed evaluations of all rules for days that were built."""
    verdicts = dict.fromkeys(days, _SOUND)
    for spec in BLOCKING_CHECKS:
        yield from evaluate(context, spec, verdicts)


def store_broken_rules(context: dg.AssetExecutionContext, failed: Mapping[date, Exception]) -> None:
    """Stores the evaluations of broken rules, because Dagster stores none for a step that fails."""
    specs = {(spec.asset_key.to_user_string(), spec.name): spec for spec in BLOCKING_CHECKS}
    for day, error in failed.items():
        if isinstance(error, UnsoundRowsError):
            for found in error.violations:
                figures = {"rows": float(found.rows)}
                said = f"{found.rows} break this rule, such as {found.example}. The stored table is unchanged."
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
