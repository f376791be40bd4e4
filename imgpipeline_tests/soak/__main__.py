"""`python -m imgpipeline_tests.soak --minutes 10 --seed 7`: exits with 1 where anything is lost, doubled or stuck."""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imgpipeline.objectstore import open_store
from imgpipeline_tests.faults.invariant import Held, check
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.soak.faults import FAULTS
from imgpipeline_tests.soak.hog import hogs
from imgpipeline_tests.soak.place import Place, open_place
from imgpipeline_tests.soak.producers import Producer, store_pictures
from imgpipeline_tests.soak.watching import End, Watch, announced, committed, latencies_s, tables_are_current

SOURCES = ("gate", "yard", "street")
FAULT_EVERY_S = 20.0
DRAIN_LIMIT_S = 420.0
STALE_LIMIT_S = 300.0
"""How long after the end of the stream the tables may lack something of it."""
console = Console(width=120, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soaks, drains, proves, and says what was seen."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="repeats the faults of an earlier soak")
    parser.add_argument("--rate", type=float, default=5.0, help="records a second of each of the three sources")
    parser.add_argument("--hog", type=int, default=0, help="busy processes beside it, to overload the machine")
    parser.add_argument("--no-faults", action="store_true", help="only the stream, and the hog")
    parser.add_argument(
        "--stale-limit", type=float, default=STALE_LIMIT_S, help="seconds until the tables have all that came"
    )
    parser.add_argument("--keep", type=Path, help="a folder for servers and DAGSTER_HOME that stays, to look into")
    chosen = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    console.print(f"soak: {chosen.minutes:g} min, {len(SOURCES)} sources at {chosen.rate:g}/s each, --seed {seed}")
    limit_s = chosen.minutes * 60 + DRAIN_LIMIT_S + chosen.stale_limit + 300
    with contextlib.ExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        place = around.enter_context(open_place(chosen.keep or folder))
        store_pictures(place.direct)
        producers = [Producer(place.direct, source, chosen.rate) for source in SOURCES]
        watch = Watch(place)
        watch.start()
        try:
            with hogs(chosen.hog, limit_s=limit_s):
                names = () if chosen.no_faults else sorted(FAULTS)
                _stream(place, producers, watch, chosen.minutes * 60, names, random.Random(seed))  # noqa: S311 - not a secret
                end = _drain(place, chosen.stale_limit)
            held = check(place.direct)
        finally:
            watch.stop()
        return _tell(place, producers, watch, held, end)


def _stream(
    place: Place,
    producers: list[Producer],
    watch: Watch,
    seconds: float,
    faults: Sequence[str],
    chance: random.Random,
) -> None:
    """Lets frames come for the time, with a fault every `FAULT_EVERY_S`, all kinds in an order of chance."""
    for producer in producers:
        producer.start()
    try:
        waiting: list[str] = []
        next_at_s = FAULT_EVERY_S
        while faults and next_at_s < seconds:
            time.sleep(max(0.0, next_at_s - watch.elapsed_s))
            waiting = waiting or chance.sample(faults, len(faults))
            name = waiting.pop()
            began_s = watch.elapsed_s
            said = FAULTS[name](place, chance)
            console.print(f"{began_s:6.0f} s  {name}: {said}")
            next_at_s = max(next_at_s + FAULT_EVERY_S, watch.elapsed_s + FAULT_EVERY_S / 2)
        time.sleep(max(0.0, seconds - watch.elapsed_s))
    finally:
        for producer in producers:
            producer.stop()


def _drain(place: Place, stale_limit_s: float) -> End:
    """Waits until the ledger has reached the log's end, and then until automation has brought the tables there."""
    began_s = time.monotonic()
    wanted = announced(place)
    wait_until(lambda: committed(place) == wanted, limit_s=DRAIN_LIMIT_S, what=f"{wanted} outcomes", interval_s=1)
    drained_s = time.monotonic() - began_s
    left_s = began_s + stale_limit_s - time.monotonic()
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: tables_are_current(place), limit_s=max(0.0, left_s), what="current tables", interval_s=1)
        return End(drained_s, time.monotonic() - began_s)
    return End(drained_s, None)


def _tell(place: Place, producers: list[Producer], watch: Watch, held: Held, end: End) -> int:
    sent: Counter[str] = sum((p.sent for p in producers), Counter())
    found = Counter({"frame": len(held.frames)}) + held.codes
    names = {frame["frame_id"] for frame in held.frames}
    table = Table(title="over time", title_justify="left")
    for column in ("s", "announced", "committed", "lag", "builds", "MB of each run"):
        table.add_column(column, justify="right")
    for sample in watch.samples:
        lag = "?" if None in (sample.announced, sample.committed) else str(sample.announced - sample.committed)
        cells = ("?" if n is None else str(n) for n in (sample.announced, sample.committed))
        table.add_row(f"{sample.at_s:.0f}", *cells, lag, str(sample.builds), " ".join(map(str, sample.rss_mb)))
    console.print(table)
    late = latencies_s(open_store(place.direct))
    summary = Table(title="in all", title_justify="left", show_header=False)
    for name, value in {
        "offsets": sum(held.ends.values()),
        "frames": len(held.frames),
        "dead letters": ", ".join(f"{code} {count}" for code, count in sorted(held.codes.items())),
        "gaps": dict(held.gap_reasons) or "none",
        "detection runs": ", ".join(f"{count} {status}" for status, count in sorted(place.run_counts().items())),
        "daemons killed": place.killed_daemons,
        "announced to committed, s": f"median {late[len(late) // 2]:.1f}, p95 {late[int(len(late) * 0.95)]:.1f}, "
        f"longest {late[-1]:.1f}",
        "drained after the end, s": f"{end.drained_s:.0f}",
        "tables current after the end, s": "not in time" if end.current_s is None else f"{end.current_s:.0f}",
        "builds": ", ".join(f"{count} {status}" for status, count in sorted(place.build_counts().items())),
        "most builds at a time": max((sample.builds for sample in watch.samples), default="?"),
        "most memory of a run, MB": max((mb for sample in watch.samples for mb in sample.rss_mb), default="?"),
    }.items():
        summary.add_row(name, str(value))
    console.print(summary)
    if found != sent or len(names) != len(held.frames):
        console.print(f"NOT what was sent: {dict(sent)}; found {dict(found)}, {len(names)} different frames")
        return 1
    if end.current_s is None:
        console.print("The tables still lacked something of the stream when their time was over.")
        return 1
    console.print("Every record ended in its right outcome, once; the tables and the audit agree.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
