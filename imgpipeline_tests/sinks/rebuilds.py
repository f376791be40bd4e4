"""A table that is written without the store, and what a reader sees while its day is rebuilt."""

import threading
from collections.abc import Callable

import pyarrow as pa

from imgpipeline.sinks.protocol import Sink, SinkTable
from imgpipeline_tests.sinks.days import day_number

TABLE = SinkTable("counted", (), "", ("number",))
MONDAY = day_number(0)
Seen = tuple[int, int, int]
"""First and last build, and number of rows."""


def numbers(count: int, build: int = 0, day: int = 0) -> pa.RecordBatchReader:
    """Return rows in batches of 100, all with the number of their build."""
    rows = {"day": [day_number(day)] * count, "number": range(count), "build": [build] * count}
    return pa.table(rows).to_reader(max_chunksize=100)


def seen_during_50_rebuilds(sink: Sink, look: Callable[[], Seen]) -> list[Seen]:
    """Return what a reader saw who looked all the time. Build n has 1000 + n rows."""
    sink.replace_day(TABLE, MONDAY, numbers(1000), "0")
    seen: list[Seen] = []
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            seen.append(look())

    reader = threading.Thread(target=poll)
    reader.start()
    for build in range(1, 51):
        sink.replace_day(TABLE, MONDAY, numbers(1000 + build, build), str(build))
    over.set()
    reader.join(60)
    return seen
