"""The asset checks of the daily tables.

A build checks the rules for rows before it writes anything, and fails if a rule is broken. The other checks only warn.
A check that does not apply to a build passes and says why. The rules are in
`lake.days.day_rules` and `lake.quality.day_warnings`; this module turns their results into Dagster evaluations.

An evaluation is stored for each day, because Dagster would give the result of a step to no day of a range.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.objects import TABLES
from imgpipeline.defs.dagster_internals import AssetCheckEvaluation, AssetCheckEvaluationTargetMaterializationData
from imgpipeline.defs.partitions import DAYS
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.lake.days.day_rules import RULES, SCHEMA, UNIQUE, UnsoundRowsError
from imgpipeline.lake.quality.day_warnings import (
    Verdict,
    judge_darkness,
    judge_dead_letters,
    judge_label_counts,
    judge_label_drop,
    judge_stored_rows,
)
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.daily.build import ObjectBuild
    from imgpipeline.lake.days.day_tables import DayBuild

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
    "tables that were extended during the day equal the nightly full build. Compared when a build reads a whole past "
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
ADDS_UP = _check(
    "label_counts", "adds_up", "The counts of all labels, hours and sources add up to the day's detections of at least "
    "IMGPIPELINE_SUMMARY_THRESHOLD.",
)  # fmt: skip
DAY_CHECKS = (*BLOCKING_CHECKS, AGREES, DEAD_LETTERS, ADDS_UP, DARKNESS, LABEL_DROP)
"""All checks of daily assets."""
_Judge = Callable[[ObjectStore, date, Settings], Verdict]
_OF_SUMMARIES: Mapping[str, tuple[dg.AssetCheckSpec, _Judge]] = {
    spec.asset_key.to_user_string(): (spec, judge)
    for spec, judge in (
        (ADDS_UP, judge_label_counts),
        (DARKNESS, judge_darkness),
        (LABEL_DROP, lambda *given: judge_label_drop(*given, now=utc_now())),
    )
}
"""The check of each summary."""


class DayChecks:
    """Judges the objects of a run, and stores an evaluation of each selected check for each day."""

    def __init__(self, context: dg.AssetExecutionContext, settings: Settings, store: ObjectStore) -> None:
        """Reads nothing yet."""
        self._context, self._settings, self._store = context, settings, store

    def note(self, built: "ObjectBuild") -> None:
        """Judges an object whose materializations are stored.

        Raises:
            TransientError: The store does not answer, or the machine lacks resources; the run is retried.
        """
        day, done = built.day, built.result
        if built.error is not None:
            self._note_broken_rules(day, built.error)
        elif built.name == TABLES:
            for spec in BLOCKING_CHECKS:
                self._judge(spec, day, lambda: _SOUND)
            frames, letters = (done.of(table).rows for table in ("frames", "dead_letters"))
            self._judge(DEAD_LETTERS, day, lambda: judge_dead_letters(frames, letters, self._settings))
            self._judge(AGREES, day, lambda: self._judge_rows(day, done))
        elif built.name in _OF_SUMMARIES:
            spec, judge = _OF_SUMMARIES[built.name]
            self._judge(spec, day, lambda: judge(self._store, day, self._settings))

    def _note_broken_rules(self, day: date, error: Exception) -> None:
        """Stores the evaluations of broken rules; a result of a blocking check that fails would end the step."""
        specs = {(spec.asset_key.to_user_string(), spec.name): spec for spec in BLOCKING_CHECKS}
        for found in error.violations if isinstance(error, UnsoundRowsError) else ():
            said = f"{found.rows} break this rule, such as {found.example}. The stored table is unchanged."
            self._note(specs[found.table, found.rule], day, Verdict(False, said, {"rows": float(found.rows)}))

    def _judge(self, spec: dg.AssetCheckSpec, day: date, judge: Callable[[], Verdict]) -> None:
        """Stores a verdict; a day that cannot be judged gets a warning and does not fail the build."""
        if spec.key not in self._context.selected_asset_check_keys:
            return
        try:
            verdict = judge()
        except TransientError:
            raise
        except ImgpipelineError as error:
            verdict = Verdict(False, f"The check could not be evaluated: {error}")
        self._note(spec, day, verdict)

    def _judge_rows(self, day: date, report: "DayBuild") -> Verdict:
        if report.is_extended:
            return Verdict(True, "Newer segments were added to the tables; the nightly build reads the whole day and "
                           "compares it with them.")  # fmt: skip
        if report.corrected:
            return Verdict(False, f"{', '.join(report.corrected)} had other rows than the ledger and were replaced: "
                           "adding segments to these tables failed. Please report this.")  # fmt: skip
        return judge_stored_rows(self._store, day, now=utc_now(), memory=self._settings.duckdb_memory)

    def _note(self, spec: dg.AssetCheckSpec, day: date, verdict: Verdict) -> None:
        partition = day.isoformat()
        newest = dg.AssetRecordsFilter(spec.asset_key, asset_partitions=[partition])
        records = self._context.instance.fetch_materializations(newest, limit=1).records
        target = None
        if records:
            target = AssetCheckEvaluationTargetMaterializationData(
                storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
            )
        self._context.log_event(
            AssetCheckEvaluation(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=verdict.ok,
                metadata=dict(verdict.figures),
                target_materialization_data=target,
                severity=dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN,
                description=verdict.said,
                blocking=spec.blocking,
                partition=partition,
            )
        )
