"""Intel's OpenVINO on the CPU (the extra `openvino`). Nothing else imports this module: the package is optional."""

import threading

import numpy as np
import openvino

from imgpipeline.vision.backends.base import failed, unreadable, usable_cores
from imgpipeline.vision.decoders import Floats


class OpenVINOBackend:
    """A network compiled by OpenVINO, in 32-bit floats.

    Guarantees:
        Calls from several threads run at once: each thread has an inference request of its own, and with `threads`
        given, the network is compiled for as many requests at a time as the cores allow (OpenVINO's streams).
    """

    name = "openvino"

    def __init__(self, model: bytes, threads: int | None) -> None:
        core = openvino.Core()
        # Without the hint OpenVINO computes in bfloat16 on processors that can, and boxes differ visibly.
        options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is None:
            options["PERFORMANCE_HINT"] = "LATENCY"
        else:
            streams = max(1, usable_cores() // threads)
            # Pinned threads of two runs would wait for one core while another is idle.
            options |= {
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams * threads,
                "ENABLE_CPU_PINNING": False,
            }
        self._network = core.compile_model(core.read_model(model, None), "CPU", options)
        self.output_names = tuple(output.get_any_name() for output in self._network.outputs)
        self._local = threading.local()

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network; see `InferenceBackend.infer`."""
        request = getattr(self._local, "request", None)
        try:
            if request is None:
                request = self._local.request = self._network.create_infer_request()
            request.infer([blob])
            return [np.array(request.get_output_tensor(i).data, np.float32) for i in range(len(self.output_names))]
        except RuntimeError as error:
            raise failed(self.name, error) from error


def open_model(model: bytes, *, threads: int | None) -> OpenVINOBackend:
    """Loads a network.

    Args:
        model: The bytes of an ONNX file.
        threads: Threads a picture; None: OpenVINO's choice.

    Returns:
        The backend.

    Raises:
        PermanentError: The model cannot be read.
    """
    try:
        return OpenVINOBackend(model, threads)
    except (RuntimeError, TypeError) as error:
        raise unreadable("openvino", error) from error
