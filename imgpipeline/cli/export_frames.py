"""`imgpipeline export coco` and `yolo`: frames with their boxes, for training."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json
from imgpipeline.contracts.text import counted
from imgpipeline.lake.query.days import Span, read_span, unknown_day
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.export.formats import Exported, TrainingFormat

_NAMED = 10
FolderArgument = Annotated[Path, typer.Argument(help="A new folder, such as training.")]
SourceOption = Annotated[str | None, typer.Option(help="Only frames of this source.")]
LabelOption = Annotated[str | None, typer.Option(help="Only frames in which this label was found.")]
ConfidenceOption = Annotated[float, typer.Option(min=0, max=1, help="Only frames with a detection of at least this.")]
MarkedOption = Annotated[bool, typer.Option("--marked", help="Only frames of which somebody said that one is wrong.")]
ImagesOption = Annotated[bool, typer.Option("--images/--no-images", help="Write the images too.")]


def coco(  # noqa: PLR0913 - one parameter an option
    folder: FolderArgument,
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    min_confidence: ConfidenceOption = 0.0,
    marked: MarkedOption = False,
    images: ImagesOption = True,
    as_json: JsonOption = False,
) -> None:
    """Write frames with all of their boxes as a COCO data set: annotations.json and images.

    Without a day: the latest day. What people said in the viewer corrects the boxes: wrong ones are left out, missing
    ones added.
    """
    from imgpipeline.export.formats import TrainingFormat  # noqa: PLC0415 - loads DuckDB

    span = read_span(day, first, last)
    _report(_write(TrainingFormat.COCO, folder, span, (source, label, min_confidence), marked, images), as_json)


def yolo(  # noqa: PLR0913 - one parameter an option
    folder: FolderArgument,
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    min_confidence: ConfidenceOption = 0.0,
    marked: MarkedOption = False,
    images: ImagesOption = True,
    as_json: JsonOption = False,
) -> None:
    """Write frames with all of their boxes as a YOLO data set: data.yaml, labels and images; otherwise as coco."""
    from imgpipeline.export.formats import TrainingFormat  # noqa: PLC0415 - loads DuckDB

    span = read_span(day, first, last)
    _report(_write(TrainingFormat.YOLO, folder, span, (source, label, min_confidence), marked, images), as_json)


def _write(
    kind: "TrainingFormat", folder: Path, span: Span, chosen: tuple[str | None, str | None, float], marked: bool,
    with_images: bool,
) -> "Exported":  # fmt: skip
    from imgpipeline.export.formats import write_training_set  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.export.training_frames import open_training_set  # noqa: PLC0415 - as above
    from imgpipeline.lake.query.wanted_frames import WantedFrames  # noqa: PLC0415 - as above
    from imgpipeline.lake.sessions.session import open_lake  # noqa: PLC0415 - as above
    from imgpipeline.ledger import known_days  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import ImageReader, open_store  # noqa: PLC0415 - as above

    settings = load_settings()
    store = open_store(settings)
    known = known_days(store)
    days = known[-1:] if span.is_all else [day for day in known if day in span]
    if not days:
        raise unknown_day(span.first or span.last or date.min, known)
    source, label, least = chosen
    images = ImageReader(store, settings) if with_images else None
    with open_lake(store, settings=settings, days=days) as lake, progress_bar("Images", unit="frames") as progress:
        wanted = WantedFrames(source, label, min_confidence=least)
        training = open_training_set(lake, store, wanted, days, is_marked=marked)
        return write_training_set(training, folder, kind, images, progress=progress)


def _report(done: "Exported", as_json: bool) -> None:
    if as_json:
        show_json({"folder": str(done.folder), "frames": done.frames, "boxes": done.boxes, "labels": done.labels,
                   "missing_images": done.missing})  # fmt: skip
        return
    note(f"{done.folder}: {counted(done.frames, 'frame')} with {counted(done.boxes, 'box', 'boxes')}.")
    for path in done.missing[:_NAMED]:
        note(f"The image {path or '(imported without one)'} cannot be read; its frame has boxes only.")
    if len(done.missing) > _NAMED:
        note(f"And {len(done.missing) - _NAMED} more images; --json names them all.")
