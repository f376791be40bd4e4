"""`imgpipeline export`: all tables as one DuckDB file, a training set, or documents as other systems write them."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from imgpipeline.cli.options import (
    ForceOption,
    JsonOption,
    LabelOption,
    Period,
    SourceOption,
    TimezoneOption,
    command,
    open_site,
    timezone_settings,
)
from imgpipeline.cli.output import note, note_some, progress_bar, show_json, show_result, show_table
from imgpipeline.cli.running import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.export.classic_documents import ClassicDocuments
from imgpipeline.export.formats import TrainingFormat, open_training_set, write_training_set
from imgpipeline.lake.query.days import Span, days_of, name_nearest_days, unknown_day
from imgpipeline.lake.query.export import export_duckdb
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ImageReader, ObjectStore

app = typer.Typer()
_MOST_NAMED = 10
_POLL_S = 2.0
FolderArgument = Annotated[Path, typer.Argument(help="A new folder, such as training.")]


@command(app, "duckdb")
def duckdb_file(
    file: Annotated[Path, typer.Argument(help="The file to write, such as lake.duckdb.")],
    period: Period,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all tables of `imgpipeline query` into one DuckDB file.

    The tables show the lake at one moment, including frames whose day is not built yet. Reading the file needs neither
    this project nor the object store. The file appears only when complete; --replace replaces an existing file.
    """
    span = period.span()
    settings, store = open_site()
    days = None if span.is_all else _known_days(store, span)
    with progress_bar(file.name, unit="queries") as progress:
        done = export_duckdb(store, settings, file, now=utc_now(), days=days, force=replace, progress=progress)
    if as_json:
        show_json(done)
    else:
        show_table(["table", "rows"], done.rows.items())
        note(f"{file}: {counted(len(done.days), 'day')}, {done.size_bytes / 1e6:,.1f} MB.")


def _known_days(store: "ObjectStore", span: Span) -> list[date]:
    days = days_of(store, span)
    near = span.last or span.first
    if not days and near is not None:
        named = name_nearest_days(known_days(store), near)
        raise ConfigurationError(f"There is no data to export ({span}).", next_step=f"name days in the ledger: {named}")
    return days


@dataclass(frozen=True, slots=True)
class TrainingOptions(Period):
    """The options that select frames for training."""

    source: SourceOption = None
    label: LabelOption = None
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Only frames with a detection of at least this confidence.")
    ] = 0.0
    marked: Annotated[
        bool,
        typer.Option(
            "--marked", help="Only frames in which a person marked a detection as wrong or an object as missing."
        ),
    ] = False
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write the images too.")] = True


@command(app, "coco")
def coco(folder: FolderArgument, wanted: TrainingOptions, as_json: JsonOption = False) -> None:
    """Write frames with all of their boxes as a COCO data set: annotations.json and images.

    Without a day, exports the latest day. Annotations made in the viewer correct the boxes: wrong ones are omitted,
    missing ones added.
    """
    _write_training_set("coco", folder, wanted, as_json=as_json)


@command(app, "yolo")
def yolo(folder: FolderArgument, wanted: TrainingOptions, as_json: JsonOption = False) -> None:
    """Write frames with all of their boxes as a YOLO data set: data.yaml, labels and images. Otherwise like coco."""
    _write_training_set("yolo", folder, wanted, as_json=as_json)


@command(app, "metadata")
def metadata(
    to: Annotated[str, typer.Option("--to", metavar="DIR|s3://…", help="Folder or prefix of the documents.")],
    layout: Annotated[  # noqa: ARG001 - the only one, named so that others can follow
        Literal["classic"], typer.Option(help="classic: NAME.json, as the classic OpenCV consumer writes it.")
    ] = "classic",
    watch: Annotated[bool, typer.Option("--watch", help="Keep running, and write each frame once processed.")] = False,
    force: ForceOption = False,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one JSON document for each processed frame, continuing after the last call for the same target.

    A frame that is processed again, or repaired, replaces its document. Of several images with the same name, the first
    has NAME.json and the others NAME@HASH.json. Times are local times of --timezone, without an offset from UTC.
    """
    settings, store = open_site(**timezone_settings(timezone))
    documents = ClassicDocuments(store, settings, to, force)
    with stopped_by_signals() as stopping:
        while True:
            try:
                documents.export()
            except TransientError as error:
                if not watch:
                    raise
                note(f"{error.message} Trying again.")
            if not watch or stopping.event.wait(_POLL_S):
                break
    figures = ("written", "unchanged", "without_detector")
    show_result({name: documents.counts[name] for name in figures}, as_json=as_json)
    raise typer.Exit(stopping.exit_status)


def _write_training_set(kind: str, folder: Path, wanted: TrainingOptions, *, as_json: bool) -> None:
    span = wanted.span()
    settings, store = open_site()
    known = known_days(store)
    days = known[-1:] if span.is_all else [day for day in known if day in span]
    if not days:
        raise unknown_day(span.first or span.last or date.min, known)
    frames = WantedFrames(wanted.source, wanted.label, min_confidence=wanted.min_confidence)
    images = ImageReader(store, settings) if wanted.images else None
    with open_lake(store, settings=settings, days=days) as lake, progress_bar("Images", unit="frames") as progress:
        training = open_training_set(lake, store, frames, days, is_marked=wanted.marked)
        done = write_training_set(training, folder, TrainingFormat(kind), images, progress=progress)
    if as_json:
        show_json(done)
        return
    note(f"{done.folder}: {counted(done.frames, 'frame')} with {counted(done.boxes, 'box', 'boxes')}.")
    note_some(
        [
            f"The image {path} cannot be read; its frame has only boxes."
            if path
            else "A frame was imported without an image; it has only boxes."
            for path in done.missing
        ],
        _MOST_NAMED,
    )
