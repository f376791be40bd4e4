"""Describes a user's own ONNX file as a model: finds its input size, output layout and labels in the file.

The layout follows from the names and shapes of inputs and outputs, the metadata and the operators. If several layouts
fit, all of them are listed, the most likely first; `imgpipeline models check` shows what each one finds. A model that
cannot work is refused before the first frame, with the setting to change.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.model import DETR_OUTPUTS, SIZES_INPUT, ModelSpec, Preprocessing

if TYPE_CHECKING:
    import onnx

_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the feature maps: the usual ones, P6 and P2 variants, and tiny networks."""
_ANCHORS_PER_CELL: Final = 3
_CONVERTED: Final = "darknet"
"""Name of the networks that `imgpipeline models convert` writes."""
_MOST_FINAL_BOXES: Final = 1000
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


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network."""

    name: str
    shape: tuple[int, ...]
    """Its declared dimensions; 0 for an open dimension."""
    is_float32: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A network without its weights."""

    path: Path
    """Its file, for messages."""
    inputs: tuple[Port, ...]
    """The inputs that a caller has to provide."""
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    """The file's properties, such as `names` and `license` in Ultralytics' exports."""
    operators: frozenset[str]
    graph: str
    """The network's name; may be empty."""

    def input_size(self) -> tuple[int, int]:
        """Returns width and height of the images that the network takes.

        Raises:
            ConfigurationError: It does not take one image of fixed size in 32-bit floats.
        """
        images = [port for port in self.inputs if port.name != SIZES_INPUT]
        shape = images[0].shape if images else ()
        if len(images) != 1 or len(shape) != 4 or shape[0] > 1 or shape[1] != 3 or not all(shape[2:]):
            shapes = [list(port.shape) for port in self.inputs]
            raise ConfigurationError(
                f"The model {self.path} takes {shapes or 'nothing'}; one input [1, 3, height, width] of fixed size is "
                "expected.",
                next_step="export the model again with batch size 1 and a fixed input size",
            )
        if not images[0].is_float32:
            raise ConfigurationError(
                f"The input {images[0].name!r} of the model {self.path} does not take 32-bit floats.",
                next_step="export the model again without half precision",
            )
        return shape[3], shape[2]


def read_signature(path: Path) -> Signature:
    """Reads the signature of an ONNX file.

    Raises:
        ConfigurationError: The file cannot be read, or is not an ONNX model.
    """
    import onnx  # noqa: PLC0415 - costs 100 ms, and only a user's own model needs it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; see above

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL is {path}, which cannot be read as an ONNX model: {error}.",
            next_step="set IMGPIPELINE_MODEL to an ONNX file",
        ) from error
    constants = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        path=path,
        inputs=tuple(_port(value) for value in model.graph.input if value.name not in constants),
        outputs=tuple(_port(value) for value in model.graph.output),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        operators=frozenset(node.op_type for node in model.graph.node),
        graph=model.graph.name,
    )


def _port(value: "onnx.ValueInfoProto") -> Port:
    tensor = value.type.tensor_type
    return Port(value.name, tuple(d.dim_value for d in tensor.shape.dim), tensor.elem_type == 1)  # TensorProto.FLOAT


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
        labels: Class names, or a text file with one per line; None: those in the file's metadata, else COCO's 80.
        label_sets: The registry's lists of class names.

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
        summary="your own file",
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
            next_step="set IMGPIPELINE_MODEL_LABELS to a text file with one label per line, in the model's order",
        )
    return names


def read_label_file(path: Path) -> tuple[str, ...]:
    """Reads a text file with one label per line; empty lines are skipped.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The file of labels {path} (IMGPIPELINE_MODEL_LABELS) cannot be read: {error}.",
            next_step="give a UTF-8 text file with one label per line",
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that a network may have."""

    decoder: DecoderName
    reason: str
    """Why, in a few words for the user."""


def plausible_layouts(signature: Signature) -> tuple[Layout, ...]:
    """Returns the layouts that fit a network, the most likely first.

    Raises:
        ConfigurationError: The network does not take one image of fixed size.
    """
    size = signature.input_size()
    shapes = [port.shape for port in signature.outputs]
    if {port.name for port in signature.outputs} >= set(DETR_OUTPUTS):
        named = SIZES_INPUT in {port.name for port in signature.inputs}
        with_input = f"the input {SIZES_INPUT} and " if named else ""
        return (Layout("detr", f"{with_input}the outputs labels, boxes, scores"),)
    if len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][-1] == 4:
        return (Layout("yolov4", f"a pair of outputs {_written(shapes)}: corners and class scores"),)
    if len(shapes) > 1 and all(len(shape) in (2, 3) and shape[-1] > 5 for shape in shapes):
        return (Layout("yolov4", f"{len(shapes)} outputs {_written(shapes)}: one for each feature map"),)
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] <= 1:
        return tuple(_of_one_output(signature, size, shapes[0]))
    return ()


def _of_one_output(signature: Signature, size: tuple[int, int], shape: tuple[int, ...]) -> Iterator[Layout]:
    _, first, last = shape
    cells = [sum((size[0] // s) * (size[1] // s) for s in strides) for strides in _STRIDES]
    anchors = [_ANCHORS_PER_CELL * count for count in cells]
    written, names = f"one output [1, {first}, {last}]", labels_in_metadata(signature)
    if signature.graph == _CONVERTED and last > 5:
        yield Layout("yolov4", f"{written}, written by `imgpipeline models convert`")
        return
    is_final = signature.metadata.get("end2end") == "True" or first not in (*cells, *anchors)
    if last == 6 and 0 < first <= _MOST_FINAL_BOXES and is_final:
        yield Layout("end-to-end", f"{written}: corners, score and class of at most {first} boxes")
        return
    if last in cells and first > 4 and (first not in cells or (names and len(names) == first - 4)):
        said = ", and its metadata names them" if names and len(names) == first - 4 else ""
        yield Layout("yolov8", f"{written}: {last} anchors, 4 + {first - 4} classes{said}")
    if last <= 5:
        return
    if first == cells[0]:
        raw = Layout("yolox", f"{written}: {first} anchors, 5 + {last - 5} classes, and no exponential in the network")
        decoded = Layout("yolox-decoded", f"{written}: {first} anchors, 5 + {last - 5} classes, decoded by `Exp`")
        yield from (decoded, raw) if "Exp" in signature.operators else (raw, decoded)
    if first in anchors:
        said = f"{written}: 3 x {first // 3} anchors, 5 + {last - 5} classes"
        yield Layout("yolov5", said)
        yield Layout("yolov4", f"{said}, if they are fractions of the input")


def choose_layout(signature: Signature) -> Layout:
    """Returns the most likely layout of a network.

    Raises:
        ConfigurationError: No layout fits, or the network is not for detection.
    """
    task = signature.metadata.get("task", "detect")
    layouts = plausible_layouts(signature)
    if task != "detect" or not layouts:
        shapes, known = _written([port.shape for port in signature.outputs]), ", ".join(get_args(DecoderName))
        what = f"made for the task {task!r}" if task != "detect" else f"of no known layout: its outputs are {shapes}"
        raise ConfigurationError(
            f"The model {signature.path} is {what}.",
            next_step=f"export a detection model; or set IMGPIPELINE_MODEL_DECODER to one of {known}",
        )
    return layouts[0]


def class_count(decoder: DecoderName, signature: Signature) -> int | None:
    """Returns the number of classes in the shapes of the outputs; None if they do not show it."""
    shapes = [port.shape for port in signature.outputs]
    if decoder in ("end-to-end", "detr") or not shapes or not shapes[0]:
        return None
    if decoder == "yolov8":
        return shapes[0][1] - 4 if len(shapes[0]) == 3 and shapes[0][1] > 4 else None
    if len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][-1] == 4:
        return shapes[1][-1] or None
    return shapes[0][-1] - 5 if shapes[0][-1] > 5 else None


def labels_in_metadata(signature: Signature) -> tuple[str, ...] | None:
    """Returns the class names, in order, that Ultralytics writes into its exports; None if there are none.

    They are `{0: 'person', 1: 'bicycle'}`, or a list.
    """
    try:
        names = ast.literal_eval(signature.metadata.get("names", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            return None
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        return None
    return tuple(str(name) for name in names)


def _written(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
