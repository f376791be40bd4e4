"""`imgpipeline import`: import detections and metadata of other programs into the ledger."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import JsonOption, TimezoneOption, command, from_arguments, timezone_settings
from imgpipeline.cli.output import note, progress_bar, record_of, show_result
from imgpipeline.compat.imports.chain import import_rows
from imgpipeline.compat.imports.files import ENDINGS, CsvRows, Documents, MotFrames, find_files
from imgpipeline.compat.imports.meanings import ColumnNames, DetectionRows, MetadataDocuments
from imgpipeline.compat.imports.rows import Meaning, Rows, time_of
from imgpipeline.contracts.keys import ChainId, import_chain
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone, utc_now
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import TABLES
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.ledger.days import days_of_chain
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import check_store
from imgpipeline.objectstore.files import InputFile
from imgpipeline.settings import Settings, load_settings
from imgpipeline.tracking.values import FASTEST

app = typer.Typer()
_HELP = "`imgpipeline import --help` shows the commands and their arguments"
_ENDINGS = re.compile(r"(\.(csv|tsv|txt|json|jsonl|ndjson))?(\.gz)?$", re.IGNORECASE)
_NO_TRACKS = (
    "Do not use tracks or unique objects of this import: each row is a separate frame, so no tracker can tell "
    "which objects were in one image. Next: if the rows name their images, write one document per image, "
    "with its boxes, and run `imgpipeline import metadata`."
)

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the import. Default: the name of the file or folder without extension."),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Source of rows without one. Default: the import's name.")
]
BuildOption = Annotated[
    bool, typer.Option("--build", help="Build tables and summaries of the import's days if they are out of date.")
]


class RowsFormat(StrEnum):
    """Formats of files with one box per line."""

    CSV = "csv"
    MOT = "mot"


@dataclass(frozen=True, slots=True)
class MotOptions:
    """The options for files of the MOT Challenge."""

    form: Annotated[
        RowsFormat, typer.Option("--format", help="`csv`, or `mot`: det.txt or gt.txt of the MOT Challenge.")
    ] = RowsFormat.CSV
    fps: Annotated[float | None, typer.Option("--fps", help="With mot: frames per second.")] = None
    start: Annotated[
        str | None, typer.Option("--start", help="With mot: time of frame 1. Default: IMGPIPELINE_FIRST_DAY.")
    ] = None
    label: Annotated[str, typer.Option("--label", help="With mot: the label of all boxes.")] = "person"

    @property
    def is_wanted(self) -> bool:
        """Whether the file is one of the MOT Challenge."""
        return self.form is RowsFormat.MOT

    def frames(self, file: InputFile, settings: Settings) -> MotFrames:
        """Returns the frames of a file; raises UsageError or BadInputError for wrong options."""
        if self.fps is None or not 0 < self.fps <= FASTEST:
            found = "is missing" if self.fps is None else f"is {self.fps:g}"
            raise UsageError(
                f"--fps {found}; expected frames per second, up to {FASTEST:g}: no camera of a known sequence is "
                "faster, and tracking needs the true rate.",
                next_step="give the frame rate of the sequence, which seqinfo.ini has, such as --fps 25",
            )
        start = datetime.combine(settings.first_day, time(), UTC)
        if self.start:
            start = time_of("--start", self.start, find_timezone(settings.timezone))
        return MotFrames(file, frame_rate=self.fps, start=start, label=self.label)


@command(app, "detections")
def detections(
    file: Annotated[str, typer.Argument(metavar="FILE.csv", help="A CSV file, optionally .gz, or s3://bucket/key.")],
    name: NameOption = None,
    timestamp_column: Annotated[str, typer.Option(help="Column with the time.")] = "timestamp",
    label_column: Annotated[str, typer.Option(help="Column with the label.")] = "detected_label",
    confidence_column: Annotated[str, typer.Option(help="Column with the confidence, 0 to 1.")] = "confidence",
    source_column: Annotated[str | None, typer.Option(help="Column with the camera, video or folder.")] = None,
    frame_column: Annotated[str | None, typer.Option(help="Column with the frame's number or image path.")] = None,
    box_columns: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Columns with left, top, width, height in pixels.")
    ] = None,
    source: SourceOption = None,
    delimiter: Annotated[str, typer.Option(help="Column separator; `tab` for a tab.")] = ",",
    timezone: TimezoneOption = None,
    build: BuildOption = False,
    as_json: JsonOption = False,
    *,
    mot: MotOptions,
) -> None:
    """Import the rows of a CSV file, each as a frame with one detection, or the boxes of a MOT Challenge file by frame.

    Importing the same file again adds nothing; importing a longer version adds only the new rows. An invalid row
    becomes a dead letter that names its line. Times without an offset from UTC are local times of --timezone.
    """
    settings = load_settings(**timezone_settings(timezone))
    own_name, separator = name or _name_of(file), _delimiter(delimiter)
    names = ColumnNames(
        timestamp_column, label_column, confidence_column, source_column, frame_column, _box_columns(box_columns)
    )
    with from_arguments(_HELP):
        chain = import_chain(own_name, "detections")
    found = find_files(settings, [file], [".csv"])
    if len(found) != 1:
        raise ConfigurationError(f"{file} matches {counted(len(found), 'file')}.", next_step="import them one by one")
    if mot.is_wanted:
        with from_arguments(_HELP):
            documents = MetadataDocuments(chain, source or own_name, (), settings.timezone)
            frames = mot.frames(found[0], settings)
        _import(settings, chain, frames, documents, build=build, as_json=as_json)
        return
    rows = CsvRows(found[0], separator)
    with from_arguments(_HELP):
        meaning = DetectionRows(rows.columns, names, chain, source or own_name, settings.timezone)
    _import(settings, chain, rows, meaning, build=build, as_json=as_json)
    note(_NO_TRACKS)


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
    days, built = days_of_chain(store, chain), 0
    with progress_bar("Building", unit="days") as progress:
        for number, day in enumerate(days, 1):
            done = list(build_day(store, settings, day, (TABLES, *SUMMARIES), BuildOptions(), clock=utc_now))
            for error in (each.error for each in done if each.error):
                raise error
            built += not all(each.result.skipped for each in done)
            progress(number, len(days))
    return built, len(days)
