"""Reducer: `LABEL<TAB>1`, sorted by key, to `LABEL<TAB>count`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby


def run(lines: Iterable[str]) -> Iterator[str]:
    pairs = (line.rstrip("\n").split("\t") for line in lines)
    for key, group in groupby(pairs, key=lambda pair: pair[0]):
        yield f"{key}\t{sum(int(count) for _, count in group)}\n"


if __name__ == "__main__":
    for line in run(raw.decode() for raw in sys.stdin.buffer):
        sys.stdout.buffer.write(line.encode())
