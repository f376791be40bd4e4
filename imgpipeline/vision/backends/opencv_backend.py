"""OpenCV's network module (cv2.dnn) on the CPU, with one `cv2.dnn.Net` per concurrent call."""

from collections import deque

import cv2
import numpy as np

from imgpipeline.vision.backends import failed
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import Precision

ERRORS = (cv2.error, ValueError)


class OpenCVBackend:
    """A network in cv2.dnn.

    Guarantees:
        Calls from several threads run at once: a `Net` keeps its input, so each call takes an idle one or loads
        another. In OpenCV, `threads` applies to the whole process (`cv2.setNumThreads`); None leaves it unchanged.
        OpenCV gives its threads to one caller at a time, so use `threads=1` for concurrent calls.
    """

    name = "opencv"

    def __init__(self, model: bytes, threads: int | None, _: Precision) -> None:
        if threads is not None:
            cv2.setNumThreads(threads)
        self._model = np.frombuffer(model, np.uint8)
        net = self._load()
        if net.empty():
            raise ValueError("the network is empty")
        self.output_names = tuple(net.getUnconnectedOutLayersNames())
        self._idle = deque([net])

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network; see `InferenceBackend.infer`."""
        try:
            net = self._take()
            net.setInput(blob)
            outputs = [np.array(output, np.float32) for output in net.forward(self.output_names)]
        except cv2.error as error:
            raise failed(self.name, error) from error  # this Net is not used again
        self._idle.append(net)
        return outputs

    def _take(self) -> cv2.dnn.Net:
        try:
            return self._idle.pop()
        except IndexError:
            return self._load()

    def _load(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromONNX(self._model)
