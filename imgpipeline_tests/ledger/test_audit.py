"""A walk over a chain names every fault in it; each test breaks the chain in one way."""

import json
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import FrameStatus, Gap, GapReason, Outcome
from imgpipeline.ledger.audit import ChainAudit, FixedEnd, audit_chain, fix_end, stray_keys
from imgpipeline.ledger.reading import find_end
from imgpipeline.ledger.segment import checksum_of, decode_segment, describe, encode_line, encode_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    NOON,
    PROVENANCE,
    append,
    dead_letter,
    frame,
    frames,
    gap,
    notice,
    stored_segments,
    write_chain,
)


def walk(store: ObjectStore, since: ChainAudit | None = None) -> ChainAudit:
    return audit_chain(store, fix_end(store, CHAIN), since=since)


def smuggle(store: ObjectStore, outcomes: list[Outcome]) -> None:
    """Put a segment at an offset where no writer would put it."""
    header = describe(CHAIN, outcomes, provenance=PROVENANCE, writer_id="smuggler", fingerprint=None, created_at=NOON)
    store.put(segment_key(CHAIN, header.start), encode_segment(header, outcomes))


def rewrite(store: ObjectStore, start: int, change) -> None:
    """Change a segment's header and lines, and correct its checksum."""
    key = segment_key(CHAIN, start)
    segment = decode_segment(store.get(key), key)
    header, lines = change(segment.header.to_json(), segment.body.splitlines(keepends=True))
    body = b"".join(lines)
    data = encode_line({**header, "checksum": checksum_of(header, body)}) + body
    store.put(key, zstandard.ZstdCompressor().compress(data))


def test_a_whole_chain_is_counted_by_outcome(store):
    write_chain(
        store,
        [gap(0, 100)],
        [frame(100), replace(frame(101), status=FrameStatus.GATED), dead_letter(102), dead_letter(103, None)],
        [Gap(104, 110, GapReason.EXPIRED), frame(110), Gap(111, 112, GapReason.MARKER)],
        [notice(112), notice(113, kind=NoticeKind.OFFLINE), frame(114)],
    )
    seen: list[int] = []
    found = audit_chain(store, fix_end(store, CHAIN), progress=seen.append)
    assert found == ChainAudit(
        CHAIN,
        position=115,
        segments=4,
        frames=3,
        gated=1,
        dead_letters=2,
        gaps={"before_first_look": 100, "expired": 6, "marker": 1},
        notices=2,
    )
    assert found.ok
    assert (len(seen), sum(seen)) == (4, 115)


def test_a_walk_continues_where_the_last_one_ended(memory):
    made = write_chain(memory, frames(0, 5), frames(5, 8))
    first = walk(memory)
    append(made, [dead_letter(8), gap(9, 12)])
    memory.delete(segment_key(CHAIN, 0))
    again = walk(memory, first)
    assert (again.position, again.segments, again.frames, again.dead_letters) == (12, 3, 8, 1)
    assert again.gaps == {"before_first_look": 3}
    assert again.ok, "offsets before the last position are not read again"
    assert walk(memory).missing == 5


@pytest.mark.parametrize("removed", [0, 3, 5])
def test_a_removed_segment_leaves_its_offsets_missing(store, removed):
    write_chain(store, frames(0, 3), frames(3, 5), frames(5, 9), frames(9, 10))
    store.delete(segment_key(CHAIN, removed))
    found = walk(store)
    missing = {0: 3, 3: 2, 5: 4}[removed]
    assert (found.missing, found.overlapping, found.frames) == (missing, 0, 10 - missing)
    assert f"[{removed}, {removed + missing})" in found.problems[0]
    assert not found.ok


@pytest.mark.parametrize(("start", "end", "doubled"), [(4, 6, 2), (4, 5, 1), (4, 9, 2), (8, 12, 2), (1, 10, 2)])
def test_a_duplicated_range_is_an_overlap(memory, start, end, doubled):
    write_chain(memory, frames(0, 3), frames(3, 6), frames(6, 10))
    smuggle(memory, frames(start, end))
    found = walk(memory)
    assert found.overlapping >= doubled
    assert found.missing == 0
    assert not found.ok
    assert "more than one outcome" in found.problems[0]


def test_a_damaged_segment_is_named_and_the_walk_continues_after_it(store):
    write_chain(store, frames(0, 3), frames(3, 5), frames(5, 9))
    store.put(segment_key(CHAIN, 3), b"bit rot")
    found = walk(store)
    assert (found.frames, found.missing, found.position) == (7, 2, 9)
    assert segment_key(CHAIN, 3) in found.problems[0]
    assert "imgpipeline ledger repair" in found.problems[0]


def test_damage_at_the_end_of_a_chain_does_not_hide_it(memory):
    write_chain(memory, frames(0, 3), frames(3, 5), frames(5, 9))
    memory.put(segment_key(CHAIN, 5), b"")
    end = fix_end(memory, CHAIN)
    assert (end.offset, len(end.problems)) == (6, 1)
    found = walk(memory)
    assert (found.frames, found.missing) == (5, 1)
    assert segment_key(CHAIN, 5) in found.problems[0]


CHANGES = {
    "an outcome left out": (lambda head, lines: (head, [*lines[:1], *lines[2:]]), "outcome of 2 is where 1"),
    "the last outcome left out": (lambda head, lines: (head, lines[:-1]), "end at 3, expected 4"),
    "an outcome doubled": (lambda head, lines: (head, [lines[0], *lines]), "outcome of 0 is where 1"),
    "other counts": (lambda head, lines: (head | {"frames": 9}, lines), "holds"),
    "other gaps": (lambda head, lines: (head | {"gaps": {"expired": 1}}, lines), "holds"),
    "another day": (lambda head, lines: (head | {"days": ["2026-01-10"]}, lines), "are of"),
    "a line that is none": (lambda head, lines: (head, [*lines[:2], b"{}\n", *lines[3:]]), "not an outcome"),
    "a line that is no JSON": (lambda head, lines: (head, [*lines[:2], b"{\n", *lines[3:]]), "not an outcome"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_body_that_contradicts_its_header_is_named_even_with_a_valid_checksum(memory, change, message):
    write_chain(memory, [frame(0), frame(1), dead_letter(2), frame(3)], frames(4, 6))
    rewrite(memory, 0, change)
    found = walk(memory)
    assert not found.ok
    assert len(found.problems) == 1
    assert segment_key(CHAIN, 0) in found.problems[0]
    assert message in found.problems[0]


def test_keys_that_are_not_segments_are_listed(memory):
    write_chain(memory, frames(0, 3))
    strays = [segment_key(CHAIN, 3) + ".tmp", "metadata/notes.txt"]
    for key in strays:
        memory.put(key, json.dumps("stray").encode())
    assert stray_keys(memory) == sorted(strays)
    assert walk(memory).ok


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_missing_offsets_are_exactly_those_of_the_removed_segments(lengths, data):
    store, starts = open_memory_store(), [sum(lengths[:n]) for n in range(len(lengths))]
    write_chain(store, *([gap(s, s + n)] for s, n in zip(starts, lengths, strict=True)))
    end = find_end(store, CHAIN).offset
    removed = data.draw(st.sets(st.sampled_from(starts), max_size=len(starts) - 1))
    for start in removed:
        store.delete(segment_key(CHAIN, start))
    found = audit_chain(store, FixedEnd(CHAIN, end))
    left = sum(s.header.end - s.header.start for s in stored_segments(store))
    assert (found.missing, found.position, found.overlapping) == (end - left, end, 0)
    assert found.ok == (not removed)
