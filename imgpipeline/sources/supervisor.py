"""Runs all sources of `sources.toml`: restarts those that fail, follows changes of the file, and stops gracefully.

Each source has its own thread. Each camera also has its own process, because capturing can hang or crash. So a source
that fails does not affect the others. A source that another process has taken over runs again once the sessions of that
process have ended.
"""

import contextlib
import logging
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from kafka import TopicPartition

from imgpipeline.contracts.messages import SESSION, FrameMessage
from imgpipeline.contracts.notices import Notice, NoticeKind, parse_record
from imgpipeline.contracts.times import back_off_s, format_time, utc_now
from imgpipeline.errors import BadInputError, ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, SourceState, SourceWatch
from imgpipeline.sources.configuration import AnyConfig, HttpConfig, MqttConfig, load_sources
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import SourceKind
from imgpipeline.sources.watched_folder import WatchedFolder
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import to_record
from imgpipeline.stream.send import FencedError

LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_HEALTHY_S = 60.0
"""A source that ran for this long before it failed restarts after the first pause."""
_GRACE_S = 40.0
"""Longest wait for the frames in flight of sources that are stopped."""
_POLL_S = 0.5
_UNSEEN_S = 60.0
"""How long to wait for a first sign of the other process. An MQTT session without messages gives none."""
_SILENT_S = 900.0
"""A live session without frames sends an account every ten minutes."""

Run = Callable[[AnyConfig, Board, threading.Event], None]
"""Publishes one source until it ends or the event is set; raises the error that made it fail."""
ServeHttp = Callable[[Settings, HttpConfig, PublishOptions, threading.Event, Board], None]


def runner(settings: Settings, serve_http: ServeHttp) -> Run:
    """Returns the function that runs configured sources.

    Args:
        serve_http: Runs HTTP sources; passed in because `sources` does not import `web`.
    """

    def run(config: AnyConfig, board: Board, stop: threading.Event) -> None:
        if isinstance(config, MqttConfig):
            own, subscription = config.settings(settings), config.subscription()
            options, watch = config.options(settings, SourceKind.FINITE), board.watch(config.name, SourceKind.FINITE)
            ingest = partial(ingest_mqtt, own, subscription, stop=stop, options=options, board=board, watch=watch)
            run_again(settings, ingest, watch, subscription.delivers, stop)
        elif isinstance(config, HttpConfig):
            board.watch(config.name, SourceKind.FINITE).change(SourceState.ONLINE)
            serve_http(settings, config, config.options(settings, SourceKind.FINITE), stop, board)
        else:
            source = config.open(settings)
            options, watch = config.options(settings, source.kind), board.watch(source.name, source.kind)
            if isinstance(source, WatchedFolder):
                watch.ignored = lambda: len(source.ignored)
            once = partial(ingest_source, settings, source, stop=stop, options=options, watch=watch)
            run_again(settings, once, watch, lambda message: message.source == source.name, stop)

    return run


@dataclass(slots=True)
class _Worker:
    """The thread of one source."""

    config: AnyConfig
    run: Run
    board: Board
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._keep_running, name=f"source {self.config.name}", daemon=True)
        self.thread.start()

    def _keep_running(self) -> None:
        failures = 0
        while not self.stop.is_set():
            started_s = monotonic()
            try:
                self.run(self.config, self.board, self.stop)
            except Exception as error:  # the outer boundary of one source: recorded and retried
                said = str(error) if isinstance(error, ImgpipelineError) else f"{type(error).__name__}: {error}"
                fields, is_known = {"source": self.config.name}, isinstance(error, ImgpipelineError)
                LOG.exception("%s failed: %s", self.config.name, said, exc_info=not is_known, extra=fields)
                self._change(SourceState.RESTARTING, said)
            else:
                self._change(SourceState.ENDED)
                return
            failures = 1 if monotonic() - started_s > _HEALTHY_S else failures + 1
            pause_s = back_off_s(failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            self.stop.wait(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads restarts, keeps no secret

    def _change(self, state: SourceState, error: str | None = None) -> None:
        self.board.watch(self.config.name, SourceKind.LIVE).change(state, error)


class Supervisor:
    """Keeps the sources of a file running."""

    def __init__(self, path: Path, run_source: Run, board: Board, *, rescan_s: float = 2.0) -> None:
        """Reads the file for the first time.

        Raises:
            ConfigurationError: The file is not valid.
        """
        self._path = path
        self._run_source = run_source
        self._board = board
        self._rescan_s = rescan_s
        self._wanted = load_sources(path)
        self._version = self._file_version()
        self._workers: dict[str, _Worker] = {}

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set or every source has ended, then waits for frames in flight.

        A changed file restarts only the sources whose entries changed. A file that is not valid is refused as a whole,
        and all sources continue unchanged.
        """
        self._apply()
        while not stop.wait(self._rescan_s) and (not self._workers or self._is_running()):
            if (version := self._file_version()) != self._version:
                self._version = version
                self._reload()
        self._end(list(self._workers))

    def _is_running(self) -> bool:
        return any(worker.thread.is_alive() for worker in self._workers.values())

    def _reload(self) -> None:
        try:
            self._wanted = load_sources(self._path)
        except ImgpipelineError as error:
            LOG.error("the changed file is refused: %s", error)  # noqa: TRY400 - a stack adds nothing
            return
        self._apply()

    def _apply(self) -> None:
        wanted = {config.name: config for config in self._wanted}
        changed = [name for name, worker in self._workers.items() if wanted.get(name) != worker.config]
        self._end(changed)
        for name in changed:
            if name not in wanted:
                self._board.remove(name)
        for name, config in wanted.items():
            if name not in self._workers:
                LOG.info("starting %s (%s)", name, config.kind, extra={"source": name})
                self._workers[name] = _Worker(config, self._run_source, self._board)
                self._workers[name].start()

    def _end(self, names: list[str]) -> None:
        ending = [self._workers.pop(name) for name in names]
        for worker in ending:
            LOG.info("stopping %s", worker.config.name, extra={"source": worker.config.name})
            worker.stop.set()
        deadline_s = monotonic() + _GRACE_S
        for worker in ending:
            worker.thread.join(max(0.0, deadline_s - monotonic()))

    def _file_version(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def run_again(
    settings: Settings,
    run: Callable[[], object],
    watch: SourceWatch,
    belongs: Callable[[FrameMessage | Notice], bool],
    stop: threading.Event,
    *,
    silent_s: float = _SILENT_S,
) -> None:
    """Runs a source until it ends. While another process publishes it, waits for the end of that process's sessions.

    A session reports its end in Kafka. One that was killed cannot, so a long silence counts as its end too.

    Args:
        run: Publishes the source; raises what it raises, except `FencedError`.
        watch: Shows which session has taken the source over.
        belongs: Whether a record from Kafka is one of this source.
        silent_s: Sessions that have sent nothing for this long count as ended.
    """
    losses = 0
    while True:
        started_s = monotonic()
        try:
            run()
        except FencedError as error:
            # It doubles, so two processes without frames do not take the source from each other endlessly.
            losses = losses + 1 if monotonic() - started_s < silent_s else 1
            unseen_s = back_off_s(losses, _UNSEEN_S, math.inf)
            LOG.warning("%s: %s", watch.source, error, extra={"source": watch.source})
            records = _follow(settings, error.ends, stop)
            why = _wait_for_end(records, watch, belongs, unseen_s=unseen_s, silent_s=silent_s)
            if why is None:
                return
            LOG.warning("%s: %s, so the source is taken back", watch.source, why, extra={"source": watch.source})
            watch.change(SourceState.STARTING)
        else:
            return


def _wait_for_end(
    records: Iterable[FrameMessage | Notice | None],
    watch: SourceWatch,
    belongs: Callable[[FrameMessage | Notice], bool],
    *,
    unseen_s: float,
    silent_s: float,
) -> str | None:
    """Returns why the other process counts as ended; None if there are no more records, because the source stops."""
    since, heard_s, sessions = format_time(utc_now())[:19] + "Z", monotonic(), set[str]()

    def show(by: str) -> None:
        watch.change(SourceState.TAKEN_OVER, f"taken over by {by} since {since}")
        LOG.warning("%s: taken over by %s since %s", watch.source, by, since, extra={"source": watch.source})

    show("another process")
    for record in records:
        session = _session_of(record) if record else ""
        if record and session and (belongs(record) or session in sessions):
            heard_s = monotonic()
            if isinstance(record, Notice) and record.kind is NoticeKind.ENDED:
                sessions.discard(session)
                if not sessions:
                    return f"session {session} has ended"
            elif session not in sessions:
                sessions.add(session)
                reason = record.reason if isinstance(record, Notice) else None
                show(f"session {session}" + (f" ({reason})" if reason else ""))
        limit_s = silent_s if sessions else unseen_s
        if monotonic() - heard_s > limit_s:
            return f"the other process has sent nothing for {limit_s:g} s"
    return None


def _session_of(record: FrameMessage | Notice) -> str:
    return record.session if isinstance(record, Notice) else str(record.attributes.get(SESSION) or "")


def _follow(
    settings: Settings, ends: Mapping[tuple[str, int], int], stop: threading.Event
) -> Iterator[FrameMessage | Notice | None]:
    """Yields the records from the given offsets on, or if none is given the new ones; None while there is nothing."""
    topics = {settings.kafka_topic, settings.notices_topic}
    while not stop.is_set():
        try:
            with open_consumer(settings, auto_offset_reset="latest") as consumer:
                known = [(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()]
                consumer.assign([TopicPartition(*at) for at in ends or known])
                for at, end in ends.items():
                    consumer.seek(TopicPartition(*at), end)
                while not stop.is_set():
                    for batch in consumer.poll(timeout_ms=round(1000 * _POLL_S)).values():
                        for record in batch:
                            with contextlib.suppress(BadInputError):
                                yield parse_record(to_record(record))
                    yield None
        except ImgpipelineError as error:  # Kafka is away, and with it the other process
            LOG.info("%s", error)
            yield None
            stop.wait(_POLL_S)
