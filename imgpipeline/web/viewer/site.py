"""The objects that all routes of the viewer share: the lake, the store, images, and marks of reviewed frames."""

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.pictures import Pictures
from imgpipeline.web.viewer.queries import Zoned
from imgpipeline.web.viewer.reviewed import Reviews
from imgpipeline.web.viewer.shared_lake import SharedLake

_STORE_PATIENCE_S = 5.0
_DAGSTER_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ViewedSite:
    """The objects that all routes share."""

    settings: Settings
    store: ObjectStore
    """The object store. Calls give up after a few seconds, because a browser waits."""
    lake: SharedLake
    pictures: Pictures
    reviews: Reviews
    clock: Clock = utc_now
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server stops, so that streams end."""

    def page_zone(self, query: Zoned) -> str:
        """Returns the name of a page's time zone: the requested one, or the site's."""
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
        """Returns the URL of a run in Dagster's UI; None if the UI is not configured or the run is not Dagster's."""
        url = self.settings.dagster_url
        return f"{url.rstrip('/')}/runs/{run_id}" if url and _DAGSTER_RUN.fullmatch(run_id) else None


def open_site(settings: Settings, *, clock: Clock = utc_now, stopping: threading.Event | None = None) -> ViewedSite:
    """Opens a site; nothing is read yet.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    store = open_store(settings, patience_s=_STORE_PATIENCE_S)
    lake, pictures = SharedLake(store, settings, clock), Pictures(store, settings)
    return ViewedSite(settings, store, lake, pictures, Reviews(store), clock, stopping or threading.Event())
