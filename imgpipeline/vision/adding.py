"""Adds a user's own ONNX file to the registry: copies it into the folder of models and writes its entry.

The model is run once before that, so a model that does not work gets no entry.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import LIVE, REDETECTION_MODEL
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.detector import Detector, self_test
from imgpipeline.vision.model import ModelFile, ModelSpec
from imgpipeline.vision.model_files import runnable, write_whole
from imgpipeline.vision.own_model import USUAL_PREPROCESSING, describe_own_model
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.registry import label_sets, model_folder, shipped_models


@dataclass(frozen=True, slots=True)
class Wishes:
    """A user's choices for a model. None: the value in its file, or the default of its layout."""

    decoder: DecoderName | None = None
    """The output's layout."""
    labels: Sequence[str] | Path | None = None
    """Class names, or a text file with one per line."""
    licence: str | None = None
    """SPDX identifier or free text."""
    summary: str = ""
    """What it is good for, in a few words."""
    preprocessing: Mapping[str, Any] | None = None
    """Fields of `Preprocessing` that differ from the default of the layout."""


def add_model(file: Path, name: str, wishes: Wishes, *, model_dir: Path | None = None, replace_it: bool) -> ModelSpec:
    """Copies an ONNX file into the folder of models and writes its entry, with its exact size and hash.

    Args:
        file: The ONNX file.
        name: Its new name.
        wishes: The user's choices.
        model_dir: Folder of models; None: `registry.model_folder()`.
        replace_it: Whether an existing entry with this name may be replaced.

    Returns:
        The registered model.

    Raises:
        ConfigurationError: The name is invalid or taken, or the file is not a model of a known kind.
        PermanentError: The network cannot be run, or the folder cannot be written.
    """
    folder = model_folder(model_dir)
    check_name(name, folder, replace_it=replace_it)
    return register(*_describe(file, wishes), name, folder)


def register(
    spec: ModelSpec, content: bytes, name: str, folder: Path, made_of: Mapping[str, object] | None = None
) -> ModelSpec:
    """Writes a model's file and its entry.

    Args:
        spec: How its images are prepared and its output is read.
        content: The ONNX file.
        name: Its new name, which `check_name` has accepted.
        folder: The folder of models.
        made_of: For a model that was made here: its origin, by field.

    Returns:
        The registered model.

    Raises:
        PermanentError: The folder cannot be written.
    """
    onnx = ModelFile("onnx", f"{name}.onnx", None, len(content), hashlib.sha256(content).hexdigest())
    spec = replace(spec, name=name, path=folder / onnx.name, files=(onnx,), sha256=onnx.sha256)
    write_whole(spec.path, content)
    write_whole(folder / f"{name}.toml", entry_text(spec, made_of).encode())
    return spec


def _describe(file: Path, wishes: Wishes) -> tuple[ModelSpec, bytes]:
    spec = describe_own_model(file, wishes.decoder, wishes.labels, label_sets())
    rules = replace(USUAL_PREPROCESSING[spec.decoder], **(wishes.preprocessing or {}))
    spec = replace(
        spec,
        summary=wishes.summary or f"your own file, {file.name}",
        licence=wishes.licence or spec.licence,
        preprocessing=rules,
        decoder_reason="given with `models add`" if wishes.decoder else spec.decoder_reason,
    )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}.", next_step="give an ONNX file that you are allowed to read"
        ) from error
    choose_precision("fp32", content, spec.name)
    backend = open_backend("onnxruntime", runnable(spec, content))
    self_test(Detector(spec, hashlib.sha256(content).hexdigest(), backend))
    return spec, content


def check_name(name: str, folder: Path, *, replace_it: bool) -> None:
    """Checks the name of a user's model.

    Args:
        name: The wanted name.
        folder: The folder of models.
        replace_it: Whether an existing entry with this name may be replaced.

    Raises:
        ConfigurationError: The name is invalid or taken.
    """
    match = REDETECTION_MODEL.fullmatch(name)
    if match is None or match["name"] != name or name == LIVE:
        raise ConfigurationError(
            f"{name!r} is not a valid name for a model.",
            next_step="use up to 100 letters, digits, `.`, `_` and `-`, starting with a letter or digit",
        )
    if name in {spec.name for spec in shipped_models()}:
        raise ConfigurationError(f"The project itself has a model {name!r}.", next_step="give another --name")
    if (folder / f"{name}.toml").exists() and not replace_it:
        raise ConfigurationError(
            f"You already have a model called {name!r}: {folder / f'{name}.toml'}.",
            next_step="give another --name, or --replace",
        )


def entry_text(spec: ModelSpec, made_of: Mapping[str, object] | None = None) -> str:
    """Returns an entry as TOML. `registry.own_spec` reads it, except for `made_of`."""
    rules = spec.preprocessing
    fields = {
        "summary": spec.summary,
        "licence": spec.licence,
        "decoder": spec.decoder,
        "decoder_reason": spec.decoder_reason,
        "input_width": spec.input_width,
        "input_height": spec.input_height,
        "resize": rules.resize,
        "channels": rules.channels,
        "scale": rules.scale,
        "pad_value": rules.pad_value,
        "mean": list(rules.mean),
        "std": list(rules.std),
        "labels": list(spec.labels),
        "nms_per_class": spec.nms_per_class,
        "confidence_threshold": spec.confidence_threshold,
        "nms_threshold": spec.nms_threshold,
    }
    lines = ["# Written by imgpipeline. The fields are explained in docs/models.md."]
    lines += [f"{key} = {_toml(value)}" for key, value in fields.items()]
    for file in spec.files:
        lines += ["", "[[files]]", f"role = {_toml(file.role)}", f"name = {_toml(file.name)}"]
        lines += [f"url = {_toml(file.url)}"] if file.url else []
        lines += [f"size_bytes = {file.size_bytes}", f"sha256 = {_toml(file.sha256)}"]
    if made_of:
        lines += ["", "[made_of]", *(f"{key} = {_toml(value)}" for key, value in made_of.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{value} is not a valid value in an entry.", next_step="give a finite number")
    # JSON strings, numbers and booleans are valid in TOML, except for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
