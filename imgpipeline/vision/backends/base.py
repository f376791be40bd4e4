"""The protocol of inference backends, their errors, and the number of usable cores."""

import os
from typing import Protocol

from imgpipeline.errors import PermanentError
from imgpipeline.vision.decoders import Floats


class InferenceBackend(Protocol):
    """A network that is loaded and ready.

    Guarantees:
        `infer` may be called from several threads at once; the same blob always gives the same output.
    """

    @property
    def name(self) -> str:
        """The backend's name, as in `IMGPIPELINE_MODEL_BACKEND`."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the order that `infer` gives them."""

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network.

        Args:
            blob: float32 [1, 3, height, width], contiguous, of the network's declared size.

        Returns:
            Every output, float32, in the order the model declares them; the caller may keep them.

        Raises:
            PermanentError: The network cannot be run.
        """


def unreadable(name: str, reason: object) -> PermanentError:
    """Makes the error for a model that a backend cannot read.

    Args:
        name: The backend's name.
        reason: What the backend said.

    Returns:
        The error, to be raised by the caller.
    """
    return PermanentError(
        f"The backend {name} cannot read the model: {str(reason).strip()[:500]}",
        next_step="check that the file is an ONNX model, or try another IMGPIPELINE_MODEL_BACKEND",
    )


def failed(name: str, reason: object) -> PermanentError:
    """Makes the error for a network that cannot be run.

    Args:
        name: The backend's name.
        reason: What the backend said.

    Returns:
        The error, to be raised by the caller.
    """
    return PermanentError(
        f"The backend {name} failed to run the model: {str(reason).strip()[:500]}",
        next_step="imgpipeline doctor, or try another IMGPIPELINE_MODEL_BACKEND",
    )


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
