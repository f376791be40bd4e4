"""Decodes and detects images one by one in a child process, to find the record that kills it.

The run reads the record and its image; only the image can end a process, in a native decoder or in the model.

A record is blamed if the process dies at it twice in a row, the second time right after a start and a self-test, and
if another new process then passes the self-test. Occasional kills by an operator therefore cause no dead letter. A
machine that repeatedly runs out of memory at one image does cause one, because this looks the same as an image that
needs too much memory.
"""

import contextlib
import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from imgpipeline.contracts.outcomes import RecordOutcome
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.work import FrameWork, ReadFrame, open_image_reader
from imgpipeline.errors import BadInputError, DeadLetterCode, ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import self_test

_log = logging.getLogger(__name__)
_DEATHS = 2
"""How often the process dies at a record before the record is blamed."""
_START_LIMIT_S = 180.0
"""Loading a large model on a busy machine takes a while."""
_END_LIMIT_S = 10.0
_PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""
_PROGRAM = "from imgpipeline.detect.crash_search import serve; serve({fd}, {parent})"


class ChildDiedError(Exception):
    """The process ended, or did not answer in time: `SIGSEGV`, `exit status 3`, `no answer within 60 s`."""


class Child:
    """The run's side of the child process. Used by one thread, except for `kill`.

    Guarantees:
        The process ends with the thread that started it, even if this process is killed (Linux; elsewhere when it next
        sends an answer).
    """

    def __init__(self, settings: Settings) -> None:
        """Starts the process; call `wait_until_ready` next."""
        self._pipe, theirs = multiprocessing.Pipe()
        program = _PROGRAM.format(fd=theirs.fileno(), parent=os.getpid())
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                [sys.executable, "-c", program],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
            )
        self._settings = settings

    def wait_until_ready(self) -> None:
        """Waits until the process has loaded the model and passed the self-test.

        Raises:
            ImgpipelineError: The model or a setting is wrong, or the self-test failed.
            TransientError: The process ended or hung.
        """
        try:
            self._ask(self._settings, _START_LIMIT_S)
        except ChildDiedError as death:
            raise TransientError(
                f"The process for single records ended before it received a record: {death}.",
                next_step="check this run's stderr, and whether the machine has free memory",
            ) from None

    def look(self, read: ReadFrame, *, max_detect_s: float) -> RecordOutcome:
        """Decodes an image and detects objects in the child.

        Args:
            max_detect_s: How long this may take.

        Raises:
            ChildDiedError: The process ended or took too long. Start another child.
            ImgpipelineError: The environment failed: memory, model.
        """
        outcome: RecordOutcome = self._ask(read, max_detect_s)
        return outcome

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()

    def _ask(self, message: object, limit_s: float) -> Any:
        """Sends a message and returns the answer to it; kills a process that takes or answers it too late."""
        watch = threading.Timer(limit_s, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            self._pipe.send(message)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            is_late, how = watch.finished.is_set(), self._how_it_ended()
            raise ChildDiedError(f"no answer within {limit_s:g} s" if is_late else how) from None
        finally:
            watch.cancel()
        if isinstance(answer, ImgpipelineError):
            raise answer
        return answer

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its connection"
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def serve(fd: int, parent: int) -> None:
    """Runs in the child: decodes and detects until the run closes the connection. It answers None once it is ready."""
    _end_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run receives the signal too, and ends the child when it is done
    faulthandler.enable()
    with contextlib.suppress(EOFError, OSError), Connection(fd) as pipe:
        try:
            work = _prepare(pipe.recv())
        except Exception as error:  # noqa: BLE001 - raised in the run
            pipe.send(_portable(error))
            return
        pipe.send(None)
        while True:
            read = pipe.recv()
            try:
                answer: object = work.look(read)
            except Exception as error:  # noqa: BLE001 - raised in the run
                answer = _portable(error)
            pipe.send(answer)


def _prepare(settings: Settings) -> FrameWork:
    detector = load_configured_detector(settings)
    self_test(detector)
    return FrameWork(settings, open_image_reader(settings, open_store(settings)), detector, utc_now)


def _portable(error: Exception) -> ImgpipelineError:
    """Returns an error of the same family that can be pickled, with the message and next step."""
    if not isinstance(error, ImgpipelineError):
        return PermanentError(f"{type(error).__name__}: {error}")
    family = TransientError if isinstance(error, TransientError) else PermanentError
    return family(error.message, next_step=error.next_step)


def _end_with(parent: int) -> None:
    """Makes the kernel kill this process when the run's process ends, even in the middle of a decoder."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux: the process ends when it next answers
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


@dataclass(slots=True)
class CarefulRecordPool:
    """A `RecordPool` that processes one record at a time in a child process.

    Ends the run once a record is blamed, or after enough records to include the one that killed earlier runs. By then
    the ledger's end has moved, so the next run works at full speed.

    Guarantees:
        A record that kills its process becomes a dead letter `PROCESS_CRASHED`. The records around it keep their own
        outcomes.
    """

    settings: Settings
    work: FrameWork
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
        # The record that killed a run is at most this far after the ledger's end: the records read ahead, the segment
        # being collected, and the segment being put.
        self.most_records = self.settings.prefetch_images + 2 * self.settings.segment_max_records
        self._thread = ThreadPoolExecutor(1, "careful")

    def submit(self, record: KafkaRecord) -> "Future[RecordOutcome]":
        """Queues a record; returns at once."""
        outcome = self._thread.submit(self._outcome_of, record)
        self._submitted += 1
        if self._submitted >= self.most_records:
            self.end_run("careful")
        return outcome

    def close(self) -> None:
        """Kills the process and abandons unfinished records."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._child is not None:
                self._child.kill()

    def _outcome_of(self, record: KafkaRecord) -> RecordOutcome:
        self._check_open()
        read = self.work.read(record)
        if not isinstance(read, ReadFrame):
            return read
        deaths: list[ChildDiedError] = []
        while len(deaths) < _DEATHS:
            try:
                return self._ready_child().look(read, max_detect_s=self.settings.max_detect_s)
            except ChildDiedError as death:
                self._child = None
                self._check_open()
                deaths.append(death)
                where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                _log.warning("The process of the record %s/%s/%s ended: %s.", *where.values(), death, extra=where)
        self._ready_child()
        self.end_run("crash")
        first, last = deaths
        error = BadInputError(
            DeadLetterCode.PROCESS_CRASHED,
            f"A process that worked on only this record ended twice: {first}; then, right after a restart: "
            f"{last}. A new process passes the self-test.",
        )
        return self.work.bury(record, read.message, error)

    def _ready_child(self) -> Child:
        """Returns the process, restarted if it has died. Only the pool's own thread calls this."""
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
