"""Converts Darknet networks (cfg and weights) of the yolov3-tiny and yolov4-tiny family to ONNX.

The conversion is exact: an unknown layer, option or activation that would change the result, or one float too few or
too many, is an error that names the layer. The same network always gives the same bytes. Only operators that every
backend supports are used (opset 13), and the shape of the output is declared.

The input `images` is float32 [1, 3, height, width], RGB, 0 to 1. The only output, `output` [1, boxes, 5 + classes],
contains the [yolo] layers in order, each by row, column and anchor: centre x, centre y, width, height (fractions of the
input), objectness, class scores (not multiplied).

Sources: AlexeyAB/darknet (`src/parser.c`, `src/*_layer.c`), the ONNX operator specifications, opset 13.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgpipeline.errors import PermanentError
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.model_files import write_whole

LARGEST_CFG_BYTES: Final = 2**20
LARGEST_WEIGHTS_BYTES: Final = 2**31 - 2**24
"""An ONNX file has at most 2 GiB, including the graph."""
# A wrong number in a cfg, such as `width=100000000`, would otherwise ask for a grid that fills the memory.
LARGEST_SIDE: Final = 8_192
"""Pixels; of the input, of each layer's result and of an anchor."""
MOST_BOXES: Final = 1_000_000
"""Over all [yolo] layers; YOLOv4 at 608x608 has 22,743."""

Shape = tuple[int, int, int]
"""Channels, height, width."""

_EPSILON: Final = 1e-6
"""Darknet divides by sqrt(variance) + 1e-6, OpenCV's importer and this module by sqrt(variance + 1e-6)."""
_LEAKY_SLOPE: Final = 0.1
_UNKNOWN_OPTIONS: Final = {
    "convolutional": ("antialiasing", "assisted_excitation", "binary", "deform", "dilation", "flipped", "rotate",
                      "share_index", "stretch", "stride_x", "stride_y", "sway", "xnor"),
    "maxpool": ("antialiasing", "maxpool_depth", "stride_x", "stride_y"),
    "route": (),
    "shortcut": ("weights_normalization", "weights_type"),
    "upsample": ("reverse", "scale"),
    "yolo": ("new_coords",),
}  # fmt: skip
"""Options that would change the result of a layer."""
_HARMLESS: Final = {"dilation": "1", "scale": "1", "weights_normalization": "none", "weights_type": "none"}


def convert_darknet(cfg: Path, weights: Path, out_onnx: Path) -> str:
    """Converts a Darknet network of the yolov3-tiny or yolov4-tiny family to ONNX.

    Args:
        cfg: The network's description.
        out_onnx: The file to write; it appears whole or not at all, and replaces an existing one.

    Returns:
        The sha256 of the ONNX file.

    Raises:
        PermanentError: A file cannot be read or written, or the network cannot be converted exactly; the message
            names the layer, what was found and what was expected.
    """
    network = Network(parse_cfg(_read(cfg, LARGEST_CFG_BYTES).decode("utf-8", "replace")))
    data = _read(weights, LARGEST_WEIGHTS_BYTES)
    model = network.to_onnx(read_weights(data, network.convolutions))
    helper.set_model_props(model, {"darknet_weights_sha256": hashlib.sha256(data).hexdigest()})
    content = model.SerializeToString(deterministic=True)
    write_whole(out_onnx, content)
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, most_bytes: int) -> bytes:
    """Reads a whole file of limited size; refuses pipes and devices, whose size is unknown."""
    try:
        if path.exists() and not path.is_file():
            raise PermanentError(f"{path} is not a file.", next_step="check both paths")
        if path.stat().st_size > most_bytes:
            raise PermanentError(
                f"{path} has more than {most_bytes:,} bytes.", next_step="check that cfg and weights are not swapped"
            )
        return path.read_bytes()
    except OSError as error:
        raise PermanentError(f"The Darknet model cannot be read: {error}.", next_step="check both paths") from error


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a cfg file, with typed access to its options; they raise PermanentError for other values."""

    kind: str
    """Name in the brackets, such as `convolutional`."""
    number: int
    """Layer number as Darknet counts: from 0, without the first section `[net]`, which has -1."""
    options: dict[str, str]

    def whole(self, name: str, default: int) -> int:
        """Returns an option that is a whole number, or the default."""
        numbers = self.wholes(name, str(default))
        if len(numbers) != 1:
            raise self.error(f"option {name} is {self.options.get(name)!r}", "one whole number")
        return numbers[0]

    def wholes(self, name: str, default: str = "") -> tuple[int, ...]:
        """Returns an option that is a comma-separated list of whole numbers."""
        text = self.options.get(name, default)
        try:
            return tuple(int(part) for part in text.split(",") if part.strip())
        except ValueError as error:
            raise self.error(f"option {name} is {text!r}", "whole numbers") from error

    def real(self, name: str, default: float) -> float:
        """Returns an option that is a finite number, or the default."""
        text = self.options.get(name, str(default))
        try:
            number = float(text)
        except ValueError as error:
            raise self.error(f"option {name} is {text!r}", "a number") from error
        if not math.isfinite(number):
            raise self.error(f"option {name} is {text!r}", "a finite number")
        return number

    def error(self, actual: str, expected: str) -> PermanentError:
        """Returns the error for this section, with its layer number."""
        where = f"layer {self.number} [{self.kind}]" if self.number >= 0 else f"section [{self.kind}]"
        return PermanentError(
            f"Darknet cfg, {where}: {actual}; expected {expected}.",
            next_step="only networks of the yolov3-tiny and yolov4-tiny family can be converted",
        )

    def check_shape(self, shape: Shape) -> Shape:
        """Returns the shape of the input or of a result; refuses one that is empty or too large."""
        _, height, width = shape
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise self.error(f"{width}x{height} pixels", f"1 to {LARGEST_SIDE} pixels on each side")
        return shape


def parse_cfg(text: str) -> list[Section]:
    """Splits the text of a cfg file into its sections; the first is `[net]`.

    Raises:
        PermanentError: A line is not a section, option or comment, or the file does not begin with `[net]`.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), len(sections) - 1, {}))
            continue
        name, equals, value = line.partition("=")
        if not equals or not sections:
            raise _unreadable(f"line {number} is {line[:80]!r}; expected [section] or name=value inside of one")
        sections[-1].options[name.strip()] = value.strip()
    if len(sections) < 2 or sections[0].kind not in ("net", "network"):
        found = f"[{sections[0].kind}]" if sections else "nothing"
        raise _unreadable(f"it begins with {found} and has {len(sections)} sections; expected [net] and layers")
    return sections


def _unreadable(what: str) -> PermanentError:
    return PermanentError(f"Darknet cfg: {what}.", next_step="check that this is the model's .cfg file")


@dataclass(frozen=True, slots=True)
class Convolution:
    """What the weights file holds for a convolution."""

    number: int
    """Of its layer."""
    filters: int
    channels: int
    """Input channels of each filter."""
    size: int
    """Kernel side in pixels."""
    normalized: bool
    """Whether there is batch normalization, which is folded into kernel and biases."""

    @property
    def floats(self) -> int:
        """Number of its weights."""
        return self.filters * (self.channels * self.size**2 + (4 if self.normalized else 1))


class Network:
    """A network as an ONNX graph without weights. The method for a layer returns the name and shape of its result.

    Attributes:
        shapes: The shape of each layer's result.
        boxes: Number of boxes of all [yolo] layers.
        convolutions: The convolutions, in order.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        """Plans all layers of a cfg file, `[net]` first.

        Raises:
            PermanentError: A layer or option is unknown or contradicts another; the message names the layer.
        """
        net, last = sections[0], sections[-1]
        self._width, self._height = net.whole("width", 416), net.whole("height", 416)
        if net.whole("channels", 3) != 3:
            raise net.error(f"input of {net.whole('channels', 3)} channels", "3 channels")
        net.check_shape((3, self._height, self._width))
        self.shapes: list[Shape] = []
        self.boxes = 0
        self.convolutions: list[Convolution] = []
        self._results: list[str] = []
        self._heads: dict[int, str] = {}
        self._classes: set[int] = set()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        for section in sections[1:]:
            result, shape = self._plan(section)
            self._results.append(result)
            self.shapes.append(shape)
        if not self._heads:
            raise last.error("the network ends without a [yolo] layer", "at least one")
        if len(self._classes) > 1:
            raise last.error(f"[yolo] layers with {sorted(self._classes)} classes", "one number of classes")
        self._node("Concat", list(self._heads.values()), "output", axis=1)

    def to_onnx(self, weights: Sequence[tuple[Floats, Floats]]) -> onnx.ModelProto:
        """Returns the network as a checked ONNX model, given the kernel and biases of each convolution."""
        for convolution, (kernel, bias) in zip(self.convolutions, weights, strict=True):
            for part, value in (("kernel", kernel), ("bias", bias)):
                name = f"layer{convolution.number}.{part}"
                self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        columns = 5 + next(iter(self._classes))
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, self._height, self._width])
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, self.boxes, columns])
        graph = helper.make_graph(self._nodes, "darknet", [images], [output], list(self._constants.values()))
        opset = helper.make_opsetid("", 13)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="imgpipeline")
        onnx.checker.check_model(model, full_check=True)
        return model

    def _plan(self, section: Section) -> tuple[str, Shape]:
        plans = {
            "convolutional": self._convolution,
            "maxpool": self._maxpool,
            "route": self._route,
            "shortcut": self._shortcut,
            "upsample": self._upsample,
            "yolo": self._yolo,
        }
        if section.kind not in plans:
            raise section.error(f"unknown layer type {section.kind!r}", f"one of {', '.join(plans)}")
        for name in _UNKNOWN_OPTIONS[section.kind]:
            value = section.options.get(name, "0")
            if value not in ("0", _HARMLESS.get(name)):
                raise section.error(f"option {name}={value}", "a network without this option")
        return plans[section.kind](section)

    def _source(self, section: Section, number: int | None = None) -> tuple[str, Shape]:
        """Returns name and shape of the result of a layer, or of the one before a section."""
        number = section.number - 1 if number is None else number
        if number in self._heads:
            raise section.error(f"it reads layer {number}, a [yolo] layer", "a layer that gives a map")
        if number < 0:
            return "images", (3, self._height, self._width)
        return self._results[number], self.shapes[number]

    def _sources(self, section: Section, option: str) -> list[tuple[str, Shape]]:
        """Returns name and shape of the layers in an option; negative numbers count back from this layer."""
        numbers = [n if n >= 0 else section.number + n for n in section.wholes(option)]
        if not numbers or any(not 0 <= n < len(self.shapes) for n in numbers):
            expected = f"earlier layers, 0 to {section.number - 1}"
            raise section.error(f"{option}={section.options.get(option)!r}", expected)
        return [self._source(section, number) for number in numbers]

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _floats(self, name: str, value: object) -> str:
        return self._constant(name, np.asarray(value, np.float32))

    def _convolution(self, section: Section) -> tuple[str, Shape]:
        source, (channels, height, width) = self._source(section)
        size, stride = section.whole("size", 1), section.whole("stride", 1)
        padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)
        filters, groups = section.whole("filters", 1), max(1, section.whole("groups", 1))
        if min(size, stride, filters) < 1 or padding < 0:
            raise section.error(f"size {size}, stride {stride}, filters {filters}, padding {padding}", "values above 0")
        if channels % groups or filters % groups:
            raise section.error(f"{channels} channels to {filters} filters in {groups} groups", "whole groups")
        rows, columns = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
        shape = section.check_shape((filters, rows, columns))
        normalized = section.whole("batch_normalize", 0) == 1
        self.convolutions.append(Convolution(section.number, filters, channels // groups, size, normalized))
        name = f"layer{section.number}"
        for part in ("kernel", "bias"):
            self._constants[f"{name}.{part}"] = TensorProto()  # keeps the place for the weights
        raw = self._node(
            "Conv",
            [source, f"{name}.kernel", f"{name}.bias"],
            f"{name}.sum",
            kernel_shape=[size] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )
        return self._activate(section, name, raw, "logistic"), shape

    def _activate(self, section: Section, name: str, source: str, default: str) -> str:
        activation = section.options.get("activation", default)
        if activation == "linear":
            return source
        if activation == "leaky":
            return self._node("LeakyRelu", [source], name, alpha=_LEAKY_SLOPE)
        if activation == "mish":
            soft = self._node("Softplus", [source], f"{name}.softplus")
            return self._node("Mul", [source, self._node("Tanh", [soft], f"{name}.tanh")], name)
        raise section.error(f"activation {activation!r}", "linear, leaky or mish")

    def _maxpool(self, section: Section) -> tuple[str, Shape]:
        source, (channels, height, width) = self._source(section)
        stride = section.whole("stride", 1)
        size = section.whole("size", stride)
        padding = section.whole("padding", size - 1)
        if min(size, stride) < 1 or padding < 0:
            raise section.error(f"size {size}, stride {stride}, padding {padding}", "values above 0")
        rows, columns = ((side + padding - size) // stride + 1 for side in (height, width))
        shape = section.check_shape((channels, rows, columns))
        before, after = padding // 2, padding - padding // 2
        rules = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [before, before, after, after]}
        return self._node("MaxPool", [source], f"layer{section.number}", **rules), shape

    def _route(self, section: Section) -> tuple[str, Shape]:
        """Concatenates the channels of earlier layers, or one of several equal parts of each."""
        sources = self._sources(section, "layers")
        groups, group_id = max(1, section.whole("groups", 1)), section.whole("group_id", 0)
        shapes = [shape for _, shape in sources]
        if len({shape[1:] for shape in shapes}) > 1:
            raise section.error(f"sources of different size: {shapes}", "one size")
        if not 0 <= group_id < groups or any(shape[0] % groups for shape in shapes):
            channels = [shape[0] for shape in shapes]
            raise section.error(f"group {group_id} of {groups} out of {channels} channels", "whole groups")
        shape = (sum(shape[0] // groups for shape in shapes), *shapes[0][1:])
        name, parts = f"layer{section.number}", []
        for index, (result, (channels_of_it, _, _)) in enumerate(sources):
            share = channels_of_it // groups
            first = share * group_id
            whole = groups == 1
            parts.append(result if whole else self._slice(f"{name}.part{index}", result, first, first + share, axis=1))
        return parts[0] if len(parts) == 1 else self._node("Concat", parts, name, axis=1), shape

    def _slice(self, name: str, source: str, first: int, stop: int, *, axis: int) -> str:
        bounds = [self._constant(f"whole{value}", np.array([value], np.int64)) for value in (first, stop, axis)]
        return self._node("Slice", [source, *bounds], name)

    def _shortcut(self, section: Section) -> tuple[str, Shape]:
        (total, shape), *others = [self._source(section), *self._sources(section, "from")]
        if any(other != shape for _, other in others):
            raise section.error(f"sources of different shape: {[shape, *(s for _, s in others)]}", "one shape")
        name = f"layer{section.number}"
        for index, (other, _) in enumerate(others):
            total = self._node("Add", [total, other], f"{name}.sum{index}")
        return self._activate(section, name, total, "linear"), shape

    def _upsample(self, section: Section) -> tuple[str, Shape]:
        source, (channels, height, width) = self._source(section)
        factor = section.whole("stride", 2)
        if factor < 1:
            raise section.error(f"stride {factor}", "1 or more")
        shape = section.check_shape((channels, height * factor, width * factor))
        scales = self._floats(f"times{factor}", [1, 1, factor, factor])
        rules = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self._node("Resize", [source, "", scales], f"layer{section.number}", **rules), shape

    def _yolo(self, section: Section) -> tuple[str, Shape]:
        source, shape = self._source(section)
        values, classes = section.wholes("anchors"), section.whole("classes", 20)
        pairs = list(zip(values[::2], values[1::2], strict=False))
        mask = section.wholes("mask", ",".join(str(i) for i in range(len(pairs))))
        if len(values) % 2 or not mask or any(not 0 <= index < len(pairs) for index in mask):
            actual = f"mask {list(mask)} of {len(values)} anchor values"
            raise section.error(actual, "a mask within the pairs of anchors")
        if not all(1 <= value <= LARGEST_SIDE for value in values):
            raise section.error(f"anchors from {min(values)} to {max(values)} pixels", f"1 to {LARGEST_SIDE}")
        if classes < 1:
            raise section.error(f"{classes} classes", "1 or more")
        expected = len(mask) * (5 + classes)
        if shape[0] != expected:
            counts = f"{len(mask)} anchors x (5 + {classes} classes)"
            raise section.error(f"layer {section.number - 1} gives {shape[0]} channels", f"{expected} = {counts}")
        self.boxes += len(mask) * shape[1] * shape[2]
        if self.boxes > MOST_BOXES:
            raise section.error(f"the [yolo] layers give {self.boxes} boxes", f"at most {MOST_BOXES}")
        self._classes.add(classes)
        anchors, scale_xy = np.array([pairs[index] for index in mask]), section.real("scale_x_y", 1.0)
        name = f"layer{section.number}"
        self._heads[section.number] = self._boxes(name, source, shape, anchors, 5 + classes, scale_xy)
        return name, shape

    def _boxes(
        self, name: str, source: str, shape: Shape, sizes: npt.NDArray[np.int64], columns: int, scale_xy: float
    ) -> str:
        """Implements Darknet's `get_yolo_box`: sigmoid for centres within a cell, exp times an anchor for sizes.

        Args:
            name: The name of the result.
            source: The name of the map.
            shape: The shape of the map.
            sizes: [anchors, 2] width and height of the anchors in pixels of the network's input.
            columns: How many numbers each box has.
            scale_xy: How far a centre may leave its cell; 1: not at all.
        """
        _, height, width = shape
        anchors = len(sizes)
        split = self._constant(f"{name}.split", np.array([1, anchors, columns, height * width], np.int64))
        flat = self._constant(f"{name}.flat", np.array([1, height * width * anchors, columns], np.int64))
        cells = self._node("Reshape", [source, split], f"{name}.anchors")
        turned = self._node("Transpose", [cells], f"{name}.turned", perm=[0, 3, 1, 2])
        rows = self._node("Reshape", [turned, flat], f"{name}.rows")

        centre = self._node("Sigmoid", [self._slice(f"{name}.xy", rows, 0, 2, axis=2)], f"{name}.inside")
        size = self._node("Exp", [self._slice(f"{name}.wh", rows, 2, 4, axis=2)], f"{name}.growth")
        scores = self._node("Sigmoid", [self._slice(f"{name}.logits", rows, 4, columns, axis=2)], f"{name}.scores")

        grid_rows, grid_columns = np.mgrid[:height, :width]
        corners = np.stack([grid_columns, grid_rows], axis=-1).reshape(-1, 1, 2).repeat(anchors, axis=1)
        offsets = (corners.reshape(1, -1, 2) - (scale_xy - 1) / 2) / (width, height)
        fractions = sizes / (self._width, self._height)
        factor = self._floats(f"{name}.cell", [[[scale_xy / width, scale_xy / height]]])
        scaled = self._node("Mul", [centre, factor], f"{name}.moved")
        placed = self._node("Add", [scaled, self._floats(f"{name}.offsets", offsets)], f"{name}.centre")
        tiled = self._floats(f"{name}.sizes", np.tile(fractions, (height * width, 1))[None])
        return self._node("Concat", [placed, self._node("Mul", [size, tiled], f"{name}.size"), scores], name, axis=2)


def read_weights(data: bytes, convolutions: Sequence[Convolution]) -> list[tuple[Floats, Floats]]:
    """Reads a weights file and folds batch normalization into the convolutions.

    Layout (`load_weights_upto` in Darknet's parser.c): int32 major, minor, revision; number of training images, as
    int64 from version 0.2 on, otherwise int32; then little-endian float32 for each convolution: biases, with batch
    normalization also scales, means and variances, and the kernel.

    Returns:
        For each convolution, the kernel [filters, channels, size, size] and the biases [filters].

    Raises:
        PermanentError: The file is too short or too long for the network; the message names the layer and both
            numbers of floats.
    """
    values = _floats_after_header(data)
    weights, at = [], 0
    for convolution in convolutions:
        stop = at + convolution.floats
        if stop > len(values):
            needed = f"layer {convolution.number} [convolutional] needs floats {at} to {stop}"
            raise _mismatch(needed, f"the file has {len(values)}")
        weights.append(_fold(convolution, values[at:stop]))
        at = stop
    if at != len(values):
        last = convolutions[-1].number if convolutions else -1
        raise _mismatch(
            f"layer {last} is the last that has weights; they end at float {at}", f"the file has {len(values)}"
        )
    return weights


def _floats_after_header(data: bytes) -> Floats:
    try:
        major, minor, _ = struct.unpack_from("<iii", data)
    except struct.error as error:
        raise _mismatch("the header has 12 bytes", f"the file has {len(data)} bytes") from error
    header_size_bytes = 20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16
    body = data[header_size_bytes:]
    if len(data) < header_size_bytes or len(body) % 4:
        raise _mismatch(
            f"a header of {header_size_bytes} bytes and floats of 4 bytes", f"the file has {len(data)} bytes"
        )
    return np.frombuffer(body, "<f4").astype(np.float32, copy=False)


def _fold(convolution: Convolution, values: Floats) -> tuple[Floats, Floats]:
    n, size = convolution.filters, convolution.size
    layer = f"layer {convolution.number} [convolutional]"
    if not np.isfinite(values).all():
        raise _mismatch(f"{layer} needs finite weights", "some are NaN or infinite")
    # Folded in 64 bits, so values are rounded only once.
    bias = values[:n].astype(np.float64)
    kernel = values[-n * convolution.channels * size**2 :].astype(np.float64)
    kernel = kernel.reshape(n, convolution.channels, size, size)
    if convolution.normalized:
        scale, mean, variance = (values[n * k : n * (k + 1)].astype(np.float64) for k in (1, 2, 3))
        if (variance < 0).any():
            raise _mismatch(f"{layer} needs variances >= 0", f"{variance.min()}")
        factor = scale / np.sqrt(variance + _EPSILON)
        kernel = kernel * factor[:, None, None, None]
        bias = bias - mean * factor
    return kernel.astype(np.float32), bias.astype(np.float32)


def _mismatch(expected: str, actual: str) -> PermanentError:
    return PermanentError(
        f"Darknet weights do not fit the cfg: {expected}; {actual}.",
        next_step="check that cfg and weights are of the same model, and that the download is whole",
    )
