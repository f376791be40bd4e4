"""Finite sources beside a plain loop: a folder, a sequence, a video, and images that lie in a bucket already."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.effort import Effort
from benchmarks.pictures import make_pictures
from benchmarks.place import Place
from benchmarks.source_plain import plain_publisher
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import FolderSource
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, Source
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.stored_images import OPTIONS, BucketSource
from imgpipeline.sources.video import VideoSource

Contender = Callable[[Settings], float]
"""Publishes everything to the store and the topic of the settings, and returns frames per second."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A source, and the plain loop that does the same."""

    ours: Contender
    """By the publisher."""
    plain: Contender
    """By the plain loop."""


def compare_in_turns(place: Place, contest: Contest, rounds: int, *, is_local: bool) -> dict[str, Any]:
    """Measures both in turns, each time on a new topic and an empty store.

    Args:
        place: The servers.
        contest: What is measured.
        rounds: How often.
        is_local: Whether the images go to a local folder; otherwise to the S3 server.
    """
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for rates, contender in ((theirs, contest.plain), (ours, contest.ours)):
            settings = place.settings("source")
            if is_local:
                settings = settings.model_copy(update={"store_url": f"file://{place.folder}/{settings.kafka_topic}"})
            rates.append(contender(settings))
    ratio = statistics.median(ours) / statistics.median(theirs)
    figures = {"our_frames_per_s": statistics.median(ours), "their_frames_per_s": statistics.median(theirs)}
    return {"kind": "ratio", **figures, "ratio": ratio, "ours": ours, "theirs": theirs}


class _Timed:
    """A source that notes when its first frame is asked for, so that connecting is not measured."""

    def __init__(self, source: Source) -> None:
        self.name, self.kind, self._source = source.name, source.kind, source
        self.began_s = 0.0

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        self.began_s = time.monotonic()
        yield from self._source.capture(stop)


def contest_of(open_source: Callable[[Settings], Source], options: PublishOptions | None = None) -> Contest:
    """Returns the contest of a finite source.

    Args:
        open_source: Makes the source; both contenders read through it.
        options: How it is published; None: the defaults.
    """

    def ours(settings: Settings) -> float:
        source = _Timed(open_source(settings))
        totals = ingest_source(settings, source, options=options)
        return totals.announced / (time.monotonic() - source.began_s)

    def plain(settings: Settings) -> float:
        source = _Timed(open_source(settings))
        with plain_publisher(settings) as publisher:
            announced = publisher.publish_all(source.name, source.capture(threading.Event()))
            return announced / (time.monotonic() - source.began_s)

    return Contest(ours, plain)


def write_pictures(folder: Path, count: int) -> Path:
    """Writes numbered JPEG files, no two with the same bytes, unless they are there already."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        jpegs = make_pictures(640, 360, min(count, 100)).jpegs
        for number in range(count):
            (folder / f"{number:07d}.jpg").write_bytes(jpegs[number % len(jpegs)] + number.to_bytes(4, "big"))
    return folder


def measure_file_sources(name: str, is_local: bool, place: Place, effort: Effort) -> dict[str, Any]:
    """Compares one kind of source with the plain loop.

    Args:
        name: `folder`, `sequence` or `video`.
        is_local: Whether the images go to a local folder.
        place: The servers.
        effort: How many frames, and how often.
    """
    folder = write_pictures(place.folder / "pictures", effort.source_frames)
    openers: Mapping[str, Callable[[Settings], Source]] = {
        "folder": lambda settings: FolderSource(settings, folder, "folder"),
        "sequence": lambda settings: SequenceSource(settings, folder, "sequence"),
        "video": lambda _: VideoSource(_video(place.folder, effort.source_frames // 4), "video"),
    }
    return compare_in_turns(place, contest_of(openers[name]), effort.source_rounds, is_local=is_local)


def _video(folder: Path, frames: int) -> Path:
    file = folder / "video.mp4"
    if not file.is_file():
        jpegs = make_pictures(640, 360, frames).jpegs
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for number in range(frames):
                pixels = cv2.imdecode(np.frombuffer(jpegs[number % len(jpegs)], np.uint8), cv2.IMREAD_COLOR)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(pixels, np.uint8), format="bgr24")))
            container.mux(stream.encode())
    return file


def measure_bucket(place: Place, effort: Effort) -> dict[str, Any]:
    """Compares announcing the images below a prefix of a bucket with a loop that lists and sends."""
    stored = place.settings("archive")
    store, jpeg = open_store(stored), make_pictures(640, 360, 1).jpegs[0]
    for number in range(10 * effort.source_frames):
        store.create(f"images/archive/{number:07d}.jpg", jpeg[:1000])
    there = {"store_url": stored.store_url}

    def on_archive(contender: Contender, settings: Settings) -> float:
        return contender(settings.model_copy(update=there))

    contest = contest_of(lambda settings: BucketSource(settings, f"{stored.store_url}/images/archive"), OPTIONS)
    both = Contest(partial(on_archive, contest.ours), partial(on_archive, contest.plain))
    return compare_in_turns(place, both, effort.source_rounds, is_local=False)
