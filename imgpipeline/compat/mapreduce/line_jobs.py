"""The jobs that read lines: `label-total`, `identity`, and `show` for the output of a job.

`label-total` counts the detections of each label. If the input begins with a JSON object, it counts the labels of
documents (`label_hour`), unchanged; a document needs no time here. Otherwise it reads CSV files by the rules of the
classic mapper (split at commas) and reducer (count):

* A line has three fields, `timestamp,detected_label,confidence`, split at commas; there are no quotes. Time and
  confidence are ignored.
* The label is the second field, stripped of white space and upper-cased (by Unicode's rules, as in Python).
* Blank lines and headers (lines that start with `timestamp`; each file may have one) are ignored.
* Malformed lines are skipped and counted: too few or too many fields, or a label that is empty, contains a tab, or is
  not UTF-8.
* The output is `LABEL<TAB>count`, in the byte order of the labels.

`identity` copies every line unchanged, whatever its bytes, and ends it with LF. As in Hadoop, lines are in the byte
order of their keys, which end at the first tab; lines with equal keys keep the order of the files' names and of their
positions, which Hadoop leaves open.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.compat.mapreduce.documents import IS_PRINTABLE, begins_with_document, load_documents
from imgpipeline.compat.mapreduce.inputs import find_job_inputs, read_blocks
from imgpipeline.compat.mapreduce.jobs import open_job
from imgpipeline.lake.storage.engine import Engine, engine_errors
from imgpipeline.objectstore.files import InputFile, write
from imgpipeline.settings import Settings

_HEADER = b"timestamp"
_ROW = re.compile(rb"^(?![ \t\v\f]*timestamp)[^,\n]*,([^,\n]*),[^,\n]*$", re.MULTILINE)
_TOTALS = rf"""
SELECT text, count
FROM (SELECT label ->> '$' AS text, count
      FROM (SELECT label, count(*) AS count FROM (SELECT unnest(labels) AS label FROM documents)
            WHERE label[1] = '"' GROUP BY label))
WHERE {IS_PRINTABLE}
"""  # noqa: S608 - only names of this module


@dataclass(frozen=True, slots=True)
class LabelTotal:
    """The result of `label-total`."""

    files: int
    detections: int
    labels: int
    malformed: int
    """Lines skipped, except blank lines and headers."""
    unlabelled: int = 0
    """Detections in documents without a label that can be printed."""


def total_labels(location: str, output: str, settings: Settings, reducers: int | None = None) -> LabelTotal:
    """Counts the detections of each label and writes the counts.

    Arguments and errors are those of `open_job`.
    """
    with open_job(location, output, settings, reducers) as job:
        unlabelled = 0
        if begins_with_document(job.inputs):
            totals, malformed, unlabelled = _count_documents(job.engine, job.inputs)
        else:
            totals, malformed = _count_rows(job.inputs)
        for key, count in sorted(totals.items()):
            write(job.stream_of(key), b"%s\t%d\n" % (key, count))
    return LabelTotal(len(job.inputs), totals.total(), len(totals), malformed, unlabelled)


def _count_documents(engine: Engine, inputs: Sequence[InputFile]) -> tuple[Counter[bytes], int, int]:
    """Returns the counts of labels in documents, the number of malformed lines, and of detections without a label."""
    load_documents(engine, inputs)
    totals = Counter({text.encode(): count for text, count in engine.run(_TOTALS)})
    malformed = engine.value("SELECT count(*) FROM documents WHERE labels IS NULL AND NOT other")
    found = engine.value("SELECT coalesce(sum(len(labels)), 0)::BIGINT FROM documents")
    return totals, malformed, found - totals.total()


def _count_rows(inputs: Sequence[InputFile]) -> tuple[Counter[bytes], int]:
    """Returns the counts of labels in rows of CSV, and the number of malformed lines."""
    malformed = 0
    totals: Counter[bytes] = Counter()
    for block in read_blocks(inputs):
        fields = _ROW.findall(block)
        if len(fields) != block.count(b"\n"):
            malformed += _count_malformed(block)
        for field, count in Counter(fields).items():
            label = _label(field)
            if label is None:
                malformed += count
            else:
                totals[label] += count
    return totals, malformed


def _count_malformed(block: bytes) -> int:
    lines = (line.strip() for line in block.splitlines() if not _ROW.fullmatch(line))
    return sum(1 for line in lines if line and not line.startswith(_HEADER))


def _label(field: bytes) -> bytes | None:
    try:
        label = field.decode().strip().upper()
    except UnicodeDecodeError:
        return None
    return label.encode() if label and "\t" not in label else None


@dataclass(frozen=True, slots=True)
class Identity:
    """The result of `identity`."""

    files: int
    lines: int
    sha256: str
    """SHA-256 of the copied lines in their order: 64 hexadecimal digits."""


def copy_lines(location: str, output: str, settings: Settings, reducers: int | None = None) -> Identity:
    """Copies all lines in the order of their keys.

    Arguments and errors are those of `open_job`.
    """
    lines, digest = 0, sha256()
    with open_job(location, output, settings, reducers) as job:
        for line in _sorted_lines(job.engine, read_blocks(job.inputs)):
            write(job.stream_of(_key(line)), line)
            lines += 1
            digest.update(line)
    return Identity(len(job.inputs), lines, digest.hexdigest())


def _key(line: bytes) -> bytes:
    return line.rstrip(b"\n").partition(b"\t")[0]


def _sorted_lines(engine: Engine, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines in the byte order of their keys; those of one key in their own order."""
    import pyarrow as pa  # noqa: PLC0415 - slow to load, and other commands do not need it

    engine.run("CREATE TABLE lines (key BLOB, line BLOB)")
    for block in blocks:
        lines = block.splitlines(keepends=True)
        rows = pa.table({"key": pa.array(map(_key, lines), pa.binary()), "line": pa.array(lines, pa.binary())})
        with engine_errors():
            engine.connection.register("block", rows)
            engine.connection.execute("INSERT INTO lines SELECT * FROM block")
            engine.connection.unregister("block")
    with engine_errors():
        found = engine.connection.execute("SELECT line FROM lines ORDER BY key, rowid")
        while some := found.fetchmany(10_000):
            for (line,) in some:
                yield line


@dataclass(frozen=True, slots=True)
class JobResult:
    """The contents of a job's output."""

    files: int
    lines: int
    """Lines with a key and a count."""
    total: int
    malformed: int
    """Lines skipped, except blank lines."""
    top: list[tuple[str, int]]
    """The largest counts with their keys, the largest first; equal counts in the order of their keys."""


def read_result(location: str, most: int, settings: Settings) -> JobResult:
    """Reads the output of a job: `key<TAB>count`, and possibly further fields.

    Args:
        location: What to read, as for `find_job_inputs`.
        most: Maximum number of keys to return.
        settings: Name the S3 server, for `s3://`.

    Raises:
        ConfigurationError: The input does not exist.
        PermanentError: A file cannot be read.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    lines = total = malformed = 0

    def counts() -> Iterator[tuple[str, int]]:
        nonlocal lines, total, malformed
        for block in read_blocks(inputs):
            for line in filter(bytes.strip, block.split(b"\n")):
                if (found := _parse_count(line)) is None:
                    malformed += 1
                    continue
                lines, total = lines + 1, total + found[1]
                yield found

    top = heapq.nsmallest(most, counts(), key=lambda found: (-found[1], found[0]))
    return JobResult(len(inputs), lines, total, malformed, top)


def _parse_count(line: bytes) -> tuple[str, int] | None:
    key, *values = line.split(b"\t", 2)
    if not values or not values[0].isdigit():
        return None
    try:
        return key.decode(), int(values[0])
    except ValueError:  # not UTF-8, or more digits than Python reads
        return None
