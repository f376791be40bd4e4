"""Whatever writers, bundlers and repairs do at the same time, and wherever one dies: readers see the ledger's outcomes.

Hypothesis plays writers of several logs, bundlers that sleep between reading the segments and putting the bundle,
segments and bundles that are damaged or removed, and repairs, with bundles or without, that die or are watched at each
step. A day that is read shows the segments that are stored, or the reading fails and a segment is damaged; a follower
that has followed to the end knows the same, wherever it died before.
"""

import contextlib
from copy import deepcopy
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imgpipeline.contracts.keys import METADATA, ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.making import RangeToBundle, find_ranges, make_bundle
from imgpipeline.ledger.chain import ChainWriter, close_chain, find_current_end
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.follow import LostCheckpointError, follow
from imgpipeline.ledger.reading import find_end, list_chains, read_segment
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, open_repair, still_open
from imgpipeline.ledger.segment import SegmentHeader, encode_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, read_days, sparse
from imgpipeline_tests.ledger.faulty_store import CrashError
from imgpipeline_tests.ledger.samples import NOON, append, stored_segments
from imgpipeline_tests.ledger.test_follow import LOGS, Follower, in_ledger, repair_chain


class SleepyStore(ObjectStore):
    """A store in memory that keeps what is put under a bundle's key until it is told to put it."""

    def __init__(self) -> None:
        memory = open_memory_store()
        super().__init__(memory.clients, memory.url)
        self.is_asleep = False
        self.kept: list[tuple[str, bytes]] = []

    def create(self, key: str, data: bytes | memoryview) -> bool:
        if self.is_asleep and key.startswith("metadata_bundles/"):
            self.kept.append((key, bytes(data)))
            return True
        return super().create(key, data)


class ReaderMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = SleepyStore()
        self.follower = Follower()
        self.put: dict[str, str] = {}
        """Who has last put a readable segment under each key."""
        self.found: list[RangeToBundle] = []

    @initialize(counts=st.tuples(*(st.integers(0, 4) for _ in LOGS)), is_followed=st.booleans())
    def begin(self, counts: tuple[int, ...], is_followed: bool) -> None:
        """Without it most examples end before a follower has read anything that could change."""
        for log, count in zip(LOGS, counts, strict=True):
            self.write(log, 3, count)
        if is_followed:
            self.follow(None)

    @rule(log=st.sampled_from(LOGS), length=st.sampled_from([1, 700, 3_000, 9_000, 12_000]), times=st.integers(1, 9))
    def write(self, log: ChainId, length: int, times: int) -> None:
        for number in range(times):
            try:
                end = find_current_end(self.store, log)
            except LedgerError:
                return  # the run stops and names the damaged segment
            outcomes = sparse(end.offset, length, DAYS[number % len(DAYS)])
            assert append(ChainWriter(self.store, end, DayIndex(self.store)), outcomes)

    @rule(log=st.sampled_from(LOGS[:2]))
    def begin_a_new_chain(self, log: ChainId) -> None:
        try:
            end = find_current_end(self.store, log)
        except LedgerError:
            return
        if end.header is not None:
            assert close_chain(self.store, end, run_id="test", created_at=NOON)
            self.write(log, 1, 1)

    @rule()
    def bundle(self) -> None:
        try:
            bundle_all(self.store)
        except LedgerError:
            assert self.damaged()

    @rule()
    def look_for_ranges(self) -> None:
        """A bundler has listed what is to be done, and sleeps."""
        for chain in list_chains(self.store):
            with contextlib.suppress(LedgerError):  # its last segment is damaged
                self.found += find_ranges(self.store, chain, fewest=1)

    @precondition(lambda self: self.found)
    @rule(asleep=st.booleans())
    def read_them(self, asleep: bool) -> None:
        """It reads the segments; it may sleep again before it puts the bundle."""
        self.store.is_asleep = asleep
        for found in self.found:
            make_bundle(self.store, found)
        self.store.is_asleep, self.found = False, []

    @precondition(lambda self: self.store.kept)
    @rule()
    def put_what_was_made_of_them(self) -> None:
        for key, data in self.store.kept:
            self.store.create(key, data)
        self.store.kept = []

    @precondition(lambda self: bundle_keys(self.store))
    @rule(data=st.data(), how=st.sampled_from(["removed", "emptied", "cut"]))
    def hurt_a_bundle(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(bundle_keys(self.store)))
        if how == "removed":
            self.store.delete(key)
        else:
            self.store.put(key, b"" if how == "emptied" else self.store.get(key)[:-200])

    @precondition(lambda self: len(self.put) > 1)
    @rule(data=st.data(), removed=st.booleans())
    def hurt_a_segment(self, data: st.DataObject, removed: bool) -> None:
        keys = sorted(info.key for info in self.store.list_objects(METADATA))
        key = data.draw(st.sampled_from(keys))
        if removed and any(other > key and other.rpartition("/")[0] == key.rpartition("/")[0] for other in keys):
            self.store.delete(key)
        else:
            self.store.put(key, b"damaged")

    @rule(dies_at=st.none() | st.integers(0, 8), restores=st.booleans(), beside=st.integers(0, 8))
    def repair(self, dies_at: int | None, restores: bool, beside: int) -> None:
        """It may die at any step. Days are read at each; at one, the follower and another bundler look, too."""
        steps = 0

        def reach(_step: str, _key: str) -> None:
            nonlocal steps
            self.days_show_what_is_stored()
            if steps == beside:
                self.follow(None)
                self.bundle()
            if steps == dies_at:
                raise CrashError
            steps += 1

        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(CrashError):
            patched.setattr("imgpipeline.ledger.repair.mending.reach", reach)
            for chain in list_chains(self.store):
                repair_chain(self.store, chain, restores=restores)

    @rule(data=st.data(), dies_at=st.none() | st.integers(0, 3), followed_at=st.integers(0, 3))
    def replace_whole_segments(self, data: st.DataObject, dies_at: int | None, followed_at: int) -> None:
        """A repair may change segments that can be read, one by one, until it closes its entry."""
        whole = [chain for chain in list_chains(self.store) if chain not in self.damaged()]
        segments = stored_segments(self.store, data.draw(st.sampled_from(whole))) if whole else []
        if not segments:
            return
        at = data.draw(st.integers(0, len(segments) - 1))
        replaced = [segment.header for segment in segments[at : at + 2]]
        steps = iter(range(4))

        def step() -> None:
            number = next(steps)
            if number == followed_at:
                self.follow(None)
            if number == dies_at:
                raise CrashError

        with contextlib.suppress(CrashError):
            chain, first, behind = replaced[0].chain, replaced[0].start, replaced[-1].end
            opened = open_repair(self.store, chain, first, behind, DAYS)
            for header in replaced:
                step()
                replace_segment(self.store, header)
            step()
            close_repair(self.store, opened)

    @rule(batches=st.none() | st.integers(0, 4))
    def follow(self, batches: int | None) -> None:
        """It may die between two batches."""
        self.follower = self.followed(self.follower, batches)

    def followed(self, follower: Follower, batches: int | None = None) -> Follower:
        """Return the follower that has followed, or the new one that takes its place where its checkpoint is lost: the
        segment before a position was removed, which looks like another ledger.
        """
        try:
            follower.follow(self.store, batches)
        except LostCheckpointError:
            assert self.damaged()
            return self.followed(Follower(), batches)
        except LedgerError:
            assert self.damaged()
        return follower

    def damaged(self) -> list[ChainId]:
        return [chain for chain in list_chains(self.store) if not find_damage(self.store, chain).is_none]

    @invariant()
    def days_show_what_is_stored(self) -> None:
        """Or the reading fails, and something is damaged indeed."""
        damaged = self.damaged()
        for info in self.store.list_objects(METADATA):
            with contextlib.suppress(LedgerError):  # readers of its bundle see what was put before
                self.put[info.key] = read_segment(self.store, info.key).header.writer_id
        for chain in list_chains(self.store):
            try:
                read = read_days(self.store, {chain: find_end(self.store, chain).offset})
            except LedgerError:
                assert chain in damaged
                continue
            assert {(segment_key(chain, start), writer_id) for _, writer_id, start, _ in read} <= self.put.items()
            if chain not in damaged:
                segments = [(s.header.days, s.header.start) for s in stored_segments(self.store, chain)]
                expected = [(day, start) for day in DAYS for days, start in segments if day in days]
                assert [(day, start) for day, _, start, _ in read] == expected

    @invariant()
    def a_follower_at_the_end_knows_what_the_ledger_holds(self) -> None:
        """Of a chain that is damaged it knows what was there; every other one is as it is now, also while a repair that
        has died is open: what it has put is read again each time until the next one closes it.
        """
        damaged = self.damaged()
        resumed = self.followed(deepcopy(self.follower))
        truth = {chain: found for chain, found in self.in_whole_chains(damaged).items() if found}
        assert {chain: resumed.known[chain] for chain in truth} == truth
        if not damaged and not still_open(list_repairs(self.store)):
            assert not list(follow(self.store, resumed.checkpoint)), "what was followed to its end comes again"

    def in_whole_chains(self, damaged: list[ChainId]) -> dict[ChainId, dict[int, tuple[int, str]]]:
        return {
            chain: {s.header.start: (s.header.end, s.header.writer_id) for s in stored_segments(self.store, chain)}
            for chain in list_chains(self.store)
            if chain not in damaged
        }

    @rule()
    def a_new_follower_sees_the_same(self) -> None:
        if not self.damaged():
            fresh = Follower()
            fresh.follow(self.store)
            assert fresh.known == in_ledger(self.store)


def replace_segment(store: ObjectStore, header: SegmentHeader) -> None:
    """Put other bytes in place of a segment, as a repair does: it covers the same offsets."""
    again = replace(header, writer_id=uuid4().hex)
    outcomes = read_segment(store, segment_key(header.chain, header.start)).outcomes()
    store.put(segment_key(header.chain, header.start), encode_segment(again, outcomes))


TestReaders = ReaderMachine.TestCase
TestReaders.settings = settings(max_examples=examples(100), stateful_step_count=25)
TestReaders.pytestmark = [pytest.mark.slow]
