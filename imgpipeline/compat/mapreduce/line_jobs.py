"""The jobs that read lines: `label-total`, `identity`, and `show` for the output of a job.

`label-total` counts the detections of each label in CSV files, by the rules of the classic mapper (split at commas) and
reducer (count):

* A line has three fields, `timestamp,detected_label,confidence`, split at commas; there are no quotes. Time and
  confidence are ignored.
* The label is the second field, stripped of white space and upper-cased (by Unicode's rules, as in Python).
* Blank lines and headers (lines that start with `timestamp`; each file may have one) are ignored.
* Malformed lines are skipped and counted: too few or too many fields, or a label that is empty, contains a tab, or is
  not UTF-8.
* The output is `LABEL<TAB>count`, in the byte order of the labels.

`identity` copies every line unchanged, whatever its bytes, and ends it with LF. Lines keep the order of the files'
names and of their positions; Hadoop leaves the order open (with a reducer, it sorts them). As proof, lines are counted
and hashed while they are read, and again when the written file is read back. Output to stdout cannot be read back.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.compat.mapreduce.inputs import BLOCK_BYTES, find_job_inputs, read_blocks
from imgpipeline.errors import PermanentError
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.objectstore.files import STDOUT, open_output, write
from imgpipeline.settings import Settings

_HEADER = b"timestamp"
_ROW = re.compile(rb"^(?![ \t\v\f]*timestamp)[^,\n]*,([^,\n]*),[^,\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LabelTotal:
    """The result of `label-total`."""

    files: int
    detections: int
    labels: int
    malformed: int
    """Lines skipped, except blank lines and headers."""


def total_labels(location: str, output: str, settings: Settings) -> LabelTotal:
    """Counts the detections of each label and writes the counts.

    Returns:
        The counts.

    Raises:
        ConfigurationError: The input or the output folder does not exist.
        PermanentError: A file cannot be read or written, or memory or disk space is short.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    malformed = detections = labels = 0
    with open_output(output, inputs) as stream, open_engine(memory=settings.duckdb_memory) as engine:
        engine.run("CREATE TABLE totals (label VARCHAR, count BIGINT)")
        for block in read_blocks(inputs):
            found = _ROW.findall(block)
            counts = Counter(found)
            if len(found) != block.count(b"\n"):
                malformed += _count_malformed(block)
            malformed += _add(engine, counts)
        query = "SELECT label, sum(count)::BIGINT FROM totals GROUP BY label ORDER BY label"
        found_totals = engine.connection.execute(query)
        while rows := found_totals.fetchmany(10_000):
            for text, count in rows:
                write(stream, b"%s\t%d\n" % (text.encode(), count))
                labels += 1
                detections += count
    return LabelTotal(len(inputs), detections, labels, malformed)


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
    """SHA-256 of all lines, each with its LF: 64 hexadecimal digits."""
    read_back: bool
    """Whether the output was read back and compared."""


def copy_lines(location: str, output: str, settings: Settings) -> Identity:
    """Copies all lines and proves that the output contains the same lines.

    Returns:
        The number and hash of the copied lines.

    Raises:
        ConfigurationError: The input or the output folder does not exist.
        PermanentError: A file cannot be read or written, or the output differs from what was written.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    lines, digest = 0, sha256()
    with open_output(output, inputs) as stream:
        for block in read_blocks(inputs):
            lines += block.count(b"\n")
            digest.update(block)
            write(stream, block)
        if output != STDOUT:
            stream.seek(0)
            found_lines, found = 0, sha256()
            while data := stream.read(BLOCK_BYTES):
                found_lines += data.count(b"\n")
                found.update(data)
            if (found_lines, found.digest()) != (lines, digest.digest()):
                raise PermanentError(
                    f"{output} holds {found_lines} lines with the SHA-256 {found.hexdigest()}, expected {lines} lines "
                    f"with {digest.hexdigest()}: the disk did not store what was written.",
                    next_step="check that disk, and run the job again",
                )
    return Identity(len(inputs), lines, digest.hexdigest(), output != STDOUT)


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
