"""One demo from the empty folder to the verdict, step by step in the terminal."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.demo.cameras import check_books, run_cameras, show_books, write_cameras
from imgpipeline.demo.material import announce_scenes, plan_scenes, read_truths, simulate
from imgpipeline.demo.result import Outcome, judge, show_outcome
from imgpipeline.demo.servers import DemoServer, Patience, check_port, dagster_server, viewer_server
from imgpipeline.demo.workspace import DemoWorkspace, enter, prepare_workspace
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.build.derived import State, state_of
from imgpipeline.lake.build.stale_days import days_behind
from imgpipeline.lake.quality.audit import audit
from imgpipeline.ledger import fix_ends, known_days
from imgpipeline.objectstore import open_store
from imgpipeline.reports.build import build_report
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.folder import ingest_folder
from imgpipeline.sources.simulator.rtsp_simulator import check_program
from imgpipeline.sources.video import VideoSource, ingest_video
from imgpipeline.sources.video_frames import FrameChoice
from imgpipeline.stream.embedded import broker_process
from imgpipeline.stream.log import read_log
from imgpipeline.tracking.day_tracks import DayTracks
from imgpipeline.vision.registry import find_model

_QUIET_S = 900.0
_LONGEST_S = 7_200.0
_CHECK_S = 1.0
_VIDEO_RATE = 2.0
"""Frames a second that are taken out of a video."""
_DAYS_SHOWN = 6
_ANNOUNCING = ("Storing images, announcing frames", "Cameras stream for a minute, with an outage of 10 s")

Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of a demo."""

    folder: Path
    """Its folder, which is recreated."""
    model: str = "demo"
    """Registered model, or path of an ONNX file."""
    images: Path | None = None
    """Folder of the user's own images, instead of simulated ones."""
    video: Path | None = None
    """The user's own video instead of simulated frames."""
    cameras: int = 0
    """Live simulated cameras instead of simulated frames; 0: none."""
    keep: bool = False
    """Whether Dagster's UI and the viewer stay up until Ctrl-C."""
    viewer_port: int | None = None
    """Port of the viewer; default: a free one."""


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Runs the whole pipeline on built-in defaults.

    Args:
        options: The options.
        console: Where to show it.

    Returns:
        Whether the counts agree with the truth (if it is known) and the audit is ok.

    Raises:
        ConfigurationError: The folder, the images or the model cannot be used.
        PermanentError: A server did not start, or the pipeline did not finish in time.
    """
    _check(options)
    began_s = time.monotonic()
    workspace = prepare_workspace(options.folder)
    first_day = None if options.images or options.video else (utc_now() - timedelta(days=_DAYS_SHOWN)).date()
    environment = workspace.environment(options.model, first_day)
    with _ended_by_sigterm(), broker_process(workspace.logs) as broker:
        environment |= broker
        enter(environment)
        settings = load_settings()
        console.print(f"[bold]1[/] Broker in memory on {settings.kafka_bootstrap_servers}, store in {workspace.store}")
        with (
            dagster_server(environment, workspace.logs) as dagster,
            viewer_server(
                {**environment, "IMGPIPELINE_DAGSTER_URL": dagster.url}, workspace.logs, port=options.viewer_port
            ) as viewer,
        ):
            outcome = _work(options, settings, workspace, dagster, viewer, console)
            show_outcome(outcome, console)
            seconds = time.monotonic() - began_s
            console.print(f"\nDone in {seconds:.0f} s. Logs and data: {workspace.folder}")
            if options.keep:
                _keep_up(dagster, viewer, console)
    return outcome.ok


def _check(options: DemoOptions) -> None:
    """Checks what could fail before any server is started."""
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
) -> Outcome:
    brought = options.images or options.video or options.cameras
    scenes = [] if brought else plan_scenes(workspace.pictures, utc_now() - timedelta(days=1))
    if scenes:
        with _step(console, "[bold]2[/] Drawing street scenes, truth beside them") as step:
            simulate(scenes, step)
    _await_servers(dagster, viewer, console)
    with _step(console, f"[bold]4[/] {_ANNOUNCING[bool(options.cameras)]}") as step:
        announced = announce_scenes(settings, scenes, step) if scenes else _announce(options, settings, workspace, step)
    store = open_store(settings)
    console.print(
        "[bold]5[/] frames_sensor requests a run of detect_frames; its process is starting, which takes a while"
    )
    with _step(console, "  Frames and notices get their outcome") as step:
        records = sum(log.log_end for log in read_log(settings))
        _await(lambda: sum(end.offset for end in fix_ends(store).values()), records, step, dagster)
    building = "[bold]6[/] Automation builds tables, summaries and report (a day at most once a minute)"
    with _step(console, building) as step:
        _await_tables(settings, step, dagster)
    for day in known_days(store):
        console.print(f"  The report of {day}: {workspace.store / report_key(day)}", soft_wrap=True)
    console.print("[bold]7[/] Audit: every offset, every day, every summary")
    report = audit(store, lambda: read_log(settings), full=True, now=utc_now(), memory=settings.duckdb_memory)
    for day in known_days(store):  # the report shows the last audit of its day
        build_report(store, settings, day, now=utc_now())
    outcome = judge(store, settings, workspace.store, report, announced, list(read_truths(scenes)))
    if not options.cameras:
        return outcome
    entries, problems = check_books(store, settings)
    show_books(entries, console)
    return replace(outcome, problems=(*outcome.problems, *problems))


def _await_servers(dagster: DemoServer, viewer: DemoServer, console: Console) -> None:
    console.print("[bold]3[/] Dagster starts (webserver, daemon, sensors), and the viewer (imgpipeline serve)")
    dagster.await_answer()
    viewer.await_answer()
    console.print(f"  The UI: [bold cyan]{dagster.url}[/]  (Lineage: {dagster.url}/asset-groups)")
    console.print(
        f"  The viewer: [bold cyan]{viewer.url}[/]  (frames with boxes, counts, and the frames behind each number)"
    )


def _announce(options: DemoOptions, settings: Settings, workspace: DemoWorkspace, step: Step) -> int:
    """Announces the user's images or video, or live cameras, and returns how many frames."""
    if options.cameras:
        return run_cameras(settings, write_cameras(workspace.pictures, options.cameras), Board(), step)
    if options.images:
        name = options.images.resolve().name or "pictures"
        return ingest_folder(settings, options.images, name, progress=step).announced
    video = options.video or Path()
    chosen = VideoSource(video, video.stem or "video", choice=FrameChoice(rate=_VIDEO_RATE))
    return ingest_video(settings, chosen, progress=step).announced


def _await(count: Callable[[], int], wanted: int, step: Step, dagster: DemoServer) -> None:
    patience = Patience(_QUIET_S, _LONGEST_S)
    while True:
        done = count()
        step(done, wanted)
        if done >= wanted:
            return
        ended = dagster.why_ended()
        why = f"Dagster: {ended}" if ended else patience.why_over(done)
        if why:
            raise PermanentError(f"{done} of {wanted} are done: {why}.", next_step=f"look into {dagster.log_file}")
        time.sleep(_CHECK_S)


def _await_tables(settings: Settings, step: Step, dagster: DemoServer) -> None:
    """Waits until the tables, summaries and tracks of all days are current, and each day has its report."""
    store = open_store(settings)
    days = known_days(store)

    def current() -> int:
        behind = days_behind(store)
        reported = [day for day in days if day not in behind and store.head(report_key(day))]
        return sum(state_of(DayTracks(store, day, settings, utc_now())) is State.CURRENT for day in reported)

    _await(current, len(days), step, dagster)


@contextlib.contextmanager
def _step(console: Console, what: str) -> Iterator[Step]:
    """Shows a step with its progress; if the output is not a terminal, one line at its end."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    if not console.is_terminal:
        began_s, seen = time.monotonic(), [0]
        yield lambda done, _: seen.__setitem__(0, done)
        console.print(f"{what}: {seen[0]} in {time.monotonic() - began_s:.0f} s")
        return
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _keep_up(dagster: DemoServer, viewer: DemoServer, console: Console) -> None:
    console.print(
        f"\nUntil Ctrl-C: the viewer at [bold cyan]{viewer.url}[/], Dagster's UI at [bold cyan]{dagster.url}[/]"
    )
    try:
        while all(server.process.poll() is None for server in (dagster, viewer)):
            time.sleep(0.5)
        ended = next(server for server in (dagster, viewer) if server.process.poll() is not None)
        console.print(f"{ended.name} has ended: see {ended.log_file}")
    except KeyboardInterrupt:
        console.print("Ending.")


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the demo like Ctrl-C: through every context, so that no server is left behind."""

    def end(number: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's arguments
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_watched() -> bool:
    """Whether the demo runs in a terminal, so that the UI should stay."""
    return sys.stdout.isatty() and sys.stdin.isatty()


def default_folder() -> Path:
    """Returns the default folder of a demo."""
    return Path.cwd() / ".imgpipeline" / "demo"
