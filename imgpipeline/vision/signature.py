"""Reads what an ONNX file says about its network: inputs, outputs, metadata and operators, but not the weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import onnx

SIZES_INPUT = "orig_target_sizes"
"""The input for the width and height of the picture in deployed RT-DETR, D-FINE and DEIM models."""
DETR_OUTPUTS = ("labels", "boxes", "scores")
"""Names of the outputs of the layout `detr`, in the order that its decoder expects."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network."""

    name: str
    shape: tuple[int, ...]
    """Its declared dimensions; 0 for an open dimension."""
    is_float32: bool
    """Whether its values are 32-bit floats."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A network without its weights."""

    path: Path
    """Its file, for messages."""
    inputs: tuple[Port, ...]
    """The inputs that a caller has to provide."""
    outputs: tuple[Port, ...]
    """The outputs, in the declared order."""
    metadata: dict[str, str]
    """The file's properties, such as `names` and `license` in Ultralytics' exports."""
    operators: frozenset[str]
    """The types of the network's operators."""
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


def bind_picture_size(content: bytes, width: int, height: int) -> bytes:
    """Turns the input `orig_target_sizes` into a constant, so boxes are in pixels of the network's input.

    Then backends get a network with a single input.

    Args:
        content: The bytes of an ONNX file.
        width: Width of the network's input in pixels.
        height: Height of the network's input in pixels.

    Returns:
        The bytes of the changed network; the same bytes if it has no such input.
    """
    import numpy as np  # noqa: PLC0415 - keeps `--help` fast
    import onnx  # noqa: PLC0415 - costs 100 ms, and only this layout needs it

    model = onnx.load_from_string(content)
    bound = next((value for value in model.graph.input if value.name == SIZES_INPUT), None)
    if bound is None:
        return content
    dtype = onnx.helper.tensor_dtype_to_np_dtype(bound.type.tensor_type.elem_type)
    model.graph.input.remove(bound)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([[width, height]], dtype), SIZES_INPUT))
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    changed: bytes = model.SerializeToString()
    return changed
