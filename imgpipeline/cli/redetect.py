"""`imgpipeline redetect` and `imgpipeline compare-models`: days processed again with another model."""

import random
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.day_options import FromOption, OneDayOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    note,
    progress_bar,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.cli.usage import from_arguments
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, PermanentError, UsageError
from imgpipeline.lake.query.days import Span, parse_day, read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.redetect.attempt import Redetector
    from imgpipeline.redetect.run import Redetection

_SIDE = "`live` for the detection runs, or a model used by redetect, such as demo@0.3."


def redetect(
    model: Annotated[str, typer.Option(help="A model from `imgpipeline models list`.")],
    threshold: Annotated[
        float | None, typer.Option(min=0, max=0.999999, help="Default: IMGPIPELINE_CONFIDENCE_THRESHOLD.")
    ] = None,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Take the days in random order: other processes work on them too."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Process every image again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Process the stored images of days again, with another model or threshold.

    The results of the detection runs stay as they are. The new results are stored below redetections/model=…/day=….
    After it was killed, run the command again to continue; with --shared, several machines share the work.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.redetect.choice import parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.run import open_redetector  # noqa: PLC0415 - as above

    span = read_span(day, first, last)
    if span.is_all:
        raise UsageError("No days are given.", next_step="give --day 2026-01-09, or --from and --to")
    settings = load_settings()
    text = model if threshold is None else f"{model}@{f'{threshold:.6f}'.rstrip('0').rstrip('.')}"
    with from_arguments("`imgpipeline models list` shows the models"):
        choice = parse_choice(text, settings)
    store = open_store(settings)
    days = _days(store, span)
    redetector = open_redetector(settings, store, choice, utc_now)
    if shared:
        random.Random(redetector.worker).shuffle(days)  # noqa: S311 - it spreads work, it hides nothing
    done, failed = _redetect_days(redetector, days, force=force)
    rows = [_row(each) for each in sorted(done, key=lambda each: each.manifest.day)]
    if as_json:
        show_json(rows)
    elif rows:
        show_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])
    if failed:
        raise _failure(failed, len(days))


def _days(store: "ObjectStore", span: Span) -> list[date]:
    from imgpipeline.lake.build.day_tables import list_days  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.schema import FRAMES  # noqa: PLC0415 - as above
    from imgpipeline.lake.sessions.nearest_days import name_nearest_days  # noqa: PLC0415 - as above

    if span.first is not None and span.first == span.last:
        return [span.first]
    built = list(list_days(store, FRAMES.name))
    days = [day for day in built if day in span]
    if not days:
        near = span.last or span.first or date.min
        raise ConfigurationError(
            f"No day of {span} has a table `frames`. Days that have one: {name_nearest_days(built, near)}.",
            next_step="name one of these days; those of the ledger become tables when their assets are materialized",
        )
    return days


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


def compare_models(
    day: OneDayOption,
    b: Annotated[str, typer.Option("--b", help=_SIDE)],
    a: Annotated[str, typer.Option("--a", help=_SIDE)] = "live",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Compare the results of two models for a day, label by label.

    Counts frames that both models have processed. Two boxes of a label match if their IoU is 0.5 or more, one to one,
    the greatest IoU first.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.redetect.choice import LIVE, parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.pairs import compare_models as compare  # noqa: PLC0415 - loads DuckDB

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    wanted = parse_day(day)
    settings = load_settings()
    with from_arguments("`imgpipeline models list` shows the models"):
        names = [name if name == LIVE else str(parse_choice(name, settings)) for name in (a, b)]
    pair = compare(open_store(settings), wanted, *names, memory=settings.duckdb_memory)
    columns = ("label", "frames", "count_a", "count_b", "matched", "only_a", "only_b", "agreement", "mean_iou")
    rows = [[getattr(label, column) for column in columns] for label in pair.labels]
    if as_json:
        labels = [dict(zip(columns, row, strict=True)) for row in rows]
        models = {"models_a": pair.labels[0].models_a, "models_b": pair.labels[0].models_b} if pair.labels else {}
        show_json({"day": wanted, "model_a": names[0], "model_b": names[1], **models, "labels": labels})
    elif as_csv:
        show_csv(columns, rows)
    else:
        title = f"{wanted}: a is {names[0]}, b is {names[1]}"
        show_table([name.replace("_", " ") for name in columns], rows, title=title)
