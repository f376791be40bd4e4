"""What a process of Dagster loads before it has anything to do: every run pays for it."""

import json
import subprocess
import sys

from imgpipeline_tests.defs.site import REPOSITORY

HEAVY = ("cv2", "kafka", "onnx", "onnxruntime", "pandas", "jinja2", "confluent_kafka", "openvino")


def test_the_code_location_loads_no_detector_no_kafka_client_and_no_pandas() -> None:
    code = "import json, sys; import imgpipeline.definitions; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in HEAVY if name in loaded] == []
