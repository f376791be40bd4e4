"""`imgpipeline ingest` and `prepare`: store the images of files and announce them, or announce stored ones."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, Literal

import typer

from imgpipeline.cli.options import (
    DryRunOption,
    JsonOption,
    MessageFormatOption,
    OneDayOption,
    SourceOption,
    TimezoneOption,
    command,
    open_site,
    require_bucket,
    timezone_settings,
)
from imgpipeline.cli.output import note, note_some, progress_bar, record_of, show_json, show_result
from imgpipeline.cli.running import finite_progress, stopped_by_signals
from imgpipeline.contracts.messages import ANNOUNCED_ONCE, MessageFormat
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Hours, find_timezone, parse_time
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.objectstore.files import open_output
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.kafka import NOTICES_APART
from imgpipeline.sources import prepare as preparing
from imgpipeline.sources.folder import Pace, open_folder
from imgpipeline.sources.image_files import HIDDEN, FileChoice
from imgpipeline.sources.ingest import FinishedIngest, ingest_files, ingest_source
from imgpipeline.sources.options import (
    Preparation,
    PublishOptions,
    check_derivation,
    parse_polygon,
    parse_size,
)
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.stored_images import OPTIONS, BucketSource, find_stored_frames
from imgpipeline.sources.video import FrameChoice, VideoSource
from imgpipeline.sources.watched_folder import After, WatchedFolder, WatchOptions
from imgpipeline.vision.gate import Gate

app = typer.Typer()
_MOST_NAMED = 5
_BACKFILL_NOTED = 100
"""How many images of a backfill are announced between two notes of its progress."""


def _check_template(text: str | None) -> str | None:
    try:
        return None if text is None else ImageKeyTemplate(text).text
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


TopicOption = Annotated[
    str | None,
    typer.Option(
        "--topic", metavar="NAME", help="Topic to announce on. Default: the first one of IMGPIPELINE_KAFKA_TOPIC."
    ),
]
AgainOption = Annotated[
    bool,
    typer.Option(
        "--again",
        help="In the forms classic and bucket, whose consumers would process a frame again, announce also what was "
        "announced before.",
    ),
]
DeriveOption = Annotated[
    list[str] | None,
    typer.Option("--derive", help="Also store this image next to each: gray, edges, or a size. Repeatable."),
]
SuffixOption = Annotated[
    list[str] | None,
    typer.Option("--suffix", help="Only names with this ending, such as .png; case-sensitive. Repeatable."),
]
StartOption = Annotated[
    str | None, typer.Option("--start", help="Time of the first frame, such as 2026-01-09T12:00:00Z.")
]
EveryOption = Annotated[int, typer.Option("--every", min=1, help="Take every Nth frame.")]
FpsOption = Annotated[
    float | None,
    typer.Option("--fps", min=0.001, max=1000, help="Take at most this many frames per second of video."),
]
CountOption = Annotated[
    int | None, typer.Option("--count", min=1, help="Take at most this many frames, spread evenly over the video.")
]


@dataclass(frozen=True, slots=True)
class Preparing:
    """The options for gating, masking and resizing frames before they are stored."""

    resize: Annotated[str | None, typer.Option("--resize", help="Stretch stored images to this size: 640x360.")] = None
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", help='Polygon to paint black, as fractions: "0,0 0.5,0 0.5,0.2". Repeatable.'),
    ] = None
    derive: DeriveOption = None
    gate_min_brightness: Annotated[
        float | None,
        typer.Option("--gate-min-brightness", help="Skip frames darker than this mean luma, 0 to 255."),
    ] = None
    gate_min_sharpness: Annotated[
        float | None, typer.Option("--gate-min-sharpness", help="Skip frames less sharp than this.")
    ] = None
    gate_min_change: Annotated[
        float | None,
        typer.Option("--gate-min-change", help="Skip frames whose luma differs less than this from the last kept one."),
    ] = None
    gate_hours: Annotated[
        str | None, typer.Option("--gate-hours", help="Skip frames outside these hours, such as 06:00-20:30.")
    ] = None
    store_gated: Annotated[
        bool, typer.Option("--store-gated/--no-store-gated", help="Store the images of skipped frames.")
    ] = True

    def preparation(self, settings: "Settings") -> "Preparation":
        """Returns how frames are prepared; raises a UsageError for an invalid option."""
        try:
            hours = Hours.parse(self.gate_hours, find_timezone(settings.timezone)) if self.gate_hours else None
            return Preparation(
                gate=Gate(self.gate_min_brightness, self.gate_min_sharpness, self.gate_min_change, hours),
                store_gated=self.store_gated,
                masks=tuple(parse_polygon(text) for text in self.mask or ()),
                resize=parse_size(self.resize) if self.resize else None,
                derive=tuple(map(check_derivation, self.derive or ())),
            )
        except ValueError as error:
            raise UsageError(f"An option is invalid: {error}.", next_step="see --help of the command") from None


@dataclass(frozen=True, slots=True)
class Announcing(Preparing):
    """The options of the commands that store the images of files and announce them."""

    topic: TopicOption = None
    key_template: Annotated[
        str | None,
        typer.Option(
            "--key-template",
            metavar="TEMPLATE",
            callback=_check_template,
            help="Key of a stored image, such as images/{name}, with the fields source, day, time, digest, name and "
            "number. Default: IMGPIPELINE_IMAGE_KEY_TEMPLATE.",
        ),
    ] = None
    first_number: Annotated[
        int, typer.Option("--first-number", min=0, help="Number of the first image in {number} of the template.")
    ] = 0
    message_format: MessageFormatOption = MessageFormat.NATIVE
    again: AgainOption = False
    timezone: TimezoneOption = None

    def settings(self) -> "Settings":
        """Returns the settings, with the values that the options override."""
        template = {} if self.key_template is None else {"image_key_template": self.key_template}
        return load_settings(**timezone_settings(self.timezone), **topic_settings(self.topic), **template)

    def options(self, settings: "Settings") -> "PublishOptions":
        """Returns how frames are published; raises a UsageError for an invalid option."""
        require_bucket(settings, self.message_format)
        return PublishOptions(
            preparation=self.preparation(settings),
            message_format=self.message_format,
            skips_stored=self.message_format in ANNOUNCED_ONCE and not self.again,
            first_number=self.first_number,
        )


def topic_settings(topic: str | None) -> dict[str, object]:
    """Returns the setting that `--topic` overrides: the topic, and its topic for notices if it is followed."""
    if topic is None:
        return {}
    apart = f"{topic}{NOTICES_APART}"
    return {"kafka_topics": (topic, apart) if apart in load_settings().kafka_topics else (topic,)}


def _read_start(text: str | None, zone: tzinfo) -> datetime | None:
    """Returns the time of `--start`. A time without an offset from UTC is local time of the zone."""
    try:
        return None if text is None else parse_time(text, zone)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--start {text!r}: {error}.", next_step="give an RFC 3339 time such as 2026-01-09T12:00:00Z"
        ) from None


@dataclass(frozen=True, slots=True)
class Watching:
    """The options that choose the files of a folder, and announce new ones as they appear."""

    watch: Annotated[bool, typer.Option("--watch", help="Keep running and announce each new image.")] = False
    after: Annotated[
        Literal["keep", "move", "delete"], typer.Option(help="What to do with an announced file, with --watch.")
    ] = "keep"
    move_to: Annotated[
        Path | None, typer.Option(help="Where --after move puts files. Default: .ingested in the folder.")
    ] = None
    rescan_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scans, with --watch.")] = 2.0
    state: Annotated[
        Path | None,
        typer.Option(help="File that records the announced files, with --watch. Default: in ~/.local/state."),
    ] = None
    suffix: SuffixOption = None
    flat: Annotated[bool, typer.Option("--flat", help="Leave out the folders below the folder.")] = False

    def choice(self) -> "FileChoice":
        """Returns which files are taken."""
        return FileChoice(tuple(self.suffix or ()), self.flat)

    def options(self) -> "WatchOptions":
        """Returns how the folder is watched."""
        return WatchOptions(After(self.after), self.move_to, self.rescan_s, self.state, self.choice())


@command(app, "folder")
def folder(
    path: Annotated[Path, typer.Argument(help="A folder (with its subfolders), or one image.")],
    source: Annotated[str, typer.Option("--source", help="Name of the camera or the folder.")],
    start: StartOption = None,
    interval_s: Annotated[
        float, typer.Option(min=1e-6, max=86_400, help="Seconds from one image to the next, with --start.")
    ] = 1.0,
    as_json: JsonOption = False,
    *,
    watching: Watching,
    announcing: Announcing,
) -> None:
    """Store the images of a folder below images/ and announce each as a frame.

    The time of an image is its EXIF time, otherwise the file's modification time. With --start, images are numbered,
    and their order gives their times. An EXIF time or --start without an offset from UTC is local time of --timezone.
    Hidden files and files that are not images are skipped. It is safe to repeat an ingest, for example after a failure:
    the same frames count once.

    With --watch, a file is announced once its size and time stay the same between two scans, or when it is moved in.
    On Ctrl-C or SIGTERM, the command announces the files that it has found, then ends.
    """
    settings = announcing.settings()
    options = announcing.options(settings)
    first = _read_start(start, find_timezone(settings.timezone))
    pace = Pace(first, interval_s) if first else None
    if watching.watch:
        if pace:
            raise UsageError(
                "--start and --watch are both given.", next_step="omit --start: images have their own times"
            )
        _watch(settings, path, source, options, watching.options(), as_json=as_json)
        return
    images = open_folder(settings, path, source, pace, choice=watching.choice())
    with finite_progress("Ingesting", settings.kafka_topic, unit="images") as progress:
        result = ingest_files(settings, images, options=options, progress=progress)
    if as_json:
        show_json({**asdict(result), "topic": settings.kafka_topic})
    else:
        _report_folder(result, settings.kafka_topic)


def _watch(
    settings: "Settings", path: Path, source: str, options: "PublishOptions", how: "WatchOptions", *, as_json: bool
) -> None:
    folder = WatchedFolder(settings, path, source, how)
    note(f"Watching {path}. Ctrl-C stops.")
    with stopped_by_signals() as stopping:
        totals = ingest_source(settings, folder, stop=stopping.event, options=options)
    if as_json:
        show_json({"source": source, "topic": settings.kafka_topic, "announced": totals.announced,
                   "failed": totals.failed, "skipped": folder.ignored | folder.skipped})  # fmt: skip
    else:
        _note_announced(totals.announced, source, settings.kafka_topic)
        _note_left_out(totals.gated if options.skips_stored else 0)
    raise typer.Exit(stopping.exit_status)


def _report_folder(result: FinishedIngest, topic: str) -> None:
    if not (result.announced or result.left_out or result.skipped):
        note("No images found: nothing to do.")
        return
    _note_announced(result.announced, result.source, topic, f" ({counted(result.size_bytes, 'byte')})")
    note(f"Images: {result.stored:,} new, {result.already_there:,} already stored, {result.changed:,} changed.")
    _note_left_out(result.left_out)
    _note_times(result)
    _note_skipped(result)


def _note_left_out(frames: int) -> None:
    if frames:
        note(f"Not announced, because stored before: {counted(frames, 'frame')}. --again announces them.")


def _note_skipped(result: FinishedIngest) -> None:
    hidden = sum(skipped.reason == HIDDEN for skipped in result.skipped)
    others = [f"  {skipped.path}: {skipped.reason}" for skipped in result.skipped if skipped.reason != HIDDEN]
    if others:
        note(f"Skipped: {counted(len(others), 'other file')}.")
        note_some(others, _MOST_NAMED)
    if hidden:
        note(f"Skipped as hidden: {counted(hidden, 'file or folder', 'files or folders')}.")


@command(app, "sequence")
def sequence(
    folders: Annotated[list[Path], typer.Argument(help="Folders of numbered images, or with seqinfo.ini and img1/.")],
    source: Annotated[str | None, typer.Option("--source", help="Name of the camera. Default: the sequence's.")] = None,
    start: StartOption = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps", min=0.001, max=1000, help="Frames per second. Default: frameRate in seqinfo.ini, otherwise 25."
        ),
    ] = None,
    as_json: JsonOption = False,
    *,
    announcing: Announcing,
) -> None:
    """Store the numbered images of a folder unchanged and announce them as one source, in the order of their numbers.

    The last digits of a file's name are the number of its frame. Number and frame rate give its time. The time of the
    first image is --start, otherwise its EXIF time, otherwise its modification time.
    """
    settings = announcing.settings()
    options, at = announcing.options(settings), _read_start(start, find_timezone(settings.timezone))
    if source and len(folders) > 1:
        raise UsageError("--source names one sequence, but several are given.", next_step="omit --source")
    done: list[tuple[SequenceSource, FinishedIngest]] = []
    for each in folders:
        chosen = SequenceSource(settings, each, source, rate=fps, start=at)
        with finite_progress(f"Ingesting {chosen.name}", settings.kafka_topic, unit="images") as progress:
            done.append((chosen, ingest_files(settings, chosen, options=options, progress=progress)))
    if as_json:
        sequences = [asdict(result) | {"fps": of.rate, "is_fps_known": of.is_rate_known} for of, result in done]
        show_json({"topic": settings.kafka_topic, "sequences": sequences})
        return
    for of, result in done:
        rate = f" ({of.rate:g} frames per second{'' if of.is_rate_known else ', assumed'})"
        _note_announced(result.announced, result.source, settings.kafka_topic, rate)
        _note_times(result)
        _note_skipped(result)


@command(app, "video")
def video(
    files: Annotated[list[Path], typer.Argument(help="Video files, in any format that FFmpeg reads.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: each file's own name.")
    ] = None,
    start: StartOption = None,
    every: EveryOption = 1,
    fps: FpsOption = None,
    count: CountOption = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Announce frames at the pace of the video.")] = False,
    as_json: JsonOption = False,
    *,
    announcing: Announcing,
) -> None:
    """Store frames of videos as JPEG and announce them with the times of the container.

    The time of the first frame is --start, otherwise the creation time in the container, otherwise the file's
    modification time. With --source and --start, each file starts where the previous one ends. The readable part of a
    truncated file is announced, the rest is counted as failed, and the command exits with status 1. It is safe to
    repeat an ingest: the same frames count once.
    """
    settings = announcing.settings()
    options, choice = announcing.options(settings), _frame_choice(every, fps, count)
    at: datetime | None = _read_start(start, find_timezone(settings.timezone))
    done: list[tuple[Path, FinishedIngest]] = []
    for file in files:
        chosen = VideoSource(file, source or file.stem or "video", start=at, choice=choice, realtime=realtime)
        with finite_progress(f"Ingesting {file.name}", settings.kafka_topic) as progress:
            done.append((file, ingest_files(settings, chosen, options=options, progress=progress)))
        at = chosen.following if at and source else at
    if as_json:
        videos = [asdict(result) | {"file": str(file)} for file, result in done]
        show_json({"topic": settings.kafka_topic, "videos": videos})
    else:
        for file, result in done:
            _note_announced(result.announced, result.source, settings.kafka_topic, f" ({file})")
            _note_times(result)
            for skipped in result.skipped:
                note(f"Not read: {skipped.reason}.")
    if any(result.failed for _, result in done):
        raise typer.Exit(1)


def _frame_choice(every: int, fps: float | None, count: int | None) -> "FrameChoice":
    if (every > 1) + (fps is not None) + (count is not None) > 1:
        raise UsageError("More than one of --every, --fps and --count is given.", next_step="give one of them")
    return FrameChoice(every, fps, count)


def _note_announced(frames: int, source: str, topic: str, more: str = "") -> None:
    note(f"{counted(frames, 'frame')} of {source} announced on the topic {topic}{more}.")


def _note_times(result: FinishedIngest) -> None:
    if result.first_time and result.last_time:
        note(f"Times: {result.first_time:%Y-%m-%d %H:%M:%S} to {result.last_time:%Y-%m-%d %H:%M:%S} UTC.")


@command(app, "s3")
def s3(
    location: Annotated[str, typer.Argument(help="s3://bucket/prefix (whole parts of keys), or one object.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: the last folder, otherwise the bucket.")
    ] = None,
    suffix: SuffixOption = None,
    derive: DeriveOption = None,
    topic: TopicOption = None,
    message_format: MessageFormatOption = MessageFormat.NATIVE,
    again: AgainOption = False,
    failures: Annotated[
        Path | None, typer.Option("--failures", help="File for the objects that were not announced, if there are any.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Announce the images of a bucket without copying them.

    The time of a frame is the time at which its object was written. Folder markers, empty objects, derived images and
    other files are skipped. The location must be in the store, or one of IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS. Exits
    with status 1 if an object could not be announced. It is safe to repeat the command: the same frames count once.
    """
    settings = load_settings(**topic_settings(topic))
    is_remembered = message_format in ANNOUNCED_ONCE and not again
    bucket = BucketSource(settings, location, source, suffixes=tuple(suffix or ()), is_remembered=is_remembered)
    preparation = Preparing(derive=derive).preparation(settings)
    options = replace(OPTIONS, message_format=message_format, preparation=preparation)
    try:
        every = _BACKFILL_NOTED if message_format is MessageFormat.BACKFILL else 0
        with finite_progress("Announcing", settings.kafka_topic, unit="images", note_every=every) as progress:
            totals = ingest_source(settings, bucket, options=options, progress=lambda now: progress(now.announced, 0))
    finally:
        if failures and bucket.failures:
            with open_output(str(failures), option="--failures") as file:
                file.write(json.dumps([asdict(failure) for failure in bucket.failures], indent=2).encode())
    show_result({"source": bucket.name, "topic": settings.kafka_topic, "announced": totals.announced,
                 "skipped": bucket.skipped, "left_out": bucket.left_out, "failures": bucket.failures},
                as_json=as_json)  # fmt: skip
    note_some([f"Not announced: {failure.path}: {failure.error}" for failure in bucket.failures], _MOST_NAMED)
    if bucket.failures:
        raise typer.Exit(1)


@command(app, "replay")
def replay(
    topic: Annotated[str, typer.Option("--topic", metavar="NAME", help="Topic to announce on.")],
    day: OneDayOption,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce the stored images of a day again on a topic, each source in the order of its frames' times.

    Frames keep their source, time and number, so announcing them on a topic of the same site counts nothing twice.
    """
    wanted = parse_day(day)
    settings, store = open_site(**topic_settings(topic))
    found, missing = find_stored_frames(store, wanted, source)
    if not found:
        raise UsageError(f"The ledger has no stored images of {wanted}{f' and {source}' if source else ''}.",
                         next_step="`imgpipeline frames list` lists the frames")  # fmt: skip
    total, announced = sum(len(frames.frames) for frames in found), 0
    with finite_progress("Announcing", topic) as progress:
        for frames in found:
            before = announced
            totals = ingest_source(
                settings,
                frames,
                options=OPTIONS,
                progress=lambda now, before=before: progress(before + now.announced, total),  # type: ignore[misc]  # mypy infers no defaults of lambdas
            )
            announced += totals.announced
    show_result({"topic": topic, "day": wanted, "sources": [frames.name for frames in found],
                 "announced": announced, "without_image": missing}, as_json=as_json)  # fmt: skip


def prepare(
    path: Annotated[Path, typer.Argument(help="A folder (with its subfolders), an image or a video.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the copies; created if missing.")],
    size: Annotated[str | None, typer.Option("--size", help="Stretch the images to this size: 640x360.")] = None,
    every: EveryOption = 1,
    fps: FpsOption = None,
    count: CountOption = None,
    delete_originals: Annotated[
        bool, typer.Option("--delete-originals", help="Delete each original image after its copy is written.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write copies of images as frame_000000.jpg and so on, continuing after the highest number in the folder.

    Nothing is overwritten. The modification time of a copy is the time of its image. --every, --fps and --count select
    the frames of a video.
    """
    try:
        wanted = parse_size(size) if size else None
    except ValueError as error:
        raise UsageError(f"--size: {error}.", next_step="give a size such as 640x360") from None
    options = preparing.PrepareOptions(wanted, delete_originals, dry_run, _frame_choice(every, fps, count))
    with stopped_by_signals() as stopping, progress_bar("Preparing", unit="images") as show:
        result = preparing.prepare(
            load_settings(), path, output, options, stop=stopping.event, progress=lambda n: show(n, 0)
        )
    if not as_json:
        planned = result.prepared if dry_run else ()
        note_some([f"  {prepared.original} -> {prepared.target}" for prepared in planned], _MOST_NAMED)
        note_some([f"Skipped: {skipped.path}: {skipped.reason}" for skipped in result.skipped], _MOST_NAMED)
    show_result({**record_of(result), "dry_run": dry_run}, as_json=as_json)
