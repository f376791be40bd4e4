"""A user's own ONNX file as a model, without an entry in a registry.

Input size, output layout and labels are read from the file where it states them. A model that cannot work is refused
before the first frame, with the setting to change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.layout import Layout, choose_layout, class_count, labels_in_metadata
from imgpipeline.vision.model import ModelSpec, Preprocessing
from imgpipeline.vision.signature import Signature, read_signature

_ULTRALYTICS: Final = Preprocessing("letterbox-centred", "RGB", 1 / 255, 114)
USUAL_PREPROCESSING: Final[dict[DecoderName, Preprocessing]] = {
    "yolox": Preprocessing("letterbox", "BGR", 1.0, 114),
    "yolox-decoded": Preprocessing("letterbox", "BGR", 1.0, 114),
    "yolov4": Preprocessing("stretch", "RGB", 1 / 255, 0),
    "yolov5": _ULTRALYTICS,
    "yolov8": _ULTRALYTICS,
    "end-to-end": _ULTRALYTICS,
    "detr": Preprocessing("stretch", "RGB", 1 / 255, 0),
}
"""How the authors of each layout's networks put images into them."""


def describe_own_model(
    path: Path,
    decoder: DecoderName | None,
    labels: Sequence[str] | Path | None,
    label_sets: Mapping[str, tuple[str, ...]],
) -> ModelSpec:
    """Describes a user's own model.

    Args:
        path: An existing ONNX file that takes one image [1, 3, height, width] of fixed size.
        decoder: The output's layout; None: the most likely one.
        labels: Class names, a text file with one a line, or None for those in the file's metadata, else COCO's 80.
        label_sets: The registry's named lists.

    Returns:
        The model, with the layout's usual preprocessing and thresholds.

    Raises:
        ConfigurationError: The file is not a model of a known kind, or the labels do not fit it.
    """
    signature = read_signature(path)
    width, height = signature.input_size()
    layout = Layout(decoder, "IMGPIPELINE_MODEL_DECODER") if decoder else choose_layout(signature)
    return ModelSpec(
        name=path.stem,
        summary="a file of one's own",
        path=path,
        files=(),
        sha256=None,
        licence=signature.metadata.get("license", "unknown"),
        input_width=width,
        input_height=height,
        preprocessing=USUAL_PREPROCESSING[layout.decoder],
        decoder=layout.decoder,
        decoder_reason=layout.reason,
        is_own=True,
        labels=_read_labels(signature, layout.decoder, labels, label_sets),
        nms_per_class=layout.decoder != "yolov4",
        confidence_threshold=0.5,
        nms_threshold=0.4,
    )


def _read_labels(
    signature: Signature,
    decoder: DecoderName,
    labels: Sequence[str] | Path | None,
    label_sets: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    in_file = labels_in_metadata(signature)
    if isinstance(labels, Path):
        names, origin = read_label_file(labels), "IMGPIPELINE_MODEL_LABELS"
    elif labels is not None:
        names, origin = tuple(labels), "IMGPIPELINE_MODEL_LABELS"
    elif in_file is not None:
        names, origin = in_file, "those in its metadata"
    else:
        names, origin = label_sets["coco-darknet" if decoder == "yolov4" else "coco"], "COCO's (the default)"
    classes = class_count(decoder, signature)
    if classes is not None and len(names) != classes:
        raise ConfigurationError(
            f"The model {signature.path} has {classes} classes, but there are {len(names)} labels: {origin}.",
            next_step="set IMGPIPELINE_MODEL_LABELS to a text file with one label a line, in the model's order",
        )
    return names


def read_label_file(path: Path) -> tuple[str, ...]:
    """Reads a text file with one label a line; empty lines are skipped.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The file of labels {path} (IMGPIPELINE_MODEL_LABELS) cannot be read: {error}.",
            next_step="give a UTF-8 text file with one label a line",
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
