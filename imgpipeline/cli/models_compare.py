"""`imgpipeline models compare` and `quantize`: how far two models agree, and a model in 8-bit integers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.models import chosen_model, refuse_unknown_model
from imgpipeline.cli.options import JsonOption, from_arguments
from imgpipeline.cli.output import note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.detection import DetectorUse
    from imgpipeline.objectstore.files import InputFile
    from imgpipeline.redetect.on_files import FileComparison
    from imgpipeline.vision.agreement import Agreement, Score
    from imgpipeline.vision.decode import DecodedImage
    from imgpipeline.vision.model import ModelSpec
    from imgpipeline.vision.quantization import Progress, QuantizedModel

ImagesOption = Annotated[
    list[str],
    typer.Option("--images", metavar="LOCATION", help="Images, a folder, a glob or s3://bucket/prefix. Repeatable."),
]
_SIDE = "Model, such as `yolox-nano`, `yolox-nano@bf16` or `yolox-nano@0.3`."


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The reference. {_SIDE}")],
    b: Annotated[str, typer.Argument(metavar="B", help=f"The model to compare with it. {_SIDE}")],
    images: ImagesOption,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most this many images, evenly spread.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, or two precisions of one model, on images. Nothing is stored.

    Boxes match if they have the same label and an IoU of 0.5 or more. Shows precision, recall and F1 of B against A by
    label and in total, and how much the confidences of matched boxes differ.
    """
    from imgpipeline.redetect.choice import load_chosen, parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.on_files import compare_on_files  # noqa: PLC0415 - as above

    settings = load_settings()
    with from_arguments("`imgpipeline models list` shows the models"):
        choices = [parse_choice(text, settings) for text in (a, b)]
    files = _find_images(images, settings, limit)
    reference, other = (load_chosen(choice, settings) for choice in choices)
    with progress_bar("Comparing", unit="images") as progress:
        found = compare_on_files(settings, files, reference, other, progress)
    for where, problem in found.unreadable:
        note(f"{where}: {problem}")
    if as_json:
        show_json(
            {"a": _model_json(a, found.reference), "b": _model_json(b, found.other), **_agreement_json(found.agreement)}
        )
        return
    _show_agreement(found.agreement, f"{b} compared with {a}")
    _note_versions(a, b, found)


def _find_images(locations: Sequence[str], settings: Settings, limit: int | None) -> "list[InputFile]":
    """Returns images, evenly spread over those at the locations if there are more than the limit."""
    from imgpipeline.detect.files import find_images  # noqa: PLC0415 - loads OpenCV and a backend

    files = find_images(locations, settings)
    if not files:
        raise ConfigurationError(
            f"There are no images in {', '.join(locations)}.", next_step="name a folder with .jpg or .png files"
        )
    if limit is None or limit >= len(files):
        return files
    return [files[number * len(files) // limit] for number in range(limit)]


def _show_agreement(agreement: "Agreement", title: str) -> None:
    columns = ("label", "boxes of A", "boxes of B", "matched", "precision", "recall", "F1")
    rows = [_score_cells(label, score) for label, score in (*agreement.labels, ("total", agreement.total))]
    show_table(columns, rows, title=f"{title}, {counted(agreement.images, 'image')}")
    if agreement.mean_score_difference is not None:
        note(
            f"Confidences of matched boxes differ by {agreement.mean_score_difference:.4f} on average and by "
            f"{agreement.largest_score_difference:.4f} at most; their mean IoU is {agreement.mean_iou:.4f}."
        )


def _score_cells(label: str, score: "Score") -> tuple[str | int, ...]:
    rates = (f"{rate:.4f}" for rate in (score.precision, score.recall, score.f1))
    return (label, score.reference, score.found, score.matched, *rates)


def _agreement_json(agreement: "Agreement") -> dict[str, Any]:
    return {
        "images": agreement.images,
        "total": _score_json(agreement.total),
        "labels": {label: _score_json(score) for label, score in agreement.labels},
        "mean_score_difference": agreement.mean_score_difference,
        "largest_score_difference": agreement.largest_score_difference,
        "mean_iou": agreement.mean_iou,
    }


def _score_json(score: "Score") -> dict[str, Any]:
    return {**asdict(score), "precision": score.precision, "recall": score.recall, "f1": score.f1}


def _model_json(text: str, use: "DetectorUse") -> dict[str, Any]:
    return {"name": text, **use.to_json(), "precision": use.precision or "fp32"}


def _note_versions(a: str, b: str, found: "FileComparison") -> None:
    for end, text, use in (("A", a, found.reference), ("B", b, found.other)):
        computed = use.precision or "fp32"
        note(f"{end} is {text}: {use.model_sha256[:12]} in {computed}, threshold {use.confidence_threshold}.")


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model in 32-bit floats, or an ONNX file.")],
    images: ImagesOption,
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
    from imgpipeline.vision.adding import check_name, register  # noqa: PLC0415 - loads OpenCV and a backend
    from imgpipeline.vision.quantization import quantize_model  # noqa: PLC0415 - loads onnx
    from imgpipeline.vision.registry import model_folder  # noqa: PLC0415 - loads OpenCV

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
    _show_agreement(made.held_out, f"{name} compared with {spec.name} on held-out images")
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
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - loads OpenCV

    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    reduced_for = spec.network_input if settings.reduced_decoding else None
    for file in files:
        try:
            with file.open_raw() as raw:
                yield decode_image(raw.read(), limits, reduced_for=reduced_for)
        except BadInputError as problem:
            note(f"{file.where}: {problem}")


def _read_floats(spec: "ModelSpec") -> tuple[bytes, str]:
    from imgpipeline.vision.model_files import read_verified, runnable  # noqa: PLC0415 - keeps `--help` fast
    from imgpipeline.vision.precision import choose_precision  # noqa: PLC0415 - as above

    content, sha256 = read_verified(spec)
    if choose_precision("fp32", content, spec.name) != "fp32":
        raise ConfigurationError(
            f"The model {spec.name!r} is already quantized.", next_step="name the model that it was made from"
        )
    return runnable(spec, content), sha256


def _loader(spec: "ModelSpec", settings: Settings) -> Any:
    """Returns a function that loads a variant of the model, with the thresholds of the settings."""
    from imgpipeline.vision.backends import open_backend  # noqa: PLC0415 - loads OpenCV and a backend
    from imgpipeline.vision.detector import Detector  # noqa: PLC0415 - as above
    from imgpipeline.vision.precision import choose_precision  # noqa: PLC0415 - as above

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
