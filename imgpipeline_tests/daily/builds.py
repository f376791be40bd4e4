"""Builds one derived object of a day, for tests that need it stored."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

from imgpipeline.events.configuration import Rules
from imgpipeline.events.rule_tables import ENTRIES
from imgpipeline.lake.days.derived import Built, build
from imgpipeline.lake.days.summaries import SUMMARIES, DaySummary
from imgpipeline.lake.schema.tables import Table
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.comparison import ComparisonManifest, DayComparison
from imgpipeline.reports.build import DailyReport
from imgpipeline.settings import Settings
from imgpipeline.tracking.day_tracks import DayTracks, TracksBuild


def build_summary(
    store: ObjectStore, name: str, day: date, *, settings: Settings, force: bool = False, now: datetime
) -> Built[Manifest]:
    return build(DaySummary(store, SUMMARIES[name], day, settings, now), force=force)


def build_tracks(
    store: ObjectStore, day: date, *, settings: Settings, force: bool = False, now: datetime
) -> TracksBuild:
    done = build(DayTracks(store, day, settings, now), force=force)
    assert isinstance(done, TracksBuild)
    return done


def build_table(
    store: ObjectStore,
    day: date,
    table: Table,
    *,
    rules: Rules,
    settings: Settings,
    force: bool = False,
    keeps_rules: bool = False,
    now: datetime,
) -> Built[Manifest]:
    return build(ENTRIES[table.name](store, settings, rules, day, now, keeps_rules), force=force)


def build_comparison(
    settings: Settings, store: ObjectStore, day: date, *, force: bool = False, now: datetime
) -> Built[ComparisonManifest]:
    return build(DayComparison(settings, store, day, now), force=force)


def build_report(
    store: ObjectStore,
    settings: Settings,
    day: date,
    *,
    force: bool = False,
    now: datetime,
    cache_dir: Path | None = None,
) -> Built[Any]:
    return build(DailyReport(store, settings, day, now, cache_dir), force=force)
