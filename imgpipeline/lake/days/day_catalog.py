"""The day catalogue: which days the ledger has, and which of their tables are complete.

A version of a table is *complete* when no segment after its ends touches its day, and stays complete until such a
segment is written. The catalogue follows the ledger from a checkpoint and is one stored object, so a call that names no
day costs requests for new segments only, and none for days that are over. It is a cache: if it is lost or damaged, it
is rebuilt. A day that it does not know is looked up in the day index.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from imgpipeline.contracts.keys import BUCKET_OFFSETS, ChainId
from imgpipeline.errors import LedgerError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import list_versions, stored_key
from imgpipeline.lake.storage.manifest import Manifest, read_stored
from imgpipeline.ledger.checkpoint import Checkpoint, FollowerObject
from imgpipeline.ledger.days import has_segment, index_buckets, known_days
from imgpipeline.ledger.follow import LostCheckpointError, OffsetRange, follow
from imgpipeline.ledger.reading import ChainEnd, fix_ends
from imgpipeline.ledger.repair.repair_list import last_handled, list_repairs
from imgpipeline.objectstore import ObjectStore

_WHOLE_DAYS = 8
"""The newest starts are stored for this many complete days; for older ones only that they are complete."""
_VERSION = 1
_MOST_BYTES = 2**28
_MOST_READ = 1_000
"""Number of segments that are read to catch up. The days of further segments come from the day index."""
_NAME = "days"
TABLES = "tables"
"""The name under which the catalogue notes the day tables."""


@dataclass(slots=True)
class KnownDay:
    """The known facts about one day, up to the checkpoint of its owner."""

    complete: dict[str, str] = field(default_factory=dict)
    """The version that is complete, by name."""
    newest: dict[ChainId, int] = field(default_factory=dict)
    """The start of the newest segment of the day, by chain."""
    is_whole: bool = True
    """Whether `newest` names every chain with a segment of the day."""


@dataclass(slots=True)
class KnownDays:
    """The known facts about all days, available without a request per day. Not safe to change from several threads."""

    days: dict[date, KnownDay] = field(default_factory=dict)
    """By day; a missing day has no segment."""

    def begin(self, days: Iterable[date]) -> None:
        """Notes that these days exist; nothing else is known about them."""
        for day in days:
            self.days.setdefault(day, KnownDay(is_whole=False))

    def note(self, chain: ChainId, start: int, days: Iterable[date]) -> None:
        """Notes a segment."""
        for day in days:
            known = self.days.setdefault(day, KnownDay())
            known.complete.clear()
            known.newest[chain] = max(start, known.newest.get(chain, 0))

    def doubt(self, day: date) -> None:
        """Notes that a day may have unknown segments."""
        self.days[day] = KnownDay(is_whole=False)

    def forget(self, offsets: OffsetRange) -> None:
        """Notes that the segments that start in a range have changed."""
        for day, known in self.days.items():
            if any(offsets.covers(chain, start) for chain, start in known.newest.items()):
                self.days[day] = KnownDay(is_whole=False)

    def is_complete(self, day: date, name: str, version: str) -> bool:
        """Tells whether a version is known to be complete."""
        known = self.days.get(day)
        return known is not None and bool(version) and known.complete.get(name) == version

    def note_complete(self, day: date, name: str, version: str) -> None:
        """Notes that a version is complete."""
        if version and day in self.days:
            self.days[day].complete[name] = version

    def has_newer_segments(self, day: date, covered: Mapping[ChainId, int]) -> bool | None:
        """Tells whether the day has a segment after some ends; None if that is unknown."""
        known = self.days.get(day)
        if known is None:
            return False
        if any(start >= covered.get(chain, 0) for chain, start in known.newest.items()):
            return True
        return False if known.is_whole else None

    def to_json(self) -> list[Any]:
        """Returns JSON values, without the starts of days that have long been complete."""
        complete = sorted(day for day, known in self.days.items() if known.complete and known.newest)
        short = set(complete[:-_WHOLE_DAYS])
        return [_day_json(day, known, is_short=day in short) for day, known in sorted(self.days.items())]

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> "KnownDays":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        return cls({date.fromisoformat(day): _known_day(known) for day, known in data})


def _day_json(day: date, known: KnownDay, *, is_short: bool) -> list[Any]:
    newest = [
        [chain.topic, chain.topic_id, chain.partition, start]
        for chain, start in sorted(known.newest.items())
        if not is_short
    ]
    return [day.isoformat(), {"complete": known.complete, "newest": newest, "whole": known.is_whole and not is_short}]


def _known_day(data: Mapping[str, Any]) -> KnownDay:
    newest = {
        ChainId(str(topic), str(topic_id), int(partition)): int(start)
        for topic, topic_id, partition, start in data["newest"]
    }
    complete = {str(name): str(version) for name, version in data["complete"].items()}
    return KnownDay(complete, newest, bool(data["whole"]))


@dataclass(slots=True)
class DayCatalog:
    """The catalogue as one call uses it. Made by `open_catalog`; not safe to use from several threads."""

    store: ObjectStore
    stored: FollowerObject
    known: KnownDays = field(default_factory=KnownDays)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    fixed: Mapping[ChainId, ChainEnd] = field(default_factory=dict)
    """The ends of all chains, fixed when the catalogue was opened."""

    @property
    def ends(self) -> dict[ChainId, int]:
        """The offsets of the fixed ends."""
        return {chain: end.offset for chain, end in self.fixed.items()}

    @property
    def days(self) -> list[date]:
        """The days with segments, sorted."""
        return sorted(self.known.days)

    def has_newer_segments(self, day: date, name: str, version: str, covered: Mapping[ChainId, int]) -> bool:
        """Tells whether a day has a segment that is newer than a version of a table; if not, notes it as complete.

        Args:
            day: UTC day.
            name: The kind of object, such as `tables`.
            version: Its version; empty to note nothing.
            covered: The end that this version covers in each chain.

        Raises:
            LedgerError: A segment after it cannot be read.
        """
        if self.known.is_complete(day, name, version):
            return False
        found = self.known.has_newer_segments(day, covered)
        if found is None:
            found = has_segment(self.store, day, self.ends, since=covered)
        if not found:
            self.known.note_complete(day, name, version)
        return found

    def save(self) -> bool:
        """Stores the catalogue; False if another process stored one meanwhile, or this account may not write."""
        return not self.checkpoint.chains or self.stored.save(_encode(self.known, self.checkpoint))


def open_catalog(store: ObjectStore) -> DayCatalog:
    """Reads the catalogue and follows the ledger up to its ends; makes a catalogue if there is none.

    Returns:
        The catalogue; `save` stores it.

    Raises:
        TransientError: The store does not answer.
    """
    catalog = _load(store)
    catalog.fixed = fix_ends(store, known=catalog.checkpoint.chains)
    _advance(catalog)
    return catalog


def _load(store: ObjectStore) -> DayCatalog:
    stored = FollowerObject(store, _NAME, _MOST_BYTES)
    return DayCatalog(store, stored, *(stored.load(_decode) or ()))


def _decode(text: bytes) -> tuple[KnownDays, Checkpoint]:
    data: dict[str, Any] = json.loads(text)
    if data["version"] != _VERSION:
        raise ValueError("another version")
    return KnownDays.from_json(data["days"]), Checkpoint.from_json(data["checkpoint"])


def _encode(known: KnownDays, checkpoint: Checkpoint) -> bytes:
    data = {"version": _VERSION, "checkpoint": checkpoint.to_json(), "days": known.to_json()}
    return json.dumps(data, separators=(",", ":")).encode()


def _advance(catalog: DayCatalog) -> None:
    """Notes the segments after the checkpoint, up to the fixed ends."""
    if not catalog.checkpoint.chains:
        # The index is listed after the ends were fixed, so it has an entry for each segment before them.
        repairs = last_handled(list_repairs(catalog.store), after=0)
        catalog.known, catalog.checkpoint = KnownDays(), Checkpoint({}, repairs)
        catalog.known.begin(known_days(catalog.store))
    else:
        try:
            _note_headers(catalog)
        except LostCheckpointError:
            catalog.checkpoint, catalog.known = Checkpoint(), KnownDays()
            _advance(catalog)
            return
        except LedgerError:
            pass  # the build or query that reads the day reports it
        _doubt_what_is_left(catalog)
    known = catalog.checkpoint.chains  # where the last segment is damaged, the next look starts there again
    chains = {chain: last for chain, end in catalog.fixed.items() if (last := end.last or known.get(chain))}
    catalog.checkpoint = Checkpoint(chains, catalog.checkpoint.repairs)


def _note_headers(catalog: DayCatalog) -> None:
    read = 0
    for batch in follow(catalog.store, catalog.checkpoint, ends=catalog.fixed, headers_only=True):
        for day in batch.days:
            catalog.known.doubt(day)
        for forgotten in batch.forgotten:
            catalog.known.forget(forgotten)
        for segment in batch.segments:
            catalog.known.note(segment.chain, segment.start, segment.days)
            read += bool(segment.mark)
        catalog.checkpoint = batch.checkpoint
        if read >= _MOST_READ:
            return


def _doubt_what_is_left(catalog: DayCatalog) -> None:
    """Doubts the days of segments that were not read, as listed in the day index."""
    positions, ends = catalog.checkpoint.ends, catalog.ends
    if all(positions.get(chain, 0) >= end for chain, end in ends.items()):
        return
    for bucket in index_buckets(catalog.store):
        first, end = bucket.number * BUCKET_OFFSETS, (bucket.number + 1) * BUCKET_OFFSETS
        if first < ends.get(bucket.chain, 0) and positions.get(bucket.chain, 0) < end:
            catalog.known.doubt(bucket.day)


def join_versions(versions: Iterable[str | None]) -> str:
    """Returns one version for several objects; empty if one of them is missing."""
    named = list(versions)
    return " ".join(version for version in named if version) if all(named) else ""


@dataclass(slots=True)
class StoredStates:
    """Which stored summaries show everything that the ledger has of their days, without fetching the day tables.

    The day catalogue remembers the answer for each version of a summary and its tables, so it costs requests only once.
    """

    store: ObjectStore
    catalog: DayCatalog
    """A catalogue that has followed the ledger; its owner saves it."""
    _listed: dict[str, Mapping[date, str]] = field(default_factory=dict)
    _versions: dict[tuple[str, date], str] = field(default_factory=dict)

    def listed(self, table: str) -> Mapping[date, str]:
        """Returns the e-tag of each stored day of a table, with one listing."""
        if table not in self._listed:
            self._listed[table] = list_versions(self.store, table)
        return self._listed[table]

    def is_complete(self, manifest: Manifest, e_tag: str) -> bool:
        """Tells whether a stored summary was made of the stored day tables, and the ledger has nothing newer.

        Several threads may ask at once if the day tables were `listed` before. They may read a version twice, which
        harms nothing. Whether the summaries among its inputs are current is for the caller to compare.

        Args:
            e_tag: The version of its object.

        Raises:
            LedgerError: A segment after it cannot be read.
        """
        name, day, known = manifest.table, manifest.day, self.catalog.known
        tables = [table for table in SUMMARIES[name].inputs if table not in SUMMARIES]
        # These objects belong together: once that is known, their manifests need not be read again.
        listed = join_versions([e_tag, *(self.listed(table).get(day) for table in tables)])
        if known.is_complete(day, name, listed):
            return True
        if known.has_newer_segments(day, manifest.ends):
            return False
        if any(manifest.made_of.get(table) != self._version(table, day) for table in tables):
            return False
        return not self.catalog.has_newer_segments(day, name, listed, manifest.ends)

    def _version(self, table: str, day: date) -> str:
        if (table, day) not in self._versions:
            found = read_stored(self.store, stored_key(table, day))
            self._versions[table, day] = found.manifest.version if found else ""
        return self._versions[table, day]
