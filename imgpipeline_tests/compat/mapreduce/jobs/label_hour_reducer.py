"""Reducer: `label@hour<TAB>time`, sorted by key, to `label@hour<TAB>count<TAB>[times]`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby


def run(lines: Iterable[str]) -> Iterator[str]:
    pairs = (line.rstrip("\n").split("\t") for line in lines)
    for key, group in groupby(pairs, key=lambda pair: pair[0]):
        times = [time for _, time in group]
        yield f"{key}\t{len(times)}\t[{', '.join(times)}]\n"


if __name__ == "__main__":
    for line in run(raw.decode() for raw in sys.stdin.buffer):
        sys.stdout.buffer.write(line.encode())
