"""The objects that all routes of the viewer share: one query session, the store, images, and marks of reviewed frames.

The session is replaced in the background when the ledger has new segments. A request reads through a cursor of one
session until it ends, so all parts of a page show the same moment.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request

from imgpipeline.contracts.records import RecordReference
from imgpipeline.contracts.times import Clock, find_timezone, utc_now
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.lake.days.day_catalog import open_catalog
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.follow import LostCheckpointError, follow
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.pictures import Pictures
from imgpipeline.web.viewer.queries import Zoned
from imgpipeline.web.viewer.reviewed import Reviews

AnswerT = TypeVar("AnswerT")
LOG = logging.getLogger(__name__)
_LOOK_S = 1.0
"""Interval between looks at the ledger."""
_MOST_AGE_S = 60.0
"""Age at which a session is replaced even without new segments, because tracks and events are not in the ledger."""
_QUERY_LIMIT_S = 30.0
_MEMORY = "500MB"
"""Memory limit of DuckDB if the settings have none; larger queries use the disk."""
_MOST_REMEMBERED = 200
"""Answers that are remembered per session."""
_LABELS = 'SELECT label FROM detections GROUP BY label ORDER BY min("timestamp"), label'

_DERIVED = "SELECT track_id FROM tracks WHERE false"
"""Makes the session list tracks and events now, so that its pages do not need the store for that."""
_STORE_PATIENCE_S = 5.0
MOST_STREAMS = 64
"""Clients of `/changes` at the same time; fewer than the server's connections, so that pages always answer."""
_DAGSTER_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class LakeState:
    """State of the server's session, and whether the store answers."""

    taken_at: datetime | None
    """When the current session was opened, UTC; None before the first one."""
    revision: int
    """Grows with each session, even across restarts of the server; 0 before the first one."""
    labels: tuple[str, ...]
    """All labels, by first detection; the position of a label determines its colour."""
    frames_behind: int
    """Frames in segments that are newer than the day tables."""
    problem: ImgpipelineError | None
    """Why the ledger cannot be followed; None if it can."""
    problem_since: datetime | None


@dataclass(slots=True)
class _Opened:
    """A session, and the number of requests that read it."""

    lake: LakeSession
    closing: contextlib.ExitStack
    answers: dict[Hashable, Any] = field(default_factory=dict)
    readers: int = 0
    is_replaced: bool = False


@dataclass(slots=True)
class SharedLake:
    """The session of a server. Thread-safe; `start` begins to follow the ledger."""

    store: ObjectStore
    settings: Settings
    clock: Clock = utc_now
    _state: LakeState = field(default_factory=lambda: LakeState(None, 0, (), 0, None, None))
    _opened: _Opened | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _looked: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _checkpoint: Checkpoint | None = None
    _is_due: bool = True
    _opened_s: float = 0.0

    @property
    def state(self) -> LakeState:
        """The current state."""
        return self._state

    def start(self, *, wait_s: float = 10.0) -> None:
        """Starts to follow the ledger, and waits up to `wait_s` seconds for the first session or its failure."""
        self._thread = threading.Thread(target=self._run, name="shared lake", daemon=True)
        self._thread.start()
        self._looked.wait(wait_s)

    def close(self) -> None:
        """Stops following. The session closes when its last request ends."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            opened, self._opened = self._opened, None
            if opened:
                self._replace(opened)

    @contextlib.contextmanager
    def reading(self, zone: str | None = None) -> Iterator[LakeSession]:
        """Opens the shared session for one request, with the days of a time zone.

        Yields:
            A cursor of the session. Requests whose queries take longer than 30 s in total are interrupted.

        Raises:
            TransientError: There is no session yet, or the queries took too long.
        """
        with self._lock:
            opened = self._opened
            if opened is None:
                raise self._state.problem or TransientError(
                    "The tables are being opened for the first time.", next_step="wait a moment; the page reloads"
                )
            opened.readers += 1
        try:
            with opened.lake.cursor(find_timezone(zone or "UTC")) as lake, _limited(lake):
                yield lake
        finally:
            with self._lock:
                opened.readers -= 1
                if opened.is_replaced and not opened.readers:
                    opened.closing.close()

    def remembered(self, lake: LakeSession, key: Hashable, make: Callable[[], AnswerT]) -> AnswerT:
        """Returns the answer that an earlier request computed from the same session, or computes it.

        `key` identifies the answer within the session and its time zone.
        """
        opened = self._opened
        if opened is None or opened.lake.snapshot is not lake.snapshot:
            return make()
        own_key = (key, lake.local and lake.local.zone)
        if (answer := opened.answers.get(own_key)) is None:
            answer = make()
            if len(opened.answers) < _MOST_REMEMBERED:
                opened.answers[own_key] = answer
        return cast("AnswerT", answer)

    def _run(self) -> None:
        while not self._stop.is_set():
            began_s = monotonic()
            try:
                self._advance()
                self._note(None)
            except ImgpipelineError as error:
                self._note(error)
            except Exception as error:  # boundary of the thread: every page shows the error, and the thread tries again
                LOG.exception("cannot follow the ledger")
                self._note(PermanentError(f"Unexpected error: {type(error).__name__}: {error}"))
            self._looked.set()
            self._stop.wait(max(_LOOK_S, monotonic() - began_s))  # spends at most half of the time on sessions

    def _advance(self) -> None:
        """Opens a new session if the ledger has new segments or the current session is old."""
        self._is_due = self._has_new_segments() or self._is_due or monotonic() - self._opened_s > _MOST_AGE_S
        if not self._is_due:
            return
        now = self.clock()
        settings = self.settings.model_copy(update={"duckdb_memory": self.settings.duckdb_memory or _MEMORY})
        with contextlib.ExitStack() as stack:
            lake = stack.enter_context(open_lake(self.store, settings=settings))
            labels = tuple(label for (label,) in lake.query(_LABELS).rows)
            with contextlib.suppress(PermanentError):  # pages that need a damaged table report it
                lake.query(_DERIVED)
            replacing = _Opened(lake, stack.pop_all())
        with self._lock:
            old, self._opened = self._opened, replacing
            # Based on the time, so that a page that stayed open across a restart notices that it is outdated.
            revision = max(self._state.revision + 1, int(now.timestamp() * 1000))
            self._state = LakeState(now, revision, labels, lake.snapshot.newer_frames, None, None)
            if old:
                self._replace(old)
        self._is_due, self._opened_s = False, monotonic()

    def _has_new_segments(self) -> bool:
        if self._checkpoint is None:
            self._checkpoint = open_catalog(self.store).checkpoint
            return True
        before = self._checkpoint
        try:
            for batch in follow(self.store, self._checkpoint, headers_only=True):
                self._checkpoint, self._is_due = batch.checkpoint, True
        except LostCheckpointError:
            self._checkpoint = None
            return True
        return self._checkpoint is not before

    def _note(self, problem: ImgpipelineError | None) -> None:
        state = self._state
        since = None if problem is None else state.problem_since or self.clock()
        self._state = replace(state, problem=problem, problem_since=since)

    def _replace(self, old: _Opened) -> None:
        """Closes a replaced session, now or with its last request; called under the lock."""
        old.is_replaced = True
        if not old.readers:
            old.closing.close()


@contextlib.contextmanager
def _limited(lake: LakeSession) -> Iterator[None]:
    is_late = threading.Event()

    def interrupt() -> None:
        is_late.set()
        lake.interrupt()

    timer = threading.Timer(_QUERY_LIMIT_S, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PermanentError:
        if is_late.is_set():
            raise TransientError(
                f"The query took longer than {_QUERY_LIMIT_S:g} s.", next_step="filter by a source, label or hour"
            ) from None
        raise
    finally:
        timer.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class ViewedSite:
    """The objects that all routes share."""

    settings: Settings
    store: ObjectStore
    """The object store. Calls give up after a few seconds, because a browser waits."""
    lake: SharedLake
    pictures: Pictures
    reviews: Reviews
    clock: Clock = utc_now
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server stops, so that streams end."""
    streams: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MOST_STREAMS))
    """Places for clients of `/changes`."""
    replaying: threading.Lock = field(default_factory=threading.Lock)
    """Held during a replay, because a plan only sees earlier replays that Kafka has acknowledged."""
    replayed: dict[RecordReference, str] = field(default_factory=dict)
    """What was said about each replay. The page of the dead letter shows it until the ledger has the outcome."""

    def page_zone(self, query: Zoned) -> str:
        """Returns the name of a page's time zone: the requested one, or the site's."""
        return query.timezone or self.settings.timezone

    def status(self) -> dict[str, Any]:
        """Returns the document of `/api/v1/status`."""
        state = self.lake.state
        problem = state.problem
        return {
            "snapshot": state.taken_at,
            "revision": state.revision,
            "frames_behind": state.frames_behind,
            "problem": problem and problem.message,
            "next": problem and problem.next_step,
            "problem_since": state.problem_since,
        }

    def run_url(self, run_id: str) -> str | None:
        """Returns the URL of a run in Dagster's UI; None if the UI is not configured or the run is not Dagster's."""
        url = self.settings.dagster_url
        return f"{url.rstrip('/')}/runs/{run_id}" if url and _DAGSTER_RUN.fullmatch(run_id) else None


async def _site_of(request: Request) -> ViewedSite:
    site: ViewedSite = request.app.state.site
    return site


Site = Annotated[ViewedSite, Depends(_site_of)]
"""The site, as an argument of a route."""


def open_site(settings: Settings, *, clock: Clock = utc_now, stopping: threading.Event | None = None) -> ViewedSite:
    """Opens a site; nothing is read yet.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    store = open_store(settings, patience_s=_STORE_PATIENCE_S)
    lake, pictures = SharedLake(store, settings, clock), Pictures(store, settings)
    return ViewedSite(settings, store, lake, pictures, Reviews(store), clock, stopping or threading.Event())
