"""`imgpipeline import`: import detections and metadata of other programs into the ledger."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from imgpipeline.cli.options import JsonOption, TimezoneOption, command, from_arguments, timezone_settings
from imgpipeline.cli.output import note, progress_bar, record_of, show_result
from imgpipeline.compat.imports.chain import import_rows
from imgpipeline.compat.imports.files import ENDINGS, CsvRows, Documents, MotFrames, find_files
from imgpipeline.compat.imports.meanings import ColumnNames, DetectionRows, MetadataDocuments
from imgpipeline.compat.imports.rows import Meaning, Rows, text_of, time_of
from imgpipeline.contracts.keys import ChainId, import_chain
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone, utc_now
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.states import day_states
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.days import days_of_chain
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import check_store
from imgpipeline.objectstore.files import InputFile
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.options import parse_size
from imgpipeline.sources.sequence_info import SequenceInfo, find_info
from imgpipeline.tracking.values import FASTEST

app = typer.Typer()
_HELP = "`imgpipeline import --help` shows the commands and their arguments"
_ENDINGS = re.compile(r"(\.(csv|tsv|txt|json|jsonl|ndjson))?(\.gz)?$", re.IGNORECASE)
_NO_TRACKS = (
    "Do not use tracks or unique objects of this import: each row is a separate frame, so no tracker can tell "
    "which objects were in one image. Next: if the rows name their images, write one document per image, "
    "with its boxes, and run `imgpipeline import metadata`."
)
_NO_SIZE = (
    "Zones and lines count nothing of this import: the size of its images is not known. Next: import it under another "
    "--name and another --source with --size, such as --size 1920x1080; frames of one source and time count once."
)
_NO_RATE = "--fps is missing, and no seqinfo.ini of the sequence has it"
_MOT_NAMES = ("det", "gt")
_FIRST_DAY = Settings.model_fields["first_day"].default
_csv = partial(typer.Option, rich_help_panel="With --format csv")
_mot = partial(typer.Option, rich_help_panel="With --format mot")

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the import. Default: that of the file, folder or sequence."),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Source of rows without one. Default: the import's name.")
]
BuildOption = Annotated[bool, typer.Option("--build", help="Build the import's days, as `imgpipeline build` does.")]


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """The options for CSV files."""

    timestamp_column: Annotated[str, _csv(help="Column with the time.")] = "timestamp"
    label_column: Annotated[str, _csv(help="Column with the label.")] = "detected_label"
    confidence_column: Annotated[str, _csv(help="Column with the confidence, 0 to 1.")] = "confidence"
    source_column: Annotated[str | None, _csv(help="Column with the camera, video or folder.")] = None
    frame_column: Annotated[str | None, _csv(help="Column with the frame's number or image path.")] = None
    box_columns: Annotated[
        str | None, _csv(metavar="X,Y,W,H", help="Columns with left, top, width, height in pixels.")
    ] = None
    delimiter: Annotated[str, _csv(help="Column separator; `tab` for a tab.")] = ","

    def rows(self, file: InputFile, chain: ChainId, source: str, timezone: str) -> tuple[CsvRows, DetectionRows]:
        """Returns the rows of a file and their meaning; raises UsageError or ConfigurationError for wrong options."""
        rows = CsvRows(file, _delimiter(self.delimiter))
        names = ColumnNames(
            self.timestamp_column, self.label_column, self.confidence_column, self.source_column, self.frame_column,
            _box_columns(self.box_columns),
        )  # fmt: skip
        with from_arguments(_HELP):
            return rows, DetectionRows(rows.columns, names, chain, source, timezone)


@dataclass(frozen=True, slots=True)
class MotOptions:
    """The options for files of the MOT Challenge."""

    fps: Annotated[float | None, _mot(help="Frames per second. Default: frameRate in the sequence's seqinfo.ini.")] = (
        None
    )
    size: Annotated[
        str | None,
        _mot(metavar="WxH", help="Size of the images in pixels. Default: imWidth and imHeight in seqinfo.ini."),
    ] = None
    start: Annotated[
        str | None, _mot(help=f"Time of frame 1. Default: 00:00 UTC on IMGPIPELINE_FIRST_DAY, else on {_FIRST_DAY}.")
    ] = None
    label: Annotated[str, _mot(help="Label of all boxes.")] = "person"

    def frames(self, file: InputFile, info: SequenceInfo | None, settings: Settings) -> MotFrames:
        """Returns the frames of a file; raises an error with a message for the user for wrong options."""
        rate = info.rate if info and self.fps is None else self.fps
        if rate is None or not 0 < rate <= FASTEST:
            named = f"frameRate in {info.path}" if info and self.fps is None else "--fps"
            found = _NO_RATE if rate is None else f"{named} is {rate:.12g}"
            raise UsageError(
                f"{found}; expected frames per second, up to {FASTEST:g}: no camera of a known sequence is "
                "faster, and tracking needs the true rate.",
                next_step="give the frame rate of the sequence, such as --fps 25",
            )
        own_size = info.size if info and not self.size else None
        try:
            size = parse_size(self.size) if self.size else own_size
        except ValueError as error:
            raise UsageError(f"--size: {error}.", next_step="give the size of the sequence's images") from None
        start = datetime.combine(settings.first_day, time(), UTC)
        if self.start:
            start = time_of("--start", self.start, find_timezone(settings.timezone))
        if not settings.first_day <= start.astimezone(UTC).date() <= utc_now().date():
            raise UsageError(
                f"--start is {self.start}; frames have times from {settings.first_day} (IMGPIPELINE_FIRST_DAY) to now.",
                next_step="give the time of frame 1",
            )
        return MotFrames(file, frame_rate=rate, start=start, label=text_of("--label", self.label), size=size)


@command(app, "detections")
def detections(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A CSV file, or a det.txt or gt.txt; optionally .gz, or s3://bucket/key."),
    ],
    form: Annotated[
        Literal["csv", "mot"], typer.Option("--format", help="`mot`: det.txt or gt.txt of the MOT Challenge.")
    ] = "csv",
    name: NameOption = None,
    source: SourceOption = None,
    timezone: TimezoneOption = None,
    build: BuildOption = False,
    as_json: JsonOption = False,
    *,
    csv: CsvOptions,
    mot: MotOptions,
) -> None:
    """Import the rows of a CSV file, each as a frame with one detection, or the boxes of a MOT Challenge file by frame.

    Importing the same file again adds nothing; importing a longer version adds only the new rows. An invalid row of a
    CSV file becomes a dead letter that names its line; an invalid line of a MOT file stops the import. Times without an
    offset from UTC, also that of --start, are local times of --timezone.
    """
    is_mot = form == "mot"
    _refuse_options(csv if is_mot else mot, "csv" if is_mot else "mot")
    settings = load_settings(**timezone_settings(timezone))
    found = find_files(settings, [file], [".csv"])
    if len(found) != 1:
        raise ConfigurationError(f"{file} matches {counted(len(found), 'file')}.", next_step="import them one by one")
    with from_arguments(_HELP):
        sequence, info = _sequence_of(found[0]) if is_mot else (file, None)
        own_name = name or _name_of(sequence)
        chain = import_chain(own_name, "detections")
    if is_mot:
        with from_arguments(_HELP):
            frames = mot.frames(found[0], info, settings)
            documents = MetadataDocuments(chain, source or own_name, (), settings.timezone)
            documents.recipe += frames.recipe
        _import(settings, chain, frames, documents, build=build, as_json=as_json)
        if frames.size is None:
            note(_NO_SIZE)
        return
    rows, meaning = csv.rows(found[0], chain, source or own_name, settings.timezone)
    _import(settings, chain, rows, meaning, build=build, as_json=as_json)
    note(_NO_TRACKS)


def _refuse_options(others: CsvOptions | MotOptions, form: str) -> None:
    changed = [field.name for field in fields(others) if getattr(others, field.name) != field.default]
    if changed:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(f"Only for --format {form}: {given}.", next_step=f"give --format {form}, or omit {given}")


def _sequence_of(file: InputFile) -> tuple[str, SequenceInfo | None]:
    """Returns the default name of a MOT file's import, and the `seqinfo.ini` of its sequence."""
    path = (file.path or Path(file.where)).absolute()
    folder = path.parent.parent if path.parent.name in _MOT_NAMES else path.parent
    info = find_info(folder)
    if path.name.partition(".")[0] not in _MOT_NAMES:
        return path.name, info
    return (info.name if info else folder.resolve().name), info


@command(app, "metadata")
def metadata(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders, patterns, or s3://bucket/prefix.")
    ],
    name: NameOption = None,
    source: SourceOption = None,
    labels: Annotated[
        Path | None, typer.Option(help="Text file with one label per line, for detections with only a class_id.")
    ] = None,
    timezone: TimezoneOption = None,
    build: BuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import JSON documents of another consumer, each as a frame.

    Reads one document per file (`.json`) or per line (`.jsonl`, `.ndjson`), optionally `.gz`, in the order of the file
    names. Importing the same documents again adds nothing; new documents after them are added. Times without an offset
    from UTC are local times of --timezone.
    """
    settings = load_settings(**timezone_settings(timezone))
    if name is None and len(paths) > 1:
        raise UsageError(
            f"{len(paths)} paths are given, but no name.",
            next_step="name the import with --name, or give only the folder",
        )
    own_name = name or _name_of(paths[0])
    with from_arguments(_HELP):
        chain = import_chain(own_name, "metadata")
        meaning = MetadataDocuments(chain, source or own_name, _read_labels(labels), settings.timezone)
    rows = Documents(find_files(settings, paths, ENDINGS))
    _import(settings, chain, rows, meaning, build=build, as_json=as_json)


def _name_of(path: str) -> str:
    """Returns the default name of an import; raises a UsageError for a pattern or a bucket alone."""
    path = as_s3_url(path)
    last = path.removeprefix("s3://").rstrip("/").rpartition("/")[2] if path.startswith("s3://") else ""
    last = last or Path(path).absolute().name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", _ENDINGS.sub("", last)).strip("-.")
    if not name or set(last) & set("*?["):
        raise UsageError(f"{path} does not give the import a name.", next_step="name it with --name")
    return name[:200]


def _delimiter(text: str) -> str:
    delimiter = "\t" if text == "tab" else text
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"--delimiter is {text!r}.", next_step="give one character, or `tab`")
    return delimiter


def _box_columns(text: str | None) -> tuple[str, str, str, str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 4:
        columns = counted(len(names), "column")
        raise UsageError(f"--box-columns names {columns}.", next_step="name four: left, top, width and height")
    return names[0], names[1], names[2], names[3]


def _read_labels(path: Path | None) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines() if path else ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--labels {path} cannot be read: {error}.") from None


def _import(
    settings: Settings, chain: "ChainId", rows: "Rows", meaning: "Meaning", *, build: bool, as_json: bool
) -> None:
    store = open_store(settings)
    check_store(store)
    with progress_bar("Importing", unit="bytes") as progress:
        result = import_rows(settings, store, chain, rows, meaning, clock=utc_now, progress=progress)
    built = _build(settings, store, chain) if build else None
    days_built, days = built or (None, 0)
    figures = {"topic": chain.topic, "kind": chain.topic_id, **record_of(result), "days_built": days_built}
    del figures["chain"]
    if isinstance(rows, MotFrames) and not as_json:
        figures = {"frames in the file" if name == "rows" else name: value for name, value in figures.items()}
    show_result(figures, as_json=as_json)
    if as_json:
        return
    if result.dead_letters:
        note("Next: `imgpipeline dead-letters list` names their lines.")
    if built:
        note(f"{counted(days - (days_built or 0), 'day')} of the import were already up to date.")
    elif result.days:
        note(
            "Queries show the new rows now. Tables, summaries and tracks of their days are built by the schedule "
            f"`nightly_rebuild`, or now: imgpipeline build --from {result.days[0]} --to {result.days[-1]}"
        )


def _build(settings: Settings, store: "ObjectStore", chain: "ChainId") -> tuple[int, int]:
    """Builds the days of an import; returns how many were built, and how many there are."""
    days, built = day_states(store, settings, days_of_chain(store, chain), now=utc_now()), 0
    with progress_bar("Building", unit="days") as progress:
        for number, (day, objects) in enumerate(days.items(), 1):
            done = list(build_day(store, settings, day, list(objects), BuildOptions(), clock=utc_now))
            for error in (each.error for each in done if each.error):
                raise error
            built += not all(each.result.skipped for each in done)
            progress(number, len(days))
    twice = sum(found.duplicates for day in days if (found := read_manifest(store, FRAMES.name, day)))
    if twice:
        note(
            f"On these days, {counted(twice, 'frame')} came again with the same source, time and number, and count "
            "once. If they show something else, import them under another --name and --source."
        )
    return built, len(days)
