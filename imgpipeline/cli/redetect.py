"""`imgpipeline redetect`, `models compare` and `models quantize`: use another model, and compare it with the first."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from typing import Annotated, Any

import typer

from imgpipeline.cli.models import app, chosen_model, refuse_unknown_model
from imgpipeline.cli.options import (
    ForceOption,
    JsonOption,
    Period,
    RowFormat,
    command,
    days_with_frames,
    from_arguments,
    open_site,
)
from imgpipeline.cli.output import note, progress_bar, record_of, show_json
from imgpipeline.contracts.detection import DetectorUse
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.files import find_images
from imgpipeline.errors import BadInputError, ConfigurationError, PermanentError, UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.objectstore.files import InputFile
from imgpipeline.redetect.choice import load_chosen, parse_choice
from imgpipeline.redetect.on_files import compare_on_files
from imgpipeline.redetect.pairs import compare_labels, match_sides, open_pair
from imgpipeline.redetect.run import Redetection, Redetector, open_redetector, redetect_day
from imgpipeline.settings import LIVE, Settings, load_settings
from imgpipeline.vision.adding import check_name, register
from imgpipeline.vision.agreement import Agreement, Score
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model import ModelSpec
from imgpipeline.vision.model_files import read_verified, runnable
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.quantization import Progress, QuantizedModel, quantize_model
from imgpipeline.vision.registry import model_folder


def redetect(
    model: Annotated[str, typer.Option(help="A model from `imgpipeline models list`.")],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=0.999999, help="Confidence threshold. Default: IMGPIPELINE_CONFIDENCE_THRESHOLD."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Share the work with other processes: days in random order, and each part once."),
    ] = False,
    force: ForceOption = False,
    *,
    period: Period,
    rows: RowFormat,
) -> None:
    """Process the stored images of days again, with another model or threshold.

    The results of the detection runs do not change. The new results are stored below redetections/model=…/day=….
    If the command was killed, run it again to continue. With --shared, several machines share the work.
    """
    span = period.span()
    settings, store = open_site()
    text = model if threshold is None else f"{model}@{f'{threshold:.6f}'.rstrip('0').rstrip('.')}"
    with from_arguments("`imgpipeline models list` shows the models"):
        choice = parse_choice(text, settings)
    days = days_with_frames(store, span)
    redetector = open_redetector(settings, store, choice, utc_now, shared=shared)
    if shared:
        random.Random(redetector.worker).shuffle(days)  # noqa: S311 - spreads work, hides nothing
    done, failed = _redetect_days(redetector, days, force=force)
    if done or not failed:
        rows.show([_record(each) for each in sorted(done, key=lambda each: each.manifest.day)])
    if failed:
        raise _failure(failed, len(days))


def _redetect_days(
    redetector: "Redetector", days: Sequence[date], *, force: bool
) -> tuple[list["Redetection"], dict[date, PermanentError]]:
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


def _record(done: "Redetection") -> dict[str, Any]:
    manifest = done.manifest
    return {
        "model": manifest.model,
        "day": manifest.day,
        "skipped": done.skipped,
        "frames": manifest.frames,
        "processed": manifest.processed,
        "gated": manifest.gated,
        "failed": dict(manifest.failed),
        "detections": manifest.rows,
        "looked_at": done.looked_at,
        "frames_per_s": round(done.frames_per_s, 1),
        "duration_s": round(done.duration_s, 2),
    }


_SIDE = "Model, such as `yolox-nano`, `yolox-nano@bf16` or `yolox-nano@0.3`."
_LOCATIONS = typer.Option(
    "--images", metavar="LOCATION", help="Images, a folder, a glob or s3://bucket/prefix. Repeatable."
)
_SCORES = ("label", "reference", "found", "matched", "precision", "recall", "f1")
_OF_A_DAY = ("label", "frames", "count_a", "count_b", "matched", "only_a", "only_b", "agreement", "mean_iou")


@command(app, "compare")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The reference. {_SIDE} With --day, also `live`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare with it, likewise.")],
    images: Annotated[list[str] | None, _LOCATIONS] = None,
    day: Annotated[
        str | None, typer.Option("--day", help="Compare the stored results of this UTC day, of redetect or `live`.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use at most this many images.")] = None,
    *,
    rows: RowFormat,
) -> None:
    """Compare two models label by label: on images, or by the stored results of a day. Nothing is stored.

    Two boxes match if they have the same label and an IoU of 0.5 or more; each box matches at most one other, the
    greatest IoU first. With --images, shows precision, recall and F1 of B against A, and how much the confidences of
    matched boxes differ; --limit takes images evenly spread over all. With --day, counts only frames that both models
    have processed; `live` are the results of the detection runs.
    """
    if bool(images) is (day is not None):
        raise UsageError(
            "--images and --day are both given." if images else "Neither --images nor --day is given.",
            next_step="give --images to run both models, or --day to compare stored results",
        )
    if day is not None:
        _compare_day(parse_day(day), a, b, rows)
    else:
        _compare_on_images(a, b, images or [], limit, rows)


def _compare_day(day: date, a: str, b: str, rows: RowFormat) -> None:
    settings, store = open_site()
    with from_arguments("`imgpipeline models list` shows the models"):
        names = [name if name == LIVE else str(parse_choice(name, settings)) for name in (a, b)]
    with open_pair(store, day, *names, memory=settings.duckdb_memory) as (engine, *sides):
        match_sides(engine, *sides)
        compared = compare_labels(engine, *sides)
    labels = [{name: label[name] for name in _OF_A_DAY} for label in compared]
    if rows.as_json:
        models = {name: compared[0][name] for name in ("models_a", "models_b")} if compared else {}
        show_json({"day": day, "model_a": names[0], "model_b": names[1], **models, "labels": labels})
    else:
        rows.show(labels, _OF_A_DAY, fields=_OF_A_DAY, title=f"{day}: a is {names[0]}, b is {names[1]}")


def _compare_on_images(a: str, b: str, images: Sequence[str], limit: int | None, rows: RowFormat) -> None:
    settings = load_settings()
    with from_arguments("`imgpipeline models list` shows the models"):
        choices = [parse_choice(text, settings) for text in (a, b)]
    files = _find_images(images, settings, limit)
    reference, other = (load_chosen(choice, settings) for choice in choices)
    with progress_bar("Comparing", unit="images") as progress:
        found = compare_on_files(settings, files, reference, other, progress)
    for where, problem in found.unreadable:
        note(f"{where}: {problem}")
    if rows.as_json:
        show_json(
            {"a": _model_json(a, found.reference), "b": _model_json(b, found.other), **_agreement_json(found.agreement)}
        )
        return
    _show_agreement(found.agreement, f"{b} compared with {a}", rows)
    for end, text, use in (("A", a, found.reference), ("B", b, found.other)):
        computed = use.precision or "fp32"
        note(f"{end} is {text}: {use.model_sha256[:12]} in {computed}, threshold {use.confidence_threshold}.")


def _find_images(locations: Sequence[str], settings: Settings, limit: int | None) -> "list[InputFile]":
    """Returns images, evenly spread over those at the locations if there are more than the limit."""
    files = find_images(locations, settings)
    if not files:
        raise ConfigurationError(
            f"There are no images in {', '.join(locations)}.", next_step="name a folder with .jpg or .png files"
        )
    if limit is None or limit >= len(files):
        return files
    return [files[number * len(files) // limit] for number in range(limit)]


def _show_agreement(agreement: "Agreement", title: str, rows: RowFormat) -> None:
    scores = [{"label": label, **_score_json(of)} for label, of in (*agreement.labels, ("total", agreement.total))]
    rows.show(scores, _SCORES, title=f"{title}, {counted(agreement.images, 'image')}")
    if agreement.mean_score_difference is not None:
        note(
            f"Confidences of matched boxes differ by {agreement.mean_score_difference:.4f} on average and by "
            f"{agreement.largest_score_difference:.4f} at most; their mean IoU is {agreement.mean_iou:.4f}."
        )


def _agreement_json(agreement: "Agreement") -> dict[str, Any]:
    labels = {label: _score_json(score) for label, score in agreement.labels}
    return {**record_of(agreement), "total": _score_json(agreement.total), "labels": labels}


def _score_json(score: "Score") -> dict[str, Any]:
    return {**record_of(score), "precision": score.precision, "recall": score.recall, "f1": score.f1}


def _model_json(text: str, use: "DetectorUse") -> dict[str, Any]:
    return {"name": text, **use.to_json(), "precision": use.precision or "fp32"}


@command(app, "quantize")
def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model in 32-bit floats, or an ONNX file.")],
    images: Annotated[list[str], _LOCATIONS],
    name: Annotated[str | None, typer.Option(help="Name of the new model. Default: MODEL-int8.")] = None,
    goal: Annotated[
        float, typer.Option(min=0, max=1, help="F1 to reach, compared with 32-bit floats.", metavar="F1")
    ] = 0.98,
    limit: Annotated[int, typer.Option(min=1, help="Use at most this many images, evenly spread.")] = 200,
    replace_it: Annotated[bool, typer.Option("--replace", help="Replace your model of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Quantize a model to 8-bit integers, calibrated on your own images, and register the result as a new model.

    Half of the images calibrate. The layers that change scores most stay in 32-bit floats until the goal is reached.
    The report compares both models on a quarter of the images that was not used before.
    """
    settings = load_settings()
    refuse_unknown_model(model, settings.model_dir, or_file=True)
    spec = chosen_model(model, settings)
    name, folder = name or f"{spec.name}-int8", model_folder(settings.model_dir)
    check_name(name, folder, replace_it=replace_it)
    decoded = list(_decode(_find_images(images, settings, limit), spec, settings))
    content, sha256 = _read_floats(spec)
    with _Stages() as stages:
        made = quantize_model(content, decoded, _loader(spec, settings), goal_f1=goal, stage=stages.begin)
    made_of = _made_of(spec, sha256, made, len(decoded))
    summary = f"{spec.name} ({sha256[:8]}) quantized to int8 with {counted(len(decoded), 'image')}"
    path = register(replace(spec, summary=summary), made.content, name, folder, made_of).path
    if as_json:
        show_json({"name": name, "path": str(path), **made_of, "held_out": _agreement_json(made.held_out)})
        return
    _show_agreement(made.held_out, f"{name} compared with {spec.name} on held-out images", RowFormat())
    note(f"{made.convolutions - made.kept_float} of {counted(made.convolutions, 'convolution')} compute in int8.")
    if made.held_out.total.f1 < goal:
        note(f"F1 on the held-out images is below the goal of {goal}; more images make it more reliable.")
    note(f"{name} is at {path}. To use it: IMGPIPELINE_MODEL={name}")


class _Stages(ExitStack):
    """Shows one progress bar per stage."""

    def begin(self, title: str) -> "Progress":
        """Replaces the progress bar of the previous stage."""
        self.close()
        return self.enter_context(progress_bar(title, unit="steps"))


def _decode(files: "Sequence[InputFile]", spec: "ModelSpec", settings: Settings) -> "Iterator[DecodedImage]":
    """Yields the images, decoded as in a detection run. Notes those that cannot be read."""
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    reduced_for = spec.network_input if settings.reduced_decoding else None
    for file in files:
        try:
            with file.open_raw() as raw:
                yield decode_image(raw.read(), limits, reduced_for=reduced_for)
        except BadInputError as problem:
            note(f"{file.where}: {problem}")


def _read_floats(spec: "ModelSpec") -> tuple[bytes, str]:
    content, sha256 = read_verified(spec)
    if choose_precision("fp32", content, spec.name) != "fp32":
        raise ConfigurationError(
            f"The model {spec.name!r} is already quantized.", next_step="name the model that it was made from"
        )
    return runnable(spec, content), sha256


def _loader(spec: "ModelSpec", settings: Settings) -> Any:
    """Returns a function that loads a variant of the model, with the thresholds of the settings."""
    return lambda content: Detector(
        spec, "",
        open_backend(settings.model_backend, content, precision=choose_precision("fp32", content, spec.name)),
        confidence_threshold=settings.confidence_threshold, nms_threshold=settings.nms_threshold,
        nms_per_class=settings.nms_per_class,
    )  # fmt: skip


def _made_of(spec: "ModelSpec", sha256: str, made: "QuantizedModel", images: int) -> dict[str, Any]:
    total = made.held_out.total
    return {
        "model": spec.name,
        "model_sha256": sha256,
        "precision": "int8",
        "images": images,
        "calibrated_on": made.calibrated_on,
        "convolutions": made.convolutions,
        "kept_float": made.kept_float,
        "held_out_images": made.held_out.images,
        "held_out_f1": total.f1,
        "held_out_precision": total.precision,
        "held_out_recall": total.recall,
    }
