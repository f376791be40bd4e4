"""What speaks for a day's numbers: the audit of the day, and its dead letters.

Owns the verdict over one day and the choice of dead letters that are shown as examples. It promises that an audit that
cannot be made is a verdict of its own and no error, so that a report says what is wrong instead of failing. How days
are compared belongs to `lake`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from imgpipeline.lake.audit_report import DayFigures
from imgpipeline.lake.day_audit import DayReader, compare_day
from imgpipeline.lake.session import LakeSession
from imgpipeline.lake.snapshot import SHOWN_LETTERS
from imgpipeline.lake.summaries import SUMMARIES
from imgpipeline.lake.summary_audit import compare_summary
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.reports.inputs import ReportInputs

_EXAMPLES = 3
_CODES = f"""
SELECT code, count(*), count(*) FILTER (state = 'open'), count(DISTINCT source)
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, "partition", "offset")
GROUP BY code ORDER BY count(*) DESC, code
"""  # noqa: S608 - own names
"""Of the session's day: for a local day, the table `dead_letters` has those of the UTC days around it."""
_LETTERS = f"""
SELECT topic, topic_id, "partition", "offset", code, message, source, image_path, "timestamp", state
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, "partition", "offset")
QUALIFY row_number() OVER (PARTITION BY code ORDER BY topic, topic_id, "partition", "offset") <= {_EXAMPLES}
ORDER BY code, topic, topic_id, "partition", "offset"
"""  # noqa: S608 - a number of our own


class Verdict(StrEnum):
    """What the audit says of a day."""

    OK = "ok"
    """The tables hold exactly what the ledger has of the day, and summaries come out the same when made again."""
    BEHIND = "behind"
    """What the tables hold is right; the ledger has more of the day by now."""
    NOT_BUILT = "not built"
    """The day has no tables yet; all numbers come from the ledger."""
    WRONG = "wrong"
    """Tables and ledger disagree, or something cannot be read."""


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """The audit of one day."""

    verdict: Verdict
    """What it comes to."""
    figures: DayFigures
    """What was counted in the ledger and in Parquet."""
    summaries: tuple[tuple[str, Verdict], ...]
    """Each summary with what it comes to, sorted."""
    problems: tuple[str, ...]
    """What is wrong, one sentence each."""


@dataclass(frozen=True, slots=True)
class DeadLetterExample:
    """One dead letter that is shown."""

    topic: str
    """Kafka topic."""
    topic_id: str
    """Which incarnation of the topic."""
    partition: int
    """Kafka partition."""
    offset: int
    """Kafka offset."""
    code: str
    """Why it could not become a frame."""
    message: str
    """What was wrong with it."""
    source: str | None
    """The source, where the record could be read that far."""
    image_path: str | None
    """The announced path, where the record could be read that far."""
    timestamp: datetime | None
    """The Kafka record's own time, UTC."""
    state: str
    """`open`, `replayed` or `resolved`."""

    @property
    def origin(self) -> str:
        """Topic, partition and offset: `frames/0/17`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """The dead letters of one code."""

    code: str
    """Why they could not become frames."""
    count: int
    """How many there are."""
    still_open: int
    """How many of them nothing has become of yet."""
    sources: int
    """By how many sources, where they were named."""
    examples: tuple[DeadLetterExample, ...]
    """The first few of them, by topic, partition and offset."""


def audit_day(store: ObjectStore, inputs: ReportInputs) -> DayVerdict:
    """Compares one day's tables and summaries with the ledger.

    Args:
        store: The object store.
        inputs: What the report is made of: whether the ledger has more of the day.

    Raises:
        TransientError: The store does not answer.
    """
    if inputs.parts:
        return _joined([audit_day(store, part) for part in inputs.parts])
    if not inputs.manifests:
        return DayVerdict(Verdict.NOT_BUILT, DayFigures(), (), ())
    reader = DayReader(store, inputs.day, _uncounted)
    compared = compare_day(reader)
    summaries = [_audit_summary(reader, name) for name in sorted(SUMMARIES)]
    problems = (*compared.problems, *(problem for _, _, problem in summaries if problem))
    right = Verdict.BEHIND if inputs.behind else Verdict.OK
    verdict = right if compared.ok and not problems else Verdict.WRONG
    return DayVerdict(verdict, compared.figures, tuple((name, state) for name, state, _ in summaries), problems)


def _joined(verdicts: Sequence[DayVerdict]) -> DayVerdict:
    """Returns the audit of several UTC days, which hold a local day: the worst verdict, and the sums of the counts."""
    summaries: dict[str, list[Verdict]] = {}
    for name, state in (pair for one in verdicts for pair in one.summaries):
        summaries.setdefault(name, []).append(state)
    figures = [[getattr(one.figures, name) for one in verdicts] for name in DayFigures.__slots__]
    summed = (None if None in counts else sum(counts) for counts in figures)
    return DayVerdict(
        _worst([one.verdict for one in verdicts]),
        DayFigures(*summed),
        tuple((name, _worst(states)) for name, states in sorted(summaries.items())),
        tuple(problem for one in verdicts for problem in one.problems),
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Days of which some are built and some are not are behind."""
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return verdicts[0] if len(set(verdicts)) == 1 else Verdict.BEHIND


def _audit_summary(reader: DayReader, name: str) -> tuple[str, Verdict, str | None]:
    try:
        found = compare_summary(reader, name)
    except ObjectMissingError:
        return name, Verdict.NOT_BUILT, None
    if not found.ok:
        return name, Verdict.WRONG, found.problem
    return name, Verdict.BEHIND if found.stale else Verdict.OK, None


def _uncounted() -> None:
    """Nobody watches how far it is."""


def read_dead_letters(session: LakeSession) -> tuple[DeadLetterGroup, ...]:
    """Asks a session of one day for its dead letters, the most frequent code first.

    Args:
        session: Opened for that day alone.

    Raises:
        LedgerError: A segment of the day cannot be read.
    """
    examples = [_example(row) for row in session.query(_LETTERS).rows]
    return tuple(
        DeadLetterGroup(code, count, still_open, sources, tuple(e for e in examples if e.code == code))
        for code, count, still_open, sources in session.query(_CODES).rows
    )


def _example(row: Sequence[Any]) -> DeadLetterExample:
    return DeadLetterExample(*row)
