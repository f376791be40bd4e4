"""ONNX Runtime on the CPU, or on an NVIDIA GPU in 32-bit or 16-bit floats.

The GPU needs the package `onnxruntime-gpu`, CUDA and cuDNN.
"""

import warnings
from typing import Final

import numpy as np
import onnxruntime

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.backends import failed
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import Precision

_GPU: Final = "CUDAExecutionProvider"
_GPU_OPTIONS: Final = {
    "use_tf32": "0",  # fp32 means 32-bit floats, as on a CPU
    # The default times the algorithms, and so could choose another one, with other results, at each start.
    "cudnn_conv_algo_search": "HEURISTIC",
}

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

    def __init__(self, model: bytes, threads: int | None, _: Precision) -> None:
        self._open(model, threads, "CPUExecutionProvider")

    def _open(self, model: bytes, threads: int | None, provider: str | tuple[str, dict[str, str]]) -> None:
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


class CudaBackend(OnnxRuntimeBackend):
    """A network in ONNX Runtime on the first visible GPU (`CUDA_VISIBLE_DEVICES`).

    `threads` applies to the operators that have no CUDA kernel.
    """

    name = "cuda"

    def __init__(self, model: bytes, threads: int | None, precision: Precision) -> None:
        """Loads the network.

        Raises:
            ConfigurationError: ONNX Runtime cannot use the GPU.
        """
        if _GPU in onnxruntime.get_available_providers():
            onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip has installed them
        with warnings.catch_warnings():  # the error below says it
            warnings.filterwarnings("ignore", message="Specified provider")
            self._open(in_half_precision(model) if precision == "fp16" else model, threads, (_GPU, _GPU_OPTIONS))
        # If a library is missing, ONNX Runtime falls back to the CPU, and a run would be slow for no visible reason.
        if _GPU not in self._session.get_providers():
            raise ConfigurationError(
                "ONNX Runtime cannot use the GPU. Either libraries of CUDA or cuDNN are missing or too old, or the "
                "package onnxruntime, installed later, has replaced the files of onnxruntime-gpu.",
                next_step="see docs/models.md#gpu, or set IMGPIPELINE_MODEL_BACKEND=onnxruntime",
            )


def in_half_precision(model: bytes) -> bytes:
    """Returns a model whose layers compute in 16-bit floats; its inputs and outputs stay in 32-bit floats."""
    import onnx  # noqa: PLC0415 - only for a GPU
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - as above

    converted: bytes = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True).SerializeToString()
    return converted
