"""ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime

from imgpipeline.vision.backends import failed, unreadable
from imgpipeline.vision.decoders import Floats

_state = onnxruntime.capi.onnxruntime_pybind11_state
ERRORS = (
    RuntimeError,
    ValueError,
    _state.EPFail,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoModel,
    _state.NotImplemented,
    _state.RuntimeException,
)
"""ONNX Runtime's errors have no common base class."""


class OnnxRuntimeBackend:
    """A network in ONNX Runtime.

    Guarantees:
        Calls from several threads run at once. Waiting worker threads sleep instead of spinning, so decoder threads
        keep their cores.
    """

    name = "onnxruntime"

    def __init__(
        self, model: bytes, threads: int | None, provider: str | tuple[str, dict[str, str]] = "CPUExecutionProvider"
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(model, options, providers=[provider])
        self._input = self._session.get_inputs()[0].name
        self.output_names = tuple(output.name for output in self._session.get_outputs())

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network; see `InferenceBackend.infer`."""
        try:
            outputs = self._session.run(None, {self._input: blob})
        except ERRORS as error:
            raise failed(self.name, error) from error
        return [np.asarray(output, np.float32) for output in outputs]


def open_model(model: bytes, *, threads: int | None) -> OnnxRuntimeBackend:
    """Loads a network.

    Args:
        model: The bytes of an ONNX file.
        threads: Threads per picture; None: as many as there are cores.

    Returns:
        The backend.

    Raises:
        PermanentError: The model cannot be read.
    """
    try:
        return OnnxRuntimeBackend(model, threads)
    except ERRORS as error:
        raise unreadable("onnxruntime", error) from error
