"""The rows of a session, and the rows that plain Python finds in the segments."""

from datetime import date
from pathlib import Path

import duckdb

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.samples import chosen_frames
from imgpipeline_tests.ledger.samples import DAY


def shown_frames(session: LakeSession) -> list[tuple]:
    """Return name, offset and status of the day's frames."""
    asked = f"SELECT frame_id, source_kafka_offset, status FROM frames WHERE day = DATE '{DAY}'"  # noqa: S608 - a day
    return sorted(session.query(asked).rows)


def shown_detections(session: LakeSession) -> list[tuple]:
    """Return frame, offset, number, label and confidence of the day's detections."""
    columns = "frame_id, source_kafka_offset, detection_number, label, confidence"
    asked = f"SELECT {columns} FROM detections WHERE day = DATE '{DAY}'"  # noqa: S608 - own names
    return sorted(session.query(asked).rows)


def expected_frames(found: dict[str, Frame]) -> list[tuple]:
    """Return what `shown_frames` should."""
    return sorted((name, f.offset, f.status.value) for name, f in found.items())


def expected_detections(found: dict[str, Frame]) -> list[tuple]:
    """Return what `shown_detections` should."""
    return sorted(
        (name, f.offset, n, d.label, d.confidence) for name, f in found.items() for n, d in enumerate(f.detections)
    )


def check(session: LakeSession, store: ObjectStore) -> None:
    """Assert that a session shows exactly the chosen frames of the day, and their detections."""
    found = chosen_frames(store)
    assert shown_frames(session) == expected_frames(found)
    assert shown_detections(session) == expected_detections(found)


def rows(store: ObjectStore, table: str, columns: str, tmp_path: Path, day: date = DAY) -> list[tuple]:
    """Ask the stored object by plain DuckDB."""
    path = tmp_path / "asked" / day_table_key(table, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(store.get(day_table_key(table, day)))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()  # noqa: S608 - own path
