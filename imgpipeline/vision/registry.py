"""Lists the models and finds their files.

The project's models are in one file, `models/registry.toml`. Each model of a user has its own file, `NAME.toml` in the
folder of models, with the same fields. An entry without exact sizes and hashes is refused. `find_model` turns a setting
into a model: a registered name, or the path of an ONNX file. `model_files` downloads models, `detector` loads them.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.model import ModelSpec
from imgpipeline.vision.own_model import describe_own_model

_PACKAGE: Final = Path(__file__).parents[1]
_SPEC: Final = TypeAdapter(ModelSpec)


def registry_path() -> Path:
    """Returns the path of `registry.toml`; shipped model files are next to it.

    In an installed wheel it is inside the package, in a checkout in the top-level `models/`.

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
    """Returns the folder of downloaded and own models; it may not exist yet.

    Args:
        override: The setting `model_dir`; None: `IMGPIPELINE_MODEL_DIR`, else the user's cache folder.
    """
    if override is not None:
        return override.expanduser()
    if chosen := os.environ.get("IMGPIPELINE_MODEL_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "imgpipeline" / "models"


def list_models(model_dir: Path | None = None) -> tuple[ModelSpec, ...]:
    """Lists the registered models, whether or not their files exist.

    Args:
        model_dir: Folder of downloaded and own models; None: `model_folder()`.

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
    for name in sorted(path.stem for path in folder.glob("*.toml")):
        try:
            specs.append(own_spec(name, labels, folder))
        except ConfigurationError as error:
            refused[name] = error
    return specs, refused


def registered_model(name: str, model_dir: Path | None = None) -> ModelSpec:
    """Returns a registered model, whether or not its files exist; arguments as `list_models`.

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
    """Returns the model that a setting names, and makes sure that its ONNX file exists.

    Args:
        name_or_path: A registered name, or the path of an ONNX file.
        decoder: The output's layout, for a path; for a registered name, it must be the registered one.
        labels: For a path: class names, or a text file with one per line; None: those in the file, else COCO's.
        model_dir: Folder of downloaded and own models; None: `model_folder()`.

    Raises:
        ConfigurationError: There is no such model or file, it has not been pulled yet, or a setting does not fit it.
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
            next_step="unset IMGPIPELINE_MODEL_DECODER; it is only for a model given by its path",
        )
    if not spec.path.is_file():
        raise missing_file(spec)
    return spec


def spec_of(name: str, entry: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]], folder: Path) -> ModelSpec:
    """Returns the model that an entry of a TOML file describes, given the registry's labels and the files' folder.

    Raises:
        ValueError: A field is missing or invalid; size and sha256 of each file are required.
    """
    names = entry.get("labels")
    found = {
        "summary": "",
        **entry,
        "name": name,
        "path": folder / f"{name}.onnx",
        "sha256": None,
        "preprocessing": entry,
        "labels": labels.get(names) if isinstance(names, str) else names,
        "is_own": False,
    }
    spec = _SPEC.validate_python(found)
    if not spec.files:
        raise ValueError("files: at least one is needed")
    onnx = next((file for file in spec.files if file.role == "onnx"), None)
    return replace(spec, path=folder / onnx.name, sha256=onnx.sha256) if onnx else spec


def own_spec(name: str, labels: Mapping[str, tuple[str, ...]], folder: Path) -> ModelSpec:
    """Reads the entry `NAME.toml` of a user's own model in the folder of models, given the registry's labels.

    Raises:
        ConfigurationError: The entry cannot be read, or a field is missing or invalid.
    """
    path = folder / f"{name}.toml"
    try:
        return replace(spec_of(name, tomllib.loads(path.read_text(encoding="utf-8")), labels, folder), is_own=True)
    except (ValueError, OSError) as error:
        what = _problems(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(
            f"The entry {path} of the model {name!r} is refused: {what}.",
            next_step=f"correct it, or replace it: imgpipeline models add FILE --name {name} --replace",
        ) from error


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def label_sets() -> Mapping[str, tuple[str, ...]]:
    """Returns the registry's lists of class names, by the list's name, such as `coco`.

    Raises:
        PermanentError: The registry is missing or damaged.
    """
    return {name: tuple(names) for name, names in _read_registry(registry_path())["labels"].items()}


def missing_file(spec: ModelSpec) -> ConfigurationError:
    """Returns the error for a registered model whose ONNX file is missing, with the command that restores it."""
    what = "is missing" if spec.is_local else "has not been downloaded yet"
    if spec.shipped:
        what = "is missing, although it is shipped"
    return ConfigurationError(f"The file {spec.path} of the model {spec.name!r} {what}.", next_step=spec.how_to_restore)


@lru_cache(maxsize=4)
def _read_registry(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"The list of models {path} cannot be read: {error}.", next_step="install imgpipeline again"
        ) from error
