"""The pipeline against the classic consumer (`classic_consumer`): the same messages, images and model file.

Once over the store as it is, and once with 20 ms added to each of its answers, for both. The classic consumer runs the
network in OpenCV's DNN module, as such loops do; the pipeline takes the fastest backend, as it does by itself.
"""

import contextlib
import os
from typing import Any

from benchmarks.children import run_contender
from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, yolox_nano
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, announce_backlog, say, store_pictures
from benchmarks.throughput import compare, frames_for, prepare, take_turns
from imgpipeline.settings import Settings

_DELAY_MS = 20
_TRIAL_FRAMES = 60
_CLASSIC_SHARE = 0.3
"""The classic consumer gets this part of the backlog: a rate needs no more, and the time is limited."""


def measure_classic(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures both over both stores.

    Returns:
        `contests`, one entry a store; `missing`, what could not be measured and why.
    """
    try:
        network = yolox_nano()
    except MissingDataError as error:
        say(f"classic: left out: {error}")
        return {"contests": [], "missing": [str(error)]}
    contest = prepare(place, network, make_pictures(640, 360, effort.pictures))
    frames = frames_for(contest.bare((os.cpu_count() or 1, 1), _TRIAL_FRAMES), effort.contest_s)
    announce_backlog(contest.settings, store_pictures(contest.settings, contest.pictures), frames)
    proxy = place.toxiproxy.create_proxy(place.s3.port)
    delayed = contest.settings.model_copy(update={"s3_endpoint": f"http://{proxy.address}"})
    contests = []
    for delay_ms, settings in ((0, contest.settings), (_DELAY_MS, delayed)):
        with proxy.fault("latency", latency=delay_ms) if delay_ms else contextlib.nullcontext():
            contests.append({"delay_ms": delay_ms, **_measure(place, settings, frames, effort)})
    proxy.delete()
    return {"contests": contests, "missing": []}


def _measure(place: Place, settings: Settings, frames: int, effort: Effort) -> dict[str, Any]:
    servers = place.server_pids()
    few = max(40, round(frames * _CLASSIC_SHARE))

    def pipeline() -> dict[str, Any]:
        return run_contender("lane", place.again(settings, "run"), {"servers": servers})

    def classic() -> dict[str, Any]:
        return run_contender("classic", place.again(settings, "classic"), {"servers": servers, "frames": few})

    ours, theirs = take_turns(pipeline, classic, effort.rounds)
    compared = compare(ours, theirs)
    rates = f"{compared['our_frames_per_s']:.1f} / {compared['their_frames_per_s']:.1f}"
    say(f"classic: {rates} = {compared['ratio']:.2f}")
    return {"pipeline": ours, "classic": theirs, **compared}
