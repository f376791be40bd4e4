"""`label-total`: how many detections each label has, from CSV files of detections.

The rules are those of the classic mapper (split at commas) and reducer (count):

* A line (`lines`) has three fields, `timestamp,detected_label,confidence`, split at commas; there are no quotes. Time
  and confidence are ignored.
* The label is the second field, stripped of white space and upper-cased (by Unicode's rules, as in Python).
* Blank lines and headers (lines that start with `timestamp`; each file may have one) are ignored.
* Malformed lines are skipped and counted: fewer or more fields, or a label that is empty, has a tab, or is not UTF-8.
* The output is `LABEL<TAB>count`, in the byte order of the labels.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.compat.mapreduce.lines import read_blocks
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.objectstore.outputs import open_output, write
from imgpipeline.settings import Settings

_HEADER = b"timestamp"
_ROW = re.compile(rb"^(?![ \t\v\f]*timestamp)[^,\n]*,([^,\n]*),[^,\n]*$", re.MULTILINE)
MOST_IN_MEMORY = 500_000
"""Different labels counted in memory; more are handed to DuckDB, which spills to disk."""


@dataclass(frozen=True, slots=True)
class LabelTotal:
    """The result of the job."""

    files: int
    """Files read."""
    detections: int
    """Lines counted."""
    labels: int
    """Lines printed."""
    malformed: int
    """Lines skipped, except blank lines and headers."""


def total_labels(location: str, output: str, settings: Settings) -> LabelTotal:
    """Counts labels and prints them.

    Args:
        location: What to read, as for `find_job_inputs`.
        output: A file, or `-` for stdout.
        settings: Name the S3 server, for `s3://`.

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
        totals = _Totals(engine)
        for block in read_blocks(inputs):
            found = _ROW.findall(block)
            counts = Counter(found)
            if len(found) != block.count(b"\n"):
                malformed += _count_malformed(block)
            malformed += totals.add(counts)
        for text, count in totals.rows():
            write(stream, b"%s\t%d\n" % (text.encode(), count))
            labels += 1
            detections += count
    return LabelTotal(len(inputs), detections, labels, malformed)


def _count_malformed(block: bytes) -> int:
    lines = (line.strip() for line in block.splitlines() if not _ROW.fullmatch(line))
    return sum(1 for line in lines if line and not line.startswith(_HEADER))


class _Totals:
    """Counts per label; DuckDB holds those that do not fit into memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: Counter[str] = Counter()
        self._spilled = False

    def add(self, raw: Counter[bytes]) -> int:
        """Adds counts per raw field; returns the number of lines whose field is not a label."""
        malformed = 0
        for field, count in raw.items():
            label = _label(field)
            if label is None:
                malformed += count
            else:
                self._counts[label] += count
        if len(self._counts) > MOST_IN_MEMORY:
            self._spill()
        return malformed

    def _spill(self) -> None:
        self._engine.run("CREATE TABLE IF NOT EXISTS totals (label VARCHAR, count BIGINT)")
        self._engine.run(
            "INSERT INTO totals SELECT unnest($labels), unnest($counts)",
            {"labels": list(self._counts), "counts": list(self._counts.values())},
        )
        self._counts.clear()
        self._spilled = True

    def rows(self) -> Iterator[tuple[str, int]]:
        """Yields labels and counts in byte order."""
        if not self._spilled:
            # The order of code points is that of their UTF-8 bytes.
            yield from sorted(self._counts.items())
            return
        self._spill()
        query = self._engine.connection.execute(
            "SELECT label, sum(count)::BIGINT FROM totals GROUP BY label ORDER BY label"
        )
        while rows := query.fetchmany(10_000):
            yield from rows


def _label(field: bytes) -> str | None:
    try:
        label = field.decode().strip().upper()
    except UnicodeDecodeError:
        return None
    return label if label and "\t" not in label else None
