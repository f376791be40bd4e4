"""An entry of a registry, and the model that it describes.

The project's models stand in one file; each model of a user has a file of its own, `NAME.toml` in the folder of models,
with the same fields. An entry without exact sizes and hashes is refused.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.model import NO_MEAN, NO_STD, ModelFile, ModelSpec, Preprocessing, Role
from imgpipeline.vision.reduction import Resize

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def spec_of(name: str, entry: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]], folder: Path) -> ModelSpec:
    """Makes the model that an entry describes.

    Args:
        name: Its registered name.
        entry: The entry, as TOML was read.
        labels: The named lists of labels.
        folder: Where its files are.

    Returns:
        The model.

    Raises:
        KeyError: A field is missing; this includes size and sha256 of each file.
        TypeError: A field has another type.
        ValueError: A field has a value that is not possible.
    """
    files = tuple(_file_of(file) for file in entry["files"])
    onnx = next((file for file in files if file.role == "onnx"), None)
    names = entry["labels"]
    spec = ModelSpec(
        name=name,
        summary=str(entry.get("summary", "")),
        path=folder / (onnx.name if onnx else f"{name}.onnx"),
        files=files,
        sha256=onnx.sha256 if onnx else None,
        licence=str(entry["licence"]),
        input_width=int(entry["input_width"]),
        input_height=int(entry["input_height"]),
        preprocessing=_preprocessing_of(entry),
        decoder=_one_of("decoder", entry["decoder"], DecoderName),
        labels=tuple(labels[names] if isinstance(names, str) else map(str, names)),
        nms_per_class=bool(entry["nms_per_class"]),
        confidence_threshold=float(entry["confidence_threshold"]),
        nms_threshold=float(entry["nms_threshold"]),
        decoder_reason=str(entry.get("decoder_reason", "registered")),
    )
    if not files or min(spec.input_width, spec.input_height) < 1 or not spec.labels:
        raise ValueError("files, labels, input_width and input_height are needed")
    return spec


def _file_of(file: Mapping[str, Any]) -> ModelFile:
    size_bytes, sha256, name = int(file["size_bytes"]), str(file["sha256"]), str(file["name"])
    if size_bytes < 1 or not _SHA256.fullmatch(sha256):
        raise ValueError(f"the file {name} needs its exact size_bytes and its sha256 in 64 lower-case hex digits")
    if Path(name).name != name:
        raise ValueError(f"the file {name} has to lie beside the entry")
    return ModelFile(_one_of("role", file["role"], Role), name, file.get("url"), size_bytes, sha256)


def _preprocessing_of(entry: Mapping[str, Any]) -> Preprocessing:
    mean, std = (tuple(map(float, entry.get(key, usual))) for key, usual in (("mean", NO_MEAN), ("std", NO_STD)))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError("mean and std need three numbers each, and those of std above 0")
    return Preprocessing(
        resize=_one_of("resize", entry["resize"], Resize),
        channels=_one_of("channels", entry["channels"], ("BGR", "RGB")),
        scale=float(entry["scale"]),
        pad_value=int(entry["pad_value"]),
        mean=mean,
        std=std,
    )


def _one_of(field: str, value: object, allowed: Any) -> Any:
    choices = allowed if isinstance(allowed, tuple) else get_args(allowed)
    if value not in choices:
        raise ValueError(f"{field} is {value!r}, expected one of {', '.join(choices)}")
    return value


def own_names(folder: Path) -> tuple[str, ...]:
    """Lists the names of the entries in a folder of models, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def own_spec(name: str, labels: Mapping[str, tuple[str, ...]], folder: Path) -> ModelSpec:
    """Reads the entry of a user's own model.

    Args:
        name: One of `own_names`.
        labels: The named lists of labels.
        folder: The folder of models.

    Returns:
        The model.

    Raises:
        ConfigurationError: The entry cannot be read, or something is missing in it or not possible.
    """
    path = folder / f"{name}.toml"
    try:
        return replace(spec_of(name, tomllib.loads(path.read_text(encoding="utf-8")), labels, folder), is_own=True)
    except (KeyError, TypeError, ValueError, OSError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(
            f"The entry {path} of the model {name!r} is refused: {what}.",
            next_step=f"correct it, or write it again: imgpipeline models add FILE --name {name} --replace",
        ) from error
