"""Runs all sources of `sources.toml`: restarts those that fail, follows changes of the file, and stops gracefully.

Each source has its own thread. Each camera also has its own process, because capturing can hang or crash. So a source
that fails does not affect the others.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from imgpipeline.errors import ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.configuration import AnyConfig, HttpConfig, MqttConfig, load_sources
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import SourceKind
from imgpipeline.sources.publish import publish
from imgpipeline.sources.takeover import run_again
from imgpipeline.sources.watched_folder import WatchedFolder

LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_HEALTHY_S = 60.0
"""A source that ran for this long before it failed restarts after the first pause."""

Run = Callable[[threading.Event], None]
"""Publishes one source until it ends or the event is set; raises the error that made it fail."""
Build = Callable[[AnyConfig, Board], Run]
"""Prepares a source to run."""
ServeHttp = Callable[[Settings, HttpConfig, PublishOptions, threading.Event, Board], None]
"""Serves an HTTP source until the event is set."""


def builder(settings: Settings, serve_http: ServeHttp) -> Build:
    """Returns the function that prepares sources to run.

    Args:
        settings: Defaults of all sources.
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
            once = partial(publish, settings, source, stop=stop, options=options, watch=watch)
            run_again(settings, once, watch, lambda message: message.source == source.name, stop)

    return lambda config, board: partial(run, config, board)


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
        pause_s = _FIRST_PAUSE_S
        while not self.stop.is_set():
            started_s = monotonic()
            try:
                self.run(self.stop)
            except Exception as error:  # the outer boundary of one source: recorded and retried
                said = str(error) if isinstance(error, ImgpipelineError) else f"{type(error).__name__}: {error}"
                LOG.exception("%s failed: %s", self.config.name, said, exc_info=not isinstance(error, ImgpipelineError))
                self._change(SourceState.RESTARTING, said)
            else:
                self._change(SourceState.ENDED)
                return
            pause_s = _FIRST_PAUSE_S if monotonic() - started_s > _HEALTHY_S else pause_s
            self.stop.wait(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads restarts, keeps no secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _change(self, state: SourceState, error: str | None = None) -> None:
        self.board.watch(self.config.name, SourceKind.LIVE).change(state, error)


class Supervisor:
    """Keeps the sources of a file running."""

    def __init__(self, path: Path, build: Build, board: Board, *, rescan_s: float = 2.0) -> None:
        """Reads the file for the first time.

        Args:
            path: `sources.toml`.
            build: Prepares a source to run.
            board: Records what happens to each source.
            rescan_s: Seconds between two checks of the file for changes.

        Raises:
            ConfigurationError: The file is not valid.
        """
        self._path = path
        self._build = build
        self._board = board
        self._rescan_s = rescan_s
        self._wanted = load_sources(path)
        self._version = self._file_version()
        self._workers: dict[str, _Worker] = {}

    def run(self, stop: threading.Event, *, grace_s: float = 40.0) -> None:
        """Runs until `stop` is set or every source has ended, then waits for frames in flight.

        A changed file restarts only the sources whose entries changed. A file that is not valid is refused as a whole,
        and all sources continue unchanged.

        Args:
            stop: Ends all sources gracefully.
            grace_s: Longest wait for frames in flight.
        """
        self._apply()
        while not stop.wait(self._rescan_s) and (not self._workers or self._is_running()):
            if (version := self._file_version()) != self._version:
                self._version = version
                self._reload()
        self._end(list(self._workers), grace_s)

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
        self._end(changed, 40.0)
        for name in changed:
            if name not in wanted:
                self._board.remove(name)
        for name, config in wanted.items():
            if name not in self._workers:
                LOG.info("starting %s (%s)", name, config.kind)
                self._workers[name] = _Worker(config, self._build(config, self._board), self._board)
                self._workers[name].start()

    def _end(self, names: list[str], grace_s: float) -> None:
        ending = [self._workers.pop(name) for name in names]
        for worker in ending:
            LOG.info("stopping %s", worker.config.name)
            worker.stop.set()
        deadline_s = monotonic() + grace_s
        for worker in ending:
            worker.thread.join(max(0.0, deadline_s - monotonic()))

    def _file_version(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
