"""The repair list: which outcomes have changed, for followers and for the tables of the days that they touch.

An entry of the repair list is put before the first segment of a range changes, and another one that closes it after the
last change. If a repair dies in between, the next repair closes the entry once the chain is intact. Entries are
numbered without gaps and put create-only, so no entry ever appears before one that a follower has seen.

A repair changes outcomes before the ends in the manifests of tables. A manifest therefore also has the number of the
last entry that names its day, so a later entry shows that the day is stale, whichever process dies in between.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import REPAIR_LIST, ChainId, numbered_key
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.numbered import append_entry, list_numbers
from imgpipeline.objectstore.parallel import map_ahead


@dataclass(frozen=True, slots=True)
class Repair:
    """One entry of the repair list."""

    number: int
    """From 1, without gaps."""
    chain: ChainId
    first: int
    """First offset whose outcome may have changed."""
    behind: int
    """First offset after the range; `OFFSET_LIMIT` for all offsets from `first` on."""
    days: tuple[date, ...]
    """Known UTC days that the range touched before or touches now, sorted."""
    closes: int | None = None
    """Number of the entry that opened this repair; None for an opening entry."""


_ENTRY = TypeAdapter(Repair)
_READ: WeakKeyDictionary[ObjectStore, dict[int, Repair]] = WeakKeyDictionary()
"""The entries of each store that this process has read; entries never change."""


def open_repair(store: ObjectStore, chain: ChainId, first: int, behind: int, days: Iterable[date]) -> Repair:
    """Announces that outcomes in a range are about to change, and makes the range's bundles unreadable.

    Call it before a repair replaces, removes or puts the first segment that starts in the range. `days` are the known
    days that it touches.

    Raises:
        TransientError: The store does not answer.
    """
    return _append(store, Repair(0, chain, first, behind, tuple(sorted(set(days)))))


def close_repair(store: ObjectStore, opened: Repair) -> Repair:
    """Says that a repair is over: its range has its final outcomes.

    Raises:
        TransientError: The store does not answer.
    """
    return _append(store, replace(opened, closes=opened.number))


def list_repairs(store: ObjectStore, *, after: int = 0) -> list[Repair]:
    """Returns the entries after a number, in order; costs one listing, and a request per new entry.

    Raises:
        LedgerError: An entry cannot be read.
        TransientError: The store does not answer.
    """
    numbers = list_numbers(store, REPAIR_LIST, after=after)
    # The listing of a folder is not atomic, so an entry counts only if all entries before it were seen.
    known = [number for number, expected in zip(numbers, count(after + 1)) if number == expected]
    read = _READ.setdefault(store, {})
    return list(map_ahead(lambda number: read.get(number) or read.setdefault(number, _read(store, number)), known))


def last_repair_of(day: date, repairs: Iterable[Repair]) -> int:
    """Returns the number of the last entry that names a day; 0 if none does."""
    return max((repair.number for repair in repairs if day in repair.days), default=0)


def still_open(repairs: Collection[Repair]) -> list[Repair]:
    """Returns the opening entries that no other entry closes."""
    closed = {repair.closes for repair in repairs}
    return [repair for repair in repairs if repair.closes is None and repair.number not in closed]


def last_handled(repairs: Collection[Repair], *, after: int) -> int:
    """Returns the number of the last entry before the first open one.

    `repairs` are the entries after the number `after` (`list_repairs`).
    """
    return min((repair.number - 1 for repair in still_open(repairs)), default=after + len(repairs))


def _append(store: ObjectStore, repair: Repair) -> Repair:
    content = _ENTRY.dump_python(repair, mode="json", exclude={"number"})
    return replace(repair, number=append_entry(store, REPAIR_LIST, content))


def _read(store: ObjectStore, number: int) -> Repair:
    key = numbered_key(REPAIR_LIST, number)
    try:
        return _ENTRY.validate_python({**json.loads(store.get(key)), "number": number})
    except (ValueError, TypeError, ConfigurationError) as error:
        raise LedgerError(
            f"{key} is not an entry of the repair list ({type(error).__name__}).",
            next_step="put a copy of the previous entry there, and delete metadata_followers/, which is rebuilt",
        ) from None
