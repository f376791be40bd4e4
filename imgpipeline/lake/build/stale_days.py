"""Finds the days whose tables or summaries are older than their inputs, and says why.

Compares all days by the day index, listings and manifests, without reading tables. Tables of another release or made
with other settings do not count: whether to rebuild history is the user's decision.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

from imgpipeline.contracts.keys import parse_day
from imgpipeline.lake.build.day_catalog import join_versions, open_catalog
from imgpipeline.lake.build.day_tables import stale_days
from imgpipeline.lake.build.derived import Origin, State, judge
from imgpipeline.lake.build.summaries import SUMMARIES, Summary, summary_origin
from imgpipeline.lake.build.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.storage.manifest import DamagedObjectError, read_manifest, read_stored
from imgpipeline.objectstore import ObjectStore

_READERS = 16
_FRAMES = DAY_TABLES[0].name
_NOTED_AS = "summaries"
_Versions = dict[str, dict[date, str]]
_BEHIND = {
    State.MISSING: "is missing",
    State.STALE: "is older than what it is made of",
    State.DAMAGED: "cannot be read",
}


def days_behind(store: ObjectStore) -> dict[date, str]:
    """Returns the days that a build would bring forward, each with the reason.

    Args:
        store: The object store.

    Raises:
        LedgerError: The end of a chain cannot be read.
        ForbiddenError: The store refuses access.
        TransientError: The store does not answer.
    """
    catalog = open_catalog(store)
    reasons = dict.fromkeys(stale_days(store, catalog), "the ledger has more, or cannot be read")
    versions = {table: list_versions(store, table) for table in (*(t.name for t in DAY_TABLES), *SUMMARIES)}
    stored = {day: join_versions(listed.get(day) for listed in versions.values()) for day in versions[_FRAMES]}
    unsure = sorted(
        day for day in stored.keys() - reasons.keys() if not catalog.news.is_complete(day, _NOTED_AS, stored[day])
    )
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(unsure, pool.map(lambda day: _behind(store, day, versions), unsure), strict=True))
    for day, why in found.items():
        if why is None:
            catalog.news.note_complete(day, _NOTED_AS, stored[day])
    catalog.save()
    return reasons | {day: why for day, why in found.items() if why}


def days_to_seal(store: ObjectStore, *, before: date, since: datetime) -> list[date]:
    """Returns the days whose tables were made by adding newer segments, so that a build should read them as a whole.

    Args:
        store: The object store.
        before: Only earlier days (UTC): those that are over.
        since: Only tables that were put at or after this time.

    Raises:
        PermanentError: A table is not a Parquet file of this project.
        TransientError: The store does not answer.
    """
    put_lately = [info.key for info in store.list_objects(_FRAMES) if info.last_modified >= since]
    days = sorted(day for key in put_lately if (day := parse_day(key)) and day < before)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda day: read_manifest(store, _FRAMES, day), days)
        return [day for day, manifest in zip(days, found, strict=True) if manifest and manifest.is_extended]


def _behind(store: ObjectStore, day: date, versions: _Versions) -> str | None:
    reasons = (_why(store, summary, day, versions) for summary in SUMMARIES.values())
    return next((why for why in reasons if why), None)


def _why(store: ObjectStore, summary: Summary, day: date, versions: _Versions) -> str | None:
    wanted = Origin({name: versions[name].get(day, "") for name in summary.inputs}, "")
    try:
        stored = read_stored(store, stored_key(summary.name, day)) if day in versions[summary.name] else None
        state = judge([summary_origin(stored.manifest) if stored else None], wanted)
        if stored and stored.e_tag != versions[summary.name][day]:
            state = State.STALE  # it was built since it was listed: who asks again sees that
    except DamagedObjectError:
        state = State.DAMAGED
    return f"{summary.name} {_BEHIND[state]}" if state.is_behind else None
