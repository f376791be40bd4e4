"""What is seen while the soak runs: how far log and ledger are, and what memory the runs take."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from imgpipeline.errors import ImgpipelineError
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.stream.log import read_log
from imgpipeline_tests.daily.looking import stale_days
from imgpipeline_tests.faults.invariant import unpack
from imgpipeline_tests.soak.place import Place

_EVERY_S = 10.0


@dataclass(frozen=True)
class Sample:
    """One look."""

    at_s: float
    """Seconds since the beginning."""
    announced: int | None
    """Records in the log; None while the broker did not answer."""
    committed: int | None
    """Offsets in the ledger; None while the store did not answer."""
    builds: int
    """Builds of tables that wait or run."""
    rss_mb: tuple[int, ...]
    """Resident memory of each detection run at work, in MB."""


@dataclass(frozen=True)
class End:
    """How long it took after the stream had stopped."""

    drained_s: float
    """Until the ledger had every record, in seconds."""
    current_s: float | None
    """Until the day tables had all of the ledger, in seconds; None where that was not in time."""


@dataclass
class Watch:
    """Looks every few seconds, in a thread."""

    place: Place
    samples: list[Sample] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look."""
        self._thread = threading.Thread(target=self._watch, name="watch")
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(120)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_s

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.samples.append(self.look())

    def look(self) -> Sample:
        """Returns what there is to be seen now."""
        rss = tuple(sorted(filter(None, (_rss_mb(pid) for pid in self.place.run_processes()))))
        return Sample(self.elapsed_s, announced(self.place), committed(self.place), self.place.live_builds(), rss)


def announced(place: Place) -> int | None:
    """Returns how many records the log has, or None where the broker does not answer."""
    try:
        return sum(log.log_end for log in read_log(place.direct))
    except ImgpipelineError:
        return None


def committed(place: Place) -> int | None:
    """Returns how many offsets the ledger has, or None where the store does not answer."""
    try:
        return sum(end.offset for end in fix_ends(open_store(place.direct)).values())
    except ImgpipelineError:
        return None


def tables_are_current(place: Place) -> bool:
    """Tells whether the day tables have everything that the ledger has."""
    store = open_store(place.direct)
    try:
        return not stale_days(store)
    except ImgpipelineError:
        return False


def latencies_s(store: ObjectStore) -> list[float]:
    """Returns the seconds from announcement to segment of every frame, sorted; its time was then the frame's own."""
    found: list[float] = []
    for info in store.list_objects("metadata"):
        header, *lines = unpack(store.get(info.key))
        created_at = _seconds(header["created_at"])
        found += [created_at - _seconds(line["frame"]["timestamp"]) for line in lines if "frame" in line]
    return sorted(found)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _rss_mb(pid: int) -> int | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return None
    return pages * 4096 // 2**20
