"""The first inferences of several threads in OpenVINO, each time in a new process."""

import subprocess
import sys

import pytest

from imgpipeline.vision.backends import installed_backends

PROGRAM = """
import sys, threading
import numpy as np
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.registry import find_model

sys.setswitchinterval(1e-6)
backend = open_backend("openvino", find_model("demo").path.read_bytes(), threads=1)
together, blob, done = threading.Barrier(16), np.zeros((1, 3, 416, 416), np.float32), []

def work():
    together.wait()
    done.append(backend.infer(blob))

threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done))
"""


@pytest.mark.slow
@pytest.mark.skipif("openvino" not in installed_backends(), reason="openvino is not installed")
@pytest.mark.parametrize("attempt", range(8))
def test_threads_that_begin_together_do_not_wait_for_each_other_for_ever(attempt: int):
    """They did in about one process of five: inside OpenVINO one held a lock that another, with the GIL, waited for."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.split() == ["16"]
