"""`imgpipeline models check`: what a network finds in an image, read in every plausible way."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.models_add import LabelsOption, existing, named_labels
from imgpipeline.cli.output import JsonOption, note, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.vision.decode import Pixels
    from imgpipeline.vision.model import Preprocessing
    from imgpipeline.vision.model_check import Interpretation


def check(
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    image: Annotated[Path, typer.Argument(help="An image with objects that the model knows.")],
    *,
    labels: LabelsOption = None,
    threshold: Annotated[float, typer.Option(min=0, max=0.99, help="Show boxes with a higher confidence.")] = 0.25,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to draw the boxes. Default: check_NAME.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many interpretations to show and draw.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Show what an ONNX file finds in an image, for each plausible output layout and preprocessing.

    Draws the boxes of each interpretation and recommends one. The evidence is the sum of the confidences of boxes that
    are also found, mirrored, in the mirrored image. A way that is not usual for the layout is recommended only if it
    has half as much again. Compare the drawings: only you know what is in the image.
    """
    from imgpipeline.vision.model_check import interpret  # noqa: PLC0415 - loads OpenCV and a backend

    existing(file)
    pixels = _read(image)
    found = interpret(file, pixels, named_labels(labels), threshold=threshold)
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


def _read(image: Path) -> "Pixels":
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - loads OpenCV

    settings = load_settings()
    existing(image, "the path of an image")
    return decode_image(image.read_bytes(), ImageLimits(settings.max_image_pixels, settings.max_image_bytes)).pixels


def _draw(one: "Interpretation", number: int, pixels: "Pixels", folder: Path) -> Path:
    from imgpipeline.vision.annotate import draw_detections, encode_jpeg  # noqa: PLC0415 - loads OpenCV

    rules = one.preprocessing
    path = folder / f"{number:02}_{one.layout.decoder}_{rules.resize}_{rules.channels}_{_values(rules)}.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(draw_detections(pixels, one.detections)))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", next_step="name a folder that you may write to with --draw"
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
