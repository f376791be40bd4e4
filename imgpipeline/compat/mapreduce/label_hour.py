"""`label-hour`: how often each label was detected in each hour, and at which times, from documents of frames.

Owns the job and its rules, those of the classic mapper and reducer:

* A document (`documents`) is a JSON object with a string `processing_timestamp` that begins with a date and a time,
  `YYYY-MM-DDTHH:MM:SS` (or a blank in place of the `T`), and a list `detections`. What follows the seconds, fractions
  or a time zone, is not looked at: the hour is that of the time as it is written.
* A detection is an object with a string `label`, taken as it is written. Each is counted, also several in one frame.
* Skipped, and counted as such: a line that is no such document (broken JSON, bytes that are no UTF-8, half of a
  surrogate pair, a time that no clock shows, `detections` missing), and a detection whose label is missing, no string,
  empty, or holds a tab or an end of line, which the output cannot hold. The rest of its document counts.
* The frames of the ledger's segments (`{"frame": …}` lines) are documents too; a segment's other lines are passed over.
* Printed is `label@YYYY-MM-DD HH:00<TAB>count<TAB>[t1, t2, …]`, in the byte order of the keys. Times have seconds,
  `YYYY-MM-DDTHH:MM:SS`, and stand in the order of the files' names and of the places in them (Hadoop leaves it open).

Where JSON leaves something open, DuckDB's reading counts: of a name given twice the first one, and `NaN` and a comma
before a closing bracket pass. A line longer than 16 MiB is an error.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from imgpipeline.compat.mapreduce.documents import LONGEST_BYTES, line_files
from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.compat.mapreduce.outputs import open_output, write
from imgpipeline.lake.engine import Engine, engine_errors, open_engine
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FRAME = "processing_timestamp VARCHAR, detections STRUCT(label JSON)[]"
_COLUMNS = (
    "{processing_timestamp: 'VARCHAR', detections: 'STRUCT(label JSON)[]', "
    f"frame: 'STRUCT({_FRAME})', format_version: 'JSON', dead_letter: 'JSON', gap: 'JSON'}}"
)
_DOCUMENTS = f"""
CREATE TABLE documents AS
SELECT CASE WHEN CAST(time AS VARCHAR) = text AND isfinite(time) THEN time END AS time, labels, other
FROM (SELECT try_cast(text AS TIMESTAMP) AS time, *
      FROM (SELECT replace(left(coalesce(processing_timestamp, frame.processing_timestamp), 19), 'T', ' ') AS text,
                   list_transform(coalesce(detections, frame.detections), lambda d: CAST(d.label AS VARCHAR)) AS labels,
                   coalesce(format_version, dead_letter, gap) IS NOT NULL AS other
            FROM read_json($files, format = 'newline_delimited', compression = 'uncompressed',
                           hive_partitioning = false, ignore_errors = true, maximum_object_size = {LONGEST_BYTES},
                           columns = {_COLUMNS})))
"""  # noqa: S608 - made of this module's own names
"""A time counts only if it is written as DuckDB would write it, which no other text is. `labels` are JSON texts in
DuckDB's own spelling: two texts are the same where their labels are."""

_SEEN = """
CREATE TABLE seen AS
SELECT date_trunc('hour', time) AS hour,
       CAST(date_part('minute', time) * 60 + date_part('second', time) AS SMALLINT) AS second,
       unnest(labels) AS label
FROM documents
WHERE time IS NOT NULL AND labels IS NOT NULL
"""
"""Rows keep the order of the documents: `rowid` is the order of the times."""

_KEYS = r"""
CREATE TABLE keys AS
SELECT row_number() OVER (ORDER BY key) AS id, *
FROM (SELECT text || '@' || CAST(hour AS VARCHAR)[1:16] AS key, label, hour, count
      FROM (SELECT label ->> '$' AS text, label, hour, count
            FROM (SELECT label, hour, count(*) AS count FROM seen WHERE label[1] = '"' GROUP BY label, hour))
      WHERE text <> '' AND NOT regexp_matches(text, '[\t\r\n]'))
"""

_TIMES = """
SELECT keys.id, seen.second FROM seen JOIN keys USING (label, hour) ORDER BY keys.id, seen.rowid
"""
_BATCH_ROWS = 200_000
_FEW = 20_000
"""So many times are written before NumPy and Arrow are imported."""
_SECONDS_AN_HOUR = 3600
_SEPARATOR = b", "
_TIME_BYTES = len(", 2026-01-09T12:34:56")


@dataclass(frozen=True, slots=True)
class LabelHour:
    """What was counted."""

    files: int
    """Files that were read."""
    documents: int
    """Documents that were counted, also those without a detection."""
    detections: int
    """Detections that were counted: the sum of all counts that were printed."""
    keys: int
    """Lines that were printed."""
    malformed: int
    """Lines that are no document, blank ones and a segment's other lines apart."""
    unlabelled: int
    """Detections that were skipped."""


def count_label_hours(location: str, output: str, settings: Settings) -> LabelHour:
    """Counts labels by the hour and prints them with their times.

    Args:
        location: What to read, as `find_job_inputs` takes it.
        output: A file, or `-` for stdout.
        settings: Name the S3 server, for `s3://`.

    Returns:
        What was counted.

    Raises:
        ConfigurationError: Input or output do not exist.
        PermanentError: A file cannot be read or written, or memory or disk do not do.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    with open_output(output, inputs) as stream, open_engine(memory=settings.duckdb_memory) as engine:
        files = [str(path) for path in line_files(inputs, engine.folder)]
        if not files:
            return LabelHour(0, 0, 0, 0, 0, 0)
        engine.run(_DOCUMENTS, {"files": files})
        documents, malformed = engine.run(
            "SELECT count(*) FILTER (time IS NOT NULL AND labels IS NOT NULL), "
            "count(*) FILTER ((time IS NULL OR labels IS NULL) AND NOT other) FROM documents"
        )[0]
        engine.run(_SEEN)
        engine.run("DROP TABLE documents")
        engine.run(_KEYS)
        keys, detections = engine.run("SELECT count(*), coalesce(sum(count), 0)::BIGINT FROM keys")[0]
        unlabelled = engine.value("SELECT count(*) FROM seen") - detections
        for piece in _printed(engine) if detections > _FEW else _printed_plainly(engine):
            write(stream, piece)
    return LabelHour(len(inputs), documents, detections, keys, malformed, unlabelled)


def _printed_plainly(engine: Engine) -> Iterator[bytes]:
    """Yields the lines of few times."""
    times: dict[int, list[str]] = defaultdict(list)
    for number, second in engine.run(_TIMES):
        times[number].append(f"{second // 60:02d}:{second % 60:02d}")
    for number, key, hour, count in engine.run("SELECT id, key, CAST(hour AS VARCHAR), count FROM keys ORDER BY id"):
        before = _before_minutes(hour)
        yield f"{key}\t{count}\t[{', '.join(before + time for time in times[number])}]\n".encode()


def _printed(engine: Engine) -> Iterator[bytes]:
    """Yields the output in pieces, none of them longer than a batch of times, whatever the length of a line."""
    import numpy as np  # noqa: PLC0415 - `--version` does not wait for it

    with engine_errors():
        keys = engine.connection.cursor().execute("SELECT key, CAST(hour AS VARCHAR), count FROM keys ORDER BY id")
        begun = 0
        table: npt.NDArray[np.uint8] | None = None
        for batch in engine.connection.sql(_TIMES).to_arrow_reader(_BATCH_ROWS):
            ids, seconds = (batch.column(number).to_numpy(zero_copy_only=False) for number in (0, 1))
            bounds = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
            for first, behind in pairwise(bounds):
                is_new = ids[first] != begun
                if is_new or table is None:
                    begun = ids[first]
                    key, hour, count = keys.fetchone() or ("", "", 0)
                    table = _times_of(hour)
                    yield b"%s%s\t%d\t[" % (b"]\n" if begun > 1 else b"", key.encode(), count)
                text = table[seconds[first:behind]].tobytes()
                yield text[len(_SEPARATOR) :] if is_new else text
        if begun:
            yield b"]\n"


def _before_minutes(hour: str) -> str:
    return f"{hour[:10]}T{hour[11:13]}:"


def _times_of(hour: str) -> "npt.NDArray[np.uint8]":
    """Returns each second of an hour (`2026-01-09 12:00:00`) as it is printed behind another: uint8, 3600 rows."""
    import numpy as np  # noqa: PLC0415 - as above

    before = f", {_before_minutes(hour)}"
    rows = "".join(f"{before}{second // 60:02d}:{second % 60:02d}" for second in range(_SECONDS_AN_HOUR))
    return np.frombuffer(rows.encode(), np.uint8).reshape(_SECONDS_AN_HOUR, _TIME_BYTES)
