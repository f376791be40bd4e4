"""OpenCV's own network module (cv2.dnn) on the CPU.

Owns one `cv2.dnn.Net`.
"""

import threading

import cv2
import numpy as np

from imgpipeline.vision.backends.base import failed, unreadable
from imgpipeline.vision.decoders import Floats


class OpenCVBackend:
    """A network in cv2.dnn.

    Guarantees:
        Calls from several threads are served one after the other (a `Net` holds its input). `threads` is a
        setting of the whole process in OpenCV (`cv2.setNumThreads`); None leaves it alone.
    """

    name = "opencv"

    def __init__(self, model: bytes, threads: int | None) -> None:
        if threads is not None:
            cv2.setNumThreads(threads)
        self._net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
        if self._net.empty():
            raise ValueError("the network is empty")
        self.output_names = tuple(self._net.getUnconnectedOutLayersNames())
        self._lock = threading.Lock()

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network; see `InferenceBackend.infer`."""
        try:
            with self._lock:
                self._net.setInput(blob)
                outputs = self._net.forward(self.output_names)
                return [np.array(output, np.float32) for output in outputs]
        except cv2.error as error:
            raise failed(self.name, error) from error


def open_model(model: bytes, *, threads: int | None) -> OpenCVBackend:
    """Loads a network.

    Args:
        model: The bytes of an ONNX file.
        threads: Threads of OpenCV in this process; None: unchanged.

    Returns:
        The backend.

    Raises:
        PermanentError: The model cannot be read.
    """
    try:
        return OpenCVBackend(model, threads)
    except (cv2.error, ValueError) as error:
        raise unreadable("opencv", error) from error
