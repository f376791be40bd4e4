"""Warnings about a day's content: damaged rows, many dead letters, dark images, a label that nearly vanished.

A warning stops nothing. The checks read tables, manifests and summaries, never segments. Their limits are settings
(`settings.tables`); the rules that every row must satisfy are in `lake.days.day_rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.text import counted
from imgpipeline.lake.days.summary_inputs import list_versions, open_days, open_tables
from imgpipeline.lake.schema.tables import DAY_TABLES, DETECTIONS, FRAME_STATS, FRAMES, LABEL_COUNTS, LABEL_TOTALS
from imgpipeline.lake.storage.engine import all_rows, disk_errors, open_engine
from imgpipeline.lake.storage.manifest import hash_rows, parse_footer
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import WarningLimits

TRAILING_DAYS = 7
"""A label's count is compared with its mean over this many earlier stored days."""
_LEAST_DAYS = 3
"""With fewer earlier days, no count counts as usual."""
_LEAST_MEAN = 20.0
"""The counts of rarer labels vary too much by chance."""
_SHOWN = 5
_DARKNESS = """
SELECT coalesce(sum(bin.value), 0), coalesce(sum(bin.value) FILTER (bin.key < ?), 0)
FROM (SELECT unnest(map_entries(brightness)) AS bin FROM frame_stats)
"""
_RARE = """
WITH totals AS (SELECT day, label, sum(count) AS count FROM label_totals GROUP BY ALL),
     usual AS (SELECT label, sum(count) / $days AS mean FROM totals WHERE day < $day GROUP BY label)
SELECT label, coalesce(count, 0), mean
FROM usual LEFT JOIN (SELECT label, count FROM totals WHERE day = $day) USING (label)
WHERE mean >= $least AND coalesce(count, 0) < $share * mean ORDER BY label
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check of a day."""

    ok: bool
    said: str
    """The result as text, with its figures."""
    figures: Mapping[str, float] = field(default_factory=dict)


def judge_stored_rows(store: ObjectStore, day: date, *, now: datetime, memory: str | None = None) -> Verdict:
    """Checks whether a day's tables still have the rows that their build read from the ledger.

    Compares them with the hash in the manifests. `imgpipeline audit` compares them with the ledger itself.

    Args:
        now: The current time; today is built repeatedly and only checked when it is over.
        memory: Memory limit of DuckDB (the setting `duckdb_memory`).

    Raises:
        ObjectMissingError: The day has no tables.
        PermanentError: A table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    if day >= now.date():
        return Verdict(True, f"{day} is not over; it is compared when it is built after midnight (UTC).")
    rows: dict[str, int] = {}
    different: list[str] = []
    with open_engine(memory=memory) as engine:
        for table in DAY_TABLES:
            key, path = day_table_key(table.name, day), engine.folder / f"{table.name}-read.parquet"
            with disk_errors(engine.folder):
                fetch_table(store, key, path)
            manifest = parse_footer(path, key)
            rows[table.name] = manifest.rows
            if manifest.content != hash_rows(engine, all_rows(path)):
                different.append(f"{key} has other rows than its build read from the ledger.")
    measured = {name: float(rows[name]) for name in (FRAMES.name, DETECTIONS.name)}
    if different:
        return Verdict(False, f"{' '.join(different)} Check the store, and force a rebuild of the day.", measured)
    frames, detections = counted(rows[FRAMES.name], "frame"), counted(rows[DETECTIONS.name], "detection")
    return Verdict(True, f"{frames} and {detections}, in the ledger as in the tables.", measured)


def judge_dead_letters(frames: int, dead_letters: int, limits: WarningLimits) -> Verdict:
    """Checks the share of a day's records that became dead letters."""
    records = frames + dead_letters
    share = dead_letters / records if records else 0.0
    limit = f"limit {limits.warn_dead_letter_share:.1%}"
    said = f"{dead_letters} of {counted(records, 'record')} became dead letters ({share:.1%}; {limit})."
    if share > limits.warn_dead_letter_share:
        said += " `imgpipeline dead-letters list` shows them."
    return Verdict(share <= limits.warn_dead_letter_share, said, {"share": share, "dead_letters": float(dead_letters)})


def judge_label_counts(store: ObjectStore, day: date, settings: Settings) -> Verdict:
    """Checks that the day's `label_counts` add up to its detections.

    Raises:
        PermanentError: A table is missing or is not a Parquet file, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    tables = (DETECTIONS.name, LABEL_COUNTS.name)
    with open_tables(store, tables, day, memory=settings.duckdb_memory) as opened:
        engine = opened.engine
        expected = engine.value("SELECT count(*) FROM detections WHERE confidence >= ?", [settings.summary_threshold])
        found = int(engine.value("SELECT coalesce(sum(count), 0) FROM label_counts"))
    said = f"The counts add up to {found:,}; the day has {counted(expected, 'detection')}."
    return Verdict(found == expected, said, {"counted": float(found), "detections": float(expected)})


def judge_darkness(store: ObjectStore, day: date, settings: Settings) -> Verdict:
    """Checks the share of dark frames in the day's `frame_stats`; raises what `judge_label_counts` raises."""
    with open_tables(store, (FRAME_STATS.name,), day, memory=settings.duckdb_memory) as opened:
        [(measured, dark)] = opened.engine.run(_DARKNESS, [settings.dark_brightness])
    share = dark / measured if measured else 0.0
    return Verdict(
        share <= settings.warn_dark_share,
        f"{dark} of {counted(measured, 'frame')} had a brightness below {settings.dark_brightness:.0f} of 255 "
        f"({share:.1%}; limit {settings.warn_dark_share:.1%}).",
        {"share": share, "dark_frames": float(dark)},
    )


def judge_label_drop(store: ObjectStore, day: date, settings: Settings, *, now: datetime) -> Verdict:
    """Checks whether each frequent label was counted about as often as on earlier stored days.

    Args:
        settings: The share of the usual count below which a label is reported.
        now: The current time; a day that is not over cannot be compared with whole days.

    Raises:
        PermanentError: As `judge_label_counts`.
        TransientError: As `judge_label_counts`.
    """
    if day >= now.date():
        return Verdict(True, f"{day} is not over; it is compared when it is built after midnight (UTC).")
    before = sorted(stored for stored in list_versions(store, LABEL_TOTALS.name) if stored < day)[-TRAILING_DAYS:]
    if len(before) < _LEAST_DAYS:
        return Verdict(True, f"Stored before {day}: {counted(len(before), 'day')}; {_LEAST_DAYS} are needed.")
    limits = {"day": day, "days": len(before), "least": _LEAST_MEAN, "share": settings.warn_label_share}
    with open_days(store, LABEL_TOTALS.name, [*before, day], memory=settings.duckdb_memory) as engine:
        rare = engine.run(_RARE, limits)
    if not rare:
        return Verdict(
            True, f"No label fell below {settings.warn_label_share:.0%} of its mean over {len(before)} days."
        )
    shown = ", ".join(f"{label}: {count} (usually {mean:.0f})" for label, count, mean in rare[:_SHOWN])
    more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
    said = f"Counted less often than {settings.warn_label_share:.0%} of the mean over {len(before)} days before: "
    return Verdict(False, f"{said}{shown}{more}.", {"labels": float(len(rare))})
