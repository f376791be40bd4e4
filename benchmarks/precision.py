"""One backlog in each precision, next to the classic consumer in OpenCV 4, all from Kafka and S3.

The contenders take turns, so that whatever else the machine does hits all of them. YOLOv4-tiny has random weights: its
speed does not depend on what it has learned, and boxes are compared with YOLOX-nano, which is trained.
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.children import run_contender
from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, Network, yolov4_tiny, yolox_nano
from benchmarks.pictures import PictureSet, make_pictures, shared_data
from benchmarks.place import Place, announce_backlog, say, store_pictures
from benchmarks.throughput import Contest, frames_for, prepare
from imgpipeline.settings import Settings
from imgpipeline.vision.agreement import measure_agreement
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.quantization import quantize_model
from imgpipeline_tests.servers.programs import cache_folder
from imgpipeline_tests.vision.darknet.conftest import OPENCV4

_QUANTIZED_WITH = 32
_FEWEST = 40
_CLASSIC_SHARE = 0.3

Contender = Callable[[], dict[str, Any]]


def measure_precision(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures both networks.

    Returns:
        `networks`: frames per second of each contender, and F1 against 32-bit floats; `missing`, and why.
    """
    networks, missing = [], []
    pictures = make_pictures(640, 360, effort.pictures)
    for make in (lambda: yolov4_tiny(place.folder), yolox_nano):
        try:
            networks.append(_measure(place, make(), pictures, effort))
        except MissingDataError as error:
            missing.append(str(error))
            say(f"precision: left out: {error}")
    return {"networks": networks, "missing": missing}


def _measure(place: Place, network: Network, pictures: PictureSet, effort: Effort) -> dict[str, Any]:
    contest = prepare(place, network, pictures)
    frames = frames_for(contest.bare((2, 1), _FEWEST), effort.contest_s)
    announce_backlog(contest.settings, store_pictures(contest.settings, pictures), frames)
    images = [decode_image(jpeg, ImageLimits(10**8, 10**8)) for jpeg in pictures.jpegs]
    quantized, kept_float, convolutions = _quantize(place.folder, network, images)
    files = {"fp32": network.path, "bf16": network.path, "int8": quantized}
    contenders: dict[str, Contender] = {name: _pipeline(contest, name, path) for name, path in files.items()}
    weights = place.folder / "yolov4-tiny.weights"
    if network.decoder == "yolov4":
        contenders["classic"] = _classic(contest.settings, weights, max(_FEWEST, round(frames * _CLASSIC_SHARE)))
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(effort.rounds + 1):
        for name, run in contenders.items():
            rates[name].append(float(run()["frames_per_s"]))
        say(f"precision: {network.name}, round {number + 1}: " + str({n: round(r[-1], 1) for n, r in rates.items()}))
    return {
        "network": network.name, "frames": frames, "rates": rates, "int8_convolutions": convolutions - kept_float,
        "convolutions": convolutions,
        "f1": _agreements(network, files, images) if network.decoder == "yolox" else {},
    }  # fmt: skip


def _pipeline(contest: Contest, precision: str, path: str) -> Contender:
    changes = {"model": path, "precision": precision}
    settings = contest.settings.model_copy(update=changes)
    return lambda: run_contender("lane", contest.place.again(settings, precision))


def _classic(settings: Settings, weights: Path, frames: int) -> Contender:
    python = cache_folder() / f"opencv-{OPENCV4}-python{sys.version_info.major}.{sys.version_info.minor}/bin/python"
    if not python.exists():
        raise MissingDataError(
            f"OpenCV {OPENCV4} is not in the cache: run the tests of imgpipeline_tests/vision/darknet"
        )
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        raise ValueError("the classic consumer needs the keys of the store")
    s3 = {
        "endpoint_url": settings.s3_endpoint, "region_name": settings.s3_region,
        "aws_access_key_id": settings.s3_access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.s3_secret_access_key.get_secret_value(),
    }  # fmt: skip
    numbers = iter(range(1000))

    def run() -> dict[str, Any]:
        name = f"{settings.kafka_group}-classic-{next(numbers)}"
        task = {
            "packages": sysconfig.get_path("purelib"), "s3": s3, "store": settings.store_url, "run": name,
            "topic": settings.kafka_topic, "frames": frames, "weights": str(weights),
            "cfg": str(shared_data() / "models" / "yolov4-tiny.cfg"),
            "kafka": {"bootstrap_servers": settings.kafka_bootstrap_servers, "group_id": name},
        }  # fmt: skip
        program = Path(__file__).with_name("classic_darknet.py")
        ended = subprocess.run(  # noqa: S603 - this very package
            [python, program], input=json.dumps(task), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"the classic consumer ended with {ended.returncode}: {ended.stderr[-2000:]}")
        told: dict[str, Any] = json.loads(ended.stdout)
        return told

    return run


def _quantize(folder: Path, network: Network, images: list[DecodedImage]) -> tuple[str, int, int]:
    """Makes the model in int8; returns its file, and how many of how many convolutions stay in 32-bit floats."""
    spec = load_detector(network.path, decoder=network.decoder).spec

    def load(content: bytes) -> Detector:
        return Detector(spec, "", open_backend("auto", content, precision=choose_precision("fp32", content, spec.name)))

    some = images[:: max(1, len(images) // _QUANTIZED_WITH)]
    content = spec.path.read_bytes()
    made = quantize_model(content, some, load, goal_f1=0.98, stage=lambda _title: lambda _done, _all: None)
    target = folder / f"{spec.name}-int8.onnx"
    target.write_bytes(made.content)
    say(f"precision: {network.name}: {made.convolutions - made.kept_float} of {made.convolutions} in int8")
    return str(target), made.kept_float, made.convolutions


def _agreements(network: Network, files: dict[str, str], images: list[DecodedImage]) -> dict[str, float]:
    """Returns F1 of each precision against 32-bit floats, over all pictures."""
    detectors = {
        name: load_detector(path, decoder=network.decoder, precision=name)
        for name, path in files.items()
    }  # fmt: skip
    exact = [detectors["fp32"].detect(image) for image in images]
    return {
        name: measure_agreement(zip(exact, map(detector.detect, images), strict=True)).total.f1
        for name, detector in detectors.items()
    }
