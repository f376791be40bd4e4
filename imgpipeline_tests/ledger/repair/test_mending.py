"""Whatever is damaged, whichever writer runs or sleeps meanwhile, wherever a repair dies: each offset has one outcome.

Hypothesis plays writers that find ends and append, or sleep with an end that nobody else can read any more; objects
that lose their bytes, several at a time, the last one of the chain too; and mendings that other writers interrupt
before and after each put, that others overtake, and that die. After every step no two segments cover one offset, and
what a writer was told it has put is what the chain holds there, unless it was damaged since.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.keys import METADATA
from imgpipeline.contracts.outcomes import offsets_of
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end, list_segments
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import LID, ChainChangedError, Made, Mender, Piece, is_lid, pieces_of
from imgpipeline.ledger.segment import DamagedSegmentError, Fingerprint, decode_segment
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.samples import CHAIN, NOON, PROVENANCE, append, check_ledger, frame, frames, gap

WRITERS = range(3)
MARK = Fingerprint(0, 0, "cd" * 32)


class CrashError(Exception):
    """The process of the mending ends here."""


class MendingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = open_memory_store()
        self.log_end = 4
        self.writers: dict[int, ChainWriter] = {}
        self.names = 0

    @rule(count=st.integers(1, 4))
    def announce(self, count: int) -> None:
        self.log_end += count

    @rule(number=st.sampled_from(WRITERS))
    def find_the_end(self, number: int) -> None:
        self.find_an_end(number)

    def find_an_end(self, number: int) -> None:
        try:
            end = find_end(self.store, CHAIN)
        except DamagedSegmentError:
            return  # the run stops and names the key
        self.writers[number] = ChainWriter(self.store, end, DayIndex(self.store))

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), count=st.integers(1, 3))
    def append(self, data: st.DataObject, count: int) -> None:
        self.attempt(data.draw(st.sampled_from(sorted(self.writers))), count)

    def attempt(self, number: int, count: int) -> None:
        made = self.writers.get(number)
        if made is None or made.end.offset >= self.log_end:
            return
        start = made.end.offset
        try:
            won = append(made, frames(start, min(start + count, self.log_end)))
        except LedgerError:
            won = False  # what lies there is damaged, or a lid
        if not won:
            del self.writers[number]

    @precondition(lambda self: any(self.store.list_objects(METADATA)))
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        starts = list_segments(self.store, CHAIN, 0, 2**40)
        keys = sorted(info.key for info in self.store.list_objects(METADATA))
        assert len(starts) == len(keys)
        key = data.draw(st.sampled_from(keys) | st.just(keys[-1]))
        if self.store.get(key) != LID:
            self.store.put(key, data.draw(st.binary(max_size=3)))

    @rule(
        others=st.lists(
            st.tuples(st.integers(0, 12), st.sampled_from(WRITERS), st.integers(1, 3), st.booleans()), max_size=5
        ),
        dies_at=st.none() | st.integers(0, 10),
        beside=st.none() | st.integers(0, 8),
    )
    def mend(self, others: list[tuple[int, int, int, bool]], dies_at: int | None, beside: int | None) -> None:
        """Mends; at some of its steps others append, another mending does all of it, or it dies."""
        steps = 0

        def reach(_step: str, _key: str) -> None:
            nonlocal steps, beside
            steps += 1
            for at, number, count, looks_first in others:
                if at == steps:
                    if looks_first:
                        self.find_an_end(number)
                    self.attempt(number, count)
            if beside == steps:
                beside = None
                self.mend_all(lambda *_: None)
            if dies_at == steps:
                raise CrashError

        try:
            self.mend_all(reach)
        except CrashError:
            return
        check_ledger(self.store)
        assert find_damage(self.store, CHAIN).is_none

    def mend_all(self, reach: Callable[[str, str], None]) -> None:
        for _ in range(20):
            damage = find_damage(self.store, CHAIN)
            if damage.is_none:
                return
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("imgpipeline.ledger.repair.mending.reach", reach)
                try:
                    for found in damage.covered:
                        self.mender().remove_covered(found)
                    for stretch in damage.stretches:
                        last = stretch.objects[-1] if stretch.objects else None
                        tail_end = last.start + 1 if last and is_lid(last) else self.log_end
                        for _ in self.mender().mend(stretch, pieces_of(stretch, tail_end), self.make, lambda _: None):
                            pass
                except ChainChangedError:
                    continue
        raise AssertionError("it never ends")

    def mender(self) -> Mender:
        return Mender(self.store, CHAIN, PROVENANCE, lambda: NOON, DayIndex(self.store), None)

    @staticmethod
    def make(piece: Piece) -> Iterator[Made]:
        offset = piece.start
        while offset < piece.end:
            longest = min(offset + 2, piece.end)
            yield (gap(offset, longest), None) if offset % 5 == 0 else (frame(offset), MARK)
            offset = longest if offset % 5 == 0 else offset + 1

    @invariant()
    def no_offset_has_two_outcomes(self) -> None:
        position = 0
        for info in sorted(self.store.list_objects(METADATA), key=lambda found: found.key):
            try:
                segment = decode_segment(self.store.get(info.key), info.key)
            except DamagedSegmentError:
                continue
            assert segment.header.start >= position, f"{info.key} overlaps what ends at {position}"
            position = segment.header.end
            assert [offsets_of(outcome) for outcome in segment.outcomes()][-1][1] == position
        assert position <= self.log_end


class TestMending(MendingMachine.TestCase):
    settings = settings(max_examples=examples(30), stateful_step_count=30)
    pytestmark = pytest.mark.fault(40)


class TestMendingForLong(MendingMachine.TestCase):
    settings = settings(max_examples=examples(150), stateful_step_count=30)
    pytestmark: ClassVar = [pytest.mark.fault(40), pytest.mark.slow]


@pytest.mark.fault(40)
def test_while_a_tail_is_repaired_no_run_finds_an_end_before_the_one_that_a_paused_writer_knows(monkeypatch):
    """Without the lid a run would find 1, write [1, 4), and the sleeper, which has seen 3, [3, 5) over it."""
    machine = MendingMachine()
    machine.log_end = 6
    machine.find_the_end(0)
    machine.attempt(0, 3)
    key = next(info.key for info in machine.store.list_objects(METADATA))
    machine.store.put(key, b"")
    found: list[int] = []

    def reach(step: str, at: str) -> None:
        if (step, at) == ("mend put done", key):
            machine.find_the_end(1)
            found.extend(machine.writers)
            machine.attempt(1, 3)
            machine.attempt(0, 2)

    machine.mend_all(reach)
    assert found == [0]
    assert check_ledger(machine.store) == 6
    assert find_end(machine.store, CHAIN).offset == 6
