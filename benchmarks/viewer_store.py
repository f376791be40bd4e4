"""Makes the store that `viewer` measures: days of synthetic frames with tables and summaries, in a local folder.

Each day has chains of its own. Segments, tables, manifests and summaries are written by the project's own code. There
are no images, tracks or events.
"""

from datetime import date, timedelta
from pathlib import Path

from benchmarks.place import say
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings


def make_viewed_store(folder: Path, days: int, frames: int) -> Settings:
    """Fills a folder and returns settings that name it.

    Args:
        folder: Where the store is made; empty.
        days: How many days.
        frames: How many frames on all days together.
    """
    folder.mkdir(parents=True)
    settings = load_settings(store_url=folder.as_uri())
    store = open_store(settings)
    for number in range(days):
        day = day_of(number)
        make_day(store, SyntheticDay(frames // days, day=day, topic_id=f"synthetic-{number}"))
        rebuild_day(store, day, now=utc_now())
        for name in SUMMARIES:
            build_summary(store, name, day, settings=settings, now=utc_now())
        say(f"viewer: {number + 1} of {days} days are made")
    return settings


def day_of(number: int) -> date:
    """Returns the day of a number, from 0."""
    return DAY + timedelta(days=number)
