"""Any interleaving of writers, faults and readers keeps the ledger's promise.

Hypothesis plays several writers that find ends, append, die before or after each put, lose answers, and are overtaken
in the middle of an append; and readers that fix ends and read days later. After every step: each offset has exactly one
outcome, the chain has no hole, the day index misses no segment, and what a writer was told is what the store holds.
"""

from datetime import date, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.outcomes import Outcome, RecordOutcome
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex, read_day
from imgpipeline.ledger.reading import find_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.faulty_store import CrashError, FaultyStore
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    append,
    check_ledger,
    dead_letter,
    frame,
    gap,
    notice,
    stored_segments,
)

WRITERS = range(3)

segment_faults = st.lists(
    st.sampled_from(
        ["none", "none", "not stored", "answer lost", "lost against itself", "crash before", "crash after", "overtaken"]
    ),
    max_size=5,
)
index_faults = st.lists(st.sampled_from(["none", "crash before", "crash after", "not stored", "overtaken"]), max_size=1)
days = st.integers(0, 2).map(lambda n: DAY + timedelta(days=n))
kinds = st.lists(
    st.tuples(st.sampled_from(["frame", "dead letter", "nowhere", "notice", "gap", "long gap"]), days),
    min_size=1,
    max_size=4,
)


def outcomes_from(start: int, wanted: list[tuple[str, date]]) -> list[Outcome]:
    made: list[Outcome] = []
    for kind, day in wanted:
        if kind == "frame":
            made.append(frame(start, day))
        elif kind == "notice":
            made.append(notice(start, day))
        elif kind in ("dead letter", "nowhere"):
            made.append(dead_letter(start, day if kind == "dead letter" else None))
        else:
            made.append(gap(start, start + (3 if kind == "gap" else 99_400)))
        start = made[-1].end if kind.endswith("gap") else start + 1
    return made


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = FaultyStore()
        self.writers: dict[int, ChainWriter] = {}
        self.indexes: dict[int, DayIndex] = {}
        self.told: dict[str, bool] = {}
        self.attempts = 0
        self.fixed: list[tuple[int, dict[date, list[tuple[int, str]]]]] = []

    @rule(number=st.sampled_from(WRITERS), hint=st.none() | st.integers(0, 300_000), own=st.booleans())
    def find_the_end(self, number: int, hint: int | None, own: bool) -> None:
        if own and number in self.writers:
            hint = self.writers[number].end.hint
        index = self.indexes.setdefault(number, DayIndex(self.store))
        self.writers[number] = ChainWriter(self.store, find_end(self.store, CHAIN, hint=hint), index)

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), wanted=kinds, others=kinds, index=index_faults, segment=segment_faults)
    def append(self, data: st.DataObject, wanted, others, index: list[str], segment: list[str]) -> None:
        number = data.draw(st.sampled_from(sorted(self.writers)))
        other = data.draw(st.sampled_from(sorted(self.writers)))
        self.store.faults = {"index": index, "segment": segment}
        self.store.in_between = (lambda: self.attempt(other, others)) if other != number else None
        self.attempt(number, wanted)
        self.store.faults = {"index": [], "segment": []}

    def attempt(self, number: int, wanted: list[tuple[str, date]]) -> None:
        if number not in self.writers:
            return
        writer = self.writers[number]
        self.attempts += 1
        writer_id = f"{number}-{self.attempts}"
        start = writer.end.offset
        try:
            self.told[writer_id] = append(writer, outcomes_from(start, wanted), writer_id)
        except CrashError:
            del self.writers[number], self.indexes[number]
        except TransientError:
            pass  # the writer lives on, with the end that it had, and may try again
        else:
            assert (writer.end.offset > start) == self.told[writer_id]

    @rule()
    def fix_ends(self) -> None:
        self.fixed.append((find_end(self.store, CHAIN).offset, self.of_days(stored_segments(self.store))))

    @precondition(lambda self: self.fixed)
    @rule(data=st.data())
    def read_days_as_of_fixed_ends(self, data: st.DataObject) -> None:
        end, expected = data.draw(st.sampled_from(self.fixed))
        for n in range(3):
            day = DAY + timedelta(days=n)
            read = self.of_days(read_day(self.store, day, {CHAIN: end}))
            assert read.get(day, []) == expected.get(day, [])

    @staticmethod
    def of_days(segments) -> dict[date, list[tuple[int, str]]]:
        found: dict[date, list[tuple[int, str]]] = {}
        for segment in segments:
            for outcome in segment.outcomes():
                if isinstance(outcome, RecordOutcome) and outcome.day:
                    found.setdefault(outcome.day, []).append((outcome.offset, segment.header.writer_id))
        return found

    @invariant()
    def every_offset_has_exactly_one_outcome_and_every_writer_was_told_the_truth(self) -> None:
        end = check_ledger(self.store)
        assert find_end(self.store, CHAIN).offset == end
        stored = {segment.header.writer_id for segment in stored_segments(self.store)}
        for writer_id, won in self.told.items():
            assert (writer_id in stored) == won, f"{writer_id} was told {won}"

    @precondition(lambda self: len(stored_segments(self.store)) > 1)
    @rule(data=st.data())
    def a_removed_segment_never_gives_a_short_day(self, data: st.DataObject) -> None:
        keys = sorted(info.key for info in self.store.list_objects("metadata"))
        key = data.draw(st.sampled_from(keys))
        ends = {CHAIN: find_end(self.store, CHAIN).offset}
        kept = self.store.get(key)
        touched = [
            segment for segment in stored_segments(self.store) if key.endswith(f"{segment.header.start:020d}.jsonl.zst")
        ]
        self.store.delete(key)
        for day in touched[0].header.days:
            try:
                list(read_day(self.store, day, ends))
            except LedgerError:
                continue
            raise AssertionError(f"{day} was read without {key}")
        ObjectStore.put(self.store, key, kept)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=examples(150), stateful_step_count=25)
