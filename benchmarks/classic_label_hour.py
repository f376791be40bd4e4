"""The classic Hadoop Streaming job: `classic_label_hour.py lines|document|reduce`, reading stdin.

Its honest best: no check that the documents of the benchmark do not need, and one write for many lines.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

_LINES_A_WRITE = 1000


def map_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yields `label@hour<TAB>time` for each detection of each document; a document a line."""
    for line in lines:
        document = json.loads(line)
        time = document["processing_timestamp"]
        end = f"@{time[:10]} {time[11:13]}:00\t{time[:19]}\n"
        for detection in document["detections"]:
            yield detection["label"] + end


def reduce_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yields `label@hour<TAB>count<TAB>[times]` for lines that are sorted by their keys."""
    pairs = (line.rstrip("\n").split("\t") for line in lines)
    for key, group in groupby(pairs, key=lambda pair: pair[0]):
        times = [time for _, time in group]
        yield f"{key}\t{len(times)}\t[{', '.join(times)}]\n"


def main() -> None:
    """Runs the part of the job that the command line names."""
    part = sys.argv[1]
    if part == "reduce":
        written = reduce_lines(sys.stdin)
    else:
        written = map_lines(sys.stdin if part == "lines" else [sys.stdin.read()])
    while lines := list(islice(written, _LINES_A_WRITE)):
        sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main()
