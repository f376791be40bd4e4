"""Rules that every row of a day must satisfy before its tables are stored.

If a row breaks a rule, the build stores nothing, and the error names the rule, a frame and its offset. Since the ledger
is immutable, a broken rule is a bug in the code that wrote or reads it. Rows of imports are checked only as far as
counting needs it, since boxes of other programs may exceed the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.keys import IMPORT_TOPICS
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_rows import ROWS
from imgpipeline.lake.schema.tables import DAY_TABLES, DETECTIONS, FRAMES, Table
from imgpipeline.lake.storage.engine import Engine, identifier

BOX_TOLERANCE_PX = 0.05
"""Coordinates are stored with two decimals, so a box that ends at the edge may exceed it by a hundredth."""
CONFIDENCE_TOLERANCE = 1e-6
"""Confidences are stored with six decimals, so one just above the threshold may equal it or be slightly lower."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition for every row of a table."""

    table: str
    name: str
    """Name, also of the check in the UI."""
    meaning: str
    """The condition in words."""
    holds: str
    """The condition in SQL, over one row; NULL counts as broken. `$day` is the day of the build."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that some rows break."""

    table: str
    rule: str
    rows: int
    """Number of rows that break it; for wrong columns, number of columns."""
    example: str
    """A frame and the offset of its record, or the wrong columns."""


class UnsoundRowsError(PermanentError):
    """The rows of a build break a rule; nothing was stored."""

    def __init__(self, day: date, violations: Sequence[Violation]) -> None:
        found = "; ".join(f"{v.table}.{v.rule}: {v.rows} ({v.example})" for v in violations)
        super().__init__(
            f"Rows of {day} break rules, so no table was stored and the old ones stay. {found}.",
            next_step="find out what wrote that offset (`imgpipeline query 'SELECT * FROM segments'` names run and "
            "model), and rebuild the day with a release that writes and reads it correctly",
        )
        self.violations = tuple(violations)


SCHEMA = "schema"
"""The rule that columns and types are those of the schema; it checks the query, not rows."""
_ON_DAY = '"timestamp" >= $day::DATE AND "timestamp" < $day::DATE + INTERVAL 1 DAY'
_IMPORTED = f"starts_with(source_kafka_topic, '{IMPORT_TOPICS}')"
_INSIDE = f"""
    {_IMPORTED} OR coalesce(x, y, width, height) IS NULL OR image_width IS NULL OR image_height IS NULL OR (
        x >= -{BOX_TOLERANCE_PX} AND y >= -{BOX_TOLERANCE_PX} AND width >= 0 AND height >= 0
        AND x + width <= image_width + {BOX_TOLERANCE_PX} AND y + height <= image_height + {BOX_TOLERANCE_PX})
"""

RULES = (
    Rule(FRAMES.name, "timestamps_in_day", "Each frame's own time is on the day.", _ON_DAY),
    Rule(DETECTIONS.name, "timestamps_in_day", "The time of each detection's frame is on the day.", _ON_DAY),
    Rule(
        DETECTIONS.name,
        "boxes_in_image",
        "Each box lies inside its image; boxes of imports are not checked.",
        _INSIDE,
    ),
    Rule(
        DETECTIONS.name,
        "confidence_in_range",
        "Each confidence is between its frame's threshold and 1; for imports, between 0 and 1.",
        f"confidence BETWEEN 0 AND 1 AND ({_IMPORTED} OR "
        f"confidence >= coalesce(confidence_threshold, 0) - {CONFIDENCE_TOLERANCE})",
    ),
)
"""The rules for single rows."""
UNIQUE = Rule(FRAMES.name, "frame_id_unique", "Each frame_id has one row.", "")
"""The rule for all rows together."""
_BY_TABLE = {table.name: tuple(rule for rule in RULES if rule.table == table.name) for table in DAY_TABLES}


def check_rows(engine: Engine, day: date) -> list[Violation]:
    """Checks the rows of a build.

    Args:
        engine: With the tables `found` and `buried`, as `day_rows` loads them, each frame once.
        day: UTC day of the build.

    Returns:
        The broken rules.

    Raises:
        PermanentError: DuckDB reports an error.
    """
    wrong = [violation for table in DAY_TABLES for violation in _check_columns(engine, table)]
    if wrong:
        return wrong  # the other rules need the columns
    found = [violation for table in DAY_TABLES for violation in _check_each_row(engine, table.name, day)]
    return [*found, *_check_unique(engine)]


def refuse_unsound(engine: Engine, day: date) -> None:
    """Ends a build whose rows break a rule. Call it before anything is stored.

    Raises:
        UnsoundRowsError: A rule is broken.
    """
    violations = check_rows(engine, day)
    if violations:
        raise UnsoundRowsError(day, violations)


def _check_columns(engine: Engine, table: Table) -> list[Violation]:
    expected = _types(engine, ", ".join(f"NULL::{c.duckdb_type} AS {identifier(c.name)}" for c in table.columns))
    actual = _types(engine, f"* FROM ({ROWS[table.name]})")
    if list(actual.items()) == list(expected.items()):
        return []
    names = [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]
    said = [f"{name} is {actual.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in names]
    return [Violation(table.name, SCHEMA, max(1, len(names)), ", ".join(said) or "the columns' order differs")]


def _types(engine: Engine, selected: str) -> Mapping[str, str]:
    return {name: kind for name, kind, *_ in engine.run(f"DESCRIBE SELECT {selected}")}


def _check_each_row(engine: Engine, table: str, day: date) -> list[Violation]:
    rules = _BY_TABLE[table]
    if not rules:
        return []
    broken = [f"NOT coalesce({rule.holds}, false)" for rule in rules]
    counted = ", ".join(f"count(*) FILTER ({condition})" for condition in broken)
    rows = f"({ROWS[table]})"
    counts = engine.run(f"SELECT {counted} FROM {rows}", _given(broken, day))[0]  # noqa: S608 - own SQL
    return [
        Violation(table, rule.name, count, _example(engine, f"{rows} WHERE {condition}", _given([condition], day)))
        for rule, condition, count in zip(rules, broken, counts, strict=True)
        if count
    ]


def _given(conditions: Sequence[str], day: date) -> Mapping[str, object]:
    return {"day": day} if any("$day" in condition for condition in conditions) else {}


def _check_unique(engine: Engine) -> list[Violation]:
    rows, distinct = engine.run(f"SELECT count(*), count(DISTINCT frame_id) FROM ({ROWS[FRAMES.name]})")[0]  # noqa: S608 - own SQL
    if rows == distinct:
        return []
    twice = f"({ROWS[FRAMES.name]}) QUALIFY count(*) OVER (PARTITION BY frame_id) > 1"
    return [Violation(FRAMES.name, UNIQUE.name, rows - distinct, _example(engine, twice, {}))]


def _example(engine: Engine, rows: str, given: Mapping[str, object]) -> str:
    first = engine.run(
        "SELECT frame_id, source_kafka_topic, source_kafka_topic_id, source_kafka_partition, source_kafka_offset "  # noqa: S608 - own SQL
        f"FROM {rows} ORDER BY ALL LIMIT 1",
        given,
    )[0]
    frame_id, topic, topic_id, partition, offset = first
    return f"frame {frame_id}, announced at offset {offset} of {topic}/{topic_id}/{partition}"
