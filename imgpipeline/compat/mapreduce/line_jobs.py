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
positions, which Hadoop leaves open. As proof, lines are counted and hashed while they are read, and again when the
written files are read back. Output to stdout cannot be read back.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.compat.mapreduce.documents import IS_PRINTABLE, begins_with_document, load_documents
from imgpipeline.compat.mapreduce.inputs import find_job_inputs, read_blocks
from imgpipeline.compat.mapreduce.outputs import open_job_output
from imgpipeline.errors import PermanentError
from imgpipeline.lake.storage.engine import Engine, engine_errors, open_engine
from imgpipeline.objectstore.files import STDOUT, InputFile, write
from imgpipeline.settings import Settings

_HEADER = b"timestamp"
_ROW = re.compile(rb"^(?![ \t\v\f]*timestamp)[^,\n]*,([^,\n]*),[^,\n]*$", re.MULTILINE)
_TOTALS = rf"""
CREATE TABLE totals AS
SELECT text AS label, count
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

    Args:
        location: What to read, as for `find_job_inputs`.
        output: Where to write, as `reducers`: as for `open_job_output`.

    Returns:
        The counts.

    Raises:
        ConfigurationError: The input does not exist, or the output cannot be written.
        PermanentError: A file cannot be read or written, or memory or disk space is short.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    detections = labels = 0
    with (
        open_engine(memory=settings.duckdb_memory) as engine,
        open_job_output(output, inputs, engine, settings, reducers) as target,
    ):
        count = _count_documents if begins_with_document(inputs) else _count_rows
        malformed, unlabelled = count(engine, inputs)
        query = "SELECT label, sum(count)::BIGINT FROM totals GROUP BY label ORDER BY label"
        found_totals = engine.connection.execute(query)
        while rows := found_totals.fetchmany(10_000):
            for text, total in rows:
                key = text.encode()
                write(target.of(key), b"%s\t%d\n" % (key, total))
                labels += 1
                detections += total
    return LabelTotal(len(inputs), detections, labels, malformed, unlabelled)


def _count_documents(engine: Engine, inputs: Sequence[InputFile]) -> tuple[int, int]:
    """Fills the table `totals` from documents; returns how many lines are malformed, and detections unlabelled."""
    load_documents(engine, inputs)
    engine.run(_TOTALS)
    malformed = engine.value("SELECT count(*) FROM documents WHERE labels IS NULL AND NOT other")
    found = "SELECT coalesce(sum(len(labels)), 0)::BIGINT FROM documents"
    return malformed, engine.value(found) - engine.value("SELECT coalesce(sum(count), 0)::BIGINT FROM totals")


def _count_rows(engine: Engine, inputs: Sequence[InputFile]) -> tuple[int, int]:
    """Fills the table `totals` from rows of CSV; returns how many are malformed, including those without a label."""
    malformed = 0
    engine.run("CREATE TABLE totals (label VARCHAR, count BIGINT)")
    for block in read_blocks(inputs):
        found = _ROW.findall(block)
        if len(found) != block.count(b"\n"):
            malformed += _count_malformed(block)
        malformed += _add(engine, Counter(found))
    return malformed, 0


def _count_malformed(block: bytes) -> int:
    lines = (line.strip() for line in block.splitlines() if not _ROW.fullmatch(line))
    return sum(1 for line in lines if line and not line.startswith(_HEADER))


def _add(engine: Engine, raw: Counter[bytes]) -> int:
    """Adds counts per raw field; returns the number of lines whose field is not a label."""
    counts: Counter[str] = Counter()
    malformed = 0
    for field, count in raw.items():
        label = _label(field)
        if label is None:
            malformed += count
        else:
            counts[label] += count
    if counts:
        engine.run(
            "INSERT INTO totals SELECT unnest($labels), unnest($counts)",
            {"labels": list(counts), "counts": list(counts.values())},
        )
    return malformed


def _label(field: bytes) -> str | None:
    try:
        label = field.decode().strip().upper()
    except UnicodeDecodeError:
        return None
    return label if label and "\t" not in label else None


@dataclass(frozen=True, slots=True)
class Identity:
    """The result of `identity`."""

    files: int
    lines: int
    sha256: str
    """SHA-256 of the copy, of all parts in order: 64 hexadecimal digits."""
    read_back: bool
    """Whether the output was read back and compared."""


def copy_lines(location: str, output: str, settings: Settings, reducers: int | None = None) -> Identity:
    """Copies all lines in the order of their keys and proves that the output contains the same lines.

    Args:
        location: What to read, as for `find_job_inputs`.
        output: Where to write, as `reducers`: as for `open_job_output`.

    Returns:
        The number and hash of the copied lines.

    Raises:
        ConfigurationError: The input does not exist, or the output cannot be written.
        PermanentError: A file cannot be read or written, or the output differs from what was read.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    read, copied, digest = _Lines(), _Lines(), sha256()
    with (
        open_engine(memory=settings.duckdb_memory) as engine,
        open_job_output(output, inputs, engine, settings, reducers) as target,
    ):
        written = _sorted_lines(engine, (read.add(block.splitlines(keepends=True)) for block in read_blocks(inputs)))
        for line in written:
            write(target.of(_key(line)), line)
            if output == STDOUT:
                digest.update(line)
        for stream in target.streams if output != STDOUT else ():
            stream.seek(0)
            for line in stream:
                copied.add([line])
                digest.update(line)
        if output != STDOUT and copied != read:
            raise PermanentError(
                f"{output} holds {copied.count} lines, or others than the {read.count} lines that were read: the disk "
                "did not store what was written.",
                next_step="check that disk, and run the job again",
            )
    return Identity(len(inputs), read.count, digest.hexdigest(), output != STDOUT)


@dataclass(slots=True)
class _Lines:
    """Counts and hashes lines in any order."""

    count: int = 0
    hashes: int = 0
    """The sum of the lines' SHA-256."""

    def add(self, lines: list[bytes]) -> list[bytes]:
        self.count += len(lines)
        self.hashes += sum(int.from_bytes(sha256(line).digest()) for line in lines)
        return lines


def _key(line: bytes) -> bytes:
    return line.rstrip(b"\n").partition(b"\t")[0]


def _sorted_lines(engine: Engine, blocks: Iterable[list[bytes]]) -> Iterator[bytes]:
    """Yields lines in the byte order of their keys; those of one key in their own order."""
    import pyarrow as pa  # noqa: PLC0415 - slow to load, and other commands do not need it

    engine.run("CREATE TABLE lines (key BLOB, line BLOB)")
    for lines in blocks:
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
