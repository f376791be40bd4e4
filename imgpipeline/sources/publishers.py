"""One publisher for each source name of an input that delivers many sources, such as MQTT topics and HTTP paths."""

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board
from imgpipeline.sources.images import ImageStore
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, SourceKind
from imgpipeline.sources.publisher import Publisher

LOG = logging.getLogger(__name__)
MOST_PUBLISHERS = 64
"""Sessions at a time; if another source needs one, the session that has been idle for longest ends."""
_MOST_REMEMBERED = 1_000


@dataclass(slots=True, eq=False)
class _Session:
    publisher: Publisher
    in_turn: Lock = field(default_factory=Lock)
    """A publisher is offered frames by one thread at a time."""
    ended: bool = False


class Publishers:
    """Opens a session for each source on demand. All methods may be called from several threads.

    The sources are finite: offering waits while Kafka or the store is away, and nothing is dropped.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        options: PublishOptions | None = None,
        store: ImageStore | None = None,
        board: Board | None = None,
        most: int = MOST_PUBLISHERS,
    ) -> None:
        """Prepares; the first frame of a source opens its session.

        Args:
            settings: Store and topic.
            options: How to publish.
            store: Where the images go; None: the store of the settings.
            board: Told what happens to each source.
            most: Sessions at a time.
        """
        self._settings = settings
        self._options = options or PublishOptions()
        self._store = store
        self._board = board
        self._most = most
        self._lock = Lock()
        self._open: OrderedDict[str, _Session] = OrderedDict()
        self._ended: list[tuple[str, Totals]] = []
        self._closed = False

    def offer(self, source: str, captured: Captured) -> None:
        """Takes what a source yielded. Waits while the queue of that source is full.

        Raises:
            TransientError: Kafka does not answer and the source has no session yet, or all sessions are being ended.
            ImgpipelineError: The session of the source has failed; the next call opens another one.
        """
        while True:
            session = self._session_of(source)
            try:
                with session.in_turn:
                    if not session.ended:
                        session.publisher.offer(captured)
                        return
            except ImgpipelineError:
                self._forget(source, session)
                raise

    def offer_all(self, captured: Captured) -> None:
        """Offers the same item to every source that has a session; sessions that have failed are skipped."""
        with self._lock:
            sources = list(self._open)
        for source in sources:
            try:
                self.offer(source, captured)
            except ImgpipelineError as error:
                LOG.warning("%s: %s", source, error)

    def check(self) -> None:
        """Raises the error of a session that has failed, if there is one."""
        for session in list(self._open.values()):
            if session.publisher.error:
                raise session.publisher.error

    def totals(self) -> list[tuple[str, Totals]]:
        """Returns source and accounting of the open sessions and of the last ones that have ended."""
        with self._lock:
            return [*self._ended, *((source, session.publisher.totals()) for source, session in self._open.items())]

    def close(self, reason: str, *, drain_s: float | None = None) -> None:
        """Ends all sessions; what waits is published first.

        Args:
            reason: Why, for the notices.
            drain_s: How long to wait for store and Kafka; None: for as long as it takes.

        Raises:
            ImgpipelineError: A session has failed; the others have ended before.
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
        """Stops waiting for store and Kafka: what is not announced yet is dropped."""
        for session in list(self._open.values()):
            session.publisher.abort()

    def _open_publisher(self, source: str) -> Publisher:
        kind = SourceKind.FINITE
        watch = self._board.watch(source, kind) if self._board else None
        return Publisher(self._settings, source, kind, options=self._options, store=self._store, watch=watch)

    def _session_of(self, source: str) -> _Session:
        with self._lock:
            if self._closed:
                raise TransientError("The sessions of all sources are being ended.", next_step="send it again later")
            if source not in self._open:
                while len(self._open) >= self._most:
                    self._end_one()
                self._open[source] = _Session(self._open_publisher(source))
            self._open.move_to_end(source)
            return self._open[source]

    def _end_one(self) -> None:
        """Ends the session that had no frame for longest; one with frames on their way only if all have some."""
        idle = (source for source, session in self._open.items() if not session.publisher.totals().in_flight)
        source = next(idle, None) or next(iter(self._open))
        try:
            self._end(source, self._open.pop(source), "another source needs the place", None)
        except ImgpipelineError as error:
            LOG.warning("%s: %s", source, error)

    def _end(self, source: str, session: _Session, reason: str, drain_s: float | None) -> None:
        with session.in_turn:
            session.ended = True
        try:
            session.publisher.close(reason, drain_s=drain_s)
        finally:
            self._ended = [*self._ended[-_MOST_REMEMBERED:], (source, session.publisher.totals())]

    def _forget(self, source: str, session: _Session) -> None:
        session.ended = True
        with self._lock:
            if self._open.get(source) is session:
                del self._open[source]
        session.publisher.abort()
