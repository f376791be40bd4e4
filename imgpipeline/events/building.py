"""Builds one daily table of the rules: `frame_changes`, `events`, `zone_occupancy` or `line_crossings`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from imgpipeline.events.configuration import Rules
from imgpipeline.events.day_events import DayEvents
from imgpipeline.events.day_of_rules import DayOfRules
from imgpipeline.events.day_places import DayLineCrossings, DayZoneOccupancy
from imgpipeline.events.frame_changes import DayFrameChanges
from imgpipeline.lake.build.derived import build
from imgpipeline.lake.schema import Table
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

ENTRIES: Mapping[str, type[DayOfRules]] = {
    entry.table.name: entry for entry in (DayFrameChanges, DayEvents, DayZoneOccupancy, DayLineCrossings)
}
"""The entries of the contract, by table."""


@dataclass(frozen=True, slots=True)
class RuleTableBuild:
    """How a day's table was built."""

    skipped: bool
    """Whether there was nothing to do."""
    manifest: Manifest
    """What is stored now; `made_with` lists the rules, places or pairs that its build had to process."""
    size_bytes: int
    """Size of its object."""


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
) -> RuleTableBuild:
    """Brings one of a day's tables up to its inputs and the rules.

    Args:
        store: The object store.
        day: UTC day.
        table: One of `ENTRIES`.
        rules: The rules, zones and lines as they are now.
        settings: Limits of images and of DuckDB, and the time zone of hours.
        force: Make all rows again.
        keeps_rules: Whether a day that is over keeps the rules of its stored table.
        now: Time of building, UTC.

    Raises:
        PermanentError: The day lacks a table that the rules read, or a stored object does not belong to this project.
        TransientError: The store does not answer, other builds were faster eight times, or the tables do not come from
            one reading of the ledger.
    """
    done = build(ENTRIES[table.name](store, settings, rules, day, now, keeps_rules), force=force)
    (manifest,) = done.manifests.values()
    return RuleTableBuild(done.skipped, manifest, done.size_bytes)
