"""Plans a Darknet network: its layers, their inputs, and the shape of each result.

The conversion is exact: an unknown layer, option or activation that would change the result is an error that names the
layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast

from imgpipeline.vision.darknet.cfg import Section

# The largest network that is converted: larger than every published one, and small enough to be planned at once. A cfg
# with `width=100000000` would otherwise ask for a grid that fills the memory.
MOST_LAYERS: Final = 1_000
LARGEST_SIDE: Final = 8_192
"""Pixels; of the input and of each layer's result."""
LARGEST_WINDOW: Final = 64
"""Pixels; of a kernel, a stride, a padding, and how often a pixel is repeated."""
MOST_CHANNELS: Final = 65_536
MOST_BOXES: Final = 1_000_000
"""Over all [yolo] layers; YOLOv4 at 608x608 has 22,743."""
LARGEST_ANCHOR: Final = 65_536
"""Pixels."""

Activation = Literal["linear", "leaky", "mish"]
Shape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with its activation; batch normalization is folded into its weights."""

    filters: int
    """Output channels."""
    size: int
    """Kernel side in pixels."""
    stride: int
    """Pixels."""
    padding: int
    """Pixels at each border."""
    groups: int
    """Number of independent groups of channels."""
    normalized: bool
    """Whether the weights hold batch normalization."""
    activation: Activation
    """Applied to the result."""


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The maximum of each window."""

    size: int
    """Window side in pixels."""
    stride: int
    """Pixels."""
    before: int
    """Padding at the top and left in pixels."""
    after: int
    """Padding at the bottom and right in pixels."""


@dataclass(frozen=True, slots=True)
class Route:
    """The concatenated channels of earlier layers."""

    groups: int
    """Number of parts that the channels of each source are split into."""
    group_id: int
    """The part that is used, from 0."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """The sum of earlier layers."""

    activation: Activation
    """Applied to the sum."""


@dataclass(frozen=True, slots=True)
class Upsample:
    """Every pixel repeated."""

    factor: int
    """How often, along both axes."""


@dataclass(frozen=True, slots=True)
class Yolo:
    """Boxes out of a map."""

    anchors: tuple[tuple[int, int], ...]
    """Width and height in pixels of the network's input, one for each box a cell."""
    classes: int
    scale_xy: float
    """How far a centre may leave its cell; 1: not at all."""


Operation = Convolution | MaxPool | Route | Shortcut | Upsample | Yolo


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer with its place in the network."""

    section: Section
    """Where it comes from."""
    operation: Operation
    """What it computes."""
    sources: tuple[int, ...]
    """Numbers of the layers it reads; -1 is the network's input."""
    shape: Shape
    """Of its result."""


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network."""

    width: int
    """Of the input, pixels."""
    height: int
    """Of the input, pixels."""
    layers: tuple[Layer, ...]
    """In order; every layer reads only earlier ones."""

    def shape_of(self, number: int) -> Shape:
        """Returns the shape of a layer's result, or of the input for -1."""
        return (3, self.height, self.width) if number < 0 else self.layers[number].shape


_UNKNOWN_OPTIONS: Final = {
    "convolutional": ("antialiasing", "assisted_excitation", "binary", "deform", "dilation", "flipped", "rotate",
                      "share_index", "stretch", "stride_x", "stride_y", "sway", "xnor"),
    "maxpool": ("antialiasing", "maxpool_depth", "stride_x", "stride_y"),
    "route": (),
    "shortcut": ("weights_normalization", "weights_type"),
    "upsample": ("reverse", "scale"),
    "yolo": ("new_coords",),
}  # fmt: skip
_HARMLESS: Final = {"dilation": "1", "scale": "1", "weights_normalization": "none", "weights_type": "none"}


def plan_network(sections: list[Section]) -> Network:
    """Returns the network of a cfg file, with the shape of every layer.

    Args:
        sections: The whole file, `[net]` first.

    Raises:
        PermanentError: A layer or option is unknown or contradicts another; the message names the layer.
    """
    net = sections[0]
    width, height = net.whole("width", 416), net.whole("height", 416)
    if net.whole("channels", 3) != 3:
        raise net.error(f"input of {net.whole('channels', 3)} channels", "3 channels")
    _check_side(net, width, height)
    if len(sections) - 1 > MOST_LAYERS:
        raise net.error(f"{len(sections) - 1} layers", f"at most {MOST_LAYERS}")
    layers: list[Layer] = []
    for section in sections[1:]:
        if section.kind not in _PLANNERS:
            raise section.error(f"unknown layer type {section.kind!r}", f"one of {', '.join(_PLANNERS)}")
        for name in _UNKNOWN_OPTIONS[section.kind]:
            value = section.options.get(name, "0")
            if value not in ("0", _HARMLESS.get(name)):
                raise section.error(f"option {name}={value}", "a network without this option")
        network = Network(width, height, tuple(layers))
        layers.append(_checked(_PLANNERS[section.kind](section, network), network))
    boxes = sum(len(each.operation.anchors) * each.shape[1] * each.shape[2]
                for each in layers if isinstance(each.operation, Yolo))  # fmt: skip
    if not boxes:
        raise sections[-1].error("the network ends without a [yolo] layer", "at least one")
    if boxes > MOST_BOXES:
        raise sections[-1].error(f"the [yolo] layers give {boxes} boxes", f"at most {MOST_BOXES}")
    return Network(width, height, tuple(layers))


def _plan_convolution(section: Section, network: Network) -> Layer:
    source = section.number - 1
    channels, height, width = network.shape_of(source)
    size, stride = section.whole("size", 1), section.whole("stride", 1)
    padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)
    filters, groups = section.whole("filters", 1), max(1, section.whole("groups", 1))
    if min(size, stride, filters) < 1 or padding < 0:
        raise section.error(f"size {size}, stride {stride}, filters {filters}, padding {padding}", "values above 0")
    _check_window(section, size=size, stride=stride, padding=padding)
    _check_channels(section, filters)
    if channels % groups or filters % groups:
        raise section.error(f"{channels} channels to {filters} filters in {groups} groups", "whole groups")
    shape = (filters, (height + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1)
    normalized = section.whole("batch_normalize", 0) == 1
    operation = Convolution(filters, size, stride, padding, groups, normalized, _activation(section, "logistic"))
    return Layer(section, operation, (source,), shape)


def _plan_maxpool(section: Section, network: Network) -> Layer:
    source = section.number - 1
    channels, height, width = network.shape_of(source)
    stride = section.whole("stride", 1)
    size = section.whole("size", stride)
    padding = section.whole("padding", size - 1)
    if min(size, stride) < 1 or padding < 0:
        raise section.error(f"size {size}, stride {stride}, padding {padding}", "values above 0")
    _check_window(section, size=size, stride=stride, padding=padding)
    shape = (channels, (height + padding - size) // stride + 1, (width + padding - size) // stride + 1)
    before = padding // 2
    return Layer(section, MaxPool(size, stride, before, padding - before), (source,), shape)


def _plan_route(section: Section, network: Network) -> Layer:
    sources = _sources(section, "layers", network)
    groups, group_id = max(1, section.whole("groups", 1)), section.whole("group_id", 0)
    shapes = [network.shape_of(source) for source in sources]
    if len({shape[1:] for shape in shapes}) > 1:
        sizes = ", ".join(f"layer {n} {s[2]}x{s[1]}" for n, s in zip(sources, shapes, strict=True))
        raise section.error(f"sources of different size: {sizes}", "one size")
    if not 0 <= group_id < groups or any(shape[0] % groups for shape in shapes):
        raise section.error(f"group {group_id} of {groups} out of {[s[0] for s in shapes]} channels", "whole groups")
    channels = sum(shape[0] // groups for shape in shapes)
    return Layer(section, Route(groups, group_id), sources, (channels, *shapes[0][1:]))


def _plan_shortcut(section: Section, network: Network) -> Layer:
    sources = (section.number - 1, *_sources(section, "from", network))
    shapes = [network.shape_of(source) for source in sources]
    if len(set(shapes)) > 1:
        raise section.error(f"sources of different shape: {shapes}", "one shape")
    return Layer(section, Shortcut(_activation(section, "linear")), sources, shapes[0])


def _plan_upsample(section: Section, network: Network) -> Layer:
    source, factor = section.number - 1, section.whole("stride", 2)
    if factor < 1:
        raise section.error(f"stride {factor}", "1 or more")
    _check_window(section, stride=factor)
    channels, height, width = network.shape_of(source)
    return Layer(section, Upsample(factor), (source,), (channels, height * factor, width * factor))


def _plan_yolo(section: Section, network: Network) -> Layer:
    source = section.number - 1
    shape = network.shape_of(source)
    values, classes = section.wholes("anchors"), section.whole("classes", 20)
    pairs = list(zip(values[::2], values[1::2], strict=False))
    mask = section.wholes("mask", ",".join(str(i) for i in range(len(pairs))))
    if len(values) % 2 or not mask or any(not 0 <= index < len(pairs) for index in mask):
        raise section.error(f"mask {list(mask)} of {len(values)} anchor values", "a mask within the pairs of anchors")
    if not all(1 <= value <= LARGEST_ANCHOR for value in values):
        raise section.error(f"anchors from {min(values)} to {max(values)} pixels", f"1 to {LARGEST_ANCHOR}")
    if classes < 1:
        raise section.error(f"{classes} classes", "1 or more")
    expected = len(mask) * (5 + classes)
    if shape[0] != expected:
        counts = f"{len(mask)} anchors x (5 + {classes} classes)"
        raise section.error(f"layer {source} gives {shape[0]} channels", f"{expected} = {counts}")
    operation = Yolo(tuple(pairs[index] for index in mask), classes, section.real("scale_x_y", 1.0))
    return Layer(section, operation, (source,), shape)


_PLANNERS: Final[dict[str, Callable[[Section, Network], Layer]]] = {
    "convolutional": _plan_convolution,
    "maxpool": _plan_maxpool,
    "route": _plan_route,
    "shortcut": _plan_shortcut,
    "upsample": _plan_upsample,
    "yolo": _plan_yolo,
}


def _check_side(section: Section, width: int, height: int) -> None:
    """Raises PermanentError for an input or a result that is empty or too large."""
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise section.error(f"{width}x{height} pixels", f"1 to {LARGEST_SIDE} pixels on each side")


def _check_window(section: Section, **pixels: int) -> None:
    """Raises PermanentError for a kernel, stride or padding that is too large."""
    for name, value in pixels.items():
        if value > LARGEST_WINDOW:
            raise section.error(f"{name} {value}", f"at most {LARGEST_WINDOW}")


def _check_channels(section: Section, channels: int) -> None:
    """Raises PermanentError for a result without channels, or with too many."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise section.error(f"{channels} channels", f"1 to {MOST_CHANNELS}")


def _activation(section: Section, default: str) -> Activation:
    name = section.options.get("activation", default)
    if name not in ("linear", "leaky", "mish"):
        raise section.error(f"activation {name!r}", "linear, leaky or mish")
    return cast("Activation", name)


def _sources(section: Section, option: str, network: Network) -> tuple[int, ...]:
    """Reads layer numbers; negative ones count back from this layer."""
    numbers = tuple(n if n >= 0 else section.number + n for n in section.wholes(option))
    if not numbers or any(not 0 <= n < len(network.layers) for n in numbers):
        raise section.error(f"{option}={section.options.get(option)!r}", f"earlier layers, 0 to {section.number - 1}")
    return numbers


def _checked(layer: Layer, network: Network) -> Layer:
    for number in layer.sources:
        if number >= 0 and isinstance(network.layers[number].operation, Yolo):
            raise layer.section.error(f"it reads layer {number}, a [yolo] layer", "a layer that gives a map")
    channels, height, width = layer.shape
    if min(height, width) < 1:
        raise layer.section.error(f"its result would be {layer.shape}", "a size above 0; the input is too small")
    _check_side(layer.section, width, height)
    _check_channels(layer.section, channels)
    return layer
