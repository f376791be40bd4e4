"""A viewer over a day of one source with a plan for counting, for the tests of the counting page."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from imgpipeline.accuracy.plans import Plan, Population, make_plan, read_plan
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.events.slices import counted_labels, open_samples
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.measuring import read_population
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.events.samples import STOP, rules
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

START = datetime(2026, 1, 9, 12, tzinfo=UTC)
SOURCE = "gate"
NIGHT = datetime(2026, 1, 10, 1, tzinfo=UTC)
LABELS = ("car", "person")


@dataclass(frozen=True, slots=True)
class PlannedSite:
    """A running viewer, and the plan of its only source."""

    viewer: Viewer
    store: ObjectStore
    frames: dict[str, Frame]
    plan: Plan

    def first(self, *, blind: bool = False) -> int:
        """Return the place of the first sample that is blind, or that is not."""
        return next(at for at, sample in enumerate(self.plan.samples) if self.plan.is_blind(sample) == blind)


@contextmanager
def planned_site(
    settings: Settings, *, frames: int = 60, samples: int = 40, size: tuple[int, int] = (640, 480)
) -> Iterator[PlannedSite]:
    """Serve frames that show two cars, one of which the detector doubts, a person in half of the frames, and a dog.

    The dog is not counted. A plan draws some of the frames.
    """
    store = open_store(settings)
    end = START + timedelta(seconds=5 * frames)
    cars = [Car(START, end), Car(START, end, y=300, confidence=0.3), Car(START, end, "dog", y=400)]
    filmed = film(START, end, [*cars, Car(START, START + (end - START) / 2, "person", y=200)], source=SOURCE)
    filmed = [
        replace(_scaled(one, size), source_image_path=f"images/{SOURCE}/{n}.jpg", confidence_threshold=0.25)
        for n, one in enumerate(filmed)
    ]
    write_chain(store, filmed)
    for number, one in enumerate(filmed):
        store.put(one.source_image_path, _picture(one, number))
    places = [(one.timestamp, one.frame_id) for one in filmed]
    population = Population(DAY, SOURCE, {"frames/dGVzdA_topic-id/0": frames}, {}, places)
    make_plan(store, population, labels=LABELS, samples=samples, by="ada", at=NOON)
    plan = read_plan(store, DAY, SOURCE)
    assert plan
    with viewing(settings) as viewer:
        yield PlannedSite(viewer, store, {one.frame_id: one for one in filmed}, plan)


@contextmanager
def line_site(settings: Settings) -> Iterator[PlannedSite]:
    """Serve 20 minutes in which two cars cross the line `stop` backwards, and a plan of all ten slices."""
    store = open_store(settings)
    end = START + timedelta(minutes=20)
    cars = [Car(START, end), Car(START + timedelta(minutes=2), end, y=200)]
    filmed = [replace(one, source_image_path=f"images/{n}.jpg") for n, one in enumerate(film(START, end, cars))]
    write_chain(store, filmed)
    for number, one in enumerate(filmed):
        store.put(one.source_image_path, _picture(one, number))
    rebuild_day(store, DAY, now=NIGHT)
    build_tracks(store, DAY, settings=settings, now=NIGHT)
    line = rules(STOP).line[0]
    kept = line.model_dump(mode="json")
    with open_lake(store, settings=settings, days=[DAY]) as lake, open_samples(lake.rows, DAY, kept) as ask:
        population = read_population(ask, DAY, SOURCE, lake.snapshot.ends, None)
    make_plan(store, population, labels=counted_labels(line, ["car"]), samples=10, by="ada", at=NOON, line=kept)
    plan = read_plan(store, DAY, SOURCE, line.name)
    assert plan
    with viewing(settings) as viewer:
        yield PlannedSite(viewer, store, {one.frame_id: one for one in filmed}, plan)


def planned_settings(folder: Path, **changes: object) -> Settings:
    """Return the settings of a store in a folder, with a threshold that leaves out one of the cars."""
    return Settings(
        _env_file=None, store_url=(folder / "store").as_uri(), summary_threshold=0.5,
        api_keys_file=folder / "keys.json", **changes,
    )  # fmt: skip


def _scaled(one: Frame, size: tuple[int, int]) -> Frame:
    factor = size[0] / 640
    scaled = []
    for seen in one.detections:
        assert seen.box_xywh
        x, y, width, height = (value * factor for value in seen.box_xywh)
        scaled.append(replace(seen, box_xywh=(x, y, width, height)))
    return replace(one, image_width=size[0], image_height=size[1], detections=tuple(scaled))


def _picture(one: Frame, number: int) -> bytes:
    """Return a picture with its objects, and noise as in a photo."""
    assert one.image_width
    assert one.image_height
    image = np.roll(_noise(one.image_height, one.image_width), number, axis=1)  # a new image, at no cost
    for seen in one.detections:
        assert seen.box_xywh
        x, y, width, height = map(int, seen.box_xywh)
        cv2.rectangle(image, (x + 4, y + 4), (x + width - 4, y + height - 4), (190, 150, 60), -1)
    return cv2.imencode(".jpg", image)[1].tobytes()


@functools.cache
def _noise(height: int, width: int) -> np.ndarray:
    pixels = np.random.default_rng(1).normal(110, 12, (height, width, 3))
    return np.clip(cv2.GaussianBlur(pixels, (0, 0), 1.2), 0, 255).astype(np.uint8)
