"""`imgpipeline models`: list and download the registered models, and measure how fast they run."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, progress_bar, show_json, show_records
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.model import parse_detectors

if TYPE_CHECKING:
    from imgpipeline.vision.configured import TunedRow
    from imgpipeline.vision.decode import Pixels
    from imgpipeline.vision.model import ModelSpec

ModelOption = Annotated[str | None, typer.Option(help="Name or path. Default: IMGPIPELINE_MODEL.")]


def list_all(as_json: JsonOption = False) -> None:
    """List the registered models and your own (the path in IMGPIPELINE_MODEL), and check their files."""
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
    show_records(models, columns)


def _row(spec: "ModelSpec", *, in_use: bool) -> dict[str, Any]:
    problem = _file_problem(spec) if spec.path.is_file() else None
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
        "summary": problem or spec.summary,
        "path": str(spec.path),
        "problem": problem,
    }


def _file_problem(spec: "ModelSpec") -> str | None:
    """Returns why runs would refuse the model's file; None if they would not."""
    from imgpipeline.vision.model_files import read_verified  # noqa: PLC0415 - keeps `--help` fast
    from imgpipeline.vision.precision import choose_precision  # noqa: PLC0415 - as above

    try:
        choose_precision("fp32", read_verified(spec)[0], spec.name)
    except ImgpipelineError as error:
        return str(error)
    return None


def _refused_row(name: str, problem: str, *, in_use: bool) -> dict[str, Any]:
    fields = ("input", "decoder", "decoder_from", "labels", "labels_file", "download_bytes", "licence", "path")
    known = {"present": False, "in_use": in_use, "summary": problem, "problem": problem}
    return {"name": name, **dict.fromkeys(fields), **known}


def _own_row(settings: Settings) -> dict[str, Any]:
    """Returns the row of a model in the settings that is not registered: a path, or a misspelt name."""
    from imgpipeline.vision.registry import find_model  # noqa: PLC0415 - `--help` does not wait for it

    path, labels = Path(settings.model).expanduser(), settings.model_labels
    row: dict[str, Any] = {
        **dict.fromkeys(("input", "labels", "download_bytes", "licence")),
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
    summary = f"your own file; {spec.decoder}, from {spec.decoder_reason}; labels from {labels or 'the file, or COCO'}"
    found = _row(spec, in_use=True)
    return {**found, **row, "input": f"{spec.input_width}x{spec.input_height}",
            "decoder": spec.decoder, "decoder_from": spec.decoder_reason, "labels": len(spec.labels),
            "licence": spec.licence, "summary": found["problem"] or summary}  # fmt: skip


def pull(
    name: Annotated[str, typer.Argument(help="A name from `imgpipeline models list`.")], as_json: JsonOption = False
) -> None:
    """Download a registered model. Keeps complete files and resumes an interrupted download."""
    from imgpipeline.vision.model_files import pull_model  # noqa: PLC0415 - keeps `--help` fast

    settings = load_settings()
    refuse_unknown_model(name, settings.model_dir)
    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        spec = pull_model(name, model_dir=settings.model_dir, progress=progress)
    if as_json:
        show_json({"name": spec.name, "path": str(spec.path)})
        return
    note(f"{spec.name} is at {spec.path}. To use it: IMGPIPELINE_MODEL={spec.name}")


def tune(
    model: ModelOption = None,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Seconds to measure each row.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """Measure a model in every backend, precision and arrangement of threads, and save the result for this machine.

    IMGPIPELINE_PRECISION=auto then uses the fastest row with the configured number of workers. Run it while the machine
    is idle.
    """
    from imgpipeline.vision.backends import usable_cores  # noqa: PLC0415 - keeps `--help` fast
    from imgpipeline.vision.configured import (  # noqa: PLC0415 - loads OpenCV
        detect_workers,
        exclusive_tuning,
        tune_model,
        write_tuning,
    )
    from imgpipeline.vision.model_files import read_verified  # noqa: PLC0415 - as above
    from imgpipeline.vision.registry import model_folder  # noqa: PLC0415 - as above

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
        show_json({**asdict(tuning), "path": str(path), "best": asdict(best) if best else None})
        return
    show_records([asdict(row) for row in tuning.rows], title=spec.name)
    if best:
        note(f"IMGPIPELINE_PRECISION=auto uses {best.backend} in {best.precision} with {counted(workers, 'worker')}.")


def _note_row(row: "TunedRow") -> None:
    arrangement = f"{counted(row.workers, 'worker')} x {counted(row.threads, 'thread')}"
    note(f"{row.backend} in {row.precision}, {arrangement}: {row.images_per_s:.1f} images/s")


def refuse_unknown_model(name: str, model_dir: Path | None, *, or_file: bool = False) -> None:
    """Refuses the name of a model that is not registered.

    Args:
        name: The given name.
        model_dir: Folder of downloaded models; None: the default folder.
        or_file: Whether the path of an ONNX file is allowed too.

    Raises:
        UsageError: There is no such model.
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


def chosen_model(name: str, settings: Settings) -> "ModelSpec":
    """Returns a model; decoder and labels of the settings apply only to the model of the settings."""
    from imgpipeline.vision.registry import find_model  # noqa: PLC0415 - `--help` does not wait for it

    if name != settings.model:
        return find_model(name, model_dir=settings.model_dir)
    return find_model(name, settings.model_decoder, settings.model_labels, model_dir=settings.model_dir)


def read_image(path: Path, settings: Settings) -> "Pixels":
    """Reads an image file.

    Raises:
        ConfigurationError: The file cannot be read.
        BadInputError: It is not an image, or is larger than the settings allow.
    """
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - loads OpenCV

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", next_step="name another image") from error
    return decode_image(data, ImageLimits(settings.max_image_pixels, settings.max_image_bytes)).pixels
