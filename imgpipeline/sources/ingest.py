"""Publishes a source (`ingest_source`, `ingest_files`), several (`ingest_all`), or an input's (`IngestSessions`)."""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Protocol

from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board, SourceState, SourceWatch
from imgpipeline.sources.image_files import Skipped
from imgpipeline.sources.options import PublishOptions, default_options
from imgpipeline.sources.protocol import Captured, Source, SourceKind
from imgpipeline.sources.session import SourceSession
from imgpipeline.sources.storing import StoreTally
from imgpipeline.stream.send import FencedError

LOG = logging.getLogger(__name__)
MOST_SESSIONS = 64
"""Open sessions of `IngestSessions`; when another source needs one, the session that has been idle for longest ends."""
_MOST_REMEMBERED = 1_000


def ingest_source(
    settings: Settings,
    source: Source,
    *,
    stop: threading.Event | None = None,
    options: PublishOptions | None = None,
    store: ObjectStore | None = None,
    progress: Callable[[Totals], None] | None = None,
    watch: SourceWatch | None = None,
    tally: StoreTally | None = None,
) -> Totals:
    """Publishes a source until it ends or `stop` is set.

    Args:
        stop: Ends the session gracefully; None: the session lasts until the source ends.
        options: How to publish; None: the defaults of its kind.
        store: Where the images go; None: the store of the settings.
        progress: Called with the accounting after each captured item, and at the end.
        tally: Counts the images that were not stored before.

    Raises:
        ImgpipelineError: Source, store or Kafka cannot be used; the error says why.
        KeyboardInterrupt: Ctrl-C; frames captured before it are published first.
    """
    stop, chosen = stop or threading.Event(), options or default_options(source.kind)
    session = SourceSession(settings, source.name, source.kind, options=chosen, store=store, watch=watch, tally=tally)
    reason = "end of the source"
    drain_s: float | None = None
    try:
        for captured in source.capture(stop):
            session.offer(captured)
            if progress:
                progress(session.totals())
        if stop.is_set():
            reason, drain_s = "stopped", chosen.drain_s
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {type(error).__name__}"
        drain_s = chosen.drain_s
        raise
    finally:
        try:
            totals = session.close(reason, drain_s=drain_s)
        finally:
            if progress:
                progress(session.totals())
    return totals


class FiniteSource(Source, Protocol):
    """A source that reads files."""

    @property
    def expected(self) -> int | None:
        """How many frames it will yield; None: unknown."""

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Files, and parts of files, that were not announced so far."""


@dataclass(frozen=True, slots=True)
class FinishedIngest:
    """The result of an ingest of files."""

    source: str
    announced: int
    """Frames in Kafka, including those whose images were stored already, unless these are left out."""
    left_out: int
    """Frames that were not announced because their images were stored already."""
    failed: int
    """Files that are not images, and frames that could not be read or stored."""
    stored: int
    already_there: int
    """Images that an earlier ingest stored with the same bytes."""
    changed: int
    """Images stored in addition to another one of the same name and day, because the bytes differ."""
    size_bytes: int
    first_time: datetime | None
    """Earliest time of a frame, UTC; None if there are none."""
    last_time: datetime | None
    """Latest time of a frame, UTC; None if there are none."""
    skipped: tuple[Skipped, ...]


def ingest_files(
    settings: Settings,
    source: FiniteSource,
    *,
    options: PublishOptions | None = None,
    store: ObjectStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FinishedIngest:
    """Stores and announces the frames of a folder, a sequence or a video.

    Args:
        store: Where to put the images; None: the store of the settings.
        progress: Called with the number of announced frames and the total (0 if it is not known).

    Raises:
        ConfigurationError: The source has no frame, or a setting is wrong.
        KeyboardInterrupt: Ctrl-C; `progress` was last called with the number of announced frames.
        TransientError: The broker does not answer at the start.
    """
    tally, total = StoreTally(), source.expected or 0
    step = (lambda totals: progress(totals.announced, total)) if progress else None
    totals = ingest_source(settings, source, store=store, options=options, progress=step, tally=tally)
    return FinishedIngest(
        source=source.name,
        announced=totals.announced,
        left_out=totals.gated,
        failed=totals.failed,
        stored=tally.new,
        already_there=totals.announced + totals.gated - tally.new - tally.changed,
        changed=tally.changed,
        size_bytes=tally.size_bytes,
        first_time=min(tally.times, default=None),
        last_time=max(tally.times, default=None),
        skipped=tuple(source.skipped),
    )


@dataclass(frozen=True, slots=True)
class EndedSource:
    """How one source ended."""

    source: str
    totals: Totals | None
    """Its accounting, even if it failed; None if it never started."""
    error: ImgpipelineError | None
    """Why it failed; None if it did not fail."""


def ingest_all(
    settings: Settings, sources: Sequence[tuple[Source, PublishOptions]], stop: threading.Event, board: Board
) -> list[EndedSource]:
    """Publishes sources, each in its own thread, until all have ended or failed, or `stop` is set.

    A source that fails does not affect the others and does not restart.

    Returns:
        How each ended, in the order given.
    """

    def run(source: Source, options: PublishOptions) -> EndedSource:
        watch = board.watch(source.name, source.kind)
        error: ImgpipelineError | None = None
        last: dict[str, Totals] = {}
        try:
            progress = partial(last.__setitem__, "now")
            ingest_source(settings, source, stop=stop, options=options, watch=watch, progress=progress)
        except ImgpipelineError as failed:
            error = failed
        except Exception as failed:  # a defect ends only its own source, and is recorded
            LOG.exception("publishing %s", source.name, extra={"source": source.name})
            error = PermanentError(f"Publishing {source.name} failed: {type(failed).__name__}: {failed}.")
        is_taken = isinstance(error, FencedError)
        watch.change(SourceState.TAKEN_OVER if is_taken else SourceState.ENDED, error.message if error else None)
        return EndedSource(source.name, last.get("now"), error)

    with ThreadPoolExecutor(len(sources), thread_name_prefix="source") as pool:
        return list(pool.map(run, *zip(*sources, strict=True)))


@dataclass(slots=True, eq=False)
class _SharedSession:
    inner: SourceSession
    in_turn: Lock = field(default_factory=Lock)
    """Only one thread at a time may offer frames to a session."""
    ended: bool = False


class IngestSessions:
    """One session for each source of an input that delivers many, such as MQTT topics and HTTP paths; thread-safe.

    The sources are finite: `offer` waits while Kafka or the store is away, and nothing is dropped.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        options: PublishOptions | None = None,
        store: ObjectStore | None = None,
        board: Board | None = None,
    ) -> None:
        """Opens nothing yet: the first frame of a source opens its session.

        Args:
            options: How to publish; None: the defaults.
            store: Where the images go; None: the store of the settings.
        """
        self._settings = settings
        self._options = options or PublishOptions()
        self._store = store or open_store(settings, patience_s=0)  # the sessions wait for it, and say so once
        self._board = board

        self._lock = Lock()
        self._open: OrderedDict[str, _SharedSession] = OrderedDict()
        self._ended: list[tuple[str, Totals]] = []
        self._closed = False

    def offer(self, source: str, captured: Captured) -> None:
        """Takes an item of a source. Waits while the queue of that source is full.

        Raises:
            TransientError: Kafka does not answer and the source has no session yet, or the sessions are being closed.
            ImgpipelineError: The session of the source has failed; the next call opens a new one.
        """
        while True:
            session = self._session_of(source)
            try:
                with session.in_turn:
                    if not session.ended:
                        session.inner.offer(captured)
                        return
            except ImgpipelineError:
                self._forget(source, session)
                raise

    def offer_all(self, captured: Captured) -> None:
        """Offers an item to every open session; sessions that have failed are skipped."""
        with self._lock:
            sources = list(self._open)
        for source in sources:
            try:
                self.offer(source, captured)
            except ImgpipelineError as error:
                LOG.warning("%s: %s", source, error, extra={"source": source})

    def check(self) -> None:
        """Raises the error of a failed session, if there is one."""
        for session in list(self._open.values()):
            if session.inner.error:
                raise session.inner.error

    def totals(self) -> list[tuple[str, Totals]]:
        """Returns source and accounting of each open session, and of the last sessions that ended."""
        with self._lock:
            return [*self._ended, *((source, session.inner.totals()) for source, session in self._open.items())]

    def close(self, reason: str, *, drain_s: float | None = None) -> None:
        """Publishes the waiting frames, and ends all sessions.

        Args:
            drain_s: How long to wait for store and Kafka; None: without limit.

        Raises:
            ImgpipelineError: A session has failed; all others have been closed.
        """
        failed: ImgpipelineError | None = None
        with self._lock:
            self._closed = True
            while self._open:
                try:
                    self._end(*self._open.popitem(last=False), reason, drain_s)
                except ImgpipelineError as error:
                    failed = failed or error
        if failed:
            raise failed

    def abort(self) -> None:
        """Stops waiting for store and Kafka, and drops the frames that are not announced yet."""
        for session in list(self._open.values()):
            session.inner.abort()

    def _open_inner(self, source: str) -> SourceSession:
        kind = SourceKind.FINITE
        watch = self._board.watch(source, kind) if self._board else None
        return SourceSession(self._settings, source, kind, options=self._options, store=self._store, watch=watch)

    def _session_of(self, source: str) -> _SharedSession:
        with self._lock:
            if self._closed:
                raise TransientError("All sessions are being closed.", next_step="send the frame again later")
            if source not in self._open:
                while len(self._open) >= MOST_SESSIONS:
                    self._end_one()
                self._open[source] = _SharedSession(self._open_inner(source))
            self._open.move_to_end(source)
            return self._open[source]

    def _end_one(self) -> None:
        """Ends the session that has been idle for longest, if possible one without frames in flight."""
        idle = (source for source, session in self._open.items() if not session.inner.totals().in_flight)
        source = next(idle, None) or next(iter(self._open))
        try:
            self._end(source, self._open.pop(source), "another source needs the session", None)
        except ImgpipelineError as error:
            LOG.warning("%s: %s", source, error, extra={"source": source})

    def _end(self, source: str, session: _SharedSession, reason: str, drain_s: float | None) -> None:
        with session.in_turn:
            session.ended = True
        try:
            session.inner.close(reason, drain_s=drain_s)
        finally:
            self._ended = [*self._ended[-_MOST_REMEMBERED:], (source, session.inner.totals())]

    def _forget(self, source: str, session: _SharedSession) -> None:
        """Closes a failed session, unless another thread has done it; its frames stay in the accounts."""
        session.ended = True
        with self._lock:
            if self._open.get(source) is not session:
                return
            del self._open[source]
            self._ended = [*self._ended[-_MOST_REMEMBERED:], (source, session.inner.totals())]
        session.inner.abort()
        with contextlib.suppress(ImgpipelineError):  # its own error, which is raised already
            session.inner.close("failed")
