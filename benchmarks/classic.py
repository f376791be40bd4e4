"""The pipeline compared with the classic consumer (`classic_consumer`): the same messages, images and model.

YOLOX-nano over the store as it is, and with 20 ms added to each of its answers, for both. YOLOv4-tiny in each
precision. The classic consumer runs the network in OpenCV's DNN module, as such loops do; the pipeline takes the
fastest backend, as it does by itself.
"""

import contextlib
import sys
import sysconfig
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import run_command
from benchmarks.material import MissingDataError, yolov4_tiny, yolov4_tiny_cfg, yolox_nano
from benchmarks.place import Effort, Place, announce_backlog, say
from benchmarks.report import Table, at_least, left_out
from benchmarks.rounds import Figures, Rounds, take_turns
from benchmarks.throughput import Contest, frames_for, prepare
from imgpipeline.settings import Settings
from imgpipeline_tests.servers.programs import cache_folder
from imgpipeline_tests.vision.darknet.conftest import OPENCV4

_DELAY_MS = 20
_FEWEST = 40
_CLASSIC_SHARE = 0.3
"""The classic consumer gets this part of the backlog: a rate needs no more, and the time is limited."""
_PRECISIONS = {"fp32": 2.5, "bf16": 3.5}
"""Goal of each: times as fast as the classic consumer."""
_CLASSIC = "classic"
_PROGRAM = Path(__file__).with_name("classic_consumer.py")


def measure_classic(place: Place, effort: Effort) -> list[Table]:
    """Measures YOLOX-nano over both stores, and YOLOv4-tiny in each precision."""
    rows: list[tuple[str, ...]] = []
    missing = []
    for measure in (_measure_yolox, _measure_yolov4):
        try:
            rows += measure(place, effort)
        except MissingDataError as error:
            missing.append(str(error))
    columns = ("model", "run", "run, frames/s", "classic, frames/s", "ratio", "least to greatest", "goal", "CPU ratio")
    return [Table(columns, rows), *left_out(missing)]


def _measure_yolox(place: Place, effort: Effort) -> list[tuple[str, ...]]:
    network = yolox_nano()
    contest = prepare(place, network, (640, 360), effort.of(265, 60))
    frames = _announce(contest, effort)
    proxy = place.toxiproxy.create_proxy(place.s3.port)
    found = []
    for name, delay_ms, goal in (("store as it is", 0, 2.5), (f"{_DELAY_MS} ms added", _DELAY_MS, 4.0)):
        endpoint = f"http://{proxy.address}" if delay_ms else contest.settings.s3_endpoint
        with proxy.fault("latency", latency=delay_ms) if delay_ms else contextlib.nullcontext():
            classic = _consumer(contest, Path(sys.executable), frames, {"model": network.path, "s3_endpoint": endpoint})
            turns = {name: lambda endpoint=endpoint: contest.run(s3_endpoint=endpoint), _CLASSIC: classic}
            rounds = take_turns(turns, effort.of(3, 1), shown="frames_per_s")
        found.append(_row(network.name, name, rounds, goal))
    proxy.delete()
    return found


def _measure_yolov4(place: Place, effort: Effort) -> list[tuple[str, ...]]:
    network = yolov4_tiny(place.folder)
    python = cache_folder() / f"opencv-{OPENCV4}-python{sys.version_info.major}.{sys.version_info.minor}/bin/python"
    if not python.exists():
        raise MissingDataError(
            f"OpenCV {OPENCV4} is not in the cache: run the tests of imgpipeline_tests/vision/darknet"
        )
    contest = prepare(place, network, (640, 360), effort.of(265, 60))
    frames = _announce(contest, effort)
    turns: dict[str, Callable[[], Figures]] = {name: partial(contest.run, precision=name) for name in _PRECISIONS}
    files = {"cfg": str(yolov4_tiny_cfg()), "weights": str(place.folder / "yolov4-tiny.weights")}
    turns[_CLASSIC] = _consumer(contest, python, frames, files)
    rounds = take_turns(turns, effort.of(3, 1), shown="frames_per_s")
    return [_row(network.name, name, rounds, goal) for name, goal in _PRECISIONS.items()]


def _row(model: str, name: str, rounds: Rounds, goal: float) -> tuple[str, ...]:
    ratio = rounds.ratio(name, _CLASSIC, "frames_per_s")
    rates = (f"{rounds.median(who, 'frames_per_s'):.1f}" for who in (name, _CLASSIC))
    cpu_ratio = rounds.ratio(_CLASSIC, name, "cpu_ms_a_frame").median
    return model, name, *rates, f"{ratio.median:.2f}", ratio.spread, at_least(ratio.median, goal), f"{cpu_ratio:.2f}"


def _announce(contest: Contest, effort: Effort) -> int:
    frames = frames_for(contest.bare((2, 1), _FEWEST)["frames_per_s"], effort.of(10.0, 2.0))
    say(f"classic: {contest.name}: {frames} frames")
    announce_backlog(contest.settings, contest.urls, frames)
    return frames


def _consumer(contest: Contest, python: Path, frames: int, files: dict[str, Any]) -> Callable[[], Figures]:
    settings = contest.settings
    task = {
        "packages": sysconfig.get_path("purelib"),
        "s3": _s3(settings) | {"endpoint_url": files.get("s3_endpoint") or settings.s3_endpoint},
        "store": settings.store_url,
        "topic": settings.kafka_topic,
        "frames": max(_FEWEST, round(frames * _CLASSIC_SHARE)),
        **files,
    }

    def run() -> Figures:
        name = f"classic-{uuid.uuid4().hex}"
        kafka = {"bootstrap_servers": settings.kafka_bootstrap_servers, "group_id": name}
        return run_command([python, _PROGRAM], settings, task={**task, "run": name, "kafka": kafka}).result

    return run


def _s3(settings: Settings) -> dict[str, str | None]:
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        raise ValueError("the classic consumer needs the keys of the store")
    return {
        "region_name": settings.s3_region,
        "aws_access_key_id": settings.s3_access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.s3_secret_access_key.get_secret_value(),
    }
