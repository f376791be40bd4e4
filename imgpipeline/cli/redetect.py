"""`imgpipeline redetect` and `compare-models`: process days with another model, and compare two models."""

import random
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import (
    JsonOption,
    OneDayOption,
    Period,
    RowFormat,
    days_with_frames,
    expand_options,
    from_arguments,
)
from imgpipeline.cli.output import note, progress_bar, show_json, show_records, show_table
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import LIVE, load_settings

if TYPE_CHECKING:
    from imgpipeline.redetect.run import Redetection, Redetector

_SIDE = "`live` for the detection runs, or a model that redetect was run with, such as demo@0.3."


@expand_options
def redetect(
    model: Annotated[str, typer.Option(help="A model from `imgpipeline models list`.")],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=0.999999, help="Confidence threshold. Default: IMGPIPELINE_CONFIDENCE_THRESHOLD."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Process the days in random order, to share the work with other processes."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Process every image again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
    *,
    period: Period,
) -> None:
    """Process the stored images of days again, with another model or threshold.

    The results of the detection runs do not change. The new results are stored below redetections/model=…/day=….
    If the command was killed, run it again to continue. With --shared, several machines share the work.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.redetect.choice import parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.run import open_redetector  # noqa: PLC0415 - as above

    span, settings = period.span(), load_settings()
    text = model if threshold is None else f"{model}@{f'{threshold:.6f}'.rstrip('0').rstrip('.')}"
    with from_arguments("`imgpipeline models list` shows the models"):
        choice = parse_choice(text, settings)
    store = open_store(settings)
    days = days_with_frames(store, span)
    redetector = open_redetector(settings, store, choice, utc_now)
    if shared:
        random.Random(redetector.worker).shuffle(days)  # noqa: S311 - spreads work, hides nothing
    done, failed = _redetect_days(redetector, days, force=force)
    rows = [_row(each) for each in sorted(done, key=lambda each: each.manifest.day)]
    if as_json:
        show_json(rows)
    elif rows:
        show_records(rows)
    if failed:
        raise _failure(failed, len(days))


def _redetect_days(
    redetector: "Redetector", days: Sequence[date], *, force: bool
) -> tuple[list["Redetection"], dict[date, PermanentError]]:
    from imgpipeline.redetect.run import redetect_day  # noqa: PLC0415 - loads OpenCV

    done: list[Redetection] = []
    failed: dict[date, PermanentError] = {}
    for number, day in enumerate(days, 1):
        place = f" ({number} of {len(days)} days)" if len(days) > 1 else ""
        with progress_bar(f"{redetector.model}: {day}{place}", unit="frames") as progress:
            try:
                done.append(redetect_day(redetector, day, force=force, progress=progress))
            except ConfigurationError:
                raise
            except PermanentError as error:
                if len(days) == 1:
                    raise
                note(f"{day}: {error}")
                failed[day] = error
    return done, failed


def _failure(failed: dict[date, PermanentError], asked: int) -> PermanentError:
    first = next(iter(failed.values()))
    days = ", ".join(map(str, failed))
    return PermanentError(
        f"{len(failed)} of {asked} days could not be processed ({days}). The first: {first.message}",
        next_step=first.next_step,
    )


def _row(done: "Redetection") -> dict[str, Any]:
    manifest = done.manifest
    return {
        "model": manifest.model,
        "day": manifest.day,
        "skipped": done.skipped,
        "frames": manifest.frames,
        "processed": manifest.processed,
        "gated": manifest.gated,
        "failed": dict(manifest.failed),
        "detections": manifest.detections,
        "looked_at": done.looked_at,
        "frames_per_s": round(done.frames_per_s, 1),
        "duration_s": round(done.duration_s, 2),
    }


@expand_options
def compare_models(
    day: OneDayOption,
    b: Annotated[str, typer.Option("--b", help=_SIDE)],
    a: Annotated[str, typer.Option("--a", help=_SIDE)] = "live",
    *,
    rows: RowFormat,
) -> None:
    """Compare the results of two models for a day, label by label.

    Counts only frames that both models have processed. Two boxes of a label match if their IoU is 0.5 or more; each box
    matches at most one other, the greatest IoU first.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.redetect.choice import parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.pairs import compare_models as compare  # noqa: PLC0415 - loads DuckDB

    wanted = parse_day(day)
    settings = load_settings()
    with from_arguments("`imgpipeline models list` shows the models"):
        names = [name if name == LIVE else str(parse_choice(name, settings)) for name in (a, b)]
    pair = compare(open_store(settings), wanted, *names, memory=settings.duckdb_memory)
    columns = ("label", "frames", "count_a", "count_b", "matched", "only_a", "only_b", "agreement", "mean_iou")
    found = [[getattr(label, column) for column in columns] for label in pair.labels]
    if rows.as_json:
        labels = [dict(zip(columns, row, strict=True)) for row in found]
        models = {"models_a": pair.labels[0].models_a, "models_b": pair.labels[0].models_b} if pair.labels else {}
        show_json({"day": wanted, "model_a": names[0], "model_b": names[1], **models, "labels": labels})
        return
    title = f"{wanted}: a is {names[0]}, b is {names[1]}"
    header = [name.replace("_", " ") for name in columns]
    rows.show(columns, found, table=lambda: show_table(header, found, title=title))
