"""Which models exist, and where their files are.

It reads `models/registry.toml` and turns a setting into a model: a registered name, or the path of a user's own ONNX
file with a decoder name. `pull` downloads models, `detector` loads them.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.model import ModelFile, ModelSpec, Preprocessing
from imgpipeline.vision.own_model import describe_own_model

_PACKAGE: Final = Path(__file__).parents[1]


def registry_path() -> Path:
    """Finds `registry.toml`: in an installed wheel inside the package, in a checkout in the top-level `models/`.

    Returns:
        Its path; shipped model files are next to it.

    Raises:
        PermanentError: It is in neither place.
    """
    # The wheel's place comes first: next to an installed package, `models/` may belong to another project.
    places = (_PACKAGE / "shipped" / "models" / "registry.toml", _PACKAGE.parent / "models" / "registry.toml")
    for place in places:
        if place.is_file():
            return place
    raise PermanentError(
        f"The list of models is neither at {places[0]} nor at {places[1]}.", next_step="install imgpipeline again"
    )


def model_folder(override: Path | None = None) -> Path:
    """Tells where downloaded models are kept.

    Args:
        override: The setting `model_dir`; None: `IMGPIPELINE_MODEL_DIR`, else the user's cache folder.

    Returns:
        The folder; it may not exist yet.
    """
    if override is not None:
        return override.expanduser()
    if chosen := os.environ.get("IMGPIPELINE_MODEL_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "imgpipeline" / "models"


def list_models(model_dir: Path | None = None) -> tuple[ModelSpec, ...]:
    """Lists the registered models, whether or not their files are there.

    Args:
        model_dir: Folder of downloaded models; None: as `model_folder` says.

    Returns:
        The models in the registry's order.

    Raises:
        PermanentError: The registry is missing or damaged.
    """
    path = registry_path()
    content = _read_registry(path)
    try:
        labels = content["labels"]
        folder = model_folder(model_dir)
        return tuple(_make_spec(name, e, labels, path.parent, folder) for name, e in content["models"].items())
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            f"The list of models {path} is damaged: {error!r}.", next_step="install imgpipeline again"
        ) from error


def registered_model(name: str, model_dir: Path | None = None) -> ModelSpec:
    """Finds a registered model, whether or not its files are there.

    Args:
        name: Its registered name.
        model_dir: Folder of downloaded models; None: as `model_folder` says.

    Returns:
        The model.

    Raises:
        ConfigurationError: No model has that name.
        PermanentError: The registry is missing or damaged.
    """
    models = {spec.name: spec for spec in list_models(model_dir)}
    if name in models:
        return models[name]
    raise ConfigurationError(
        f"IMGPIPELINE_MODEL is {name!r}: no model is registered under that name, and no such file exists. "
        f"Registered are {', '.join(models)}.",
        next_step="set IMGPIPELINE_MODEL to one of them, or to the path of an .onnx file",
    )


def find_model(
    name_or_path: str,
    decoder: DecoderName | None = None,
    labels: Sequence[str] | Path | None = None,
    *,
    model_dir: Path | None = None,
) -> ModelSpec:
    """Finds the model that a setting means, with its file in place.

    Args:
        name_or_path: A registered name, or the path of an ONNX file.
        decoder: The output's layout; needed for a path, not allowed to differ for a registered name.
        labels: For a path: class names, or a text file with one a line; None: COCO's 80.
        model_dir: Folder of downloaded models; None: as `model_folder` says.

    Returns:
        The model; its ONNX file exists.

    Raises:
        ConfigurationError: There is no such model or file, it was not pulled yet, or a setting does not fit it.
        PermanentError: The registry is missing or damaged.
    """
    path = Path(name_or_path).expanduser()
    is_registered = any(spec.name == name_or_path for spec in list_models(model_dir))
    if not is_registered and path.is_file():
        return describe_own_model(path, decoder, labels, label_sets())
    if not is_registered and (path.suffix == ".onnx" or len(path.parts) > 1):
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL is {name_or_path!r}: no such file.",
            next_step="set IMGPIPELINE_MODEL to an existing .onnx file, or to a name of `imgpipeline models list`",
        )
    spec = registered_model(name_or_path, model_dir)
    if decoder is not None and decoder != spec.decoder:
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL_DECODER is {decoder!r}, but the registered model {spec.name!r} needs {spec.decoder!r}.",
            next_step="unset IMGPIPELINE_MODEL_DECODER; it is meant for a model given by its path",
        )
    if not spec.path.is_file():
        raise _missing_file(spec)
    return spec


def label_sets() -> Mapping[str, tuple[str, ...]]:
    """Reads the named lists of labels of the registry.

    Returns:
        Class names by the list's name, such as `coco`.

    Raises:
        PermanentError: The registry is missing or damaged.
    """
    return {name: tuple(names) for name, names in _read_registry(registry_path())["labels"].items()}


def _missing_file(spec: ModelSpec) -> ConfigurationError:
    if spec.shipped:
        return ConfigurationError(
            f"IMGPIPELINE_MODEL is {spec.name!r}, whose file {spec.path} is missing though it is shipped.",
            next_step="install imgpipeline again, or set IMGPIPELINE_MODEL to another model",
        )
    return ConfigurationError(
        f"IMGPIPELINE_MODEL is {spec.name!r}, but it was not downloaded yet: {spec.path} is missing.",
        next_step=f"imgpipeline models pull {spec.name}",
    )


@lru_cache(maxsize=4)
def _read_registry(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"The list of models {path} cannot be read: {error}.", next_step="install imgpipeline again"
        ) from error


def _make_spec(
    name: str, entry: dict[str, Any], labels: dict[str, list[str]], shipped_folder: Path, folder: Path
) -> ModelSpec:
    files = tuple(
        ModelFile(f["role"], f["name"], f.get("url"), int(f["size_bytes"]), f["sha256"]) for f in entry["files"]
    )
    onnx = next((f for f in files if f.role == "onnx"), None)
    place = shipped_folder if onnx and onnx.url is None else folder
    names = entry["labels"]
    return ModelSpec(
        name=name,
        summary=entry["summary"],
        path=place / (onnx.name if onnx else f"{name}.onnx"),
        files=files,
        sha256=(onnx.sha256 or None) if onnx else None,
        licence=entry["licence"],
        input_width=int(entry["input_width"]),
        input_height=int(entry["input_height"]),
        preprocessing=Preprocessing(entry["resize"], entry["channels"], float(entry["scale"]), int(entry["pad_value"])),
        decoder=entry["decoder"],
        labels=tuple(labels[names] if isinstance(names, str) else names),
        nms_per_class=bool(entry["nms_per_class"]),
        confidence_threshold=float(entry["confidence_threshold"]),
        nms_threshold=float(entry["nms_threshold"]),
    )
