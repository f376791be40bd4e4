"""`imgpipeline models add`, `check` and `convert`: use your own ONNX file or Darknet network."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imgpipeline.cli.models import read_image
from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, show_json, show_table
from imgpipeline.contracts.detection import DecoderName
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.vision.adding import Interpretation
    from imgpipeline.vision.decode import Pixels
    from imgpipeline.vision.model import ModelSpec, Preprocessing

LabelsOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|coco", help="Text file with one label per line. Default: the file's metadata, or COCO."),
]
DecoderOption = Annotated[
    DecoderName | None, typer.Option(help="Output layout. Default: detected from the file (docs/models.md).")
]


def add(  # noqa: PLR0913 - one parameter for each option
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the model, for IMGPIPELINE_MODEL.")],
    labels: LabelsOption = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the model. Default: the file's metadata.")] = None,
    summary: Annotated[str, typer.Option(help="What the model is good for.")] = "",
    decoder: DecoderOption = None,
    resize: Annotated[
        Literal["stretch", "letterbox", "letterbox-centred"] | None,
        typer.Option(help="How an image is fitted into the input. Default: as usual for the layout."),
    ] = None,
    channels: Annotated[Literal["RGB", "BGR"] | None, typer.Option(help="Order of the colours.")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the values 0 to 255, such as 0.00392157.")] = None,
    pad_value: Annotated[int | None, typer.Option(min=0, max=255, help="Value of a letterbox's padding.")] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Subtracted from the channels, after --scale.")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="A,B,C", help="Divides the channels, after --mean.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace your model of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add your own ONNX file to the registered models.

    Runs the network once, then copies the file into the folder of models (IMGPIPELINE_MODEL_DIR) and writes an entry
    with its size and hash next to it. `imgpipeline models check` shows what the model finds in an image.
    """
    from imgpipeline.vision.adding import Wishes, add_model  # noqa: PLC0415 - loads OpenCV and a backend

    divisors = _three("--std", std)
    if divisors is not None and min(divisors) <= 0:
        raise UsageError(f"--std is {std!r}, expected numbers above 0.", next_step="give --std A,B,C")
    given = {"resize": resize, "channels": channels, "scale": scale, "pad_value": pad_value,
             "mean": _three("--mean", mean), "std": divisors}  # fmt: skip
    wishes = Wishes(
        decoder, _named_labels(labels), licence, summary, {key: v for key, v in given.items() if v is not None}
    )
    _check_exists(file)
    spec = add_model(file, name, wishes, model_dir=load_settings().model_dir, replace_it=replace)
    if as_json:
        show_json({"name": spec.name, "path": str(spec.path), "decoder": spec.decoder, "licence": spec.licence,
                   "decoder_from": spec.decoder_reason, "labels": list(spec.labels)})  # fmt: skip
        return
    _note_added(spec)


def _note_added(spec: "ModelSpec") -> None:
    note(f"{spec.name} is registered: {spec.path.with_suffix('.toml')}")
    note(f"Layout {spec.decoder}: {spec.decoder_reason}.")
    shown = ", ".join(spec.labels[:5]) + (", …" if len(spec.labels) > 5 else "")
    note(f"{counted(len(spec.labels), 'label')}: {shown}. Licence: {spec.licence}.")
    note(f"To use it: IMGPIPELINE_MODEL={spec.name}")


def _named_labels(given: str | None) -> "tuple[str, ...] | Path | None":
    """Returns the labels of COCO, the path of a file with labels, or None if the option is not given."""
    from imgpipeline.vision.registry import label_sets  # noqa: PLC0415 - `--help` does not wait for it

    if given is None:
        return None
    return label_sets()["coco"] if given == "coco" else Path(given)


def _check_exists(file: Path, expected: str = "the path of an ONNX file") -> None:
    if not file.is_file():
        raise UsageError(f"There is no file {str(file)!r}.", next_step=f"give {expected}")


def _three(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}, expected three numbers separated by commas.", next_step=f"give {option} A,B,C"
        ) from error
    return first, second, third


def check(
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    image: Annotated[Path, typer.Argument(help="An image with objects that the model knows.")],
    *,
    labels: LabelsOption = None,
    threshold: Annotated[float, typer.Option(min=0, max=0.99, help="Show boxes above this confidence.")] = 0.25,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for images with the boxes. Default: check_NAME.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many interpretations to show and draw.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Show what an ONNX file finds in an image, for each plausible output layout and preprocessing.

    Draws the boxes of each interpretation and recommends one. The evidence is the sum of the confidences of boxes that
    are also found, mirrored, in the mirrored image. Preprocessing that is unusual for the layout is recommended only if
    it has 1.5 times the evidence. Compare the drawings: only you know what is in the image.
    """
    from imgpipeline.vision.adding import interpret  # noqa: PLC0415 - loads OpenCV and a backend

    _check_exists(file)
    _check_exists(image, "the path of an image")
    pixels = read_image(image, load_settings())
    found = interpret(file, pixels, _named_labels(labels), threshold=threshold)
    shown = found[:top]
    folder = draw or Path(f"check_{file.stem}")
    drawn = [_draw(one, number, pixels, folder) for number, one in enumerate(shown, 1)]
    if as_json:
        show_json({"interpretations": [_as_json(*pair) for pair in zip(shown, drawn, strict=True)],
                   "command": _command(file, found[0])})  # fmt: skip
        return
    columns = ("layout", "resize", "channels", "values", "usual", "boxes", "evidence", "drawing")
    show_table(columns, [_row(*pair) for pair in zip(shown, drawn, strict=True)])
    note(f"Recommended: {found[0].layout.decoder} ({found[0].layout.reason}), {_how(found[0].preprocessing)}.")
    note(f"The drawings are in {folder}.")
    if not found[0].evidence:
        note("No interpretation finds a plausible box in this image. Try another image, or a lower --threshold.")
    note(f"{counted(len(found), 'interpretation')} compared. To add the model:\n  {_command(file, found[0])}")


def _draw(one: "Interpretation", number: int, pixels: "Pixels", folder: Path) -> Path:
    from imgpipeline.vision.annotate import draw_detections, encode_jpeg  # noqa: PLC0415 - loads OpenCV

    rules = one.preprocessing
    path = folder / f"{number:02}_{one.layout.decoder}_{rules.resize}_{rules.channels}_{_values(rules)}.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(draw_detections(pixels, one.detections)))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", next_step="name a writable folder with --draw"
        ) from error
    return path


def _values(rules: "Preprocessing") -> str:
    if rules.std != (1.0, 1.0, 1.0):
        return "imagenet"
    return "0-255" if rules.scale == 1 else "0-1"


def _row(one: "Interpretation", drawn: Path) -> tuple[object, ...]:
    rules = one.preprocessing
    usual = "yes" if one.is_usual else ""
    return (one.layout.decoder, rules.resize, rules.channels, _values(rules), usual, len(one.detections),
            f"{one.evidence:.2f}", drawn.name)  # fmt: skip


def _as_json(one: "Interpretation", drawn: Path) -> dict[str, Any]:
    return {
        "decoder": one.layout.decoder,
        "decoder_from": one.layout.reason,
        "preprocessing": asdict(one.preprocessing),
        "usual": one.is_usual,
        "evidence": round(one.evidence, 6),
        "detections": [detection.to_json() for detection in one.detections],
        "drawn": str(drawn),
    }


def _how(rules: "Preprocessing") -> str:
    return f"{rules.resize}, {rules.channels}, values {_values(rules)}"


def _command(file: Path, one: "Interpretation") -> str:
    """Returns the command that adds the model as it was interpreted."""
    rules, more = one.preprocessing, ""
    if not one.is_usual:
        more = f" --resize {rules.resize} --channels {rules.channels} --scale {rules.scale:.10g}"
    if rules.std != (1.0, 1.0, 1.0):
        mean, std = (",".join(map(str, values)) for values in (rules.mean, rules.std))
        more += f" --mean {mean} --std {std}"
    return f"imgpipeline models add {file} --name {file.stem} --decoder {one.layout.decoder}{more}"


def convert(
    cfg: Annotated[Path, typer.Argument(help="The network's description (.cfg).")],
    weights: Annotated[Path, typer.Argument(help="The network's weights (.weights).")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Convert a Darknet network of the yolov3-tiny or yolov4-tiny family to ONNX."""
    from imgpipeline.vision.darknet import convert_darknet  # noqa: PLC0415 - loads onnx

    sha256 = convert_darknet(cfg, weights, out)
    if as_json:
        show_json({"path": str(out), "sha256": sha256})
        return
    note(f"{out} was written (sha256 {sha256}).")
    note(f"To use it: IMGPIPELINE_MODEL={out} IMGPIPELINE_MODEL_DECODER=yolov4")
