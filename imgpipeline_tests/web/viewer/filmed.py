"""A viewer over two filmed days with tracks, events and a zone, for the tests of the review page."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import rules
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.objectstore.stores import copy_objects
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

NEXT_DAY = DAY + timedelta(days=1)
MINUTE = timedelta(minutes=1)
AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
RULES = """
[[zone]]
name = "lower half"
source = "gate"
points = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]

[[rule]]
name = "two"
kind = "count"
above = 1
"""


@dataclass(frozen=True, slots=True)
class FilmedSite:
    """A running viewer and its content."""

    viewer: Viewer
    store: ObjectStore
    frames: tuple[Frame, ...]
    """All frames, the latest first."""

    def of(self, day: object = DAY) -> list[Frame]:
        """Return the frames of a day, the latest first."""
        return [one for one in self.frames if one.day == day]


@contextmanager
def filmed_site(folder: Path, **changes: object) -> Iterator[FilmedSite]:
    """Serve a car and, lower in the image, a person of `gate` on one day, and a dog of `yard` on the next.

    Frames come every five seconds. The person is there in the first minute only. The model `small` looked at the dog.
    """
    (folder / "rules.toml").write_text(RULES)
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), rules_file=str(folder / "rules.toml"))
    store = open_store(settings)
    built, frames = _build()
    copy_objects(built, store)
    with viewing(settings.model_copy(update=changes)) as viewer:
        yield FilmedSite(viewer, store, frames)


@functools.cache
def _build() -> tuple[ObjectStore, tuple[Frame, ...]]:
    """Build the store that each site gets a copy of; return it with all frames, the latest first."""
    store, settings = open_memory_store(), Settings(_env_file=None)
    day = film(AT, AT + 4 * MINUTE, [Car(AT, AT + 4 * MINUTE), Car(AT, AT + MINUTE, "person", y=300, confidence=0.7)])
    start = AT + timedelta(days=1, hours=10, minutes=30)
    night = film(start, start + MINUTE, [Car(start, start + MINUTE, "dog")], offset=len(day), source="yard")
    night = [replace(one, model_used="small", model_sha256="cd" * 32) for one in night]
    write_chain(store, [*day, *night])
    for each in (DAY, NEXT_DAY):
        rebuild_day(store, each, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    build_table(store, DAY, EVENTS, rules=rules(RULES), settings=settings, now=NOON + timedelta(hours=3))
    return store, tuple(sorted([*day, *night], key=lambda one: one.timestamp, reverse=True))
