"""Tells a network's output layout from the names and shapes of its inputs and outputs, its metadata and operators.

Where several layouts have the same shapes, all of them are listed, the most likely first; `imgpipeline models check`
shows what each one finds.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, get_args

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.signature import DETR_OUTPUTS, SIZES_INPUT, Signature

_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the feature maps: the usual ones, P6 and P2 variants, and tiny networks."""
_ANCHORS_PER_CELL: Final = 3
_CONVERTED: Final = "darknet"
"""What `imgpipeline models convert` calls its networks."""
_MOST_FINAL_BOXES: Final = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that a network may have."""

    decoder: DecoderName
    """The decoder that reads it."""
    reason: str
    """Why, in a few words for the user."""


def plausible_layouts(signature: Signature) -> tuple[Layout, ...]:
    """Lists the layouts that fit a network.

    Args:
        signature: The network.

    Returns:
        The layouts, the most likely first; empty if none fits.

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
    """Chooses the most likely layout.

    Args:
        signature: The network.

    Returns:
        The layout.

    Raises:
        ConfigurationError: None fits, or the network is not for detection.
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
    """Returns how many classes the outputs have room for; None if their shapes do not say it."""
    shapes = [port.shape for port in signature.outputs]
    if decoder in ("end-to-end", "detr") or not shapes or not shapes[0]:
        return None
    if decoder == "yolov8":
        return shapes[0][1] - 4 if len(shapes[0]) == 3 and shapes[0][1] > 4 else None
    if len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][-1] == 4:
        return shapes[1][-1] or None
    return shapes[0][-1] - 5 if shapes[0][-1] > 5 else None


def labels_in_metadata(signature: Signature) -> tuple[str, ...] | None:
    """Reads the class names that Ultralytics writes into its exports: `{0: 'person', 1: 'bicycle'}`, or a list.

    Returns:
        The names in the order of the classes; None if there are none, or the text has another form.
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
