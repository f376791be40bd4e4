"""A store in a folder, the settings that name it, and reports of it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import Built
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import audit
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_report, build_summary
from imgpipeline_tests.ledger.samples import DAY
from imgpipeline_tests.reports.reading import ReadPage

AFTERWARDS = datetime(2026, 1, 12, 1, 30, tzinfo=UTC)

MakeReport = Callable[..., Built[Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a fresh store in a folder."""
    return Settings(_env_file=None, store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """The fresh store."""
    return open_store(settings)


@pytest.fixture
def report(store: ObjectStore, settings: Settings, tmp_path: Path) -> MakeReport:
    """Build the tables of the day and its report, with a cache of this test."""

    def build(
        *,
        now: datetime = AFTERWARDS,
        force: bool = False,
        day: date = DAY,
        changed: Settings | None = None,
        tables: bool = True,
    ) -> Built[Any]:
        if tables:
            rebuild_day(store, day, now=AFTERWARDS)
        return build_report(store, changed or settings, day, force=force, now=now, cache_dir=tmp_path / "cache")

    return build


@pytest.fixture
def read(store: ObjectStore, report: MakeReport) -> Callable[[], ReadPage]:
    """Build the report of the day and read it."""
    return lambda: ReadPage(store.get(key_of(report())))


def build_tables(store: ObjectStore, settings: Settings, day: date = DAY, *, force: bool = False) -> None:
    """Build the day's tables and all summaries."""
    rebuild_day(store, day, now=AFTERWARDS, force=force)
    for name in SUMMARIES:
        build_summary(store, name, day, settings=settings, now=AFTERWARDS)


def audit_all(store: ObjectStore, now: datetime = AFTERWARDS) -> None:
    """Audit the store, whose broker has no logs any more."""
    audit(store, list, now=now)


def picture(width: int = 640, height: int = 480) -> bytes:
    """Return a JPEG with some structure in it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.dstack([x % 256, y % 256, (x + y) % 256]).astype(np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def key_of(built: Built[Any]) -> str:
    """Return the key of a report."""
    (key,) = built.manifests
    return key
