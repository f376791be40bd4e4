"""Works record by record in a child process, to find the record that kills it.

A record is blamed if the process dies at it twice in a row, the second time freshly started and after a self-test, and
if another fresh process then passes the self-test again. Occasional kills by an operator therefore cause no dead
letter. A machine that repeatedly runs out of memory at one image does: this cannot be told from an image that needs too
much memory.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from imgpipeline.contracts.messages import KafkaRecord
from imgpipeline.contracts.outcomes import RecordOutcome
from imgpipeline.detect.child import Child, ChildDiedError
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.settings import Settings

_log = logging.getLogger(__name__)
_DEATHS = 2
"""At one record, before it is blamed."""


@dataclass(slots=True)
class CarefulRecordPool:
    """A `RecordPool` that processes one record at a time in a child process.

    It ends the run once a record was blamed, or after enough records to include the one that killed earlier runs. By
    then the ledger's end has moved, so the next run is a fast one again.

    Guarantees:
        A record that kills its process becomes a dead letter `PROCESS_CRASHED`; its neighbours keep their own outcomes.
    """

    settings: Settings
    """The limits, and the settings of the process."""
    work: FrameWork
    """Makes the dead letters."""
    end_run: Callable[[str], None]
    """Called with a reason when the run should end normally."""
    most_records: int = field(init=False)
    """Number of records after which the run should end."""
    _thread: ThreadPoolExecutor = field(init=False)
    _closed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _child: Child | None = None
    _submitted: int = 0

    def __post_init__(self) -> None:
        # Between the ledger's end and what a run was looking at when it died lie the records that it had read ahead,
        # a segment in the making, and one that was being put.
        self.most_records = self.settings.prefetch_images + 2 * self.settings.segment_max_records
        self._thread = ThreadPoolExecutor(1, "careful")

    def submit(self, record: KafkaRecord) -> "Future[RecordOutcome]":
        """Queues a record; returns at once."""
        outcome: Future[RecordOutcome] = Future()
        self._thread.submit(self._work, record, outcome)
        self._submitted += 1
        if self._submitted >= self.most_records:
            self.end_run("careful")
        return outcome

    def close(self) -> None:
        """Ends the process and abandons unfinished records."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._child is not None:
                self._child.kill()

    def _work(self, record: KafkaRecord, outcome: "Future[RecordOutcome]") -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(self._outcome_of(record))
        except BaseException as error:  # noqa: BLE001 - reaches the run through the future
            outcome.set_exception(error)

    def _outcome_of(self, record: KafkaRecord) -> RecordOutcome:
        deaths: list[ChildDiedError] = []
        while len(deaths) < _DEATHS:
            try:
                return self._ready_child().work(record, max_detect_s=self.settings.max_detect_s)
            except ChildDiedError as death:
                self._child = None
                self._check_open()
                deaths.append(death)
                where = f"{record.topic}/{record.partition}/{record.offset}"
                _log.warning("The process that worked on the record %s ended: %s.", where, death.how)
        self._ready_child()
        self.end_run("crash")
        first, last = deaths
        error = BadInputError(
            DeadLetterCode.PROCESS_CRASHED,
            f"The process that worked on this record alone ended twice: {first.how}; then, freshly started: "
            f"{last.how}. A new one passes the self-test.",
        )
        return self.work.bury(record, last.message, error)

    def _ready_child(self) -> Child:
        """Returns the process, restarted if it has died; only this pool's own thread starts it."""
        child = self._child
        if child is None:
            with self._lock:
                self._check_open()
                child = self._child = Child(self.settings)
            try:
                child.wait_until_ready()
            except BaseException:
                child.kill()
                self._child = None
                self._check_open()
                raise
        return child

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CancelledError
