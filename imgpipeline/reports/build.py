"""Builds a day's report and stores it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from imgpipeline.contracts.keys import report_key
from imgpipeline.lake.build.derived import Derived, Made, Origin, Start, State, build, state_of
from imgpipeline.lake.storage.manifest import StoredObject
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.reports.headline import Headline, read_headline
from imgpipeline.reports.inputs import ReportInputs, read_inputs, read_live_inputs, read_local_inputs
from imgpipeline.reports.picture import draw_picture
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class ReportBuild:
    """How a report was made, or that there was nothing to do."""

    day: date
    """UTC day."""
    skipped: bool
    """Whether the stored report was built from these inputs."""
    key: str
    """Its object."""
    size_bytes: int
    """Size of the page."""
    headline: Headline
    """The figures at its top."""
    picture_svg: bytes
    """A small picture of the day (SVG, `image/svg+xml`): detections by hour, stacked by label. At most 14,000 bytes, so
    that it stays below 20 kB as base64."""
    inputs: str
    """Fingerprint of its inputs: the same for the same tables, ledger, settings and code."""
    recipe: str
    """Hash of what makes reports: code, templates, queries and settings."""
    duration_s: float
    """How long this call took, in seconds."""


def build_report(
    store: ObjectStore,
    settings: Settings,
    day: date,
    *,
    force: bool = False,
    now: datetime,
    cache_dir: Path | None = None,
) -> ReportBuild:
    """Brings the stored report of a day up to the day's tables and its last audit. No segment is read.

    Args:
        store: The object store.
        settings: Where pictures may be read from, and the settings of the summaries.
        day: UTC day.
        force: Make it again even if nothing is new.
        now: The clock: whether the day is over. It is not shown, so that the same inputs give the same bytes.
        cache_dir: Where fetched day tables are kept; default: as for every query session.

    Returns:
        What is stored now.

    Raises:
        PermanentError: There is nothing of that day, it was not built yet, or a stored table is no Parquet file of
            this project.
        TransientError: The store does not answer, or others were faster eight times.
    """
    began_s = time.perf_counter()
    entry = DailyReport(store, settings, day, now, cache_dir)
    done = build(entry, force=force)
    ((key, headline),) = done.manifests.items()
    if headline is None:
        raise AssertionError(f"a page without figures was put as {key}")
    return ReportBuild(
        day=day,
        skipped=done.skipped,
        key=key,
        size_bytes=done.size_bytes,
        headline=headline,
        picture_svg=draw_picture(headline),
        inputs=headline.inputs,
        recipe=headline.recipe,
        duration_s=time.perf_counter() - began_s,
    )


@dataclass(slots=True)
class DailyReport(Derived[Headline | None]):
    """A day's report, as an entry of the contract. A page that is none of this release has no figures."""

    store: ObjectStore
    """The object store."""
    settings: Settings
    """Where pictures may be read from, and the settings of the summaries."""
    day: date
    """UTC day."""
    now: datetime
    """The clock: whether the day is over."""
    cache_dir: Path | None
    """Where fetched day tables are kept."""
    page: bytes = b""
    """The stored page, once it was read."""
    _inputs: ReportInputs | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the report of {self.day}"

    def read(self) -> dict[str, StoredObject[Headline | None] | None]:
        """Returns what is stored, and keeps its page."""
        key = report_key(self.day)
        try:
            found = self.store.fetch(key)
        except ObjectMissingError:
            return {key: None}
        self.page = found.data
        return {key: StoredObject(read_headline(found.data), found.e_tag, len(found.data))}

    def origin(self, manifest: Headline | None, /) -> Origin:
        """Returns what the page names."""
        return Origin({"inputs": manifest.inputs}, manifest.recipe) if manifest else Origin({}, "")

    def wanted(self, _stored: Mapping[str, StoredObject[Headline | None] | None], /) -> Origin:
        """Returns the fingerprint of its current inputs."""
        self._inputs = read_inputs(self.store, self.settings, self.day, now=self.now)
        return Origin({"inputs": self._inputs.fingerprint}, self._inputs.recipe)

    def make(self, _start: Start[Headline | None], /) -> dict[str, Made[Headline | None]]:
        """Makes the page."""
        from imgpipeline.reports.page import make_page  # noqa: PLC0415 - loads Jinja and OpenCV

        inputs = self._inputs or read_inputs(self.store, self.settings, self.day, now=self.now)
        page = make_page(self.store, self.settings, inputs, cache_dir=self.cache_dir)
        return {report_key(self.day): Made(page.html, page.headline)}


def current_page(
    store: ObjectStore, settings: Settings, day: date, *, now: datetime, cache_dir: Path | None = None
) -> bytes:
    """Returns a day's report as it is now: the stored one where nothing is new, else one made for this answer.

    It also shows what the ledger has behind the tables, or of a day that was not built yet.

    Nothing is put: reading a report needs no right to write. Stored reports are of UTC days; that of a day of another
    time zone is always made.

    Args:
        store: The object store.
        settings: As for `build_report`; their time zone is that of the day.
        day: Day of that time zone.
        now: The clock.
        cache_dir: As for `build_report`.

    Raises:
        PermanentError: There is nothing of that day, or a stored table is no Parquet file of this project.
        LedgerError: A segment behind the tables cannot be read.
        TransientError: The store does not answer.
    """
    from imgpipeline.reports.page import make_page  # noqa: PLC0415 - loads Jinja and OpenCV

    if settings.timezone != "UTC":
        local = read_local_inputs(store, settings, day, settings.timezone, now=now)
        return make_page(store, settings, local, cache_dir=cache_dir).html
    live = read_live_inputs(store, settings, day, now=now)
    if live.manifests and not live.behind:
        entry = DailyReport(store, settings, day, now, cache_dir)
        if state_of(entry) is State.CURRENT:
            return entry.page
    return make_page(store, settings, live, cache_dir=cache_dir).html
