"""Runs a demo step by step, from the empty folder to the result, and shows each step in the terminal."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import day_of, utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.demo.material import (
    Progress,
    SceneOfDay,
    announce_scenes,
    check_books,
    plan_scenes,
    run_cameras,
    show_books,
    simulate,
    write_cameras,
)
from imgpipeline.demo.people import count_samples
from imgpipeline.demo.result import DemoResult, judge, show_result
from imgpipeline.demo.servers import (
    DemoServer,
    DemoWorkspace,
    check_port,
    dagster_server,
    enter,
    prepare_workspace,
    viewer_server,
)
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.days.derived import build
from imgpipeline.lake.quality.audit import audit
from imgpipeline.ledger.days import known_days
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline.reports.build import DailyReport
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import FiniteSource, ingest_files
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.simulator.rtsp_simulator import check_program
from imgpipeline.sources.simulator.writer import FrameTruth
from imgpipeline.sources.video import FrameChoice, VideoSource
from imgpipeline.stream.embedded import broker_process
from imgpipeline.stream.log import read_log
from imgpipeline.vision.registry import find_model

_QUIET_S = 900.0
"""Longest time without progress."""
_CHECK_S = 1.0
_VIDEO_RATE = 2.0
"""How many frames per second are taken from a video."""
_DAYS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of a demo."""

    folder: Path
    model: str = "demo"
    """Registered model, or path of an ONNX file."""
    images: Path | None = None
    """Folder of the user's own images, instead of simulated frames."""
    video: Path | None = None
    """The user's own video, instead of simulated frames."""
    cameras: int = 0
    """Number of live simulated cameras, instead of simulated frames; 0: none."""
    keep: bool = False
    """Whether Dagster's UI and the viewer keep running until Ctrl-C."""
    viewer_port: int | None = None
    """Port of the viewer; None: a free one."""


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Runs the whole pipeline with default settings.

    Returns:
        Whether the counts match the truth, if it is known, and the audit passed.

    Raises:
        ConfigurationError: The folder, the images or the model cannot be used.
        PermanentError: A server did not start, or the pipeline did not finish in time.
    """
    _check(options)
    began_s = time.monotonic()
    workspace = prepare_workspace(options.folder)
    environment = workspace.environment(options.model, first_day(options))
    with _ended_by_sigterm(), broker_process(workspace.logs) as broker:
        environment |= broker
        enter(environment)
        settings = load_settings()
        broker_address = settings.kafka_bootstrap_servers
        console.print(
            f"[bold]1[/] Kafka broker in memory at {broker_address}, object store in {escape(str(workspace.store))}"
        )
        with (
            dagster_server(environment, workspace.logs) as dagster,
            viewer_server(
                {**environment, "IMGPIPELINE_DAGSTER_URL": dagster.url}, workspace.logs, port=options.viewer_port
            ) as viewer,
        ):
            result = _work(options, settings, workspace, dagster, viewer, console)
            show_result(result, console)
            seconds = time.monotonic() - began_s
            console.print(f"\nDone in {seconds:.0f} s. Logs and data: {escape(str(workspace.folder))}")
            if options.keep:
                _keep_up(dagster, viewer, console)
    return result.ok


def first_day(options: DemoOptions) -> date:
    """Returns the first day of the demo's frames."""
    if options.images:
        source = open_folder(load_settings(), options.images, "pictures")
        frames = (one for one in source.capture(Event()) if isinstance(one, CapturedFrame))
        return min((day_of(frame.timestamp) for frame in frames), default=day_of(utc_now()))
    if options.video:
        return day_of(VideoSource(options.video, "video").start)
    return day_of(utc_now() - timedelta(days=_DAYS_SHOWN))


def _check(options: DemoOptions) -> None:
    """Checks the options before any server is started."""
    settings = load_settings(model=options.model)
    find_model(settings.model, settings.model_decoder, settings.model_labels, model_dir=settings.model_dir)
    if options.cameras:
        check_program()
    if options.viewer_port:
        check_port(options.viewer_port)
    for path in (options.images, options.video):
        if path is not None and not path.exists():
            raise ConfigurationError(
                f"There is no {path}.", next_step="name a folder with --images, a file with --video"
            )


def _work(
    options: DemoOptions,
    settings: Settings,
    workspace: DemoWorkspace,
    dagster: DemoServer,
    viewer: DemoServer,
    console: Console,
) -> DemoResult:
    is_simulated = not (options.images or options.video or options.cameras)
    scenes = plan_scenes(workspace.pictures, utc_now() - timedelta(days=1)) if is_simulated else []
    truths: list[FrameTruth] = []
    if scenes:
        with _step(console, "[bold]2[/] Drawing street scenes whose content is known", "frame") as step:
            truths = simulate(scenes, step)
    _await_servers(dagster, viewer, console)
    announced = _announce(options, settings, workspace, scenes, console)
    store = open_store(settings)
    starting = "frames_sensor requests a run of detect_frames, which takes some time to start"
    console.print(f"[bold]5[/] Detecting objects: {starting}")
    with _step(console, "  Recording the outcome of each Kafka record", "record") as step:
        records = sum(log.log_end for log in read_log(settings))
        _await(lambda: sum(end.offset for end in fix_ends(store).values()), records, step, dagster)
    building = "[bold]6[/] Building tables, summaries and report (at most once a minute for each day)"
    with _step(console, building, "day") as step:
        _await_tables(settings, step, dagster)
    for day in known_days(store):
        console.print(f"  Report of {day}: {escape(str(workspace.store / report_key(day)))}", soft_wrap=True)
    sampled = count_samples(store, settings, truths, utc_now)
    console.print("[bold]7[/] Auditing every offset, day and summary")
    report = audit(store, lambda: read_log(settings), full=True, now=utc_now(), memory=settings.duckdb_memory)
    for day in known_days(store):  # the report shows the last audit of its day
        build(DailyReport(store, settings, day, utc_now(), None))
    result = judge(store, settings, workspace.store, report, announced, truths, sampled)
    if not options.cameras:
        return result
    entries, problems = check_books(store, settings)
    show_books(entries, console)
    return replace(result, problems=(*result.problems, *problems))


def _await_servers(dagster: DemoServer, viewer: DemoServer, console: Console) -> None:
    console.print("[bold]3[/] Starting Dagster (webserver, daemon and sensors) and the viewer (imgpipeline serve)")
    dagster.await_answer()
    viewer.await_answer()
    console.print(f"  Dagster: [bold cyan]{dagster.url}[/]  (lineage: {dagster.url}/asset-groups)")
    shows = "frames with boxes, counts, and the frames that each number counts"
    console.print(f"  Viewer: [bold cyan]{viewer.url}[/]  ({shows})")


def _announce(
    options: DemoOptions,
    settings: Settings,
    workspace: DemoWorkspace,
    scenes: list[SceneOfDay],
    console: Console,
) -> int:
    """Announces the simulated scenes, live cameras, or the user's images or video; returns how many frames."""
    if options.cameras:
        with _step(console, "[bold]4[/] Streaming the cameras for a minute, with an outage of 10 s", None) as step:
            return run_cameras(settings, write_cameras(workspace.pictures, options.cameras), Board(), step)
    with _step(console, "[bold]4[/] Storing the images and announcing the frames in Kafka", "frame") as step:
        if scenes:
            return announce_scenes(settings, scenes, step)
        chosen: FiniteSource
        if options.images:
            chosen = open_folder(settings, options.images, options.images.resolve().name or "pictures")
        else:
            video = options.video or Path()
            chosen = VideoSource(video, video.stem or "video", choice=FrameChoice(rate=_VIDEO_RATE))
        return ingest_files(settings, chosen, progress=step).announced


def _await(count: Callable[[], int], wanted: int, step: Progress, dagster: DemoServer) -> None:
    before, moved_s = -1, 0.0
    while True:
        done = count()
        step(done, wanted)
        if done >= wanted:
            return
        if done != before:
            before, moved_s = done, time.monotonic()
        ended, is_quiet = dagster.why_ended(), time.monotonic() - moved_s > _QUIET_S
        if ended or is_quiet:
            why = f"Dagster: {ended}" if ended else f"there has been no progress for {_QUIET_S:g} s"
            raise PermanentError(f"{done} of {wanted} are done: {why}.", next_step=f"read {dagster.log_file}")
        time.sleep(_CHECK_S)


def _await_tables(settings: Settings, step: Progress, dagster: DemoServer) -> None:
    """Waits until the tables, summaries and tracks of all days are current and each day has a report."""
    store = open_store(settings)
    days = known_days(store)

    def current() -> int:
        states = day_states(store, settings, days, now=utc_now())
        return len(days) - len(due_days(states))

    _await(current, len(days), step, dagster)


@contextlib.contextmanager
def _step(console: Console, what: str, unit: str | None) -> Iterator[Progress]:
    """Shows a step: its progress in a terminal, otherwise one line at its end.

    Args:
        console: Where to show it.
        what: What the step does.
        unit: What it counts, as a singular noun; None: seconds.
    """
    if not console.is_terminal:
        began_s, seen = time.monotonic(), [0]
        yield lambda done, _: seen.__setitem__(0, done)
        took = f"{time.monotonic() - began_s:.0f} s"
        console.print(f"{what}: {counted(seen[0], unit)} in {took}" if unit else f"{what}: {took}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _keep_up(dagster: DemoServer, viewer: DemoServer, console: Console) -> None:
    console.print(f"\nViewer: [bold cyan]{viewer.url}[/], Dagster: [bold cyan]{dagster.url}[/]. Press Ctrl-C to stop.")
    try:
        while all(server.process.poll() is None for server in (dagster, viewer)):
            time.sleep(0.5)
        ended = next(server for server in (dagster, viewer) if server.process.poll() is not None)
        console.print(f"{ended.name} has ended unexpectedly; read {escape(str(ended.log_file))}")
    except KeyboardInterrupt:
        console.print("Stopping.")


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the demo like Ctrl-C, through every context, so that no server keeps running."""

    def end(number: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's arguments
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_watched() -> bool:
    """Returns whether the demo runs in a terminal, where its servers should keep running."""
    return sys.stdout.isatty() and sys.stdin.isatty()


def default_folder() -> Path:
    """Returns the default folder of a demo."""
    return Path.cwd() / ".imgpipeline" / "demo"
