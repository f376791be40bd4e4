"""What publishing costs at the sources: each source compared with a plain loop, in turns.

The plain loop reads through the same source, puts and announces the same, in one thread, and accounts for nothing.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.material import make_pictures
from benchmarks.place import Effort, Place, say
from benchmarks.report import Table, at_least
from benchmarks.rounds import Figures, take_turns
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import day_of
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, Source
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera, write_clip
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.stored_images import OPTIONS, BucketSource
from imgpipeline.sources.storing import size_of
from imgpipeline.sources.video import VideoSource
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.send import BatchSender, Record
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline_tests.servers.rtsp_server import RtspServer

_ANSWER_S = 60.0
_FAST_FPS = 400.0
_BATCH_S = 0.2
_GOAL = 0.8
_OURS, _PLAIN = "published", "plain loop"

Contender = Callable[[Settings], float]
"""Publishes everything to the store and the topic of the settings, and returns frames per second."""


def measure_sources(place: Place, effort: Effort) -> list[Table]:
    """Measures the chosen sources, or all of them, each with images in S3 and where it matters in a local folder."""
    columns = ("source", "published, frames/s", "plain loop, frames/s", "ratio", "goal")
    with contextlib.ExitStack() as stack:
        contests = _contests(place, effort, stack)
        rows = []
        for name, (ours, plain) in contests.items():
            for is_local in (False,) if name in ("s3 prefix", "rtsp") else (False, True):
                title = name if name in ("s3 prefix", "rtsp") else f"{name} to {'a local folder' if is_local else 'S3'}"
                if not effort.sources or title.startswith(effort.sources):
                    say(f"sources: {title}")
                    rows.append((title, *_compare(place, effort, ours, plain, is_local)))
    return [Table(columns, rows)]


def _compare(place: Place, effort: Effort, ours: Contender, plain: Contender, is_local: bool) -> tuple[str, ...]:
    """Measures both, each time with a new topic and an empty store."""

    def run(contender: Contender) -> Figures:
        settings = place.settings("source")
        if is_local:
            settings = settings.model_copy(update={"store_url": f"file://{place.folder}/{settings.kafka_topic}"})
        return {"frames_per_s": contender(settings)}

    found = take_turns({_OURS: partial(run, ours), _PLAIN: partial(run, plain)}, effort.of(5, 1), shown="frames_per_s")
    ratio = found.median(_OURS, "frames_per_s") / found.median(_PLAIN, "frames_per_s")
    rates = (f"{found.median(who, 'frames_per_s'):.0f}" for who in (_OURS, _PLAIN))
    return *rates, f"{ratio:.2f}", at_least(ratio, _GOAL)


def _contests(place: Place, effort: Effort, stack: contextlib.ExitStack) -> dict[str, tuple[Contender, Contender]]:
    count, clip = effort.of(1_000, 300), place.folder / "fast.clip"
    folder = write_pictures(place.folder / "pictures", count)
    write_clip([Scene(1, frames=20, hour=12.0).frame(n)[0] for n in range(20)], clip, codec="mjpeg", fps=_FAST_FPS)
    cameras = stack.enter_context(RtspServer([SimulatedCamera("fast", str(clip), "mjpeg", _FAST_FPS)]))
    camera = cameras.url("fast"), effort.of(10.0, 2.0)
    return {
        "folder": _finite(lambda settings: open_folder(settings, folder, "folder")),
        "video": _finite(lambda _: VideoSource(_video(place.folder, count // 4), "video")),
        "s3 prefix": _archive(place, 10 * count),
        "rtsp": (partial(_ours_rtsp, *camera), partial(_plain_rtsp, *camera)),
    }


def _plain_record(settings: Settings, store: ObjectStore, source: str, frame: CapturedFrame) -> Record:
    """Stores a frame and returns the record that announces it, with the fields that the publisher announces."""
    if frame.stored:
        key, size_bytes, digest, width, height = frame.stored.path, frame.stored.size_bytes, None, None, None
    else:
        data = frame.data if frame.pixels is None or frame.data is not None else encode_jpeg(frame.pixels)
        digest, size_bytes = sha256(data or b"").hexdigest(), len(data or b"")
        width, height = size_of(data or b"")
        name = frame.name or f"{frame.timestamp:%H%M%S%f}-{digest[:16]}.jpg"
        key = f"images/{source}/{day_of(frame.timestamp)}/{name}"
        store.create(key, data or b"")
    message = FrameMessage(
        source, key, frame.timestamp, frame_number=frame.number, width=width, height=height, size_bytes=size_bytes,
        sha256=digest, attributes=frame.attributes, clock_source=frame.clock,
    )  # fmt: skip
    return Record(settings.kafka_topic, source.encode(), message.to_value(with_time=frame.has_own_timestamp))


def publish_plainly(settings: Settings, source: str, captured: Iterable[Captured]) -> int:
    """Stores each frame, and hands its announcement to a producer that batches and sends in its own thread.

    Returns:
        How many were acknowledged (`acks=all`, idempotent).
    """
    store = open_store(settings)
    with open_producer(settings) as producer:
        sent = []
        for frame in captured:
            if isinstance(frame, CapturedFrame):
                record = _plain_record(settings, store, source, frame)
                sent.append(producer.send(record.topic, record.value, key=record.key))
        for one in sent:
            one.get(_ANSWER_S)
        return len(sent)


class _Timed:
    """A source that notes when its first frame is asked for, so that connecting is not measured."""

    def __init__(self, source: Source) -> None:
        self.name, self.kind, self._source = source.name, source.kind, source
        self.began_s = 0.0

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        self.began_s = time.monotonic()
        yield from self._source.capture(stop)


def _finite(
    open_source: Callable[[Settings], Source], options: PublishOptions | None = None
) -> tuple[Contender, Contender]:
    """Returns the contest of a finite source, which both contenders read."""

    def ours(settings: Settings) -> float:
        source = _Timed(open_source(settings))
        totals = ingest_source(settings, source, options=options)
        return totals.announced / (time.monotonic() - source.began_s)

    def plain(settings: Settings) -> float:
        source = _Timed(open_source(settings))
        announced = publish_plainly(settings, source.name, source.capture(threading.Event()))
        return announced / (time.monotonic() - source.began_s)

    return ours, plain


def write_pictures(folder: Path, count: int) -> Path:
    """Writes numbered JPEG files, no two with the same bytes."""
    folder.mkdir(parents=True)
    jpegs = make_pictures(640, 360, min(count, 100))
    for number in range(count):
        (folder / f"{number:07d}.jpg").write_bytes(jpegs[number % len(jpegs)] + number.to_bytes(4, "big"))
    return folder


def _video(folder: Path, frames: int) -> Path:
    file = folder / "video.mp4"
    if not file.is_file():
        jpegs = make_pictures(640, 360, frames)
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for number in range(frames):
                pixels = cv2.imdecode(np.frombuffer(jpegs[number % len(jpegs)], np.uint8), cv2.IMREAD_COLOR)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(pixels, np.uint8), format="bgr24")))
            container.mux(stream.encode())
    return file


def _archive(place: Place, images: int) -> tuple[Contender, Contender]:
    """Compares announcing the images below a prefix of a bucket with a loop that lists and sends."""
    stored = place.settings("archive")
    store, [jpeg] = open_store(stored), make_pictures(640, 360, 1)
    for number in range(images):
        store.create(f"images/archive/{number:07d}.jpg", jpeg[:1000])

    def on_archive(contender: Contender, settings: Settings) -> float:
        return contender(settings.model_copy(update={"store_url": stored.store_url}))

    ours, plain = _finite(lambda settings: BucketSource(settings, f"{stored.store_url}/images/archive"), OPTIONS)
    return partial(on_archive, ours), partial(on_archive, plain)


def _ours_rtsp(url: str, seconds: float, settings: Settings) -> float:
    stop, began = threading.Event(), [0.0]

    def start_clock(totals: Totals) -> None:
        if totals.received and not began[0]:
            began[0] = time.monotonic()
            threading.Timer(seconds, stop.set).start()

    totals = ingest_source(settings, RtspSource("fast", url), stop=stop, progress=start_clock)
    return totals.announced / (time.monotonic() - began[0])


def _plain_rtsp(url: str, seconds: float, settings: Settings) -> float:
    """Reads, puts and announces in one thread; a transaction every 0.2 s, as the publisher has it."""
    store, stop = open_store(settings), threading.Event()
    sender = BatchSender(settings, fence="plain")
    sender.open()
    records: list[Record] = []
    began = sent_at = announced = 0.0
    for item in RtspSource("fast", url).capture(stop):
        if not isinstance(item, CapturedFrame):
            continue
        now = time.monotonic()
        began = began or now
        records.append(_plain_record(settings, store, "fast", item))
        if now - sent_at > _BATCH_S:
            sender.send(records)
            announced, sent_at, records = announced + len(records), now, []
        if now - began > seconds:
            stop.set()
    sender.close()
    return announced / (time.monotonic() - began)
