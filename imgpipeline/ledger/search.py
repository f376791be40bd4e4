"""Finds the last segment of a chain by listings alone, in few requests.

One listing returns 1,000 keys, so a folder of 100,000 segments is searched in steps and halves. A wrong hint costs
requests, but does not change the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from imgpipeline.contracts.keys import FAN_OUT_OFFSETS, ChainId, chain_prefix, parse_segment_key, segment_key
from imgpipeline.objectstore import ObjectInfo, ObjectStore

_PAGE = 1_000
"""Keys that S3 lists in one answer."""
_LOOK_BACK = (64, _PAGE, 4 * _PAGE, 16 * _PAGE)
"""How far before a hint to look. The last segment starts close before it, also where the hint is the chain's end: the
segments of a steady stream are short, those of a backlog as long as an answer. An answer without keys costs little."""
_BEHIND_ALL = 10**20
"""Greater than any offset."""


@dataclass(frozen=True, slots=True, order=True)
class ListedSegment:
    """A segment as a listing names it."""

    start: int
    """Its first offset."""
    e_tag: str
    """Version of its content, as the store names it; may be empty."""


def find_last(store: ObjectStore, chain: ChainId, *, hint: int | None = None) -> ListedSegment | None:
    """Returns a chain's last segment, or None for a chain without one.

    Args:
        store: The object store.
        chain: Which chain.
        hint: An offset near which the chain is believed to end. Any other one costs a few requests.
    """
    behind = _BEHIND_ALL
    if hint is not None and hint >= 0 and store.lists_in_order:
        for back in _LOOK_BACK:
            first = max(hint - back, 0)
            found = _search(store, chain, chain_prefix(chain), first, behind, is_bounded=behind < _BEHIND_ALL)
            if found is not None:
                return found
            behind = first
    for folder in reversed(_folders_before(store, chain, behind)):
        prefix, first = f"{chain_prefix(chain)}/{folder}", int(folder) * FAN_OUT_OFFSETS
        if store.lists_in_order:
            found = _search(store, chain, prefix, first, min(behind, first + FAN_OUT_OFFSETS))
        else:
            found = _list_all(store, chain, prefix, hint or 0)
        if found is not None:
            return found
    return None


def _folders_before(store: ObjectStore, chain: ChainId, behind: int) -> list[str]:
    names = store.list_folders(chain_prefix(chain))
    return [name for name in names if name.isdecimal() and int(name) * FAN_OUT_OFFSETS < behind]


def _search(
    store: ObjectStore, chain: ChainId, prefix: str, low: int, behind: int, *, is_bounded: bool = False
) -> ListedSegment | None:
    """Returns the last segment below a prefix in `[low, behind)`, or None; there is none from `behind` on.

    Goes up in steps that double while there is more behind an answer than it can hold, then halves what is left; with
    `is_bounded` (`behind` was found by looking, and is not only a limit) it halves from the beginning.
    """
    last, at, step = None, low, 0
    while low < behind:
        found, is_full = _list_page(store, chain, prefix, at)
        if is_full and not found:
            return _list_all(store, chain, prefix, 0)  # a thousand objects that are not segments
        if not found:
            behind, is_bounded = at, True
        else:
            last, low = found[-1], found[-1].start + 1
            if not is_full:
                break
        if is_bounded:
            at = low if behind - low <= _PAGE else (low + behind) // 2
        else:
            at = min(low + step, behind - 1)
            step = 2 * step or _PAGE
    return last


def _list_page(store: ObjectStore, chain: ChainId, prefix: str, first: int) -> tuple[list[ListedSegment], bool]:
    """Returns the segments from an offset on that one answer holds, sorted, and whether there may be more."""
    page = list(islice(store.list_objects(prefix, after=_just_before(chain, first)), _PAGE))
    return sorted(_segments(page)), len(page) == _PAGE


def _list_all(store: ObjectStore, chain: ChainId, prefix: str, first: int) -> ListedSegment | None:
    """Returns the last segment in a folder by listing it: where listings have no order, answers have no last key.

    What lies before `first` is left out, unless there is nothing else.
    """
    last = max(_segments(store.list_objects(prefix, after=_just_before(chain, first))), default=None)
    return _list_all(store, chain, prefix, 0) if last is None and first else last


def _segments(infos: Iterable[ObjectInfo]) -> list[ListedSegment]:
    return [ListedSegment(parsed[1], info.e_tag) for info in infos if (parsed := parse_segment_key(info.key))]


def _just_before(chain: ChainId, offset: int) -> str | None:
    return segment_key(chain, offset - 1) if offset else None
