"""Any interleaving of writers, builders, readers, faults and changes of the topic keeps the whole promise.

Hypothesis plays a topic that grows, is deleted and created again, or is cut and filled again under its id; runs that
find the end of its chain, hold what they have fetched, append late, die before or after each put, lose answers and are
overtaken; the closing of a chain whose log is gone; builds of days and of summaries that die, lose answers, are
overtaken, or come last with older ends; and live queries. After every step that has changed the store: each offset of
each chain has one outcome, the day index misses nothing, no manifest went backwards, stored tables and summaries are
what the ledger gives, and readers see every frame once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.keys import ChainId, summary_key
from imgpipeline.contracts.outcomes import Gap, GapReason, Outcome
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.storage.manifest import read_manifest, read_stored
from imgpipeline.ledger.chain import ChainWriter, close_chain, find_current_end
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import ChainEnd, fix_ends
from imgpipeline.ledger.segment import Fingerprint
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.examples import examples
from imgpipeline_tests.faults.invariant import Held, chosen, count_labels, read_ledger, shown
from imgpipeline_tests.lake.samples import LABELS, seen
from imgpipeline_tests.ledger.faulty_store import CrashError, FaultyStore
from imgpipeline_tests.ledger.samples import DAY, NOON, PROVENANCE, dead_letter, notice

DAYS = (DAY, DAY + timedelta(days=1))
WRITERS = range(3)
SUMMARY = "label_counts"


@dataclass
class Run:
    """A detection run: the records it has fetched, and the chain that it writes."""

    topic_id: str
    records: list[int]
    writer: ChainWriter


def outcome(offset: int, content: int) -> Outcome:
    """Returns the outcome of a record, with few names, so that frames are announced twice, also in other topics."""
    day = DAYS[content % 2]
    if content % 7 == 0:
        return dead_letter(offset, day if content % 3 else None)
    if content % 11 == 0:
        return notice(offset, day)
    if content % 5 == 0:
        return Gap(offset, offset + 1, GapReason.MARKER)
    labels = [LABELS[(content + n) % 3] for n in range(content % 3)]
    return replace(seen(content % 11, labels, day), offset=offset)


def mark(offset: int, content: int) -> Fingerprint:
    return Fingerprint(offset, 0, sha256(b"%d" % content).hexdigest())


puts = st.sampled_from(["none", "none", "not stored", "answer lost", "lost against itself", "crash before",
                        "crash after", "overtaken"])  # fmt: skip
index_puts = st.sampled_from(["none", "none", "crash before", "crash after", "not stored", "overtaken"])
runs = st.sampled_from(WRITERS)
days = st.sampled_from(DAYS)


class LakeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = FaultyStore()
        self.topic = 0
        self.log: list[int] = []
        self.made = 0
        self.attempts = 0
        self.runs: dict[int, Run] = {}
        self.older: list[dict[ChainId, int]] = []
        self.reached: dict[tuple[str, date], dict[ChainId, int]] = {}
        self.seen: dict[str, str] = {}

    @property
    def chain(self) -> ChainId:
        return ChainId("frames", f"id-{self.topic}", 0)

    @rule(count=st.integers(1, 6))
    def announce(self, count: int) -> None:
        self.log += range(self.made, self.made + count)
        self.made += count

    @rule()
    def make_the_topic_anew(self) -> None:
        self.topic, self.log = self.topic + 1, []

    @precondition(lambda self: self.log)
    @rule(data=st.data(), refilled=st.integers(0, 6))
    def cut_the_log_and_fill_it_again(self, data: st.DataObject, refilled: int) -> None:
        self.log = self.log[: data.draw(st.integers(0, len(self.log) - 1))]
        if refilled:
            self.announce(refilled)

    def contradicts(self, end: ChainEnd) -> bool:
        found = end.header.fingerprint if end.header else None
        return end.offset > len(self.log) or (found is not None and mark(found.offset, self.log[found.offset]) != found)

    @rule(number=runs)
    def begin_a_run(self, number: int) -> None:
        end = find_current_end(self.store, self.chain)
        if not self.contradicts(end):
            writer = ChainWriter(self.store, end, DayIndex(self.store))
            self.runs[number] = Run(self.chain.topic_id, list(self.log), writer)

    @precondition(lambda self: self.runs)
    @rule(
        data=st.data(),
        count=st.integers(1, 3),
        index=st.lists(index_puts, max_size=1),
        segment=st.lists(puts, max_size=4),
    )
    def append(self, data: st.DataObject, count: int, index: list[str], segment: list[str]) -> None:
        number, other = (data.draw(st.sampled_from(sorted(self.runs))) for _ in range(2))
        with_faults = {"index": index, "segment": segment}
        self.meet(with_faults, lambda: self.attempt(number, count), lambda: self.attempt(other, 1))

    def attempt(self, number: int, count: int) -> None:
        run = self.runs.get(number)
        if run is None:
            return
        start = run.writer.end.offset
        fetched = run.records[start : start + count]
        if not fetched or run.topic_id != self.chain.topic_id:  # the id is asked for before a segment is put
            return
        self.attempts += 1
        outcomes = [outcome(start + n, content) for n, content in enumerate(fetched)]
        last = mark(start + len(fetched) - 1, fetched[-1])
        try:
            won = run.writer.append(
                outcomes,
                provenance=PROVENANCE,
                writer_id=f"{number}-{self.attempts}",
                fingerprint=last,
                created_at=NOON,
            )
        except CrashError:
            self.runs.pop(number, None)
        except TransientError:
            pass  # it lives on with the end that it had
        else:
            if not won:
                self.runs.pop(number, None)

    @rule(segment=st.lists(puts, max_size=3))
    def close_the_chain_of_a_log_that_is_gone(self, segment: list[str]) -> None:
        end = find_current_end(self.store, self.chain)
        if self.contradicts(end):
            close = lambda: close_chain(self.store, end, run_id="closing", created_at=NOON)  # noqa: E731 - used once
            self.meet({"segment": segment}, close, lambda: self.attempt(0, 1))

    @rule()
    def remember_the_ends(self) -> None:
        self.older.append({chain: end.offset for chain, end in fix_ends(self.store).items()})

    @rule(data=st.data(), day=days, other=days, force=st.booleans(), table=st.lists(puts, max_size=3))
    def build(self, data: st.DataObject, day: date, other: date, force: bool, table: list[str]) -> None:
        ends = data.draw(st.none() | st.sampled_from(self.older)) if self.older else None

        def overtake() -> None:
            self.attempt(0, 1)
            rebuild_day(self.store, other, now=NOON, force=True)

        self.meet({"table": table}, lambda: rebuild_day(self.store, day, now=NOON, force=force, ends=ends), overtake)

    @rule(day=days, force=st.booleans(), table=st.lists(puts, max_size=2))
    def summarise(self, day: date, force: bool, table: list[str]) -> None:
        def overtake() -> None:
            rebuild_day(self.store, day, now=NOON)
            build_summary(self.store, SUMMARY, day, settings=Settings(), now=NOON)

        if read_manifest(self.store, "detections", day):
            self.meet(
                {"table": table},
                lambda: build_summary(self.store, SUMMARY, day, settings=Settings(), now=NOON, force=force),
                overtake,
            )

    def meet(self, faults: dict[str, list[str]], act: Callable[[], object], overtake: Callable[[], None]) -> None:
        """Does something while puts fail; a process that meets a fault dies, or gives up as it would."""
        self.store.faults, self.store.in_between = faults, overtake
        try:
            act()
        except (CrashError, TransientError):
            pass
        finally:
            self.store.faults, self.store.in_between = {}, None

    @invariant()
    def the_whole_promise_holds(self) -> None:
        objects = {info.key: info.e_tag for info in self.store.list_objects() if not info.key.startswith("audit/")}
        if objects == self.seen:
            return
        held = read_ledger(self.store)
        for chain, frames in held.ends.items():
            assert fix_ends(self.store)[chain].offset == frames
        self.nothing_went_backwards()
        self.stored_dead_letters_are_those_of_the_ledger(held)
        report = audit(self.store, list, full=True, now=NOON)
        assert not report.problems, report.problems
        assert shown(self.store) == (chosen(held.frames), count_labels(held.frames))
        self.seen = objects

    def stored_dead_letters_are_those_of_the_ledger(self, held: Held) -> None:
        for day in DAYS:
            stored = read_manifest(self.store, "dead_letters", day)
            if stored:
                listed = (letter for letter in held.dead_letters if letter["day"] == day.isoformat())
                reached = [letter for letter in listed if letter["offset"] < stored.ends.get(letter["chain"], 0)]
                assert stored.rows == len(reached)

    def nothing_went_backwards(self) -> None:
        for day in DAYS:
            found = {table: read_manifest(self.store, table, day) for table in ("frames", "detections", "dead_letters")}
            summary = read_stored(self.store, summary_key(SUMMARY, day))
            for table, manifest in {**found, SUMMARY: summary.manifest if summary else None}.items():
                before = self.reached.get((table, day), {})
                now = dict(manifest.ends) if manifest else {}
                assert all(now.get(chain, 0) >= end for chain, end in before.items()), (
                    f"{table} of {day} went backwards"
                )
                self.reached[table, day] = now

    def teardown(self) -> None:
        """In the end the next process makes everything complete and current."""
        for day in DAYS:
            rebuild_day(self.store, day, now=NOON)
            build_summary(self.store, SUMMARY, day, settings=Settings(), now=NOON)
        self.the_whole_promise_holds()


class TestLake(LakeMachine.TestCase):
    settings = settings(max_examples=examples(4), stateful_step_count=15)


@pytest.mark.slow
class TestLakeForLong(LakeMachine.TestCase):
    settings = settings(max_examples=examples(25), stateful_step_count=25)
