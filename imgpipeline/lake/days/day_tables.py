"""Builds the day tables `frames`, `detections`, `dead_letters` and `notices`: one Parquet object per day and table.

* All tables of a build come from one reading of the ledger, up to one set of ends, which the manifests name.
* A manifest never goes backwards: if another build was faster, this build starts again from the greater ends.
* Several objects cannot be stored at once. `frames` comes first, then `detections`, `dead_letters` and `notices`.
  Between these writes, and after a crash there, each table is correct up to the ends of its own manifest, and the day
  is stale until all have the same ends and the ledger has no later segment. A reader that joins tables compares the
  ends of their manifests, or uses a query session. Nothing is joined with the last two, so a reader in between only
  sees fewer of their rows.
* `weak_detections` is stored before all others, and only if the day has any. If it is missing, the day has none up to
  the ends of `frames`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.lake.days.day_catalog import KnownDays, join_versions
from imgpipeline.lake.days.day_rows import RECIPE, add_newer, read_whole, stored_columns
from imgpipeline.lake.days.day_rules import refuse_unsound
from imgpipeline.lake.days.derived import Built, Derived, Made, Origin, Start, State, build
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, DAY_TABLES, WEAK_DETECTIONS
from imgpipeline.lake.storage.engine import NO_LIMITS, BuildLimits, Engine, open_engine
from imgpipeline.lake.storage.manifest import (
    Manifest,
    Stored,
    covered_ends,
    have_equal_ends,
    join_ends,
    read_stored,
    write_parquet,
)
from imgpipeline.ledger.days import has_segment, index_buckets
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.ledger.repair.repair_list import last_repair_of, list_repairs, still_open
from imgpipeline.objectstore import ObjectStore

_STORED = {table.name: stored_columns(table) for table in (*DAY_TABLES, WEAK_DETECTIONS)}
_READERS = 16
_Found = Mapping[str, Stored | None]


@dataclass(frozen=True)
class DayBuild(Built[Manifest]):
    """The result of building a day."""

    corrected: tuple[str, ...] = ()
    """Tables whose stored rows differed from the ledger, so this build replaced them."""

    def of(self, table: str) -> Manifest:
        """Returns the manifest of one of the tables."""
        return next(manifest for manifest in self.manifests.values() if manifest.table == table)

    @property
    def is_extended(self) -> bool:
        """Whether the stored tables are older tables with newer segments added."""
        return any(manifest.is_extended for manifest in self.manifests.values())


def rebuild_day(
    store: ObjectStore,
    day: date,
    *,
    force: bool = False,
    seal: bool = False,
    now: datetime,
    ends: Mapping[ChainId, int] | None = None,
    limits: BuildLimits = NO_LIMITS,
) -> DayBuild:
    """Builds the tables of a day unless they are current.

    Args:
        day: UTC day.
        force: Read the whole day from the ledger, even if nothing is new.
        seal: If the stored tables were extended by newer segments, read the whole day once and compare.
        now: Time of the build, for the manifests.
        ends: Ends of all chains, if they were fixed before; default: they are read.

    Returns:
        The stored tables after this call.

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
        TransientError: The store does not answer, or this build lost the write race repeatedly.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk is full.
    """
    entry = DayTables(store, day, ends, now, limits)
    done = build(entry, force=force)
    if seal and any(manifest.is_extended for manifest in done.manifests.values()):
        done = build(entry, force=True)
    return DayBuild(**vars(done), corrected=_corrected(entry, done))


@dataclass(slots=True)
class DayTables(Derived[Manifest]):
    """The tables of one day as a derived object. Their input is the ledger up to an end of each chain."""

    store: ObjectStore
    day: date
    """UTC day."""
    fixed: Mapping[ChainId, int] | None
    """Ends of all chains; None: they are read after the stored tables, starting from the ends in their manifests."""
    now: datetime
    limits: BuildLimits = NO_LIMITS
    known: KnownDays | None = None
    """Facts about the days up to the ends, if available; saves listing the index of unchanged days."""
    repair: int = 0
    """Number of the last entry of the repair list that names the day; set by `wanted`, as the next three fields."""
    is_repaired: bool = False
    """Whether the ledger was repaired after a stored table was built."""
    is_under_repair: bool = False
    """Whether an unfinished repair changes outcomes of the day."""
    version: str = ""
    """Versions of the stored tables; empty if one is missing."""
    ends: Mapping[ChainId, int] = field(default_factory=dict)
    """Ends of all chains, joined with those in the manifests of stored tables."""
    _listed: list[Bucket] = field(default_factory=list)
    _has_outcomes: bool | None = None
    _puts_weak: bool = False

    @property
    def name(self) -> str:
        """Name in messages."""
        return str(self.day)

    def read(self) -> dict[str, Stored | None]:
        """Returns the stored version of each table; of `weak_detections` only if there is one.

        Without any other table there is none, unless a build died right after storing it. Then the first attempt to
        store it fails, and the second one finds it here.
        """
        stored = {
            key: read_stored(self.store, key) for key in (day_table_key(table, self.day) for table in DAY_TABLE_NAMES)
        }
        weak = day_table_key(WEAK_DETECTIONS.name, self.day)
        found = read_stored(self.store, weak) if self._puts_weak or any(stored.values()) else None
        return ({weak: found} if found else {}) | stored

    def origin(self, manifest: Manifest, /) -> Origin:
        """Returns the ends, the number of the last repair, and the recipe of a table."""
        return Origin(_named(manifest.ends, manifest.repair), manifest.made_by)

    def wanted(self, stored: _Found, /) -> Origin:
        """Returns the stored ends if the ledger has no later segment of the day, otherwise the ends to build up to."""
        repairs = list_repairs(self.store)
        self.repair = last_repair_of(self.day, repairs)
        self.is_repaired = any(found and found.manifest.repair != self.repair for found in stored.values())
        self.is_under_repair = any(self.day in opened.days for opened in still_open(repairs))
        return Origin(_named(self._reached(stored), self.repair), RECIPE)

    def _reached(self, stored: _Found) -> Mapping[ChainId, int]:
        manifests = [found.manifest if found else None for found in stored.values()]
        listed = [stored[day_table_key(table, self.day)] for table in DAY_TABLE_NAMES]
        self.version = join_versions(found.e_tag if found else None for found in listed)
        named = join_ends(*(manifest.ends for manifest in manifests if manifest))
        if self.fixed is None:
            self.fixed = {chain: end.offset for chain, end in fix_ends(self.store, named).items()}
        self.ends = join_ends(self.fixed, self.ends, named)
        reached = covered_ends(*manifests)
        if self.known and have_equal_ends(manifests) and self.known.has_newer_segments(self.day, reached) is False:
            self._has_outcomes = bool(reached)
            return reached
        self._listed = [bucket for bucket in index_buckets(self.store, self.day) if bucket.chain in self.ends]
        if have_equal_ends(manifests) and None in manifests:
            # A table is missing, so a build reads the ledger anyway, and only `has_outcomes` looks for a segment.
            self._has_outcomes = None
            return self._covered()
        if not have_equal_ends(manifests) or self._has_segment(reached):
            reached = self._covered()
        self._has_outcomes = bool(reached)
        return reached

    def has_outcomes(self) -> bool:
        """Tells whether tables or ledger have anything of the day. Read the state first.

        Raises:
            LedgerError: A segment cannot be read, or a chain has a hole.
        """
        if self._has_outcomes is None:
            self._has_outcomes = self._has_segment({})
        return self._has_outcomes

    def _has_segment(self, since: Mapping[ChainId, int]) -> bool:
        return has_segment(self.store, self.day, self.ends, since=since, buckets=self._listed)

    def _covered(self) -> dict[ChainId, int]:
        return {chain: self.ends[chain] for chain in sorted({bucket.chain for bucket in self._listed})}

    def make(self, start: Start[Manifest], /) -> dict[str, Made[Manifest]] | None:
        """Adds newer segments to the stored tables if possible; otherwise reads the whole day from the ledger."""
        extended = None if start.force else self._extensible(start)
        with open_engine(memory=self.limits.memory) as engine:
            if extended is None:
                rows = read_whole(engine, self.store, self.day, self.ends, self._listed)
            else:
                added = add_newer(engine, self.store, self.day, extended, self.ends, self._listed)
                if added is None:
                    return None
                rows = added
            refuse_unsound(engine, self.day)
            made = Manifest(
                table="",
                day=self.day,
                made_by=RECIPE,
                ends=self._covered(),
                built_at=self.now,
                repair=self.repair,
                duplicates=rows.duplicates,
                is_extended=extended is not None,
            )
            # All are written before the first is stored, so readers see tables with different ends only briefly.
            weak = day_table_key(WEAK_DETECTIONS.name, self.day)
            names = DAY_TABLE_NAMES
            if weak in start.stored or engine.run(f"{rows.queries[WEAK_DETECTIONS.name]} LIMIT 1"):
                names, self._puts_weak = (WEAK_DETECTIONS.name, *DAY_TABLE_NAMES), True
            return {
                day_table_key(name, self.day): self._write(engine, name, rows.queries[name], made) for name in names
            }

    def _write(self, engine: Engine, name: str, query: str, made: Manifest) -> Made[Manifest]:
        stored = f"SELECT {_STORED[name]} FROM ({query})"  # noqa: S608 - own SQL
        return Made(*write_parquet(engine, stored, replace(made, table=name), object_bytes=self.limits.object_bytes))

    def _extensible(self, start: Start[Manifest]) -> dict[str, Stored] | None:
        """Returns the stored tables if newer segments can be added to them; None if the whole day must be read.

        A repair changes outcomes before the tables' ends, so its days are read whole.
        """
        found = {
            name: start.stored.get(day_table_key(name, self.day)) for name in (*DAY_TABLE_NAMES, WEAK_DETECTIONS.name)
        }
        tables = {name: table for name, table in found.items() if table is not None}
        manifests = [table.manifest for table in tables.values()]
        if start.state is State.MISSING or self.is_under_repair:
            return None
        is_of_this_recipe = all((each.made_by, each.repair) == (RECIPE, self.repair) for each in manifests)
        return tables if is_of_this_recipe and have_equal_ends(manifests) else None


def _named(ends: Mapping[ChainId, int], repair: int) -> dict[str, str]:
    return {str(chain): str(end) for chain, end in ends.items()} | {"repair": str(repair)}


def _corrected(entry: DayTables, done: Built[Manifest]) -> tuple[str, ...]:
    # Tables that were current and not under repair must have the rows of the ledger.
    if done.state is not State.CURRENT or entry.is_under_repair:
        return ()
    return tuple(
        found.manifest.table
        for key, found in done.before.items()
        if found and found.manifest.content != done.manifests[key].content
    )


def list_days(store: ObjectStore, prefix: str) -> Iterator[date]:
    """Yields the days that have an object below a prefix such as `frames` or `summaries/label_counts`, in order."""
    names = (name.removeprefix("day=") for name in store.list_folders(prefix) if name.startswith("day="))
    for name in names:
        try:
            yield date.fromisoformat(name)
        except ValueError:
            continue
