"""Making a day's report and keeping it in the store.

Owns when a stored report is made again. It promises that a report names the inputs that it was made of, that nothing
is made where those are the same, and that a report never takes the place of one that it has not seen. What stands in it
belongs to `figures` and `page`.
"""

import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from imgpipeline.contracts.keys import report_key
from imgpipeline.errors import TransientError
from imgpipeline.objectstore import Fetched, ObjectMissingError, ObjectStore
from imgpipeline.reports.headline import Headline
from imgpipeline.reports.inputs import ReportInputs, read_inputs, read_local_inputs
from imgpipeline.reports.page import make_page, read_headline
from imgpipeline.reports.picture import draw_picture
from imgpipeline.settings import Settings

_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class ReportBuild:
    """How a report was made, or that there was nothing to do."""

    day: date
    """UTC day."""
    skipped: bool
    """Whether the stored report was made of these inputs already."""
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
    """Fingerprint of what it was made of: the same for the same tables, ledger, settings and code."""
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
    """Brings the stored report of a day up to the day's tables and the ledger.

    Args:
        store: The object store.
        settings: Where pictures may be read from, and the settings of the summaries.
        day: UTC day.
        force: Make it again also where nothing is new.
        now: The clock: whether the day is over. It is not shown, so that the same inputs give the same bytes.
        cache_dir: Where fetched day tables are kept; default: as for every query session.

    Returns:
        What is stored now.

    Raises:
        PermanentError: There is nothing of that day, or a stored table is no Parquet file of this project.
        LedgerError: A segment behind the tables cannot be read.
        TransientError: The store does not answer, or other builds were faster time and again.
    """
    began_s = time.perf_counter()
    key = report_key(day)
    for _ in range(_ATTEMPTS):
        # The stored page first: then the inputs read after it are never older than those it was made of.
        before = _fetch(store, key)
        inputs = read_inputs(store, settings, day, now=now)
        known = read_headline(before.data) if before else None
        if before and known and not force and known.inputs == inputs.fingerprint:
            return _told(inputs, key, before.data, known, began_s, skipped=True)
        page = make_page(store, settings, inputs, cache_dir=cache_dir)
        if store.replace(key, page.html, before.e_tag if before else None) or store.get(key) == page.html:
            return _told(inputs, key, page.html, page.headline, began_s, skipped=False)
    raise TransientError(f"{_ATTEMPTS} builds of the report of {day} were overtaken by others; the report is theirs.")


def current_page(
    store: ObjectStore, settings: Settings, day: date, *, now: datetime, cache_dir: Path | None = None
) -> bytes:
    """Returns a day's report as it is now: the stored one where nothing is new, else one made for this answer.

    Nothing is put: reading a report needs no right to write. Stored reports are of UTC days; that of a day of another
    time zone is always made.

    Args:
        store: The object store.
        settings: As for `build_report`; their time zone is that of the day.
        day: Day of that time zone.
        now: The clock.
        cache_dir: As for `build_report`.

    Raises:
        PermanentError: As for `build_report`.
        LedgerError: As for `build_report`.
        TransientError: The store does not answer.
    """
    if settings.timezone != "UTC":
        local = read_local_inputs(store, settings, day, settings.timezone, now=now)
        return make_page(store, settings, local, cache_dir=cache_dir).html
    stored = _fetch(store, report_key(day))
    inputs = read_inputs(store, settings, day, now=now)
    known = read_headline(stored.data) if stored else None
    if stored and known and known.inputs == inputs.fingerprint:
        return stored.data
    return make_page(store, settings, inputs, cache_dir=cache_dir).html


def _fetch(store: ObjectStore, key: str) -> Fetched | None:
    try:
        return store.fetch(key)
    except ObjectMissingError:
        return None


def _told(
    inputs: ReportInputs, key: str, html: bytes, headline: Headline, began_s: float, *, skipped: bool
) -> ReportBuild:
    return ReportBuild(
        day=inputs.day,
        skipped=skipped,
        key=key,
        size_bytes=len(html),
        headline=headline,
        picture_svg=draw_picture(headline),
        inputs=inputs.fingerprint,
        recipe=inputs.recipe,
        duration_s=time.perf_counter() - began_s,
    )
