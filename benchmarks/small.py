"""Small costs as ratios, which a test could only assert as seconds: help texts, quality, refusals, quiet decoders."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.effort import Effort
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, say
from imgpipeline.errors import BadInputError
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.decoder_messages import decoder_messages_caught
from imgpipeline.vision.gate import measure_quality
from imgpipeline_tests.vision.pictures import hollow_png

_LIMITS = ImageLimits(100_000_000, 64 * 2**20)
_ROUNDS = 5
_PICTURES = 20
_COMMENTS = 4_000_000


def measure_small(place: Place, effort: Effort) -> dict[str, float]:  # noqa: ARG001 - every benchmark gets the servers
    """Measures small costs, each beside what it is compared with.

    Returns:
        Ratios by what they are of.
    """
    [jpeg] = make_pictures(1280, 720, 1).jpegs
    decode_s = _fastest(lambda: decode_image(jpeg, _LIMITS))
    pixels = decode_image(jpeg, _LIMITS)
    hostile = {
        "a PNG that claims 30000x30000 pixels": hollow_png(30_000, 30_000),
        "a JPEG of four million comments": jpeg[:2] + b"\xff\xfe\0\x02" * _COMMENTS + jpeg[2:],
    }
    ratios = {
        "CPU of `imgpipeline --help` / of importing typer and rich": _help_ratio(),
        "measuring quality / decoding, 1280x720": _fastest(lambda: measure_quality(pixels)) / decode_s,
        "keeping decoders quiet / decoding, 1280x720": _fastest(_hold) / decode_s,
    }
    for name, data in hostile.items():
        ratios[f"refusing {name} / decoding 1280x720"] = _fastest(partial(_refuse, data)) / decode_s
    say("small: done")
    return ratios


def _fastest(work: Callable[[], object]) -> float:
    times_s = []
    for _ in range(_PICTURES):
        began_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)


def _hold() -> None:
    with decoder_messages_caught():
        pass


def _refuse(data: bytes) -> None:
    try:
        decode_image(data, _LIMITS)
    except BadInputError:
        return
    raise AssertionError("it was not refused")


def _help_ratio() -> float:
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(_cpu_s("-m", "imgpipeline.cli", "--help"))
        theirs.append(_cpu_s("-c", "import typer, rich.console, rich.table"))
    return statistics.median(ours) / statistics.median(theirs)


def _cpu_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)  # noqa: S603 - our own interpreter
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
