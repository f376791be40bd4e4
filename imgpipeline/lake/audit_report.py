"""What an audit says.

Owns the report, when it is ok, and its JSON (`imgpipeline audit --json`). How the figures are found belongs to `audit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from imgpipeline.contracts.log import LogRange
from imgpipeline.contracts.outcomes import GapReason
from imgpipeline.ledger.audit import ChainAudit


@dataclass(frozen=True, slots=True)
class PartitionAudit:
    """One topic partition: its chain, and its log where it still has one."""

    found: ChainAudit
    """What the walk over the chain has found."""
    log: LogRange | None
    """The log; None where the topic is gone, or the chain is an import."""

    @property
    def lost(self) -> str | None:
        """What was lost to retention, for a person; None where nothing was."""
        chain, end = self.found.chain, self.found.position
        expired = self.found.gaps.get(GapReason.EXPIRED.value, 0)
        if expired:
            return f"{chain}: {expired} offsets expired before they were read."
        if self.log and 0 < end < self.log.log_start:
            return f"{chain}: offsets [{end}, {self.log.log_start}) expired before they were read."
        return None

    @property
    def contradiction(self) -> str | None:
        """How ledger and log contradict each other; None where they do not."""
        if self.log and self.found.position > self.log.log_end:
            return (
                f"{self.found.chain}: the ledger ends at {self.found.position}, behind the log's end "
                f"{self.log.log_end}: the log was truncated, or it is another one (`imgpipeline ledger new-chain`)."
            )
        return None

    def is_ok(self, *, allow_gaps: bool) -> bool:
        """Whether every offset has exactly one outcome, and none was lost unless that is allowed."""
        return self.found.ok and self.contradiction is None and (allow_gaps or self.lost is None)

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `partitions`."""
        found, chain = self.found, self.found.chain
        return {
            "topic": chain.topic,
            "topic_id": chain.topic_id,
            "partition": chain.partition,
            "log_start": self.log.log_start if self.log else None,
            "log_end": self.log.log_end if self.log else None,
            "ledger_start": 0,  # a chain always begins there
            "ledger_end": found.position,
            "frames": found.frames,
            "gated": found.gated,
            "dead_letters": found.dead_letters,
            "gaps": dict(found.gaps),
            "missing": found.missing,
            "overlapping": found.overlapping,
        }


@dataclass(frozen=True, slots=True)
class DayFigures:
    """One day up to the ends of its tables' manifests; None where it could not be read."""

    frames_in_ledger: int | None = 0
    """Distinct `frame_id` in the ledger."""
    frames_in_parquet: int | None = 0
    """Distinct `frame_id` in the table `frames`."""
    detections_in_ledger: int | None = 0
    """Detections of those frames in the ledger."""
    detections_in_parquet: int | None = 0
    """Rows of the table `detections`."""
    dead_letters_in_ledger: int | None = 0
    """Dead letters listed under the day in the ledger."""
    dead_letters_in_parquet: int | None = 0
    """Distinct offsets in the table `dead_letters`."""
    duplicates: int | None = 0
    """Rows of the three tables beyond the distinct ones."""

    @property
    def agree(self) -> bool:
        """Whether the tables have as many as the ledger, each once."""
        return (
            self.frames_in_ledger is not None
            and self.detections_in_ledger is not None
            and self.frames_in_ledger == self.frames_in_parquet
            and self.detections_in_ledger == self.detections_in_parquet
            and self.dead_letters_in_ledger is not None
            and self.dead_letters_in_ledger == self.dead_letters_in_parquet
            and self.duplicates == 0
        )


@dataclass(frozen=True, slots=True)
class DayAudit:
    """One day's tables."""

    day: date
    """UTC day."""
    figures: DayFigures
    """What was counted."""
    stale: bool
    """Whether a table is missing or of another version, or the ledger has more of this day (which is not wrong)."""
    problems: tuple[str, ...] = ()
    """What is wrong beyond the figures: rows that differ, objects that cannot be read."""

    @property
    def ok(self) -> bool:
        """Whether the tables hold what the ledger has up to their ends."""
        return self.figures.agree and not self.problems

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `days`."""
        counted = {name: getattr(self.figures, name) for name in DayFigures.__slots__}
        return {"day": self.day.isoformat(), **counted, "stale": self.stale}


@dataclass(frozen=True, slots=True)
class SummaryAudit:
    """One day's summary."""

    name: str
    """The summary."""
    day: date
    """UTC day."""
    ok: bool
    """Whether making it again gives the same rows."""
    stale: bool
    """Whether there is a newer version of what it was made of (which is not wrong)."""
    problem: str | None = None
    """Why it is not ok."""

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `summaries`."""
        return {"name": self.name, "day": self.day.isoformat(), "ok": self.ok}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit has found."""

    partitions: tuple[PartitionAudit, ...]
    """All chains and all logs, sorted."""
    days: tuple[DayAudit, ...]
    """All days of the ledger and all days with tables, sorted."""
    summaries: tuple[SummaryAudit, ...]
    """All stored summaries, sorted by name and day."""
    allow_gaps: bool
    """Whether offsets that expired unread are accepted."""
    stray_keys: tuple[str, ...] = ()
    """Keys below `metadata/` that are no segments (looked for in a full audit only); they are ignored."""

    @property
    def ok(self) -> bool:
        """Whether every offset has exactly one outcome, and tables and summaries agree with the ledger."""
        partitions = all(partition.is_ok(allow_gaps=self.allow_gaps) for partition in self.partitions)
        return partitions and all(day.ok for day in self.days) and all(summary.ok for summary in self.summaries)

    @property
    def current(self) -> bool:
        """Whether all tables and summaries have everything that the ledger has."""
        built = {(summary.name, summary.day) for summary in self.summaries if not summary.stale}
        names = {summary.name for summary in self.summaries} or {""}
        return not any(day.stale for day in self.days) and all((n, d.day) in built for n in names for d in self.days)

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is not ok, for a person: each names the key, chain, day or summary."""
        found: list[str] = []
        for partition in self.partitions:
            lost = None if self.allow_gaps else partition.lost
            found += [*partition.found.problems, *(text for text in (partition.contradiction, lost) if text)]
        for day in self.days:
            found += day.problems
            if not day.figures.agree and not day.problems:
                found.append(f"{day.day}: the tables have other figures than the ledger.")
        found += [summary.problem for summary in self.summaries if summary.problem]
        return tuple(dict.fromkeys(found))

    def to_json(self) -> Mapping[str, Any]:
        """Returns the document of `imgpipeline audit --json`."""
        return {
            "ok": self.ok,
            "partitions": [partition.to_json() for partition in self.partitions],
            "days": [day.to_json() for day in self.days],
            "summaries": [summary.to_json() for summary in self.summaries],
        }
