"""Hostile records and images through the code that a detection run uses, one at a time.

The store is a real folder, the contract and the decoders are the real ones; only the network is replaced by one that
finds nothing, since a hundred thousand pictures would take it an hour.
"""

import json
import resource
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from imgpipeline.contracts.outcomes import DeadLetter, Frame, outcome_from_json, outcome_to_json
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore import ImageReader, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model import NetworkInput
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.fuzz.cases import FRAME, HostileImage, HostileRecord, Tally
from imgpipeline_tests.fuzz.images import MOST_PIXELS
from imgpipeline_tests.fuzz.messages import MOST_OBJECT_BYTES, MOST_RECORD_BYTES, stored_objects

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RECORD_TIME_MS = 1_772_366_400_000
"""2026-03-01T12:00:00Z."""
MOST_SECONDS = 10.0
"""A single record or image that takes longer is a violation (seconds are for busy machines; it takes milliseconds)."""
MOST_GROWTH_BYTES = 256 * 2**20
"""How much the peak of the process's memory may grow. One picture of 20 million pixels takes 60 MB of it, 120 MB with
16 bits, and its copy in another format as much again."""
_LOOK_S = 0.002
_LIMITS = ImageLimits(MOST_PIXELS, 20_000_000)
_WANTED = (None, NetworkInput(416, 416, "letterbox"), NetworkInput(96, 64, "stretch"))


class BlindNetwork:
    """A network that finds nothing, at once."""

    name, output_names = "blind", ("output",)

    def infer(self, _: np.ndarray) -> list[np.ndarray]:
        return [np.zeros((1, 3549, 9), np.float32)]


def hostile_settings(store_url: str, **more: object) -> Settings:
    """Returns settings with limits that hostile input reaches cheaply."""
    return load_settings(
        store_url=store_url,
        max_message_bytes=MOST_RECORD_BYTES,
        max_image_bytes=MOST_OBJECT_BYTES,
        max_image_pixels=MOST_PIXELS,
        **more,
    )


def store_objects(settings: Settings) -> None:
    """Puts what the records announce."""
    store = open_store(settings)
    for key, data in stored_objects().items():
        store.put(key, data)


def work_on_records(records: Iterable[HostileRecord], settings: Settings, tell: Callable[[int], None]) -> Tally:
    """Works on records as a detection run does, and compares what becomes of each with what has to."""
    tally = Tally()
    store_objects(settings)
    detector = Detector(registered_model("demo"), "0" * 64, BlindNetwork())
    work = FrameWork(settings, ImageReader(open_store(settings), settings), detector, lambda: NOW)
    for offset, hostile in enumerate(records):
        began_s = time.perf_counter()
        time_ms = RECORD_TIME_MS if hostile.has_time else -1
        record = KafkaRecord("fuzz", 0, offset, time_ms, hostile.key, hostile.value, hostile.headers)
        try:
            outcome = work.work(record)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            tally.add(hostile.kind, type(error).__name__, hostile.expected, (error, hostile.value))
        else:
            tally.add(hostile.kind, name_of(outcome), hostile.expected, (outcome, hostile.value))
            check_storable(tally, outcome)
        check_time(tally, hostile.kind, began_s)
        tell(offset + 1)
    return tally


def decode_images(images: Iterable[HostileImage], tell: Callable[[int], None]) -> Tally:
    """Decodes images at full and at reduced scale, and compares what becomes of each with what has to."""
    tally = Tally()
    for number, hostile in enumerate(images):
        began_s = time.perf_counter()
        try:
            image = decode_image(hostile.data, _LIMITS, reduced_for=_WANTED[number % len(_WANTED)])
            rows, columns = -(-image.height // image.reduction), -(-image.width // image.reduction)
            outcome = FRAME if image.pixels.shape == (rows, columns, 3) else f"shape {image.pixels.shape}"
        except BadInputError as error:
            outcome = error.code.value
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        tally.add(hostile.kind, outcome, hostile.expected, f"image {number}, {len(hostile.data)} bytes")
        check_time(tally, hostile.kind, began_s)
        tell(number + 1)
    return tally


def name_of(outcome: Frame | DeadLetter) -> str:
    """Returns the code of a dead letter, or `FRAME`."""
    return outcome.code.value if isinstance(outcome, DeadLetter) else FRAME


def check_storable(tally: Tally, outcome: Frame | DeadLetter) -> None:
    """Notes a violation where an outcome does not come back from the line that a segment holds of it."""
    try:
        line = json.dumps(outcome_to_json(outcome), ensure_ascii=False, allow_nan=False).encode()
        same = outcome_to_json(outcome_from_json(json.loads(line))) == outcome_to_json(outcome)
    except (ValueError, TypeError, RecursionError) as error:
        tally.violations.append(f"an outcome cannot be stored: {error!r}: {str(outcome)[:300]}")
        return
    if not same:
        tally.violations.append(f"an outcome changes when it is stored: {str(outcome)[:300]}")


def check_time(tally: Tally, kind: str, began_s: float) -> None:
    """Notes a violation where one case took too long."""
    if (took_s := time.perf_counter() - began_s) > MOST_SECONDS:
        tally.violations.append(f"{kind}: took {took_s:.1f} s, at most {MOST_SECONDS:.0f} s are expected")


class MemoryPeak:
    """Watches the memory of this process from a thread, for as long as the context lasts.

    The operating system's own mark (`ru_maxrss`) is of no use here: it knows only the peak since the process began.
    """

    def __init__(self) -> None:
        """Notes what the process has now."""
        self.before_bytes = self.most_bytes = resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def grown_bytes(self) -> int:
        """How much more the process had at its peak than at the beginning."""
        return self.most_bytes - self.before_bytes

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.most_bytes = max(self.most_bytes, resident_bytes())


def resident_bytes() -> int:
    """Returns how much memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
