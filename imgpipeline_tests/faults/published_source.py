"""A process that publishes thirty frames, for tests that kill it: `python -m … KIND`, settings by the environment."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event, Semaphore

import numpy as np

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.settings import load_settings
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, SourceKind

FRAMES = 30


class Shades:
    """Frames in thirty shades of grey, five at a time, so that a slow machine announces them in several batches too."""

    name = "camera"

    def __init__(self, kind: SourceKind) -> None:
        self.kind = kind

    def capture(self, stop: Event) -> Iterator[Captured]:
        start, in_flight = datetime(2026, 1, 9, 12, tzinfo=UTC), Semaphore(5)
        for number in range(FRAMES):
            if not stop.is_set():
                in_flight.acquire(timeout=30)
                yield CapturedFrame(
                    start + timedelta(seconds=number),
                    ClockSource.PRODUCER,
                    pixels=np.full((8, 12, 3), 8 * number, np.uint8),
                    number=number,
                    settle=lambda _: in_flight.release(),
                )


if __name__ == "__main__":
    ingest_source(
        load_settings(), Shades(SourceKind(sys.argv[1])), options=PublishOptions(account_s=0.1, commit_s=0.01)
    )
