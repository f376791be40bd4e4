"""`imgpipeline models`: which models there are, getting them, converting Darknet's, and how fast they run."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.models_add import add
from imgpipeline.cli.models_check import check
from imgpipeline.cli.models_compare import compare
from imgpipeline.cli.models_quantize import quantize
from imgpipeline.cli.models_tune import tune
from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.model import parse_detectors

if TYPE_CHECKING:
    from imgpipeline.vision.decode import Pixels
    from imgpipeline.vision.model import ModelSpec

app = typer.Typer(help="Detection models: list, download, convert, quantize, measure, compare.")
app.command("add")(add)
app.command("check")(check)
app.command("compare")(compare)
app.command("quantize")(quantize)
app.command("tune")(tune)


@app.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """List the registered models and your own (the path in IMGPIPELINE_MODEL), and whether their files are here."""
    from imgpipeline.vision.registry import list_models, refused_entries  # noqa: PLC0415 - keeps `--help` fast

    settings = load_settings()
    specs = list_models(settings.model_dir)
    used = [one.model for one in parse_detectors(settings.detectors)] if settings.detectors else [settings.model]
    models = [_row(spec, in_use=spec.name in used) for spec in specs]
    refused = refused_entries(settings.model_dir).items()
    models += [_refused_row(name, str(error), in_use=name in used) for name, error in refused]
    if not any(model["in_use"] for model in models):
        models.append(_own_row(settings))
    if as_json:
        show_json(models)
        return
    columns = ("name", "present", "in_use", "input", "decoder", "labels", "download_bytes", "licence", "summary")
    show_table([name.replace("_", " ") for name in columns], [[model[name] for name in columns] for model in models])


def _row(spec: "ModelSpec", *, in_use: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "present": spec.path.is_file(),
        "in_use": in_use,
        "input": f"{spec.input_width}x{spec.input_height}",
        "decoder": spec.decoder,
        "decoder_from": spec.decoder_reason,
        "labels": len(spec.labels),
        "labels_file": None,
        "download_bytes": sum(file.size_bytes for file in spec.files if file.url),
        "licence": spec.licence,
        "summary": spec.summary,
        "path": str(spec.path),
        "problem": None,
    }


def _refused_row(name: str, problem: str, *, in_use: bool) -> dict[str, Any]:
    fields = ("input", "decoder", "decoder_from", "labels", "labels_file", "download_bytes", "licence", "path")
    said = {"present": False, "in_use": in_use, "summary": problem, "problem": problem}
    return {"name": name, **dict.fromkeys(fields), **said}


def _own_row(settings: Settings) -> dict[str, Any]:
    """Returns the row of the model that the settings name and that is not registered: a path, or a misspelt name."""
    from imgpipeline.vision.registry import find_model  # noqa: PLC0415 - `--help` does not wait for it

    path, labels = Path(settings.model).expanduser(), settings.model_labels
    row: dict[str, Any] = {
        **dict.fromkeys(("input", "labels", "download_bytes", "licence", "problem")),
        "name": settings.model,
        "present": path.is_file(),
        "in_use": True,
        "decoder": settings.model_decoder,
        "decoder_from": None,
        "labels_file": None if labels is None else str(labels),
        "path": str(path),
    }
    try:
        spec = find_model(settings.model, settings.model_decoder, labels, model_dir=settings.model_dir)
    except ConfigurationError as error:
        return {**row, "problem": str(error), "summary": str(error)}
    said = f"your own file; {spec.decoder}, from {spec.decoder_reason}; labels from {labels or 'the file, or COCO'}"
    return {**_row(spec, in_use=True), **row, "input": f"{spec.input_width}x{spec.input_height}",
            "decoder": spec.decoder, "decoder_from": spec.decoder_reason, "labels": len(spec.labels),
            "licence": spec.licence, "summary": said}  # fmt: skip


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A name from `imgpipeline models list`.")], as_json: JsonOption = False
) -> None:
    """Download a registered model. Keeps complete files, and continues an interrupted download."""
    from imgpipeline.vision.pull import pull_model  # noqa: PLC0415 - loads onnx

    settings = load_settings()
    refuse_unknown_model(name, settings.model_dir)
    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        spec = pull_model(
            name,
            model_dir=settings.model_dir,
            on_progress=lambda p: progress(p.done_bytes, p.total_bytes),
        )
    if as_json:
        show_json({"name": spec.name, "path": str(spec.path)})
        return
    note(f"{spec.name} is at {spec.path}. To use it: IMGPIPELINE_MODEL={spec.name}")


@app.command("convert")
def convert(
    cfg: Annotated[Path, typer.Argument(help="Darknet's description of the network (.cfg).")],
    weights: Annotated[Path, typer.Argument(help="Darknet's weights (.weights).")],
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


@app.command("bench")
def bench(
    model: Annotated[str | None, typer.Option(help="Name or path. Default: IMGPIPELINE_MODEL.")] = None,
    image: Annotated[Path | None, typer.Option(help="The image to use. Default: a grey one, 640x480.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Number of images measured in each row.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Measure a model in every installed backend, with one thread and with all cores."""
    from imgpipeline.vision.bench import bench_model  # noqa: PLC0415 - loads OpenCV and the backends

    settings = load_settings()
    if model is not None:
        refuse_unknown_model(model, settings.model_dir, or_file=True)
    chosen = model or settings.model
    rows = []
    own = chosen == settings.model
    for row in bench_model(
        chosen,
        _picture(image, settings),
        rounds=rounds,
        decoder=settings.model_decoder if own else None,
        labels=settings.model_labels if own else None,
        model_dir=settings.model_dir,
    ):
        note(f"{row.backend}, {counted(row.threads, 'thread')}: {row.median_ms:.1f} ms per image")
        rows.append(asdict(row))
    if as_json:
        show_json({"model": chosen, "rounds": rounds, "rows": rows})
        return
    show_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows], title=f"{chosen}")


def refuse_unknown_model(name: str, model_dir: Path | None, *, or_file: bool = False) -> None:
    """Refuses the name of a model that is not registered.

    Args:
        name: As it was given.
        model_dir: Folder of downloaded models; None: the default one.
        or_file: Whether the path of an ONNX file will do.

    Raises:
        UsageError: It is not one.
    """
    from imgpipeline.vision.registry import list_models  # noqa: PLC0415 - `--help` does not wait for it

    known = [spec.name for spec in list_models(model_dir)]
    path = Path(name).expanduser()
    if name in known or (or_file and (path.suffix == ".onnx" or path.is_file())):
        return
    raise UsageError(
        f"There is no model {name!r}. The registered models are {', '.join(known)}.",
        next_step="give one of these names" + (", or the path of an ONNX file" if or_file else ""),
    )


def _picture(path: Path | None, settings: Settings) -> "Pixels":
    import numpy as np  # noqa: PLC0415 - `--help` does not wait for it

    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - as above

    if path is None:
        return np.full((480, 640, 3), 114, np.uint8)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}.", next_step="name a picture with --image"
        ) from error
    return decode_image(data, ImageLimits(settings.max_image_pixels, settings.max_image_bytes)).pixels
