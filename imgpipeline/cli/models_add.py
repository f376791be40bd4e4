"""`imgpipeline models add`: a user's own ONNX file gets an entry in the registry."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.contracts.detection import DecoderName
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.vision.model import ModelSpec

LabelsOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|coco", help="Text file with one label per line. Default: the file's metadata, or COCO."),
]
DecoderOption = Annotated[
    DecoderName | None, typer.Option(help="Output layout. Default: detected from the file (docs/models.md).")
]


def add(  # noqa: PLR0913 - one argument an option
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    *,
    name: Annotated[str, typer.Option(help="What IMGPIPELINE_MODEL calls it.")],
    labels: LabelsOption = None,
    licence: Annotated[str | None, typer.Option(help="Its licence. Default: the file's metadata.")] = None,
    summary: Annotated[str, typer.Option(help="What it is good for.")] = "",
    decoder: DecoderOption = None,
    resize: Annotated[
        Literal["stretch", "letterbox", "letterbox-centred"] | None,
        typer.Option(help="How an image is put into the input. Default: as usual for the layout."),
    ] = None,
    channels: Annotated[Literal["RGB", "BGR"] | None, typer.Option(help="Order of the colours.")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the values 0 to 255, such as 0.00392157.")] = None,
    pad_value: Annotated[int | None, typer.Option(min=0, max=255, help="What fills the rest of a letterbox.")] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Subtracted from each channel after --scale.")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="A,B,C", help="Each channel is divided by it last.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace your model of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add your own ONNX file to the registered models.

    Copies it into the folder of models (IMGPIPELINE_MODEL_DIR) and writes an entry next to it, with its size and hash.
    The network is run once before; `imgpipeline models check` shows what it finds in an image.
    """
    from imgpipeline.vision.adding import Wishes, add_model  # noqa: PLC0415 - loads OpenCV and a backend

    divisors = _three("--std", std)
    if divisors is not None and min(divisors) <= 0:
        raise UsageError(f"--std is {std!r}; its numbers have to be above 0.", next_step="give --std A,B,C")
    given = {"resize": resize, "channels": channels, "scale": scale, "pad_value": pad_value,
             "mean": _three("--mean", mean), "std": divisors}  # fmt: skip
    wishes = Wishes(
        decoder, named_labels(labels), licence, summary, {key: v for key, v in given.items() if v is not None}
    )
    existing(file)
    spec = add_model(file, name, wishes, model_dir=load_settings().model_dir, replace_it=replace)
    if as_json:
        show_json({"name": spec.name, "path": str(spec.path), "decoder": spec.decoder, "licence": spec.licence,
                   "decoder_from": spec.decoder_reason, "labels": list(spec.labels)})  # fmt: skip
        return
    _say(spec)


def _say(spec: "ModelSpec") -> None:
    note(f"{spec.name} is registered: {spec.path.with_suffix('.toml')}")
    note(f"Layout {spec.decoder}: {spec.decoder_reason}.")
    shown = ", ".join(spec.labels[:5]) + (", …" if len(spec.labels) > 5 else "")
    note(f"{counted(len(spec.labels), 'label')}: {shown}. Licence: {spec.licence}.")
    note(f"To use it: IMGPIPELINE_MODEL={spec.name}")


def named_labels(given: str | None) -> "tuple[str, ...] | Path | None":
    """Returns the labels that an option names: COCO's, a file's, or None if it is not given."""
    from imgpipeline.vision.registry import label_sets  # noqa: PLC0415 - `--help` does not wait for it

    if given is None:
        return None
    return label_sets()["coco"] if given == "coco" else Path(given)


def existing(file: Path, expected: str = "the path of an ONNX file") -> None:
    """Refuses the path of a file that is not there.

    Raises:
        UsageError: It is not there.
    """
    if not file.is_file():
        raise UsageError(f"There is no file {str(file)!r}.", next_step=f"give {expected}")


def _three(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}; three numbers separated by commas are expected.", next_step=f"give {option} A,B,C"
        ) from error
    return first, second, third
