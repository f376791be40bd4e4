"""Builds a day's report and stores it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start
from imgpipeline.lake.storage.manifest import StoredObject
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.reports.figures import Headline, day_hours, read_headline
from imgpipeline.reports.inputs import ReportInputs, read_inputs, read_live_inputs
from imgpipeline.settings import Settings


@dataclass(slots=True)
class DailyReport(Derived[Headline | None]):
    """A day's report as a derived object, made of the day's tables and its last audit. No segment is read.

    The page does not show `now`, so the same inputs give the same bytes. A page of another release has no headline.
    """

    store: ObjectStore
    settings: Settings
    day: date
    now: datetime
    """Current time; it decides whether the day is over."""
    cache_dir: Path | None
    _inputs: ReportInputs | None = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"the report of {self.day}"

    def read(self) -> dict[str, StoredObject[Headline | None] | None]:
        """Reads the stored report."""
        key = report_key(self.day)
        try:
            found = self.store.fetch(key)
        except ObjectMissingError:
            return {key: None}
        return {key: StoredObject(read_headline(found.data), found.e_tag, len(found.data))}

    def origin(self, manifest: Headline | None, /) -> Origin:
        """Returns the origin that the page states."""
        return Origin({"inputs": manifest.inputs}, manifest.recipe) if manifest else Origin({}, "")

    def wanted(self, _stored: Mapping[str, StoredObject[Headline | None] | None], /) -> Origin:
        """Reads the current inputs and returns their fingerprint."""
        self._inputs = read_inputs(self.store, self.settings, self.day, now=self.now)
        return Origin({"inputs": self._inputs.fingerprint}, self._inputs.recipe)

    def make(self, _start: Start[Headline | None], /) -> dict[str, Made[Headline | None]]:
        """Renders the page."""
        from imgpipeline.lake.sessions.session import open_lake  # noqa: PLC0415 - loads DuckDB
        from imgpipeline.reports.page import make_page  # noqa: PLC0415 - loads Jinja and OpenCV

        inputs = self._inputs or read_inputs(self.store, self.settings, self.day, now=self.now)
        with open_lake(
            self.store, settings=self.settings, cache_dir=self.cache_dir, days=[self.day], stored=inputs.e_tags
        ) as session:
            page = make_page(self.store, self.settings, session, inputs)
        return {report_key(self.day): Made(page.html, page.headline)}


def current_page(
    store: ObjectStore, settings: Settings, day: date, *, now: datetime, cache_dir: Path | None = None
) -> bytes:
    """Renders an up-to-date report of a day of the settings' time zone. A stored one of the same inputs is the same.

    It includes segments that are newer than the tables, and days that are not built yet. Nothing is written, so the
    caller needs no write access. Only UTC days have stored reports.

    Raises:
        PermanentError: There is nothing for the day, the time zone has no such day, or a stored table is not a Parquet
            file of this project.
        LedgerError: A segment newer than the tables cannot be read.
        TransientError: The store does not answer.
    """
    from imgpipeline.lake.sessions.session import open_lake  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.reports.page import make_page  # noqa: PLC0415 - loads Jinja and OpenCV

    zone = find_timezone(settings.timezone)
    if not day_hours(day, zone).starts:
        raise PermanentError(
            f"{settings.timezone} has no {day}: its calendar skips that day.", next_step="choose another day"
        )
    local = None if settings.timezone == "UTC" else zone
    with open_lake(store, settings=settings, cache_dir=cache_dir, days=[day], zone=local) as session:
        inputs = read_live_inputs(store, settings, day, session.snapshot, now=now)
        return make_page(store, settings, session, inputs).html
