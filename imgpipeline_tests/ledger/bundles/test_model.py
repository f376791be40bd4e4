"""Whatever writers, bundlers and repairs do at the same time, and wherever one dies: readers see the ledger's outcomes.

Hypothesis plays a writer, bundlers that sleep between reading the segments and putting the bundle, segments and bundles
that are damaged or removed, and repairs, with bundles or without, that die or are watched at each step. A day that is
read shows, at every step, for every segment the outcomes that were last put there, or the reading fails and names what
is damaged.
"""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.keys import METADATA
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.making import RangeToBundle, find_ranges, make_bundle
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end, read_segment
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import Made, Mender, Piece, Restoring, pieces_of
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, read_days, sparse
from imgpipeline_tests.ledger.samples import CHAIN, NOON, PROVENANCE, append, check_ledger, frame, gap, stored_segments


class CrashError(Exception):
    """The process ends here."""


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


class BundleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = SleepyStore()
        self.put: dict[int, str] = {}
        """Who has last put a segment at each start."""
        self.found: list[RangeToBundle] = []
        self.number = 0

    @rule(length=st.sampled_from([1, 700, 3_000, 9_000, 12_000]), day=st.sampled_from(DAYS), times=st.integers(1, 6))
    def write(self, length: int, day, times: int) -> None:
        for _ in range(times):
            try:
                end = find_end(self.store, CHAIN)
            except LedgerError:
                return  # the run stops and names the damaged segment
            self.number += 1
            writer = ChainWriter(self.store, end, DayIndex(self.store))
            assert append(writer, sparse(end.offset, length, day), f"writer-{self.number}")
            self.put[end.offset] = f"writer-{self.number}"

    @rule()
    def bundle(self) -> None:
        try:
            bundle_all(self.store)
        except LedgerError:
            assert not find_damage(self.store, CHAIN).is_none

    @rule()
    def look_for_ranges(self) -> None:
        """A bundler has listed what is to be done, and sleeps."""
        try:
            self.found += find_ranges(self.store, CHAIN, fewest=1)
        except LedgerError:
            assert not find_damage(self.store, CHAIN).is_none

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
        if removed and key != keys[-1]:
            self.store.delete(key)
        else:
            self.store.put(key, b"damaged")

    @rule(dies_at=st.none() | st.integers(0, 6), restores=st.booleans(), beside=st.integers(0, 6))
    def repair(self, dies_at: int | None, restores: bool, beside: int) -> None:
        """At one step another one bundles, and readers look at all of them."""
        steps = 0

        def reach(_step: str, _key: str) -> None:
            nonlocal steps
            self.note_what_is_there()
            self.days_show_what_was_put()
            if steps == beside:
                self.bundle()
            if steps == dies_at:
                raise CrashError
            steps += 1

        try:
            self.repair_all(reach, restores=restores)
        except CrashError:
            self.note_what_is_there()
            return
        self.note_what_is_there()
        check_ledger(self.store)

    def repair_all(self, reach: Callable[[str, str], None], *, restores: bool) -> None:
        for _ in range(10):
            damage = find_damage(self.store, CHAIN)
            if damage.is_none:
                return
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("imgpipeline.ledger.repair.mending.reach", reach)
                if restores:
                    damage = Restoring(self.store, CHAIN, lambda _: None, dry_run=False).restore(damage)
                mender = Mender(self.store, CHAIN, PROVENANCE, lambda: NOON, DayIndex(self.store), None)
                for found in damage.covered:
                    mender.remove_covered(found)
                for stretch in damage.stretches:
                    last = stretch.objects[-1] if stretch.objects else None
                    pieces = pieces_of(stretch, last.start + 1 if last else 0)
                    for _ in mender.mend(stretch, pieces, self.make, lambda _: None):
                        self.note_what_is_there()
        raise AssertionError("it never ends")

    @staticmethod
    def make(piece: Piece) -> Iterator[Made]:
        made = [frame(piece.start, DAYS[0])]
        rest = [gap(piece.start + 1, piece.end)] if piece.end - piece.start > 1 else []
        return iter([(outcome, None) for outcome in (*made, *rest)])

    def note_what_is_there(self) -> None:
        """Takes over what a repair has put; of what cannot be read, the outcomes are those that were put before."""
        for info in self.store.list_objects(METADATA):
            try:
                header = read_segment(self.store, info.key).header
            except LedgerError:
                continue
            self.put[header.start] = header.writer_id

    @invariant()
    def days_show_what_was_put(self) -> None:
        """Or the reading fails, and something is damaged indeed."""
        try:
            ends = {CHAIN: find_end(self.store, CHAIN).offset}
            read = read_days(self.store, ends)
        except LedgerError:
            assert not find_damage(self.store, CHAIN).is_none
            return
        for _, writer_id, start, _ in read:
            assert self.put[start] == writer_id, f"at {start} is what {writer_id} has put, not {self.put[start]}"

    @invariant()
    def a_whole_ledger_is_read_whole(self) -> None:
        if not find_damage(self.store, CHAIN).is_none:
            return
        expected = [
            (day, segment.header.writer_id, segment.header.start)
            for day in DAYS
            for segment in stored_segments(self.store)
            if day in segment.header.days
        ]
        ends = {CHAIN: find_end(self.store, CHAIN).offset}
        assert [found[:3] for found in read_days(self.store, ends)] == expected


TestBundles = BundleMachine.TestCase
TestBundles.settings = settings(max_examples=examples(100), stateful_step_count=25)
TestBundles.pytestmark = [pytest.mark.slow]
