"""Whether a CPU computes more images a second if it gets several at a time: each number of images in a call, in turns.

Only the network is measured: a batch that does not pay here does not pay in a run, which would also have to wait for
the images of a batch.
"""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, Network, yolox_nano
from benchmarks.place import Place, say
from benchmarks.table import Table

_ARRANGEMENTS = ((1, 1), (1, 2), (2, 1), (4, 1), (8, 1))
"""Images of a call, and calls at once."""
_SIDES = (416, 160)
_IMAGES = 64
"""Images of one turn; every number in a call divides it."""


def measure_image_batches(_place: Place, effort: Effort) -> dict[str, Any]:
    """Measures YOLOX-nano as it is, and as a network that is seven times smaller.

    Returns:
        `networks`: for each arrangement, the images per second of each turn; `missing`, and why.
    """
    try:
        network = yolox_nano()
        rates = {side: _rates(network, side, 2 * effort.rounds + 1) for side in _SIDES}
    except (MissingDataError, ImportError) as error:
        say(f"batching: left out: {error}")
        return {"networks": [], "missing": [str(error)]}
    return {
        "networks": [{"network": f"{network.name}, {side} x {side}", "rates": rates[side]} for side in _SIDES],
        "missing": [],
    }


def _rates(network: Network, side: int, turns: int) -> dict[str, list[float]]:
    import openvino  # noqa: PLC0415 - an extra

    core, queues = openvino.Core(), {}
    for size, calls in _ARRANGEMENTS:
        shape = [size, 3, side, side]
        model = core.read_model(network.path)
        model.reshape(shape)
        # As the backend compiles a network (`vision.backends.openvino_backend`): for one call with all cores, or for
        # calls that run at once.
        options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if calls > 1:
            options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": calls, "ENABLE_CPU_PINNING": False}
        images = np.random.default_rng(7).random(shape, np.float32)
        queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", options), calls)
        queues[f"{size} in a call, {calls} at once" if calls > 1 else f"{size} in a call"] = (queue, size, images)
    rates: dict[str, list[float]] = {name: [] for name in queues}
    for turn in range(turns + 1):
        for name, (queue, size, images) in queues.items():
            began_s = time.perf_counter()
            for _ in range(_IMAGES // size):
                queue.start_async([images])
            queue.wait_all()
            if turn:  # the first one warms up
                rates[name].append(_IMAGES / (time.perf_counter() - began_s))
    say(f"batching: {side} x {side}: " + str({name: round(median(each), 1) for name, each in rates.items()}))
    return rates


def image_batch_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables of `measure_image_batches`. Ratios are those within a turn, in the median."""
    columns = ("model", "images", "images/s", "times one in a call", "least to greatest")
    rows = []
    for network in part["networks"]:
        first = next(iter(network["rates"].values()))
        for name, rates in network["rates"].items():
            ratios = [rate / one for rate, one in zip(rates, first, strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append((network["network"], name, f"{median(rates):.1f}", f"{median(ratios):.2f}", spread))
    missing = [Table(("left out, because",), tuple((text,) for text in part["missing"]))] if part["missing"] else []
    return [Table(columns, tuple(rows)), *missing]
