"""Stretches of chains that hold nothing of a day, so that they are not read again.

The day index knows segments by the thousand offsets. Where few frames a second come, most of the thousand behind a
day's last build belongs to the next day, and without this each query would read it again, for each day that there is.

Owns the notes and their file in the local cache. It promises that a note only ever saves reading: it is taken only
while the chain is the one it was made of (the segment at the chain's end of then is still there, from the same writer),
and only for tables that reach at least to where the note begins.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import ChainEnd, fix_ends, for_each_chain
from imgpipeline.ledger.reading import read_segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

Stretch = tuple[int, int]
"""Offsets `[since, until)` of a chain in which no segment begins that touches a day."""


@dataclass(slots=True)
class QuietNotes:
    """What is known of one store."""

    days: dict[date, dict[ChainId, Stretch]] = field(default_factory=dict)
    """For each day the quiet stretch of each chain."""

    def skip(self, day: date, covered: Mapping[ChainId, int]) -> dict[ChainId, int]:
        """Returns from where on a day has to be read.

        Args:
            day: UTC day.
            covered: Up to where the day's tables reach in each chain.
        """
        found = dict(covered)
        for chain, (since, until) in self.days.get(day, {}).items():
            if since <= found.get(chain, 0) < until:
                found[chain] = until
        return found

    def note(self, day: date, covered: Mapping[ChainId, int], until: Mapping[ChainId, int]) -> None:
        """Notes that nothing of a day lies between what its tables cover and some ends."""
        stretches = {chain: (covered.get(chain, 0), end) for chain, end in until.items()}
        self.days[day] = {chain: stretch for chain, stretch in stretches.items() if stretch[0] < stretch[1]}

    def keep_only(self, chains: Collection[ChainId]) -> None:
        """Forgets what is known of other chains."""
        for stretches in self.days.values():
            for chain in stretches.keys() - set(chains):
                del stretches[chain]

    def to_json(self, known: Collection[ChainId]) -> list[dict[str, Any]]:
        """Returns the stretches of some chains as JSON objects."""
        return [
            {**_named(chain), "day": day.isoformat(), "since": since, "until": until}
            for day, stretches in self.days.items()
            for chain, (since, until) in stretches.items()
            if chain in known
        ]

    def add(self, lines: Iterable[Mapping[str, Any]], known: Collection[ChainId]) -> None:
        """Adds what `to_json` wrote, of some chains; raises KeyError, TypeError or ValueError for something else."""
        for line in lines:
            if _chain(line) in known:
                stretches = self.days.setdefault(date.fromisoformat(line["day"]), {})
                stretches[_chain(line)] = (int(line["since"]), int(line["until"]))


def fix_ends_with_notes(store: ObjectStore, folder: Path) -> tuple[dict[ChainId, ChainEnd], QuietNotes]:
    """Reads the ends of all chains, and the notes on the store that still hold: none where they cannot be read.

    Args:
        store: The object store.
        folder: The cache's folder.

    Raises:
        LedgerError: The last segment of a chain cannot be read.
        TransientError: The store does not answer.
    """
    marks: dict[ChainId, tuple[int, str]] = {}
    notes = QuietNotes()
    try:
        data = json.loads(_file(store, folder).read_bytes())
        marks = {_chain(m): (int(m["start"]), str(m["writer_id"])) for m in data["marks"]}
        notes.add(data["notes"], marks)
    except (OSError, ValueError, KeyError, TypeError):
        marks, notes = {}, QuietNotes()
    ends = fix_ends(store, {chain: start for chain, (start, _) in marks.items()})
    known = sorted(marks.keys() & ends.keys())
    still_there = for_each_chain(known, lambda chain: _still_there(store, ends[chain], marks[chain]))
    notes.keep_only({chain for chain, yes in zip(known, still_there, strict=True) if yes})
    return ends, notes


def write_notes(store: ObjectStore, folder: Path, notes: QuietNotes, ends: Iterable[ChainEnd]) -> None:
    """Keeps the notes; a disk that cannot be written only makes the next session read more.

    Args:
        store: The object store.
        folder: The cache's folder.
        notes: All of them.
        ends: The ends of all chains as they were fixed for the newest notes.
    """
    headers = [end.header for end in ends if end.header is not None]
    marks = [{**_named(h.chain), "start": h.start, "writer_id": h.writer_id} for h in headers]
    known = {header.chain for header in headers}
    with contextlib.suppress(OSError):
        path = _file(store, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(json.dumps({"marks": marks, "notes": notes.to_json(known)}).encode())
        os.replace(file.name, path)  # noqa: PTH105 - a name, not a path


def _still_there(store: ObjectStore, end: ChainEnd, mark: tuple[int, str]) -> bool:
    start, writer_id = mark
    if end.header is not None and end.header.start == start:
        return end.header.writer_id == writer_id
    try:
        return read_segment(store, segment_key(end.chain, start)).header.writer_id == writer_id
    except (ObjectMissingError, LedgerError):
        return False


def _file(store: ObjectStore, folder: Path) -> Path:
    return folder / "quiet" / f"{sha256(store.url.encode()).hexdigest()[:40]}.json"


def _named(chain: ChainId) -> dict[str, Any]:
    return {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}


def _chain(data: Mapping[str, Any]) -> ChainId:
    return ChainId(data["topic"], data["topic_id"], data["partition"])
