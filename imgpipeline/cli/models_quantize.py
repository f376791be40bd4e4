"""`imgpipeline models quantize`: a model in 8-bit integers, calibrated on the user's own images."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.models_compare import ImagesOption, agreement_as_json, find_some_images, show_agreement
from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json
from imgpipeline.contracts.text import counted
from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.objectstore.inputs import InputFile
    from imgpipeline.vision.decode import DecodedImage
    from imgpipeline.vision.model import ModelSpec
    from imgpipeline.vision.quantization.measure import Progress
    from imgpipeline.vision.quantization.search import QuantizedModel


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model in 32-bit floats, or ONNX file.")],
    images: ImagesOption,
    name: Annotated[str | None, typer.Option(help="Name of the new model. Default: MODEL-int8.")] = None,
    goal: Annotated[
        float, typer.Option(min=0, max=1, help="F1 against 32-bit floats that must be reached.", metavar="F1")
    ] = 0.98,
    limit: Annotated[int, typer.Option(min=1, help="Use at most this many images, evenly spread.")] = 200,
    replace: Annotated[bool, typer.Option("--replace", help="Replace your model of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Quantize a model to 8-bit integers, calibrated on your own images, and register it as a model of its own.

    Half of the images calibrate; the layers that change scores most stay in 32-bit floats until the goal is reached.
    The report against 32-bit floats is measured on a quarter of the images that had no part in it.
    """
    from imgpipeline.cli.models import refuse_unknown_model  # noqa: PLC0415 - that module imports this one
    from imgpipeline.vision.adding import check_name, register  # noqa: PLC0415 - loads OpenCV and a backend
    from imgpipeline.vision.quantization.search import quantize_model  # noqa: PLC0415 - loads onnx
    from imgpipeline.vision.registry import find_model, model_folder  # noqa: PLC0415 - loads OpenCV

    settings = load_settings()
    refuse_unknown_model(model, settings.model_dir, or_file=True)
    own = model == settings.model
    spec = find_model(
        model, settings.model_decoder if own else None, settings.model_labels if own else None,
        model_dir=settings.model_dir,
    )  # fmt: skip
    name, folder = name or f"{spec.name}-int8", model_folder(settings.model_dir)
    check_name(name, folder, replace_it=replace)
    decoded = list(_decode(find_some_images(images, settings, limit), spec, settings))
    content, sha256 = _read_floats(spec)
    with _Stages() as stages:
        made = quantize_model(content, decoded, _loader(spec, settings), goal_f1=goal, stage=stages.begin)
    made_of = _made_of(spec, sha256, made, len(decoded))
    summary = f"{spec.name} ({sha256[:8]}) quantized to int8 with {counted(len(decoded), 'image')}"
    path = register(dataclasses.replace(spec, summary=summary), made.content, name, folder, made_of).path
    if as_json:
        show_json({"name": name, "path": str(path), **made_of, "held_out": agreement_as_json(made.held_out)})
        return
    show_agreement(made.held_out, f"{name} compared with {spec.name} on held-out images")
    note(f"{made.convolutions - made.kept_float} of {counted(made.convolutions, 'convolution')} compute in int8.")
    if made.held_out.total.f1 < goal:
        note(f"On the held-out images F1 is below the goal of {goal}: more images make it more reliable.")
    note(f"{name} is at {path}. To use it: IMGPIPELINE_MODEL={name}")


class _Stages(ExitStack):
    """Shows one bar of progress for each stage."""

    def begin(self, title: str) -> "Progress":
        """Ends the bar before and begins another."""
        self.close()
        return self.enter_context(progress_bar(title, unit="steps"))


def _decode(files: "Sequence[InputFile]", spec: "ModelSpec", settings: Settings) -> "Iterator[DecodedImage]":
    """Yields the images as a detection run decodes them; names those that it cannot read."""
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
    from imgpipeline.vision.detector import read_verified  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.vision.precision import choose_precision  # noqa: PLC0415 - as above
    from imgpipeline.vision.signature import bind_picture_size  # noqa: PLC0415 - loads onnx

    content, sha256 = read_verified(spec)
    if choose_precision("fp32", content, spec.name) != "fp32":
        raise ConfigurationError(
            f"The model {spec.name!r} is quantized already.", next_step="name the model that it was made of"
        )
    if spec.decoder == "detr":
        content = bind_picture_size(content, spec.input_width, spec.input_height)
    return content, sha256


def _loader(spec: "ModelSpec", settings: Settings) -> Any:
    """Returns what makes a detector of a variant of the model, with the thresholds of the settings."""
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
