"""A user's own ONNX file as a model.

Input size and number of classes are read from the file. A model that cannot work is refused before the first frame,
with the setting to change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.model import DecoderName, ModelSpec, Preprocessing

if TYPE_CHECKING:
    import onnx

_PREPROCESSING: Final[dict[DecoderName, Preprocessing]] = {
    "yolox": Preprocessing("letterbox", "BGR", 1.0, 114),
    "yolov4": Preprocessing("stretch", "RGB", 1 / 255, 0),
}


def describe_own_model(
    path: Path,
    decoder: DecoderName | None,
    labels: Sequence[str] | Path | None,
    label_sets: Mapping[str, tuple[str, ...]],
) -> ModelSpec:
    """Describes a user's own model.

    Args:
        path: An existing ONNX file with one input [1, 3, height, width] of fixed size.
        decoder: The output's layout.
        labels: Class names, a text file with one a line, or None for COCO's 80.
        label_sets: The registry's named lists.

    Returns:
        The model, with the decoder's usual preprocessing and thresholds.

    Raises:
        ConfigurationError: The decoder is not given, the file is not a model of this kind, or the labels do not fit it.
    """
    if decoder not in _PREPROCESSING:
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL is the path {path}, so IMGPIPELINE_MODEL_DECODER has to say how its output is "
            f"read; it is {decoder!r}.",
            next_step="set IMGPIPELINE_MODEL_DECODER to yolox or yolov4",
        )
    width, height, classes = read_geometry(path)
    return ModelSpec(
        name=path.stem,
        summary="a file of one's own",
        path=path,
        files=(),
        sha256=None,
        licence="unknown",
        input_width=width,
        input_height=height,
        preprocessing=_PREPROCESSING[decoder],
        decoder=decoder,
        labels=_read_labels(path, decoder, labels, classes, label_sets),
        nms_per_class=decoder == "yolox",
        confidence_threshold=0.5,
        nms_threshold=0.4,
    )


def read_geometry(path: Path) -> tuple[int, int, int | None]:
    """Reads an ONNX model's input size and number of classes.

    Args:
        path: The file.

    Returns:
        Input width and height in pixels; number of classes, None if the outputs declare no shape.

    Raises:
        ConfigurationError: It is not an ONNX file, or has not one input [1, 3, height, width] of fixed size.
    """
    # Every start of a run imports this module, and nearly none needs these two.
    import onnx  # noqa: PLC0415 - see above
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; see above

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError, ValueError) as error:
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL is {path}, which cannot be read as an ONNX model: {error}.",
            next_step="set IMGPIPELINE_MODEL to an ONNX file",
        ) from error
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_shape(value) for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][1] != 3 or not all(inputs[0][2:]):
        raise ConfigurationError(
            f"The model {path} takes {inputs or 'nothing'}; one input [1, 3, height, width] of fixed size is expected.",
            next_step="export the model again with a fixed input size",
        )
    return inputs[0][3], inputs[0][2], _class_count([_shape(value) for value in graph.output])


def _shape(value: "onnx.ValueInfoProto") -> list[int]:
    """The declared shape; 0 for a dimension that is left open."""
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _class_count(outputs: list[list[int]]) -> int | None:
    if len(outputs) == 2 and len(outputs[0]) == 4 and outputs[0][-1] == 4:
        return outputs[1][-1] or None
    last = outputs[0][-1] if outputs and outputs[0] else 0
    return last - 5 if last > 5 else None


def _read_labels(
    path: Path,
    decoder: DecoderName,
    labels: Sequence[str] | Path | None,
    classes: int | None,
    label_sets: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    if isinstance(labels, Path):
        names = _read_label_file(labels)
    elif labels is not None:
        names = tuple(labels)
    else:
        names = label_sets["coco" if decoder == "yolox" else "coco-darknet"]
    if classes is not None and len(names) != classes:
        origin = "COCO's (the default)" if labels is None else "IMGPIPELINE_MODEL_LABELS"
        raise ConfigurationError(
            f"The model {path} has {classes} classes, but there are {len(names)} labels: {origin}.",
            next_step="set IMGPIPELINE_MODEL_LABELS to a text file with one label a line, in the model's order",
        )
    return names


def _read_label_file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL_LABELS is {path}, which cannot be read: {error}.",
            next_step="set it to a UTF-8 text file with one label a line",
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
