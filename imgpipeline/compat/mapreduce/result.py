"""`mapreduce show`: the largest counts in the output of a job, `key<TAB>count`, and maybe further fields."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.compat.mapreduce.lines import read_blocks
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class JobResult:
    """What the output of a job says."""

    files: int
    """Files read."""
    lines: int
    """Lines with a key and a count."""
    total: int
    """Sum of the counts."""
    malformed: int
    """Lines skipped, except blank lines."""
    top: list[tuple[str, int]]
    """The largest counts with their keys, the largest first; equal counts in the order of their keys."""


def read_result(location: str, most: int, settings: Settings) -> JobResult:
    """Reads the output of a job.

    Args:
        location: What to read, as for `find_job_inputs`.
        most: How many keys to return.
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
                if (found := _parse(line)) is None:
                    malformed += 1
                    continue
                lines, total = lines + 1, total + found[1]
                yield found

    top = heapq.nsmallest(most, counts(), key=lambda found: (-found[1], found[0]))
    return JobResult(len(inputs), lines, total, malformed, top)


def _parse(line: bytes) -> tuple[str, int] | None:
    key, *values = line.split(b"\t", 2)
    if not values or not values[0].isdigit():
        return None
    try:
        return key.decode(), int(values[0])
    except ValueError:  # not UTF-8, or more digits than Python reads
        return None
