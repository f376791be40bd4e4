"""The evidence for a day's numbers: the last audit of the day, and its dead letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.contracts.records import RecordReference
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.quality.audit_state import StoredVerdict, read_verdict
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.ledger.dead_letters import ReplayTrail
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.inputs import ReportInputs

_REPLAYS = f"""
SELECT source_kafka_topic, source_kafka_topic_id, source_kafka_partition, source_kafka_offset, replay_of, false,
       processing_timestamp
FROM frames WHERE replay_of IS NOT NULL
UNION ALL
SELECT topic, topic_id, partition, kafka_offset, replay_of, true, coalesce("timestamp", make_timestamptz(0))
FROM {SHOWN_LETTERS} WHERE replay_of IS NOT NULL
"""  # noqa: S608 - own names
_EXAMPLES = 3
_LETTERS = f"""
WITH settled AS (
    SELECT unnest($records::VARCHAR[]) AS record, unnest($states::VARCHAR[]) AS state
), named AS (
    SELECT *, topic || '/' || partition || '/' || kafka_offset AS origin FROM {SHOWN_LETTERS}
), letters AS (
    SELECT n.*, coalesce(s.state, 'open') AS state
    FROM named AS n LEFT JOIN settled AS s ON s.record = n.origin || '@' || n.topic_id
)
SELECT code, count(*) AS count, count(*) FILTER (state = 'open') AS still_open, count(DISTINCT source) AS sources,
       arg_min({{origin: origin, message: message, source: source, image_path: image_path, "timestamp": "timestamp",
                 state: state}}, (topic, topic_id, partition, kafka_offset), {_EXAMPLES}) AS examples
FROM letters GROUP BY code ORDER BY count DESC, code
"""  # noqa: S608 - own names and a number of our own
"""The dead letters of each code. Their states are those that the day itself tells, so that no segment is read."""


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


def last_audit(inputs: ReportInputs) -> DayVerdict:
    """Returns the last audit of the tables of a page."""
    if inputs.parts:
        return _joined([last_audit(part) for part in inputs.parts])
    keys = [day_table_key(table.name, inputs.day) for table in DAY_TABLES]
    versions = [inputs.versions[key] for key in keys] if inputs.manifests else []
    return _judge(versions, inputs.verdict, is_behind=bool(inputs.behind))


def audit_of(store: ObjectStore, day: date, *, is_behind: bool) -> DayVerdict:
    """Returns the last audit of the stored tables of a UTC day, `is_behind` if the ledger has newer segments of it.

    Raises:
        DamagedObjectError: A table is not a Parquet file of this project.
        TransientError: The store does not answer.
    """
    found = [read_stored(store, day_table_key(table.name, day)) for table in DAY_TABLES]
    versions = [each.manifest.version for each in found if each]
    return _judge(versions if len(versions) == len(found) else [], read_verdict(store, day), is_behind=is_behind)


def _judge(versions: Sequence[str], stored: StoredVerdict | None, *, is_behind: bool) -> DayVerdict:
    """Compares the last audit of a day with the versions of its tables, which are empty if it is not built."""
    if not versions:
        return DayVerdict(Verdict.NOT_BUILT, None, DayFigures(), (), ())
    if stored is None:
        return DayVerdict(Verdict.NOT_AUDITED, None, DayFigures(), (), ())
    if stored.tables != " ".join(versions):
        return DayVerdict(Verdict.OUTDATED, stored.audited_at, DayFigures(), (), ())
    right = Verdict.BEHIND if stored.is_stale or is_behind else Verdict.OK
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


def read_dead_letters(session: LakeSession) -> tuple[Mapping[str, Any], ...]:
    """Reads the dead letters of a day, the most frequent code first.

    Returns:
        `code`, `count`, `still_open`, `sources` (their number) and the first `examples` of each code.
    """
    trail = ReplayTrail()
    for topic, topic_id, partition, offset, replay_of, is_letter, at in session.query(_REPLAYS).rows:
        trail.note(RecordReference(ChainId(topic, topic_id, partition), offset), replay_of, is_letter, at)
    trail.settle()
    states = {record.full_text: trail.state_of(record)[0].value for record in trail.members()}
    answer = session.query(_LETTERS, {"records": list(states), "states": list(states.values())})
    return tuple(dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
