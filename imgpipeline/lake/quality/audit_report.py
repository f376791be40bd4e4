"""The result of an audit: figures, verdict, and JSON (`imgpipeline audit --json`)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.keys import ChainId, is_import
from imgpipeline.contracts.outcomes import GapReason
from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.text import counted
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES
from imgpipeline.ledger.audit import ChainAudit


class DayState(StrEnum):
    """Which tables of a day were compared with the ledger."""

    COMPARED = "compared"
    """All tables of the day."""
    PARTLY_BUILT = "partly built"
    """Some of them. The others are not stored, because a build was killed."""
    NOT_BUILT = "not built"
    """None. The day waits for its first build."""


@dataclass(frozen=True, slots=True)
class PartitionAudit:
    """One topic partition: its chain and, if it still exists, its log."""

    found: ChainAudit
    log: LogRange | None
    """The log; None if the broker no longer has it, or the chain is an import."""
    session_problems: tuple[str, ...] = ()
    """Problems in the accounts of sessions; a session over several chains is reported at one of them."""

    @property
    def why_not_compared(self) -> str | None:
        """Why the chain was not compared with a log; None if it was."""
        if self.log:
            return None
        return "an import has no log" if is_import(self.found.chain) else "the broker no longer has its log"

    @property
    def lost(self) -> str | None:
        """What was lost to retention; None if nothing was."""
        chain, end = self.found.chain, self.found.position
        expired = self.found.gaps.get(GapReason.EXPIRED.value, 0)
        if expired:
            return f"{chain}: {counted(expired, 'offset')} expired unread."
        if self.log and 0 < end < self.log.log_start:
            return f"{chain}: offsets [{end}, {self.log.log_start}) expired before they were read."
        return None

    @property
    def contradiction(self) -> str | None:
        """How ledger and log contradict each other; None if they do not."""
        if self.log and self.found.position > self.log.log_end:
            return (
                f"{self.found.chain}: the ledger ends at {self.found.position}, after the end of the log at "
                f"{self.log.log_end}. The log was truncated or replaced (`imgpipeline ledger new-chain`)."
            )
        return None

    def is_ok(self, *, allow_gaps: bool) -> bool:
        """Whether every offset has exactly one outcome, accounts add up, and no offset was lost, unless allowed."""
        is_whole = self.found.ok and self.contradiction is None and not self.session_problems
        return is_whole and (allow_gaps or self.lost is None)

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `partitions`."""
        found, chain = self.found, self.found.chain
        return {
            "topic": chain.topic,
            "topic_id": chain.topic_id,
            "partition": chain.partition,
            "log_compared": self.log is not None,
            "log_start": self.log.log_start if self.log else None,
            "log_end": self.log.log_end if self.log else None,
            "ledger_start": 0,  # a chain always begins there
            "ledger_end": found.position,
            "frames": found.frames,
            "gated": found.gated,
            "dead_letters": found.dead_letters,
            "notices": found.notices,
            "gaps": dict(found.gaps),
            "missing": found.missing,
            "overlapping": found.overlapping,
            "session_problems": list(self.session_problems),
        }


@dataclass(frozen=True, slots=True)
class DayFigures:
    """Counts of one day up to the ends of its tables, or of the chains if it has none; None if unreadable."""

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
    notices_in_ledger: int | None = 0
    """Notices of the day in the ledger."""
    notices_in_parquet: int | None = 0
    """Distinct offsets in the table `notices`."""
    duplicates: int | None = 0
    """Rows of the tables in excess of the distinct ones."""

    def agree_on(self, tables: Iterable[str] = DAY_TABLE_NAMES) -> bool:
        """Tells whether some tables have as many rows as the ledger, without duplicates."""
        return self.duplicates == 0 and all(
            getattr(self, f"{table}_in_ledger") is not None
            and getattr(self, f"{table}_in_ledger") == getattr(self, f"{table}_in_parquet")
            for table in tables
        )

    @property
    def has_nothing(self) -> bool:
        """Whether neither the ledger nor a table has anything of the day."""
        return all(value == 0 for value in asdict(self).values())


@dataclass(frozen=True, slots=True)
class DayAudit:
    """One day's tables."""

    day: date
    """UTC day."""
    figures: DayFigures
    """The counts."""
    stale: bool
    """Whether a table is missing, or the ledger has newer segments; not a fault."""
    problems: tuple[str, ...] = ()
    """Faults beyond the figures: rows that differ, objects that cannot be read."""
    missing: tuple[str, ...] = ()
    """Tables that are not stored and so were not compared; not a fault."""
    versions: str = ""
    """Versions of the tables, in their order; empty if one is missing or cannot be read."""

    @property
    def state(self) -> DayState:
        """Which tables were compared."""
        if not self.missing:
            return DayState.COMPARED
        return DayState.NOT_BUILT if len(self.missing) == len(DAY_TABLE_NAMES) else DayState.PARTLY_BUILT

    @property
    def agrees(self) -> bool:
        """Whether the stored tables have as many rows as the ledger up to their ends."""
        return self.figures.agree_on([name for name in DAY_TABLE_NAMES if name not in self.missing])

    @property
    def ok(self) -> bool:
        """Whether the stored tables hold what the ledger has up to their ends."""
        return self.agrees and not self.problems

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `days`."""
        return {"day": self.day.isoformat(), "state": self.state.value, **asdict(self.figures), "stale": self.stale}


@dataclass(frozen=True, slots=True)
class SummaryAudit:
    """One day's summary."""

    name: str
    day: date
    """UTC day."""
    ok: bool
    """Whether building it again gives the same rows."""
    stale: bool
    """Whether its inputs have newer versions; not a fault."""
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `summaries`."""
        return {"name": self.name, "day": self.day.isoformat(), "ok": self.ok}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit."""

    partitions: tuple[PartitionAudit, ...]
    """All chains and all logs, sorted."""
    days: tuple[DayAudit, ...]
    """All days of the ledger and all days with tables, sorted."""
    summaries: tuple[SummaryAudit, ...]
    """All stored summaries, sorted by name and day."""
    allow_gaps: bool
    """Whether offsets that expired unread are accepted."""
    stray_keys: tuple[str, ...] = ()
    """Keys below `metadata/` that are not segments. They are ignored, and only a full audit looks for them."""

    @property
    def ok(self) -> bool:
        """Whether every offset has exactly one outcome, and tables and summaries agree with the ledger."""
        partitions = all(partition.is_ok(allow_gaps=self.allow_gaps) for partition in self.partitions)
        return partitions and all(day.ok for day in self.days) and all(summary.ok for summary in self.summaries)

    @property
    def not_compared(self) -> tuple[DayAudit, ...]:
        """The days with a table that is not stored."""
        return tuple(day for day in self.days if day.missing)

    @property
    def without_log(self) -> Mapping[str, tuple[ChainId, ...]]:
        """The chains that were not compared with a log, by reason."""
        chains: dict[str, list[ChainId]] = defaultdict(list)
        for partition in self.partitions:
            if partition.why_not_compared:
                chains[partition.why_not_compared].append(partition.found.chain)
        return {why: tuple(found) for why, found in chains.items()}

    @property
    def problems(self) -> tuple[str, ...]:
        """All faults as text, each with its key, chain, day or summary."""
        found: list[str] = []
        for partition in self.partitions:
            lost = None if self.allow_gaps else partition.lost
            found += [*partition.found.problems, *(text for text in (partition.contradiction, lost) if text)]
            found += partition.session_problems
        for day in self.days:
            found += day.problems
            if not day.agrees and not day.problems:
                found.append(f"{day.day}: the figures of the tables differ from the ledger.")
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
