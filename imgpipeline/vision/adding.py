"""Adds a user's own ONNX file to the registry, and finds out before that how it has to be used.

`add_model` runs the model once, copies it into the folder of models and writes its entry. The same outputs can often be
read in several ways, and no file says how images were put into the network during training. So `interpret` runs it on
an image in every plausible way and recommends one. A wrong interpretation shows: boxes are tiny, cover the whole image,
score low, or do not move with the object when the image is mirrored.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from imgpipeline.contracts.detection import DecoderName, Detection
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import LIVE, REDETECTION_MODEL
from imgpipeline.vision.agreement import match_boxes
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.detector import Detector, self_test
from imgpipeline.vision.model import NO_MEAN, NO_STD, ModelFile, ModelSpec, Preprocessing, Resize
from imgpipeline.vision.model_files import read_verified, runnable, write_whole
from imgpipeline.vision.own_model import (
    USUAL_PREPROCESSING,
    Layout,
    choose_layout,
    describe_own_model,
    plausible_layouts,
    read_signature,
)
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.registry import label_sets, model_folder, shipped_models

_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, which many networks are trained with."""
_VALUES: Final = ((1.0, NO_MEAN, NO_STD), (1 / 255, NO_MEAN, NO_STD), (1 / 255, *_IMAGENET))
_LEAST_SIDE_PX: Final = 4
_MOST_COVERED: Final = 0.95
"""Boxes that were read in a wrong way often cover the whole image."""
_CLEARLY_BETTER: Final = 1.5
"""How much more evidence than the usual way another one needs. With one image, a different colour order or placement
gains 20 % by chance; a wrong layout or a wrong range of values loses most of the evidence."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """A user's choices for a model. None: the value in its file, or the default of its layout."""

    decoder: DecoderName | None = None
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
    """Writes a model's file and its entry into the folder of models, and returns the registered model.

    Args:
        spec: How its images are prepared and its output is read.
        content: The ONNX file.
        name: Its new name, which `check_name` has accepted.
        folder: The folder of models.
        made_of: For a model that was made here: its origin, by field.

    Raises:
        PermanentError: The folder cannot be written.
    """
    onnx = ModelFile("onnx", f"{name}.onnx", len(content), hashlib.sha256(content).hexdigest())
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
    """Checks the name of a user's model; an existing entry in the folder of models may be replaced if asked for.

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
    names = ("summary", "licence", "decoder", "decoder_reason", "input_width", "input_height", "labels")
    defaults = ("nms_per_class", "confidence_threshold", "nms_threshold")
    fields = {**{name: getattr(spec, name) for name in names + defaults}, **asdict(spec.preprocessing)}
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
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{value} is not a valid value in an entry.", next_step="give a finite number")
    # JSON strings, numbers and booleans are valid in TOML, except for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to use a network, and what it finds."""

    layout: Layout
    preprocessing: Preprocessing
    is_usual: bool
    """Whether networks of this layout usually get their images in this way."""
    detections: tuple[Detection, ...]
    """The most confident first; boxes in pixels of the image."""
    evidence: float
    """Sum of the confidences of boxes that the network also finds at the mirrored place in the mirrored image: same
    label, IoU at least 0.5, the lower confidence counts. Tiny boxes and those as large as the image do not count."""


def interpret(
    path: Path, pixels: Pixels, labels: Sequence[str] | Path | None = None, *, threshold: float = 0.25
) -> list[Interpretation]:
    """Uses a network in every plausible way, and returns the recommended one first, then by descending evidence.

    Args:
        path: An ONNX file.
        labels: Class names or their file; None: those in the file's metadata, else COCO's.
        threshold: Detections score strictly above it.

    Raises:
        ConfigurationError: The file is not a model of a known kind, or the labels do not fit it.
        PermanentError: The network cannot be run.
    """
    signature = read_signature(path)
    choose_layout(signature)
    layouts = plausible_layouts(signature)
    found: list[Interpretation] = []
    for layout in layouts:
        spec = describe_own_model(path, layout.decoder, labels, label_sets())
        found += _run(layout, spec, pixels, threshold)
    found.sort(key=lambda one: (-one.evidence, not one.is_usual, layouts.index(one.layout)))
    best, usual = found[0], next(one for one in found if one.is_usual)
    if best.evidence <= usual.evidence * _CLEARLY_BETTER:
        best = usual
    return [best, *(one for one in found if one is not best)]


def _run(layout: Layout, spec: ModelSpec, pixels: Pixels, threshold: float) -> Iterator[Interpretation]:
    content, sha256 = read_verified(spec)
    backend = open_backend("onnxruntime", runnable(spec, content))
    usual = spec.preprocessing
    for rules in dict.fromkeys((usual, *_ways(usual))):
        detector = Detector(replace(spec, preprocessing=rules), sha256, backend, confidence_threshold=threshold)
        detections = _detect(detector, pixels)
        yield Interpretation(layout, rules, rules == usual, detections, _evidence(detector, detections, pixels))


def _ways(usual: Preprocessing) -> Iterator[Preprocessing]:
    resizes: tuple[Resize, ...] = ("stretch", "letterbox", "letterbox-centred")
    orders: tuple[Literal["RGB", "BGR"], ...] = ("RGB", "BGR")
    for resize, channels, (scale, mean, std) in itertools.product(resizes, orders, _VALUES):
        yield replace(usual, resize=resize, channels=channels, scale=scale, mean=mean, std=std)


def _detect(detector: Detector, pixels: Pixels) -> tuple[Detection, ...]:
    try:
        with np.errstate(all="ignore"):  # sizes overflow if they are read in a wrong way
            return tuple(detector.detect(pixels))
    except PermanentError:  # NaN, or classes that do not exist: this way is wrong
        return ()


def _evidence(detector: Detector, detections: Sequence[Detection], pixels: Pixels) -> float:
    found = [one for one in detections if _may_be_real(one, pixels)]
    mirrored = [_mirror(one, pixels.shape[1]) for one in _detect(detector, np.ascontiguousarray(pixels[:, ::-1]))]
    pairs = match_boxes(found, mirrored)
    return sum(min(found[ours].confidence, mirrored[theirs].confidence) for _, _, ours, theirs, _ in pairs)


def _mirror(detection: Detection, picture_width: int) -> Detection:
    if detection.box_xywh is None:
        return detection
    left, top, width, height = detection.box_xywh
    return replace(detection, box_xywh=(picture_width - left - width, top, width, height))


def _may_be_real(detection: Detection, pixels: Pixels) -> bool:
    if detection.box_xywh is None:
        return False
    width, height = detection.box_xywh[2:]
    picture_height, picture_width = pixels.shape[:2]
    covers = width * height / (picture_width * picture_height)
    return min(width, height) >= _LEAST_SIDE_PX and covers < _MOST_COVERED
