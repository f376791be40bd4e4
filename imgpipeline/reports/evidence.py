"""The evidence for a day's numbers: the last audit of the day, and its dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.lake.build.summaries import SUMMARIES
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.stored_day import DayQueries

_EXAMPLES = 3
_CODES = f"""
SELECT code, count(*), count(*) FILTER (state = 'open'), count(DISTINCT source)
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, partition, kafka_offset)
GROUP BY code ORDER BY count(*) DESC, code
"""  # noqa: S608 - own names
"""Of the session's day: for a local day, the table `dead_letters` has those of the UTC days around it."""
_LETTERS = f"""
SELECT topic, topic_id, partition, kafka_offset, code, message, source, image_path, "timestamp", state
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, partition, kafka_offset)
QUALIFY row_number() OVER (PARTITION BY code ORDER BY topic, topic_id, partition, kafka_offset) <= {_EXAMPLES}
ORDER BY code, topic, topic_id, partition, kafka_offset
"""  # noqa: S608 - a number of our own


class Verdict(StrEnum):
    """What the last audit says of a day, for the tables that a page shows."""

    OK = "ok"
    """The tables hold exactly what the ledger had of the day, and summaries were the same when rebuilt."""
    BEHIND = "behind"
    """What the tables hold is right; the ledger has more of the day."""
    NOT_BUILT = "not built"
    """The day has no tables yet; all numbers come from the ledger."""
    OUTDATED = "outdated"
    """The tables were built again after the audit."""
    NOT_AUDITED = "not audited"
    """No audit has compared the day yet."""
    WRONG = "wrong"
    """Tables and ledger disagreed, or something could not be read."""


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """The last audit of one day."""

    verdict: Verdict
    """What it comes to."""
    audited_at: datetime | None
    """When it was made, UTC; of several days the earliest. None if there is none."""
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
    """The source; None if the record could not be read that far."""
    image_path: str | None
    """The announced path; None if the record could not be read that far."""
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


def last_audit(inputs: ReportInputs) -> DayVerdict:
    """Returns what the last audit says about the tables of a page."""
    if inputs.parts:
        return _joined([last_audit(part) for part in inputs.parts])
    if not inputs.manifests:
        return DayVerdict(Verdict.NOT_BUILT, None, DayFigures(), (), ())
    stored = inputs.verdict
    if stored is None:
        return DayVerdict(Verdict.NOT_AUDITED, None, DayFigures(), (), ())
    tables = " ".join(inputs.versions[day_table_key(table.name, inputs.day)] for table in DAY_TABLES)
    if stored.tables != tables:
        return DayVerdict(Verdict.OUTDATED, stored.audited_at, DayFigures(), (), ())
    right = Verdict.BEHIND if stored.is_stale or inputs.behind else Verdict.OK
    states = tuple((name, Verdict(stored.summaries.get(name, Verdict.NOT_BUILT.value))) for name in sorted(SUMMARIES))
    verdict = right if stored.ok else Verdict.WRONG
    return DayVerdict(verdict, stored.audited_at, stored.figures, states, stored.problems)


def _joined(verdicts: Sequence[DayVerdict]) -> DayVerdict:
    """Returns the audit of several UTC days, which hold a local day: the worst verdict, and the sums of the counts."""
    summaries: dict[str, list[Verdict]] = {}
    for name, state in (pair for one in verdicts for pair in one.summaries):
        summaries.setdefault(name, []).append(state)
    figures = [[getattr(one.figures, name) for one in verdicts] for name in DayFigures.__slots__]
    summed = (None if None in counts else sum(counts) for counts in figures)
    return DayVerdict(
        _worst([one.verdict for one in verdicts]),
        min((one.audited_at for one in verdicts if one.audited_at), default=None),
        DayFigures(*summed),
        tuple((name, _worst(states)) for name, states in sorted(summaries.items())),
        tuple(problem for one in verdicts for problem in one.problems),
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Days of which some are built and some are not are behind."""
    for worst in (Verdict.WRONG, Verdict.NOT_AUDITED, Verdict.OUTDATED):
        if worst in verdicts:
            return worst
    return verdicts[0] if len(set(verdicts)) == 1 else Verdict.BEHIND


def read_dead_letters(session: DayQueries) -> tuple[DeadLetterGroup, ...]:
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
