"""`python -m imgpipeline_tests.soak --minutes 10 --seed 7`: exits with 1 where anything is lost, doubled or stuck."""

import argparse
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
from imgpipeline_tests.soak.place import Place, open_place
from imgpipeline_tests.soak.producers import Producer, store_pictures
from imgpipeline_tests.soak.watching import Watch, announced, committed, latencies_s

SOURCES = ("gate", "yard", "street")
FAULT_EVERY_S = 20.0
DRAIN_LIMIT_S = 420.0
console = Console(width=120, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soaks, drains, proves, and says what was seen."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="repeats the faults of an earlier soak")
    parser.add_argument("--rate", type=float, default=5.0, help="records a second of each of the three sources")
    parser.add_argument("--keep", type=Path, help="a folder for servers and DAGSTER_HOME that stays, to look into")
    chosen = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    console.print(f"soak: {chosen.minutes:g} min, {len(SOURCES)} sources at {chosen.rate:g}/s each, --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, open_place(chosen.keep or Path(folder)) as place:
        store_pictures(place.direct)
        producers = [Producer(place.direct, source, chosen.rate) for source in SOURCES]
        watch = Watch(place)
        watch.start()
        try:
            _stream(place, producers, watch, chosen.minutes * 60, random.Random(seed))  # noqa: S311 - not a secret
            drained_s = _drain(place)
            held = check(place.direct)
        finally:
            watch.stop()
        return _tell(place, producers, watch, held, drained_s)


def _stream(place: Place, producers: list[Producer], watch: Watch, seconds: float, chance: random.Random) -> None:
    """Lets frames come for the time, with a fault every `FAULT_EVERY_S`, all kinds in an order of chance."""
    for producer in producers:
        producer.start()
    try:
        waiting: list[str] = []
        next_at_s = FAULT_EVERY_S
        while next_at_s < seconds:
            time.sleep(max(0.0, next_at_s - watch.elapsed_s))
            waiting = waiting or chance.sample(sorted(FAULTS), len(FAULTS))
            name = waiting.pop()
            began_s = watch.elapsed_s
            said = FAULTS[name](place, chance)
            console.print(f"{began_s:6.0f} s  {name}: {said}")
            next_at_s = max(next_at_s + FAULT_EVERY_S, watch.elapsed_s + FAULT_EVERY_S / 2)
        time.sleep(max(0.0, seconds - watch.elapsed_s))
    finally:
        for producer in producers:
            producer.stop()


def _drain(place: Place) -> float:
    """Waits until the ledger has reached the log's end; returns how long that took."""
    began_s = time.monotonic()
    wanted = announced(place)
    wait_until(lambda: committed(place) == wanted, limit_s=DRAIN_LIMIT_S, what=f"{wanted} outcomes", interval_s=1)
    return time.monotonic() - began_s


def _tell(place: Place, producers: list[Producer], watch: Watch, held: Held, drained_s: float) -> int:
    sent: Counter[str] = sum((p.sent for p in producers), Counter())
    found = Counter({"frame": len(held.frames)}) + held.codes
    names = {frame["frame_id"] for frame in held.frames}
    table = Table(title="over time", title_justify="left")
    for column in ("s", "announced", "committed", "lag", "MB of each run"):
        table.add_column(column, justify="right")
    for sample in watch.samples:
        lag = "?" if None in (sample.announced, sample.committed) else str(sample.announced - sample.committed)
        cells = ("?" if n is None else str(n) for n in (sample.announced, sample.committed))
        table.add_row(f"{sample.at_s:.0f}", *cells, lag, " ".join(map(str, sample.rss_mb)))
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
        "drained after the end, s": f"{drained_s:.0f}",
        "most memory of a run, MB": max((mb for sample in watch.samples for mb in sample.rss_mb), default="?"),
    }.items():
        summary.add_row(name, str(value))
    console.print(summary)
    if found != sent or len(names) != len(held.frames):
        console.print(f"NOT what was sent: {dict(sent)}; found {dict(found)}, {len(names)} different frames")
        return 1
    console.print("Every record ended in its right outcome, once; the tables and the audit agree.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
