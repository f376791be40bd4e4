"""What `viewer` asks: each page or call beside the same question to a bare DuckDB over the same Parquet files."""

from collections.abc import Mapping
from datetime import date

import duckdb

_HOUR = 12
_PAGE = """SELECT * FROM frames WHERE {where} ORDER BY "timestamp" DESC, day DESC, frame_id LIMIT 60"""
_SHOWN = f"""
SELECT * FROM detections SEMI JOIN ({_PAGE}) USING (day, frame_id) ORDER BY day, frame_id, detection_number"""  # noqa: S608 - own SQL
_MATCHING = "SELECT count(*) FROM frames WHERE {where}"
_FOUND = """
SELECT count(*) FROM detections WHERE {found} AND (day, frame_id) IN (SELECT day, frame_id FROM frames WHERE {where})"""
_LABELS = "SELECT label, count(*) FROM detections WHERE day = '{day}' GROUP BY label"
_HOURS = """SELECT hour("timestamp") AS hour, label, count(*) FROM detections WHERE day = '{day}' GROUP BY ALL"""
_SOURCES = """SELECT source, count(*), max("timestamp") FROM frames WHERE day = '{day}' GROUP BY source"""
_FEET = """
SELECT floor((x + width / 2) / image_width * 48) AS col, floor((y + height) / image_height * 27) AS row, count(*)
FROM detections WHERE {found} AND (day, frame_id) IN (SELECT day, frame_id FROM frames WHERE {where}) GROUP BY ALL"""
_MODELS = "SELECT model_used, count(*) FROM frames WHERE day = '{day}' GROUP BY ALL"
_DAYS = "SELECT day, count(*) FROM frames GROUP BY day"
_DAYS_FOUND = "SELECT day, count(*) FROM detections GROUP BY day"
_TIMELINE = """
SELECT epoch("timestamp") // 600 AS bin, label, count(*) FROM detections
WHERE {found} AND (day, frame_id) IN (SELECT day, frame_id FROM frames WHERE {where}) GROUP BY ALL"""
_FRAME = (
    "SELECT * FROM frames WHERE day = '{day}' AND frame_id = '{frame_id}'",
    "SELECT * FROM detections WHERE day = '{day}' AND frame_id = '{frame_id}' ORDER BY detection_number",
)
_NEIGHBOURS = tuple(
    f"""
SELECT day, frame_id FROM frames WHERE day = '{{day}}' AND "timestamp" {sign} (
    SELECT "timestamp" FROM frames WHERE day = '{{day}}' AND frame_id = '{{frame_id}}')
ORDER BY "timestamp" {order} LIMIT 1"""  # noqa: S608 - own SQL
    for sign, order in ((">", ""), ("<", "DESC"))
)
_API = (_PAGE, _SHOWN, _MATCHING, _FOUND)
_REVIEW = (*_API, _LABELS, _SOURCES, _MODELS, _DAYS, _DAYS_FOUND, _TIMELINE)
_IN_ANY_CASE = ("source", "source_image_path", "gate_reason", "CAST(attributes AS VARCHAR)")
_WITH = "{frames} AND (day, frame_id) IN (SELECT day, frame_id FROM detections WHERE {found})"


def questions_about(day: date, frame_id: str) -> Mapping[str, tuple[str, ...]]:
    """Returns the queries that answer a page or call, by its path.

    Args:
        day: The UTC day that is asked for.
        frame_id: A frame of that day.
    """
    of_day = f"day = '{day}'"
    car, sure = f"{of_day} AND label = 'car'", f"{of_day} AND confidence >= 0.9"
    at_noon = f'{of_day} AND hour("timestamp") = {_HOUR}'
    one_source = f"{of_day} AND source = 'camera-1'"
    all_days, cars = "source = 'camera-1'", "label = 'car'"
    of_word = " OR ".join(f"contains(lower({column}), 'umbrella')" for column in _IN_ANY_CASE)
    with_word = f"{of_word} OR {_having('true', 'contains(lower(label), $$umbrella$$)')}"
    asked: dict[str, tuple[tuple[str, ...], str, str]] = {
        f"/?day={day}": ((_SOURCES, _HOURS, _DAYS, _DAYS_FOUND), of_day, of_day),
        f"/review?day={day}": (_REVIEW, of_day, of_day),
        f"/review?day={day}&label=car": (_REVIEW, _having(of_day, car), car),
        f"/review?day={day}&label=car&hour={_HOUR}": (_REVIEW, _having(at_noon, car), car),
        f"/review?day={day}&source=camera-1": (_REVIEW, one_source, of_day),
        f"/review?day={day}&min_confidence=0.9": (_REVIEW, _having(of_day, sure), sure),
        f"/calendar?month={day:%Y-%m}": ((_DAYS, _DAYS_FOUND), of_day, of_day),
        "/api/v1/days": ((_DAYS, _DAYS_FOUND), of_day, of_day),
        f"/api/v1/frames?day={day}&limit=60": (_API, of_day, of_day),
        f"/api/v1/frames?day={day}&limit=60&label=car": (_API, _having(of_day, car), car),
        f"/api/v1/label-counts?day={day}": ((_HOURS,), of_day, of_day),
        "/api/v1/sources": (("SELECT source, max(\"timestamp\") FROM frames GROUP BY source",), of_day, of_day),
        "/live": ((_SOURCES,), of_day, of_day),
        f"/heatmap?day={day}&source=camera-1": ((_FEET, _LABELS, _SOURCES), one_source, of_day),
        f"/frames/{day}/{frame_id}": ((*_FRAME, *_NEIGHBOURS), of_day, of_day),
        f"/api/v1/frames/{day}/{frame_id}": (_FRAME, of_day, of_day),
        "/search?q=label:car source:camera-1": (_API, _having(all_days, cars), cars),
        "/search?q=umbrella": (_API, with_word, "true"),
    }  # fmt: skip
    return {
        path: tuple(query.format(where=where, found=found, day=day, frame_id=frame_id) for query in queries)
        for path, (queries, where, found) in asked.items()
    }


def _having(frames: str, found: str) -> str:
    return _WITH.format(frames=frames, found=found)


def open_bare(folder: str) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB with views of a store's Parquet files.

    Args:
        folder: The store.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in ("frames", "detections"):
        files = f"read_parquet('{folder}/{table}/*/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {files}")  # noqa: S608 - own names
    return connection
