"""A child process that works on one record at a time, so that a record which kills its process kills only this one.

The child does not outlive the process of the run. It starts to work only after its self-test has passed, so a later
crash is not the fault of a broken model or library alone. `crash_search` decides what a crash means for a record.
"""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

from imgpipeline.contracts.messages import FrameMessage, KafkaRecord
from imgpipeline.contracts.outcomes import RecordOutcome
from imgpipeline.detect.images import open_image_reader
from imgpipeline.detect.work import FrameWork, ReadFrame
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, utc_now
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import self_test

_START_LIMIT_S = 180.0
"""Loading a large model on a busy machine takes a while."""
_READ_LIMIT_S = 300.0
"""Longer than all retries of a read together: what takes longer hangs, and not because of the picture."""
_END_LIMIT_S = 10.0
_PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""
_PROGRAM = "from imgpipeline.detect.child import serve; serve({fd}, {parent})"


class ChildDiedError(Exception):
    """The process ended, or did not answer in time, while it processed a record.

    Attributes:
        how: `SIGSEGV`, `exit status 3`, `no answer within 60 s`.
        message: What the record says, if it was read that far.
    """

    def __init__(self, how: str, message: FrameMessage | None) -> None:
        super().__init__(how)
        self.how = how
        self.message = message


@dataclass(frozen=True, slots=True)
class _Ready:
    """The model is loaded and the self-test has passed."""


@dataclass(frozen=True, slots=True)
class _Looking:
    """A record's image was read; from now on, only the image can cause a crash."""

    message: FrameMessage
    """What the record says, without an image that it carries."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A record was processed."""

    outcome: RecordOutcome
    """Its outcome."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """The environment failed."""

    error: ImgpipelineError
    """The error to raise."""


class Child:
    """The child process, as the run sees it. Used by one thread, except for `kill`.

    Guarantees:
        It ends with the thread that started it, also if this process is killed (Linux), and at the latest when there is
        nobody left to answer.
    """

    def __init__(self, settings: Settings) -> None:
        """Starts it; `wait_until_ready` comes next.

        Args:
            settings: Where images are, which model, and the limits.
        """
        self._pipe, theirs = multiprocessing.Pipe()
        program = _PROGRAM.format(fd=theirs.fileno(), parent=os.getpid())
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                [sys.executable, "-c", program],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
            )
        with contextlib.suppress(OSError):  # it has already ended; the first answer will show it
            self._pipe.send(settings)

    def wait_until_ready(self) -> None:
        """Returns when it has loaded the model and passed the self-test.

        Raises:
            ImgpipelineError: The reason it is not ready: a wrong model or setting, or a failed self-test.
            TransientError: It ended or hung before it got a record.
        """
        try:
            self._receive(_START_LIMIT_S, None)
        except ChildDiedError as death:
            raise TransientError(
                f"The process for single records ended before it got one: {death.how}.",
                next_step="check this run's stderr, and whether the machine has free memory",
            ) from None

    def work(self, record: KafkaRecord, *, max_detect_s: float) -> RecordOutcome:
        """Processes one record in the child.

        Args:
            record: As it was fetched.
            max_detect_s: How long decoding and detection may take once the image is read.

        Raises:
            ChildDiedError: It ended, or took longer. Start another child.
            ImgpipelineError: The environment failed: store, memory, model.
        """
        with contextlib.suppress(OSError):  # it has already ended; the answer will show it
            self._pipe.send(record)
        message, limit_s = None, _READ_LIMIT_S
        while True:
            answer = self._receive(limit_s, message)
            if isinstance(answer, _Done):
                return answer.outcome
            if isinstance(answer, _Looking):
                message, limit_s = answer.message, max_detect_s

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def _receive(self, limit_s: float, message: FrameMessage | None) -> object:
        try:
            if not self._pipe.poll(limit_s):
                self.kill()
                if message is None:
                    raise TransientError(
                        f"The record could not be read within {limit_s:.0f} s.",
                        next_step="check the object store; the next run tries again",
                    )
                raise ChildDiedError(f"no answer within {limit_s:g} s", message)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise ChildDiedError(self._how_it_ended(), message) from None
        if isinstance(answer, _Failed):
            raise answer.error
        return answer

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its connection"
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


@dataclass(frozen=True, slots=True)
class _ToldWork(FrameWork):
    """Work that reports when detection starts, since a record can cause a crash only from then on."""

    tell: Callable[[object], None] = field(kw_only=True)
    """Sends to the run."""

    def look(self, read: ReadFrame) -> RecordOutcome:
        """Reports the start, then decodes and detects like `FrameWork.look`."""
        self.tell(_Looking(replace(read.message, image=None)))
        return FrameWork.look(self, read)


def serve(fd: int, parent: int) -> None:
    """Processes records until the other side closes the connection; this is all that the child does.

    Args:
        fd: The connection.
        parent: Process id of the run.
    """
    _end_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run gets the signal too, and finishes its work
    faulthandler.enable()
    with contextlib.suppress(EOFError, OSError), Connection(fd) as pipe:
        try:
            work = _prepare(pipe.recv(), pipe.send)
        except Exception as error:  # noqa: BLE001 - raised in the run
            pipe.send(_Failed(_portable(error)))
            return
        pipe.send(_Ready())
        while True:
            record = pipe.recv()
            try:
                answer: object = _Done(work.work(record))
            except Exception as error:  # noqa: BLE001 - raised in the run
                answer = _Failed(_portable(error))
            pipe.send(answer)


def _prepare(settings: Settings, tell: Callable[[object], None]) -> FrameWork:
    detector = load_configured_detector(settings)
    self_test(detector)
    images = open_image_reader(settings, open_store(settings))
    return _ToldWork(settings, images, detector, utc_now, tell=tell)


def _portable(error: Exception) -> ImgpipelineError:
    """Returns an error that can be pickled: of the same family, with its message and next step."""
    if not isinstance(error, ImgpipelineError):
        return PermanentError(f"{type(error).__name__}: {error}")
    family = TransientError if isinstance(error, TransientError) else PermanentError
    return family(error.message, next_step=error.next_step)


def _end_with(parent: int) -> None:
    """Has the kernel kill this process when the run's ends, even in the middle of a decoder."""
    with contextlib.suppress(OSError, AttributeError):  # not on Linux: it ends when it next answers
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
