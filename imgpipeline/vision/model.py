"""Describes a model: its files, its input, and the layout of its output.

`registry` reads entries of TOML files with the limits that the fields name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from imgpipeline.contracts.detection import DecoderName

NO_MEAN = (0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0)
SIZES_INPUT = "orig_target_sizes"
"""The input for the width and height of the picture in deployed RT-DETR, D-FINE and DEIM models."""
DETR_OUTPUTS = ("labels", "boxes", "scores")
"""Names of the outputs of the layout `detr`, in the order that its decoder expects."""
_Divisor = Annotated[float, Field(gt=0)]
Role = Literal["onnx", "weights", "cfg", "labels"]
Resize = Literal["stretch", "letterbox", "letterbox-centred"]
"""How a picture is put into a network's input: stretched to its size, or scaled to fit into its top left corner or its
centre."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """The size of a network's input in pixels, and how a picture is put into it."""

    width: int
    height: int
    resize: Resize

    def placed_size(self, width: int, height: int) -> tuple[int, int]:
        """Returns width and height in pixels, each at least 1, at which the network sees an upright picture."""
        if self.resize == "stretch":
            return self.width, self.height
        ratio = min(self.width / width, self.height / height)
        if self.resize == "letterbox":
            return max(1, int(width * ratio)), max(1, int(height * ratio))
        return max(1, round(width * ratio)), max(1, round(height * ratio))

    def placed_at(self, width: int, height: int) -> tuple[int, int]:
        """Returns the position of a picture's top left corner in the input: columns from the left, rows from the top.

        If the padding cannot be split evenly, the right and the bottom get the larger part, as in Ultralytics'
        letterbox. Width and height are those of `placed_size`.
        """
        if self.resize != "letterbox-centred":
            return 0, 0
        return (self.width - width) // 2, (self.height - height) // 2


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    role: Role
    name: Annotated[str, Field(pattern=r"^[^/]*[^/.]$")]
    """File name in the folder of models."""
    size_bytes: Annotated[int, Field(gt=0)]
    """Exact size."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    url: str | None = None
    """Where it is downloaded from; None if it comes with the project."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the network's input."""

    resize: Resize
    channels: Literal["BGR", "RGB"]
    """Order of the colour channels in the input."""
    scale: float
    """Factor for the values 0 to 255."""
    pad_value: int
    """Value of the padding in a letterbox, 0 to 255, before `scale`."""
    mean: tuple[float, float, float] = NO_MEAN
    """Subtracted after `scale`, for each channel in the order of `channels`."""
    std: tuple[_Divisor, _Divisor, _Divisor] = NO_STD
    """Divisor of each channel, applied last."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model, ready to be loaded or pulled; sizes in pixels."""

    name: str
    """Registered name, or the file name without its extension."""
    summary: str
    """What it is good for, in a few words."""
    path: Path
    """The ONNX file; it may not exist yet (see `registry.find_model`)."""
    files: tuple[ModelFile, ...]
    """Files to download, or that are shipped; empty for a user's own file."""
    sha256: str | None
    """Registered sha256 of the ONNX file; None if it has none (a user's own file, or converted here)."""
    licence: str
    """SPDX identifier or free text; `unknown` for a user's own file."""
    input_width: Annotated[int, Field(gt=0)]
    input_height: Annotated[int, Field(gt=0)]
    preprocessing: Preprocessing
    decoder: DecoderName
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Class names in the order of the output's classes."""
    nms_per_class: bool
    """Default: whether only boxes of one label compete."""
    confidence_threshold: float
    """Default; boxes need a score strictly above it."""
    nms_threshold: float
    """Default; of two boxes with a greater IoU the lower-scored one is dropped."""
    is_own: bool = False
    """Whether it is a user's own file, registered or given by its path."""
    decoder_reason: str = "registered"
    """How the layout was determined: from which part of the file, or by which setting."""

    @property
    def network_input(self) -> NetworkInput:
        """The input's size, and how pictures are put into it."""
        return NetworkInput(self.input_width, self.input_height, self.preprocessing.resize)

    @property
    def shipped(self) -> bool:
        """Whether the model comes with the project and needs no download."""
        return bool(self.files) and all(f.url is None for f in self.files) and not self.is_own

    @property
    def is_local(self) -> bool:
        """Whether a user registered a local file, which cannot be downloaded."""
        return self.is_own and bool(self.files) and not any(f.url for f in self.files)

    @property
    def converted(self) -> bool:
        """Whether the ONNX file is converted here from Darknet's files."""
        return any(f.role == "weights" for f in self.files)

    @property
    def how_to_restore(self) -> str:
        """The next step if its ONNX file is missing or damaged."""
        if self.shipped:
            return "install imgpipeline again"
        if self.is_local:
            return f"imgpipeline models add FILE --name {self.name} --replace"
        return f"imgpipeline models pull {self.name}" if self.files else "check IMGPIPELINE_MODEL"
