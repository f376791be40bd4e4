"""Documents of detectors as rows, for the jobs that count their labels; `label_hour` describes a document."""

from collections.abc import Sequence

from imgpipeline.compat.mapreduce.inputs import LONGEST_BYTES, line_files, open_each
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.objectstore.files import InputFile

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
"""  # noqa: S608 - only names of this module
"""A time counts only if DuckDB would print it in the same way. `labels` are JSON texts as DuckDB prints them, so equal
labels have equal texts."""

IS_PRINTABLE = r"text <> '' AND NOT regexp_matches(text, '[\t\r\n]')"
"""Whether a label's text fits into a line of output."""


def load_documents(engine: Engine, inputs: Sequence[InputFile]) -> None:
    """Fills the table `documents` with a row for each line: `time`, `labels`, and whether it is another known line.

    Raises:
        PermanentError: A file cannot be read, or memory or disk space is short.
        TransientError: The store does not answer.
    """
    files = [str(path) for path in line_files(inputs, engine.folder)]
    if files:
        engine.run(_DOCUMENTS, {"files": files})
    else:
        engine.run("CREATE TABLE documents (time TIMESTAMP, labels VARCHAR[], other BOOLEAN)")


def begins_with_document(inputs: Sequence[InputFile]) -> bool:
    """Returns whether the first input that is not blank starts with a JSON object."""
    starts = (stream.peek().lstrip()[:1] for _, stream in open_each(inputs))
    return next(filter(None, starts), b"") == b"{"
