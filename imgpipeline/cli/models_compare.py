"""`imgpipeline models compare`: how far two models, or two precisions of one, agree on image files."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json, show_table
from imgpipeline.cli.usage import from_arguments
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.detection import DetectorUse
    from imgpipeline.objectstore.inputs import InputFile
    from imgpipeline.redetect.on_files import FileComparison
    from imgpipeline.vision.agreement import Agreement, Score

ImagesOption = Annotated[
    list[str],
    typer.Option("--images", metavar="LOCATION", help="Images, a folder, a glob or s3://bucket/prefix; repeatable."),
]
_SIDE = "Model, such as `yolox-nano`, `yolox-nano@bf16` or `yolox-nano@0.3`."


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The reference. {_SIDE}")],
    b: Annotated[str, typer.Argument(metavar="B", help=f"What is compared with it. {_SIDE}")],
    images: ImagesOption,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most this many images, evenly spread.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, or two precisions of one model, on images. Nothing is stored.

    Boxes match if they have the same label and an IoU of 0.5 or more. Shows precision, recall and F1 of B with A as
    reference, by label and in total, and how much the confidences of matched boxes differ.
    """
    from imgpipeline.redetect.choice import load_chosen, parse_choice  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.redetect.on_files import compare_on_files  # noqa: PLC0415 - as above

    settings = load_settings()
    with from_arguments("`imgpipeline models list` shows the models"):
        choices = [parse_choice(text, settings) for text in (a, b)]
    files = find_some_images(images, settings, limit)
    reference, other = (load_chosen(choice, settings) for choice in choices)
    with progress_bar("Comparing", unit="images") as progress:
        found = compare_on_files(settings, files, reference, other, progress)
    for where, problem in found.unreadable:
        note(f"{where}: {problem}")
    if as_json:
        show_json({"a": named(a, found.reference), "b": named(b, found.other), **agreement_as_json(found.agreement)})
        return
    show_agreement(found.agreement, f"{b} compared with {a}")
    _note_versions(a, b, found)


def find_some_images(locations: Sequence[str], settings: Settings, limit: int | None) -> "list[InputFile]":
    """Lists images, evenly spread over all that there are.

    Args:
        locations: Files, folders, globs, `s3://bucket/prefix`.
        settings: Name the S3 server.
        limit: Most images; None: all.

    Raises:
        ConfigurationError: There are none.
    """
    from imgpipeline.detect.files import find_images  # noqa: PLC0415 - loads OpenCV and a backend

    files = find_images(locations, settings)
    if not files:
        raise ConfigurationError(
            f"There are no images in {', '.join(locations)}.", next_step="name a folder with .jpg or .png files"
        )
    if limit is None or limit >= len(files):
        return files
    return [files[number * len(files) // limit] for number in range(limit)]


def show_agreement(agreement: "Agreement", title: str) -> None:
    """Shows a report as a table, and what it says of scores as notes."""
    columns = ("label", "boxes of A", "boxes of B", "matched", "precision", "recall", "F1")
    rows = [_row(label, score) for label, score in (*agreement.labels, ("total", agreement.total))]
    show_table(columns, rows, title=f"{title}, {counted(agreement.images, 'image')}")
    if agreement.mean_score_difference is not None:
        note(
            f"Confidences of matched boxes differ by {agreement.mean_score_difference:.4f} in the mean and by "
            f"{agreement.largest_score_difference:.4f} at most; their mean IoU is {agreement.mean_iou:.4f}."
        )


def _row(label: str, score: "Score") -> tuple[str, int, int, int, str, str, str]:
    rates = (f"{rate:.4f}" for rate in (score.precision, score.recall, score.f1))
    return (label, score.reference, score.found, score.matched, *rates)  # type: ignore[return-value]  # three of them


def agreement_as_json(agreement: "Agreement") -> dict[str, Any]:
    """Returns a report as JSON values."""
    return {
        "images": agreement.images,
        "total": _score_as_json(agreement.total),
        "labels": {label: _score_as_json(score) for label, score in agreement.labels},
        "mean_score_difference": agreement.mean_score_difference,
        "largest_score_difference": agreement.largest_score_difference,
        "mean_iou": agreement.mean_iou,
    }


def _score_as_json(score: "Score") -> dict[str, Any]:
    return {**asdict(score), "precision": score.precision, "recall": score.recall, "f1": score.f1}


def named(text: str, use: "DetectorUse") -> dict[str, Any]:
    """Returns a model as JSON values: its name on the command line, and what frames record of it."""
    return {"name": text, **use.to_json(), "precision": use.precision or "fp32"}


def _note_versions(a: str, b: str, found: "FileComparison") -> None:
    for end, text, use in (("A", a, found.reference), ("B", b, found.other)):
        computed = use.precision or "fp32"
        note(f"{end} is {text}: {use.model_sha256[:12]} in {computed}, threshold {use.confidence_threshold}.")
