"""Which models exist, and where their files are.

It reads `models/registry.toml` and the user's own entries (`entries`), and turns a setting into a model: a registered
name, or the path of an ONNX file. `pull` downloads models, `detector` loads them.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.entries import own_names, own_spec, spec_of
from imgpipeline.vision.model import ModelSpec
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
        model_dir: Folder of downloaded and own models; None: as `model_folder` says.

    Returns:
        The project's models in the registry's order, then the user's own by name; without `refused_entries`.

    Raises:
        PermanentError: The registry is missing or damaged.
    """
    shipped = shipped_models(model_dir)
    taken = {spec.name for spec in shipped}
    return (*shipped, *(spec for spec in _read_own(model_dir)[0] if spec.name not in taken))


def shipped_models(model_dir: Path | None = None) -> tuple[ModelSpec, ...]:
    """Lists the project's own models; arguments and errors as `list_models`."""
    path, folder = registry_path(), model_folder(model_dir)
    content = _read_registry(path)
    try:
        specs = []
        for name, entry in content["models"].items():
            is_downloaded = any(file.get("url") for file in entry["files"])
            specs.append(spec_of(name, entry, content["labels"], folder if is_downloaded else path.parent))
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            f"The list of models {path} is damaged: {error!r}.", next_step="install imgpipeline again"
        ) from error
    return tuple(specs)


def refused_entries(model_dir: Path | None = None) -> dict[str, ConfigurationError]:
    """Returns the user's own entries that cannot be used, with the reason; arguments and errors as `list_models`."""
    return _read_own(model_dir)[1]


def _read_own(model_dir: Path | None) -> tuple[list[ModelSpec], dict[str, ConfigurationError]]:
    folder, labels = model_folder(model_dir), label_sets()
    specs, refused = [], {}
    for name in own_names(folder):
        try:
            specs.append(own_spec(name, labels, folder))
        except ConfigurationError as error:
            refused[name] = error
    return specs, refused


def registered_model(name: str, model_dir: Path | None = None) -> ModelSpec:
    """Finds a registered model, whether or not its files are there.

    Args:
        name: Its registered name.
        model_dir: Folder of downloaded models; None: as `model_folder` says.

    Returns:
        The model.

    Raises:
        ConfigurationError: No model has that name, or its entry is refused.
        PermanentError: The registry is missing or damaged.
    """
    models = {spec.name: spec for spec in list_models(model_dir)}
    if name in models:
        return models[name]
    if refusal := refused_entries(model_dir).get(name):
        raise refusal
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
        raise missing_file(spec)
    return spec


def label_sets() -> Mapping[str, tuple[str, ...]]:
    """Reads the named lists of labels of the registry.

    Returns:
        Class names by the list's name, such as `coco`.

    Raises:
        PermanentError: The registry is missing or damaged.
    """
    return {name: tuple(names) for name, names in _read_registry(registry_path())["labels"].items()}


def missing_file(spec: ModelSpec) -> ConfigurationError:
    """Makes the error for a registered model whose ONNX file is not there; it names the command that brings it."""
    if spec.shipped:
        return ConfigurationError(
            f"IMGPIPELINE_MODEL is {spec.name!r}, whose file {spec.path} is missing though it is shipped.",
            next_step="install imgpipeline again, or set IMGPIPELINE_MODEL to another model",
        )
    if spec.is_local:
        return ConfigurationError(
            f"The file {spec.path} of your own model {spec.name!r} is missing.",
            next_step=f"imgpipeline models add FILE --name {spec.name} --replace",
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
