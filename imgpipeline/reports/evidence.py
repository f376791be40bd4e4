"""The evidence for a day's numbers: the last audit of the day, and its dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.stored_day import DayQueries

_EXAMPLES = 3
_CODES = f"""
SELECT code, count(*), count(*) FILTER (state = 'open'), count(DISTINCT source)
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, partition, kafka_offset)
GROUP BY code ORDER BY count(*) DESC, code
"""  # noqa: S608 - own names
"""The semi-join keeps the dead letters of the session's day: `dead_letters` has those of all UTC days it touches."""
_LETTERS = f"""
SELECT topic, topic_id, partition, kafka_offset, code, message, source, image_path, "timestamp", state
FROM dead_letters SEMI JOIN {SHOWN_LETTERS} USING (topic, topic_id, partition, kafka_offset)
QUALIFY row_number() OVER (PARTITION BY code ORDER BY topic, topic_id, partition, kafka_offset) <= {_EXAMPLES}
ORDER BY code, topic, topic_id, partition, kafka_offset
"""  # noqa: S608 - a number of our own


class Verdict(StrEnum):
    """Result of the last audit for the tables that a page shows."""

    OK = "ok"
    """The tables equal the ledger, and rebuilt summaries equal the stored ones."""
    BEHIND = "behind"
    """The tables are correct, but the ledger has newer segments of the day."""
    NOT_BUILT = "not built"
    """The day has no tables; all numbers come from the ledger."""
    OUTDATED = "outdated"
    """The tables were rebuilt after the audit."""
    NOT_AUDITED = "not audited"
    WRONG = "wrong"
    """Tables and ledger differ, or something could not be read."""


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """The last audit of one day."""

    verdict: Verdict
    audited_at: datetime | None
    """Time of the audit, UTC; the earliest of several days; None without an audit."""
    figures: DayFigures
    summaries: tuple[tuple[str, Verdict], ...]
    """Result for each summary, sorted by name."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeadLetterExample:
    """One dead letter of a page."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    code: str
    message: str
    source: str | None
    """The source; None if the record does not tell."""
    image_path: str | None
    """The announced image path; None if the record does not tell."""
    timestamp: datetime | None
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
    count: int
    still_open: int
    sources: int
    examples: tuple[DeadLetterExample, ...]
    """The first ones, by topic, partition and offset."""


def last_audit(inputs: ReportInputs) -> DayVerdict:
    """Returns the last audit of the tables of a page."""
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
    """Joins the audits of the UTC days of a local day: the worst verdict and the sums of the counts."""
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
    """Returns the worst verdict; `behind` if only some days are built."""
    for worst in (Verdict.WRONG, Verdict.NOT_AUDITED, Verdict.OUTDATED):
        if worst in verdicts:
            return worst
    return verdicts[0] if len(set(verdicts)) == 1 else Verdict.BEHIND


def read_dead_letters(session: DayQueries) -> tuple[DeadLetterGroup, ...]:
    """Reads the dead letters of a day, the most frequent code first.

    Raises:
        LedgerError: A segment of the day cannot be read.
    """
    examples = [DeadLetterExample(*row) for row in session.query(_LETTERS).rows]
    return tuple(
        DeadLetterGroup(code, count, still_open, sources, tuple(e for e in examples if e.code == code))
        for code, count, still_open, sources in session.query(_CODES).rows
    )
