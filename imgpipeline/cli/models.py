"""`imgpipeline models`: list, download and tune the registered models, and add your own ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from imgpipeline.cli.options import JsonOption, RowFormat, command
from imgpipeline.cli.output import note, progress_bar, record_of, show_json, show_records
from imgpipeline.contracts.detection import DecoderName
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.model import parse_detectors
from imgpipeline.vision import registry
from imgpipeline.vision.adding import Interpretation, Wishes, add_model, interpret
from imgpipeline.vision.annotate import draw_detections, encode_jpeg
from imgpipeline.vision.backends import usable_cores
from imgpipeline.vision.configured import TunedRow, detect_workers, exclusive_tuning, tune_model, write_tuning
from imgpipeline.vision.darknet import convert_darknet
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image
from imgpipeline.vision.model import ModelSpec, Preprocessing
from imgpipeline.vision.model_files import pull_model, read_verified
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.registry import find_model, label_sets, model_folder

app = typer.Typer()

ModelOption = Annotated[str | None, typer.Option(help="Name or path. Default: IMGPIPELINE_MODEL.")]
LabelsOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|coco", help="Text file with one label per line. Default: the file's metadata, or COCO."),
]
DecoderOption = Annotated[
    DecoderName | None, typer.Option(help="Output layout. Default: detected from the file (docs/models.md).")
]
_COLUMNS = ("name", "present", "in_use", "input", "decoder", "labels", "download_bytes", "licence", "summary")
_FIELDS = (*_COLUMNS[:5], "decoder_from", "labels", "labels_file", *_COLUMNS[6:], "path", "problem")


@command(app, "list")
def list_models(rows: RowFormat) -> None:
    """List the registered models and your own (the path in IMGPIPELINE_MODEL), and check their files."""
    settings = load_settings()
    used = [one.model for one in parse_detectors(settings.detectors)] if settings.detectors else [settings.model]
    specs, refused = registry.list_models(settings.model_dir), registry.refused_entries(settings.model_dir)
    models = [_row(spec.name, spec, used) for spec in specs]
    models += [_row(name, None, used, str(error)) for name, error in refused.items()]
    if not any(model["in_use"] for model in models):
        models.append(_own_row(settings))
    rows.show(models, _COLUMNS, fields=_FIELDS)


def _row(name: str, spec: ModelSpec | None, used: Sequence[str], problem: str | None = None) -> dict[str, Any]:
    """Returns the row of a model; without a spec, `problem` says why it cannot be used."""
    row = dict.fromkeys(_FIELDS) | {"name": name, "present": False, "in_use": name in used}
    if spec is not None:
        is_present = spec.path.is_file()
        problem = _file_problem(spec) if is_present else None
        row |= {
            "present": is_present,
            "input": f"{spec.input_width}x{spec.input_height}",
            "decoder": spec.decoder,
            "decoder_from": spec.decoder_reason,
            "labels": len(spec.labels),
            "download_bytes": sum(file.size_bytes for file in spec.files if file.url) or None,
            "licence": spec.licence,
            "path": spec.path,
        }
    return row | {"summary": problem or (spec and spec.summary), "problem": problem}


def _file_problem(spec: ModelSpec) -> str | None:
    """Returns why runs would refuse the model's file; None if they would not."""
    try:
        choose_precision("fp32", read_verified(spec)[0], spec.name)
    except ImgpipelineError as error:
        return str(error)
    return None


def _own_row(settings: Settings) -> dict[str, Any]:
    """Returns the row of a model in the settings that is not registered: a path, or a misspelt name."""
    path, labels = Path(settings.model).expanduser(), settings.model_labels
    known = {"present": path.is_file(), "labels_file": labels, "path": path}
    try:
        spec = find_model(settings.model, settings.model_decoder, labels, model_dir=settings.model_dir)
    except ConfigurationError as error:
        return _row(settings.model, None, [settings.model], str(error)) | known
    summary = f"your own file; {spec.decoder}, from {spec.decoder_reason}; labels from {labels or 'the file, or COCO'}"
    return _row(settings.model, dataclasses.replace(spec, summary=summary), [settings.model]) | known


@command(app, "pull")
def pull(
    name: Annotated[str, typer.Argument(help="A name from `imgpipeline models list`.")], as_json: JsonOption = False
) -> None:
    """Download a registered model. Keeps complete files."""
    settings = load_settings()
    refuse_unknown_model(name, settings.model_dir)
    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        spec = pull_model(name, model_dir=settings.model_dir, progress=progress)
    if as_json:
        show_json({"name": spec.name, "path": str(spec.path)})
        return
    note(f"{spec.name} is at {spec.path}. To use it: IMGPIPELINE_MODEL={spec.name}")


@command(app, "tune")
def tune(
    model: ModelOption = None,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Seconds to measure each row.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """Measure a model in every backend, precision and arrangement of threads, and save the result for this machine.

    IMGPIPELINE_PRECISION=auto then uses the fastest row with the configured number of workers. Run it while the machine
    is idle.
    """
    settings = load_settings()
    if model is not None:
        refuse_unknown_model(model, settings.model_dir, or_file=True)
    spec = chosen_model(model or settings.model, settings)
    folder, cores, workers = model_folder(settings.model_dir), usable_cores(), detect_workers(settings)
    arrangements = tuple(dict.fromkeys([(workers, max(1, cores // workers)), (1, cores)]))
    with exclusive_tuning(folder):
        content = read_verified(spec)[0]
        tuning = tune_model(spec, content, arrangements=arrangements, seconds=seconds, now=utc_now(), told=_note_row)
        path = write_tuning(folder, tuning)
    best = tuning.best(workers)
    if as_json:
        show_json({**record_of(tuning), "path": path, "best": best})
        return
    rows = [record_of(row) for row in tuning.rows]
    show_records(rows, list(rows[0]), title=spec.name)
    if best:
        note(f"IMGPIPELINE_PRECISION=auto uses {best.backend} in {best.precision} with {counted(workers, 'worker')}.")


def _note_row(row: "TunedRow") -> None:
    arrangement = f"{counted(row.workers, 'worker')} x {counted(row.threads, 'thread')}"
    note(f"{row.backend} in {row.precision}, {arrangement}: {row.images_per_s:.1f} images/s")


def refuse_unknown_model(name: str, model_dir: Path | None, *, or_file: bool = False) -> None:
    """Refuses the name of a model that is not registered; with `or_file`, the path of an ONNX file is allowed too."""
    known = [spec.name for spec in registry.list_models(model_dir)]
    path = Path(name).expanduser()
    if name in known or (or_file and (path.suffix == ".onnx" or path.is_file())):
        return
    raise UsageError(
        f"There is no model {name!r}. The registered models are {', '.join(known)}.",
        next_step="give one of these names" + (", or the path of an ONNX file" if or_file else ""),
    )


def chosen_model(name: str, settings: Settings) -> "ModelSpec":
    """Returns a model; decoder and labels of the settings apply only to the model of the settings."""
    if name != settings.model:
        return find_model(name, model_dir=settings.model_dir)
    return find_model(name, settings.model_decoder, settings.model_labels, model_dir=settings.model_dir)


def read_image(path: Path, settings: Settings) -> "Pixels":
    """Reads an image file of the size that the settings allow."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", next_step="name another image") from error
    return decode_image(data, ImageLimits(settings.max_image_pixels, settings.max_image_bytes)).pixels


@command(app, "add")
def add(
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


_INTERPRETATIONS = ("decoder", "resize", "channels", "values", "usual", "boxes", "evidence", "drawn")


@command(app, "check")
def check(
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    image: Annotated[Path, typer.Argument(help="An image with objects that the model knows.")],
    *,
    labels: LabelsOption = None,
    threshold: Annotated[float, typer.Option(min=0, max=0.99, help="Show boxes above this confidence.")] = 0.25,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for images with the boxes. Default: check_NAME.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Show and draw at most this many.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Show what an ONNX file finds in an image, for each plausible output layout and preprocessing.

    Draws the boxes of each interpretation and recommends one. The evidence is the sum of the confidences of boxes that
    are also found, mirrored, in the mirrored image. Preprocessing that is unusual for the layout is recommended only if
    it has 1.5 times the evidence. Compare the drawings: only you know what is in the image.
    """
    _check_exists(file)
    _check_exists(image, "the path of an image")
    pixels = read_image(image, load_settings())
    found = interpret(file, pixels, _named_labels(labels), threshold=threshold)
    best, folder = found[0], draw or Path(f"check_{file.stem}")
    shown = [_record(one, _draw(one, number, pixels, folder)) for number, one in enumerate(found[:limit], 1)]
    if as_json:
        show_json({"interpretations": shown, "command": _command(file, best)})
        return
    show_records(shown, _INTERPRETATIONS)
    rules = best.preprocessing
    how = f"{rules.resize}, {rules.channels}, values {_values(rules)}"
    note(f"Recommended: {best.layout.decoder} ({best.layout.reason}), {how}.")
    note(f"The drawings are in {folder}.")
    if not best.evidence:
        note("No interpretation finds a plausible box in this image. Try another image, or a lower --threshold.")
    note(f"{counted(len(found), 'interpretation')} compared. To add the model:\n  {_command(file, best)}")


def _draw(one: "Interpretation", number: int, pixels: "Pixels", folder: Path) -> Path:
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


def _record(one: "Interpretation", drawn: Path) -> dict[str, Any]:
    return {
        "decoder": one.layout.decoder,
        "decoder_from": one.layout.reason,
        **record_of(one.preprocessing),
        "values": _values(one.preprocessing),
        "usual": one.is_usual,
        "evidence": round(one.evidence, 6),
        "boxes": len(one.detections),
        "detections": [detection.to_json() for detection in one.detections],
        "drawn": str(drawn),
    }


def _command(file: Path, one: "Interpretation") -> str:
    """Returns the command that adds the model as it was interpreted."""
    rules, more = one.preprocessing, ""
    if not one.is_usual:
        more = f" --resize {rules.resize} --channels {rules.channels} --scale {rules.scale:.10g}"
    if rules.std != (1.0, 1.0, 1.0):
        mean, std = (",".join(map(str, values)) for values in (rules.mean, rules.std))
        more += f" --mean {mean} --std {std}"
    return f"imgpipeline models add {file} --name {file.stem} --decoder {one.layout.decoder}{more}"


@command(app, "convert")
def convert(
    cfg: Annotated[Path, typer.Argument(help="The network's description (.cfg).")],
    weights: Annotated[Path, typer.Argument(help="The network's weights (.weights).")],
    output: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Convert a Darknet network of the yolov3-tiny or yolov4-tiny family to ONNX."""
    sha256 = convert_darknet(cfg, weights, output)
    if as_json:
        show_json({"path": str(output), "sha256": sha256})
        return
    note(f"{output} was written (sha256 {sha256}).")
    note(f"To use it: IMGPIPELINE_MODEL={output} IMGPIPELINE_MODEL_DECODER=yolov4")
