"""A client that asks for the frames again and again, each time in a new session: `python -P watch_frames.py`.

A program of its own, so that an older checkout can be asked through its own code: `benchmarks.latency` of the checkout
that PYTHONPATH names. Reads its task from stdin and writes JSON lines to stdout, as `benchmarks.contender` does.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.latency import frame_numbers
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings

_PAUSE_S = 0.1


def watch(task: dict[str, Any]) -> None:
    """Asks until all frames were seen.

    Raises:
        TimeoutError: They did not come.
    """
    store, cache_dir = open_store(load_settings()), Path(task["cache_dir"])
    deadline_s, seen = time.monotonic() + task["limit_s"], 0
    while seen < task["frames"]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{seen} of {task['frames']} frames could be queried after {task['limit_s']} s")
        began_s = time.monotonic()
        numbers = frame_numbers(store, cache_dir)
        now_s, seen = time.monotonic(), len(set(numbers))
        _say({"numbers": numbers, "at_s": now_s, "asked_s": now_s - began_s})
        time.sleep(_PAUSE_S)
    _say({"result": {"frames": seen}})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    watch(json.load(sys.stdin))
