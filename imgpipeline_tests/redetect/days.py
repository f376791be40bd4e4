"""Days with results of live detection: drawn streets in a store, detected by the code of a detection run."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import cv2

from imgpipeline.contracts.keys import ChainId, day_table_key, redetection_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.detect.work import FrameWork
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.redetect.choice import load_chosen, parse_choice
from imgpipeline.redetect.run import Redetector
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.detector import Detector
from imgpipeline_tests.ledger.samples import append, writer

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOW = "demo@0.05"
"""The demo model with a lower threshold, so it finds more than live detection."""


@cache
def picture(number: int) -> bytes:
    """Return a frame of a drawn street as JPEG."""
    image, _ = Scene(3, frames=60).frame(number % 60)
    done, data = cv2.imencode(".jpg", image)
    assert done
    return bytes(data.tobytes())


@cache
def detector(choice: str) -> Detector:
    """Return a model of the registry, loaded once."""
    settings = load_settings()
    return load_chosen(parse_choice(choice, settings), settings)


def add_frames(
    settings: Settings, store: ObjectStore, numbers: Iterable[int], *, day: date = DAY, partition: int = 0
) -> list[Frame]:
    """Store pictures and detect them as a detection run does, one a second from noon; then the ledger has them."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    work = FrameWork(settings, ImageReader(store, settings), detector("demo"), lambda: noon)
    chain = ChainId("frames", "dGVzdA_topic-id", partition)
    to = writer(store, chain)
    begin = to.end.offset
    frames = []
    for offset, number in enumerate(numbers, begin):
        path = f"images/yard/{day}/{number:05d}.jpg"
        store.put(path, picture(number))
        time = noon + timedelta(seconds=number)
        value = {"source": "yard", "image_path": path, "timestamp": time.isoformat(), "frame_number": number}
        record = KafkaRecord(
            "frames", partition, offset, int(time.timestamp() * 1000), b"yard", json.dumps(value).encode()
        )
        outcome = work.work(record)
        assert isinstance(outcome, Frame), outcome
        frames.append(outcome)
    assert append(to, frames)
    return frames


def build_live(settings: Settings, store: ObjectStore, numbers: Iterable[int], *, day: date = DAY) -> list[Frame]:
    """Add frames and build the day's tables."""
    frames = add_frames(settings, store, numbers, day=day)
    rebuild_day(store, day, now=NOON)
    return frames


def redetector(settings: Settings, store: ObjectStore, choice: str = LOW, worker: str = "one") -> Redetector:
    """Return what looks at days again."""
    return Redetector(settings, store, choice, detector(choice), lambda: NOON, worker)


def read_rows(store: ObjectStore, key: str) -> list[dict[str, Any]]:
    """Return the rows of a stored table, in its order."""
    with open_engine(memory=None) as engine:
        path = engine.folder / "read.parquet"
        path.write_bytes(store.get(key))
        cursor = engine.connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(path)])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def live_rows(store: ObjectStore, table: str, day: date = DAY) -> list[dict[str, Any]]:
    """Return the rows of a day table, without the column that redetections do not have."""
    rows = read_rows(store, day_table_key(table, day))
    return [{name: value for name, value in row.items() if name != "precision"} for row in rows]


def redetected_rows(store: ObjectStore, table: str, choice: str = LOW, day: date = DAY) -> list[dict[str, Any]]:
    """Return the rows of a redetection's `frames` or `detections`."""
    return read_rows(store, redetection_key(choice, day, table))


def objects_below(store: ObjectStore, prefix: str) -> Sequence[str]:
    """Return the keys below a prefix, sorted."""
    return sorted(info.key for info in store.list_objects(prefix))
