"""What the viewer works with: the shared lake, the store, and the images."""

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import UsageError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.pictures import Pictures
from imgpipeline.web.viewer.queries import NumberQuery, Zoned
from imgpipeline.web.viewer.reviewed import Reviews
from imgpipeline.web.viewer.shared_lake import SharedLake

MOST_EXPLAINED = 20_000
"""A larger number is not traced to its segments while a browser waits."""
_STORE_PATIENCE_S = 5.0
_DAGSTER_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ViewedSite:
    """What the application reads."""

    settings: Settings
    """Name the store."""
    store: ObjectStore
    """The object store; a call gives up after a few seconds, as a browser waits for it."""
    lake: SharedLake
    """The tables."""
    pictures: Pictures
    """The images."""
    reviews: Reviews
    """What people have reviewed."""
    clock: Clock = utc_now
    """Tells the time."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: streams end too."""

    def page_zone(self, query: Zoned) -> str:
        """Returns the name of the time zone whose days a page shows: the one asked for, or the site's."""
        return query.timezone or self.settings.timezone

    def status(self) -> dict[str, Any]:
        """Returns the document of `/api/v1/status`."""
        state = self.lake.state
        problem = state.problem
        return {
            "snapshot": state.taken_at,
            "revision": state.revision,
            "frames_behind": state.frames_behind,
            "problem": problem and problem.message,
            "next": problem and problem.next_step,
            "problem_since": state.problem_since,
        }

    def run_url(self, run_id: str) -> str | None:
        """Returns the address of a run in Dagster's UI; None if it is not known or Dagster did not run it."""
        url = self.settings.dagster_url
        return f"{url.rstrip('/')}/runs/{run_id}" if url and _DAGSTER_RUN.fullmatch(run_id) else None


def open_site(settings: Settings, *, clock: Clock = utc_now, stopping: threading.Event | None = None) -> ViewedSite:
    """Opens what the application reads; nothing is read yet.

    Args:
        settings: Name the store.
        clock: Tells the time.
        stopping: Is set when the server ends; default: never.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    store = open_store(settings, patience_s=_STORE_PATIENCE_S)
    lake, pictures = SharedLake(store, settings, clock), Pictures(store, settings)
    return ViewedSite(settings, store, lake, pictures, Reviews(store), clock, stopping or threading.Event())


def too_large(number: NumberQuery, count: int) -> UsageError:
    """Returns the error for a number with too many detections to trace here."""
    hour = "label-totals" if number.hour is None else f"label-counts --hour {number.hour}"
    return UsageError(
        f"{count:,} detections are too many to trace while a browser waits; at most {MOST_EXPLAINED:,} are traced.",
        next_step=f"choose an hour or a source, or run `imgpipeline explain {hour} --day {number.day}`",
    )
