"""Intel's OpenVINO on the CPU (the extra `openvino`). Nothing else imports this module: the package is optional."""

import threading

import numpy as np
import openvino

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.backends import failed, usable_cores
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import Precision, bf16_problem, cpu_flags

ERRORS = (RuntimeError, TypeError)


class OpenVINOBackend:
    """A network compiled by OpenVINO, in 32-bit floats or in bf16.

    Guarantees:
        Calls from several threads run at once. Each thread has its own inference request, and if `threads` is given,
        the network is compiled for as many concurrent requests as the cores allow (OpenVINO's streams).
    """

    name = "openvino"

    def __init__(self, model: bytes, threads: int | None, precision: Precision) -> None:
        """Loads the network.

        Raises:
            ConfigurationError: This processor does not compute in bf16.
        """
        bf16 = precision == "bf16"
        if bf16 and (problem := missing_bf16()):
            raise ConfigurationError(
                f"IMGPIPELINE_PRECISION is bf16, but {problem}.", next_step="set IMGPIPELINE_PRECISION to fp32"
            )
        core = openvino.Core()
        # Without the hint OpenVINO computes in bfloat16 on processors that can, and boxes differ visibly.
        options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
        if threads is None:
            options["PERFORMANCE_HINT"] = "LATENCY"
        else:
            streams = max(1, usable_cores() // threads)
            # With pinning, threads of two runs could wait for the same core while another one is idle.
            options |= {
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams * threads,
                "ENABLE_CPU_PINNING": False,
            }
        self._network = core.compile_model(core.read_model(model, None), "CPU", options)
        self.output_names = tuple(output.get_any_name() for output in self._network.outputs)
        # If several threads read a tensor's data for the first time at once, they can deadlock with the GIL.
        self._network.create_infer_request().get_input_tensor().data.fill(0)
        self._local = threading.local()

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network; see `InferenceBackend.infer`."""
        request = getattr(self._local, "request", None)
        try:
            if request is None:
                request = self._local.request = self._network.create_infer_request()
            request.infer([blob], share_inputs=True)  # copying the blob would take 2 % of a small network's time
            return [np.array(request.get_output_tensor(i).data, np.float32) for i in range(len(self.output_names))]
        except RuntimeError as error:
            raise failed(self.name, error) from error


def missing_bf16() -> str | None:
    """Returns why this machine does not compute in bf16; None if it does."""
    return bf16_problem(cpu_flags(), openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
