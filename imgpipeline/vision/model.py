"""What is known of a model: its files, its input, and the layout of its output."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.vision.reduction import NetworkInput, Resize

NO_MEAN = (0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0)
Role = Literal["onnx", "weights", "cfg", "labels"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    role: Role
    """What the file is for."""
    name: str
    """File name in the folder of models."""
    url: str | None
    """Where it is downloaded from; None: it comes with the project."""
    size_bytes: int
    """Exact size, > 0."""
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the network's input."""

    # Recipes of redetections hash the representation of the first four fields.
    resize: Resize
    """Stretched to the input's size, or scaled to fit into its top left corner or its centre."""
    channels: Literal["BGR", "RGB"]
    """Order of the colours in the input."""
    scale: float
    """Factor on the values 0 to 255."""
    pad_value: int
    """What fills the rest of a letterbox, 0 to 255, before `scale`."""
    mean: tuple[float, float, float] = field(default=NO_MEAN, repr=False)
    """What is subtracted after `scale`, for each channel in the order of `channels`."""
    std: tuple[float, float, float] = field(default=NO_STD, repr=False)
    """By what each channel is divided last, > 0."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model, ready to be loaded or pulled."""

    name: str
    """Registered name, or the file's name without its ending."""
    summary: str
    """What it is good for, a few words."""
    path: Path
    """The ONNX file; it may not be there yet (see `registry.find_model`)."""
    files: tuple[ModelFile, ...]
    """What is downloaded or shipped; empty for a user's own file."""
    sha256: str | None
    """Registered sha256 of the ONNX file; None: not registered (a user's own, or converted here)."""
    licence: str
    """SPDX identifier or plain words; `unknown` for a user's own file."""
    input_width: int
    """Pixels."""
    input_height: int
    """Pixels."""
    preprocessing: Preprocessing
    """How a picture becomes the input."""
    decoder: DecoderName
    """How the output is read."""
    labels: tuple[str, ...]
    """Class names in the order of the output's classes."""
    nms_per_class: bool
    """Default: whether only boxes of one label compete."""
    confidence_threshold: float
    """Default; boxes need a score strictly above it."""
    nms_threshold: float
    """Default; of two boxes with a greater IoU the lower-scored one is dropped."""
    is_own: bool = False
    """Whether it is a file of the user's own, registered or given by its path."""
    decoder_reason: str = "registered"
    """How the layout was found: from what in the file, or by which setting."""

    @property
    def network_input(self) -> NetworkInput:
        """The input's size, and how pictures are put into it: what `decode_image` needs to know of a model."""
        return NetworkInput(self.input_width, self.input_height, self.preprocessing.resize)

    @property
    def shipped(self) -> bool:
        """Whether the model comes with the project and needs no download."""
        return bool(self.files) and all(f.url is None for f in self.files) and not self.is_own

    @property
    def is_local(self) -> bool:
        """Whether a user registered a file that is downloaded from nowhere."""
        return self.is_own and bool(self.files) and not any(f.url for f in self.files)

    @property
    def converted(self) -> bool:
        """Whether the ONNX file is made here from Darknet's files."""
        return any(f.role == "weights" for f in self.files)
