"""Counts how often each label was detected in each hour, and lists the times: the job `label-hour`.

The rules are those of the classic mapper and reducer:

* A document (`documents`) is a JSON object with a list `detections` and a string `processing_timestamp` that starts
  with a date and a time, `YYYY-MM-DDTHH:MM:SS` (or a space instead of the `T`). Fractions of a second and a time zone
  are ignored: the hour is that of the time as written.
* A detection is an object with a string `label`, used as written. Every detection counts, even several in one frame.
* Lines that are not such documents are skipped and counted: invalid JSON or UTF-8, half a surrogate pair, an impossible
  time, no `detections`. So are detections whose label is missing, not a string, empty, or contains a tab or line end,
  which the output cannot represent; the rest of the document counts.
* The frames of the ledger's segments (`{"frame": …}` lines) are documents too; other lines of segments are ignored.
* The output is `label@YYYY-MM-DD HH:00<TAB>count<TAB>[t1, t2, …]` in the byte order of the keys. Times are
  `YYYY-MM-DDTHH:MM:SS`, in the order of the files' names and of the positions in them (Hadoop leaves it open).

Where JSON is ambiguous, DuckDB decides: the first of two equal names counts; `NaN` and a trailing comma are accepted.
A line longer than 16 MiB is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

from imgpipeline.compat.mapreduce.documents import IS_PRINTABLE, load_documents
from imgpipeline.compat.mapreduce.jobs import open_job
from imgpipeline.lake.storage.engine import Engine, engine_errors
from imgpipeline.objectstore.files import write
from imgpipeline.settings import Settings

_SEEN = """
CREATE TABLE seen AS
SELECT date_trunc('hour', time) AS hour,
       CAST(date_part('minute', time) * 60 + date_part('second', time) AS SMALLINT) AS second,
       unnest(labels) AS label
FROM documents
WHERE time IS NOT NULL AND labels IS NOT NULL
"""
"""Rows keep the order of the documents, so `rowid` is the order of the times."""

_KEYS = f"""
CREATE TABLE keys AS
SELECT row_number() OVER (ORDER BY key) AS id, *
FROM (SELECT text || '@' || CAST(hour AS VARCHAR)[1:16] AS key, label, hour, count
      FROM (SELECT label ->> '$' AS text, label, hour, count
            FROM (SELECT label, hour, count(*) AS count FROM seen WHERE label[1] = '"' GROUP BY label, hour))
      WHERE {IS_PRINTABLE})
"""  # noqa: S608 - only names of this module

_TIMES = """
SELECT keys.id, seen.second FROM seen JOIN keys USING (label, hour) ORDER BY keys.id, seen.rowid
"""
BATCH_ROWS = 200_000
_SECONDS_AN_HOUR = 3600
_SEPARATOR = b", "
_MINUTES_AND_SECONDS = "".join(f":{n // 60:02d}:{n % 60:02d}" for n in range(_SECONDS_AN_HOUR)).encode()


@dataclass(frozen=True, slots=True)
class LabelHour:
    """The result of the job."""

    files: int
    documents: int
    """Documents counted, including those without a detection."""
    detections: int
    """Detections counted: the sum of all printed counts."""
    keys: int
    malformed: int
    """Lines that are not documents, except blank lines and other lines of segments."""
    unlabelled: int


def count_label_hours(location: str, output: str, settings: Settings, reducers: int | None = None) -> LabelHour:
    """Counts the detections of each label and hour, and writes the counts with the times.

    Arguments and errors are those of `open_job`.
    """
    with open_job(location, output, settings, reducers) as job:
        engine = job.engine
        load_documents(engine, job.inputs)
        documents, malformed = engine.run(
            "SELECT count(*) FILTER (time IS NOT NULL AND labels IS NOT NULL), "
            "count(*) FILTER ((time IS NULL OR labels IS NULL) AND NOT other) FROM documents"
        )[0]
        engine.run(_SEEN)
        engine.run("DROP TABLE documents")
        engine.run(_KEYS)
        keys, detections = engine.run("SELECT count(*), coalesce(sum(count), 0)::BIGINT FROM keys")[0]
        unlabelled = engine.value("SELECT count(*) FROM seen") - detections
        for key, pieces in groupby(_printed(engine), itemgetter(0)):
            stream = job.stream_of(key)
            for _, piece in pieces:
                write(stream, piece)
    return LabelHour(len(job.inputs), documents, detections, keys, malformed, unlabelled)


def _printed(engine: Engine) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys with pieces of their lines: at most one batch of times, however long a line is."""
    import numpy as np  # noqa: PLC0415 - slow to load, and other commands do not need it

    of_hour = np.frombuffer(_MINUTES_AND_SECONDS, np.uint8).reshape(_SECONDS_AN_HOUR, -1)
    with engine_errors():
        keys = engine.connection.cursor().execute("SELECT key, CAST(hour AS VARCHAR), count FROM keys ORDER BY id")
        begun, key, before = 0, b"", b""
        for batch in engine.connection.sql(_TIMES).to_arrow_reader(BATCH_ROWS):
            ids, seconds = (batch.column(number).to_numpy(zero_copy_only=False) for number in (0, 1))
            bounds = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
            for first, end in pairwise(bounds):
                is_new = ids[first] != begun
                if is_new:
                    if begun:
                        yield key, b"]\n"
                    begun = ids[first]
                    text, hour, count = keys.fetchone() or ("", "", 0)
                    key, before = text.encode(), f", {hour[:10]}T{hour[11:13]}".encode()
                    yield key, b"%s\t%d\t[" % (key, count)
                times = np.empty((end - first, len(before) + of_hour.shape[1]), np.uint8)
                times[:, : len(before)] = np.frombuffer(before, np.uint8)
                times[:, len(before) :] = of_hour[seconds[first:end]]
                yield key, times.tobytes()[len(_SEPARATOR) if is_new else 0 :]
        if begun:
            yield key, b"]\n"
