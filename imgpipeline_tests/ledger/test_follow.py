"""A follower sees every outcome after its checkpoint, whatever is written, repaired or bundled, wherever it dies."""

import contextlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imgpipeline.contracts.keys import METADATA, ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import Batch, Checkpoint, LostCheckpointError, close_chain, find_current_end, find_end, follow
from imgpipeline.ledger.bundles.catalog import put_mark
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.follow import OffsetRange
from imgpipeline.ledger.reading import list_chains, read_segment
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import Made, Mender, Piece, pieces_of
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, open_repair, still_open
from imgpipeline.ledger.segment import SegmentHeader, seal_segment
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import Fetched, open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, sparse
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    NOON,
    PROVENANCE,
    append,
    frame,
    frames,
    gap,
    stored_segments,
    writer,
)
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

LOGS = [CHAIN, ChainId("frames", "dGVzdA_topic-id", 1), ChainId("import.yard", "detections", 0)]


class CrashError(Exception):
    """The process of a follower or a repair ends here."""


class Follower:
    """Keeps which segment gave each offset its outcome, and saves it together with the checkpoint."""

    def __init__(self) -> None:
        self.checkpoint = Checkpoint()
        self.known: dict[ChainId, dict[int, tuple[int, str]]] = {}
        """By the first offset of a stretch, the first offset after it and the writer id of its segment."""

    def take(self, batch: Batch) -> None:
        for forgotten in batch.forgotten:
            self.forget(forgotten)
        for followed in batch.segments:
            assert followed.segment is not None
            chain = self.known.setdefault(followed.chain, {})
            for first, (behind, _) in chain.items():
                assert behind <= followed.start or followed.end <= first, f"{followed.chain} {followed.start} twice"
            chain[followed.start] = (followed.end, followed.segment.header.writer_id)
        self.checkpoint = Checkpoint.from_json(batch.checkpoint.to_json())

    def forget(self, offsets: OffsetRange) -> None:
        kept = {}
        for first, (behind, writer_id) in self.known.get(offsets.chain, {}).items():
            if first < offsets.first:
                kept[first] = (min(behind, offsets.first), writer_id)
            if offsets.behind is not None and behind > offsets.behind:
                kept[max(first, offsets.behind)] = (behind, writer_id)
        self.known[offsets.chain] = kept

    def follow(self, store: ObjectStore, batches: int | None = None, batch_segments: int = 3) -> None:
        for batch in islice(follow(store, self.checkpoint, batch_segments=batch_segments), batches):
            self.take(batch)


def in_ledger(store: ObjectStore) -> dict[ChainId, dict[int, tuple[int, str]]]:
    return {
        chain: {s.header.start: (s.header.end, s.header.writer_id) for s in stored_segments(store, chain)}
        for chain in list_chains(store)
    }


class FollowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = open_memory_store()
        self.follower = Follower()

    @initialize(counts=st.tuples(*(st.integers(0, 4) for _ in LOGS)), is_followed=st.booleans())
    def begin(self, counts: tuple[int, ...], is_followed: bool) -> None:
        """Without it most examples end before a follower has read anything that could change."""
        for log, count in zip(LOGS, counts, strict=True):
            self.write(log, 3, count)
        if is_followed:
            self.follow(None)

    @rule(log=st.sampled_from(LOGS), length=st.sampled_from([1, 3, 700, 9_000]), times=st.integers(1, 9))
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

    @precondition(lambda self: any(len(known) > 1 for known in self.follower.known.values()))
    @rule(data=st.data(), removed=st.booleans())
    def hurt_a_segment(self, data: st.DataObject, removed: bool) -> None:
        keys = sorted(info.key for info in self.store.list_objects(METADATA))
        key = data.draw(st.sampled_from(keys))
        if removed and any(other > key and other.rpartition("/")[0] == key.rpartition("/")[0] for other in keys):
            self.store.delete(key)
        else:
            self.store.put(key, b"damaged")

    @rule(dies_at=st.none() | st.integers(0, 8), followed_at=st.integers(0, 8))
    def repair(self, dies_at: int | None, followed_at: int) -> None:
        """It may die at any step; at another one, the follower looks."""
        steps = 0

        def reach(_step: str, _key: str) -> None:
            nonlocal steps
            if steps == followed_at:
                self.follow(None)
            if steps == dies_at:
                raise CrashError
            steps += 1

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("imgpipeline.ledger.repair.mending.reach", reach)
            try:
                for chain in list_chains(self.store):
                    repair_chain(self.store, chain)
            except CrashError:
                pass

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
            put_mark(self.store, chain, first, behind)
            opened = open_repair(self.store, chain, first, behind, DAYS)
            for header in replaced:
                step()
                replace_segment(self.store, header)
            step()
            close_repair(self.store, opened)

    @rule(batches=st.none() | st.integers(0, 4))
    def follow(self, batches: int | None) -> None:
        """It may die between two batches."""
        try:
            self.follower.follow(self.store, batches)
        except LedgerError:
            assert self.damaged()

    def damaged(self) -> list[ChainId]:
        return [chain for chain in list_chains(self.store) if not find_damage(self.store, chain).is_none]

    @invariant()
    def a_follower_at_the_end_knows_what_the_ledger_holds(self) -> None:
        """Of a chain that is damaged it knows what was there; every other one is as it is now, also while a repair that
        has died is open: what it has put is read again each time until the next one closes it.
        """
        damaged = self.damaged()
        resumed = deepcopy(self.follower)
        try:
            resumed.follow(self.store)
        except LedgerError:
            assert damaged
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


def repair_chain(store: ObjectStore, chain: ChainId) -> None:
    """Mend a chain as `ledger repair` does, with made-up outcomes."""
    for _ in range(10):
        opened = [entry for entry in still_open(list_repairs(store)) if entry.chain == chain]
        damage = find_damage(store, chain)
        if not damage.stretches:
            for entry in opened:
                close_repair(store, entry)
        if damage.is_none:
            return
        mender = Mender(store, chain, PROVENANCE, lambda: NOON, DayIndex(store), None)
        for found in damage.covered:
            mender.remove_covered(found)
        for stretch in damage.stretches:
            last = stretch.objects[-1] if stretch.objects else None
            list(mender.mend(stretch, pieces_of(stretch, last.start + 1 if last else 0), make, lambda _: None))
    raise AssertionError("it never ends")


def replace_segment(store: ObjectStore, header: SegmentHeader) -> None:
    """Put other bytes in the place of a segment, as a repair does: it covers the same offsets."""
    again = replace(header, writer_id=uuid4().hex)
    body = read_segment(store, segment_key(header.chain, header.start)).body
    store.put(segment_key(header.chain, header.start), seal_segment(again, body))


def make(piece: Piece) -> Iterator[Made]:
    rest = [gap(piece.start + 1, piece.end)] if piece.end - piece.start > 1 else []
    return iter([(outcome, None) for outcome in (frame(piece.start, DAYS[0]), *rest)])


TestFollow = FollowMachine.TestCase
TestFollow.settings = settings(max_examples=examples(60), stateful_step_count=20)
TestFollow.pytestmark = [pytest.mark.slow]


def fill(store: ObjectStore, chain: ChainId, segments: int, length: int = 1) -> None:
    made = writer(store, chain)
    for _ in range(segments):
        assert append(made, frames(made.end.offset, made.end.offset + length))


def batches_of(store: ObjectStore, checkpoint: Checkpoint, **options: int) -> list[Batch]:
    return list(follow(store, checkpoint, **options))


def test_an_empty_ledger_has_nothing_to_follow(store: ObjectStore) -> None:
    assert batches_of(store, Checkpoint()) == []


def test_every_outcome_comes_once_and_in_order_of_its_chain(store: ObjectStore) -> None:
    for chain in LOGS:
        fill(store, chain, 5, length=2)
    batches = batches_of(store, Checkpoint(), batch_segments=4)
    assert [len(batch.segments) for batch in batches] == [4, 4, 4, 3]
    for chain in LOGS:
        offsets = [o.offset for batch in batches for at, o in batch.outcomes() if at == chain]  # type: ignore[union-attr]  # frames have one
        assert offsets == list(range(10))
    assert batches_of(store, batches[-1].checkpoint) == []


def test_a_follower_that_dies_before_it_saves_gets_that_batch_again_and_no_other(memory: ObjectStore) -> None:
    for chain in LOGS:
        fill(memory, chain, 7)
    first, second, *_ = batches_of(memory, Checkpoint(), batch_segments=4)
    again = batches_of(memory, first.checkpoint, batch_segments=4)
    assert again[0].segments == second.segments
    seen = [(s.chain, s.start) for batch in (first, *again) for s in batch.segments]
    assert sorted(seen) == [(chain, start) for chain in LOGS for start in range(7)]


def test_no_chain_starves_another(memory: ObjectStore) -> None:
    """A chain with a long backlog gets a turn, then the others, although the backlog is not done."""
    fill(memory, LOGS[0], 600)
    fill(memory, LOGS[1], 1)
    order = [s.chain for batch in batches_of(memory, Checkpoint()) for s in batch.segments]
    assert order.index(LOGS[1]) < 600


def test_a_segment_that_cannot_be_read_stops_its_own_chain_only(memory: ObjectStore) -> None:
    for chain in LOGS:
        fill(memory, chain, 4)
    memory.put(segment_key(LOGS[0], 2), b"damaged")
    follower = Follower()
    with pytest.raises(LedgerError, match="00000000000000000002"):
        follower.follow(memory)
    seen = [(chain, start) for chain, known in follower.known.items() for start in known]
    assert sorted(seen) == [(LOGS[0], 0), (LOGS[0], 1), *((chain, n) for chain in LOGS[1:] for n in range(4))]


def test_a_chain_with_a_hole_is_not_followed_beyond_it(memory: ObjectStore) -> None:
    fill(memory, CHAIN, 4)
    memory.delete(segment_key(CHAIN, 2))
    with pytest.raises(LedgerError, match="has a hole: no segment starts at 2"):
        batches_of(memory, Checkpoint())


def test_what_a_repair_has_changed_is_forgotten_and_read_again(memory: ObjectStore) -> None:
    fill(memory, CHAIN, 4)
    follower = Follower()
    follower.follow(memory)
    memory.put(segment_key(CHAIN, 1), b"damaged")
    repair_chain(memory, CHAIN)
    [forgetting, reading, done] = batches_of(memory, follower.checkpoint)
    assert forgetting.forgotten == (OffsetRange(CHAIN, 1, 2),)
    assert [s.start for s in reading.segments] == [1]
    assert done.checkpoint.repairs == 2
    follower.follow(memory)
    assert follower.known == in_ledger(memory)


def test_a_repaired_segment_may_reach_over_the_checkpoint(memory: ObjectStore) -> None:
    fill(memory, CHAIN, 4)
    follower = Follower()
    follower.follow(memory, batches=2, batch_segments=1)
    for start in (1, 2):
        memory.delete(segment_key(CHAIN, start))
    repair_chain(memory, CHAIN)
    assert [s.header.start for s in stored_segments(memory)] == [0, 1, 3]
    follower.follow(memory)
    assert follower.known == in_ledger(memory)


def test_a_repaired_chain_may_end_before_the_checkpoint(memory: ObjectStore) -> None:
    """Nobody knows where a damaged last segment ended; without Kafka its first offset alone gets a gap."""
    fill(memory, CHAIN, 2, length=3)
    follower = Follower()
    follower.follow(memory)
    memory.put(segment_key(CHAIN, 3), b"damaged")
    repair_chain(memory, CHAIN)
    assert find_end(memory, CHAIN).offset == 4
    fill(memory, CHAIN, 2)
    follower.follow(memory)
    assert follower.known == in_ledger(memory)


def test_a_repair_that_died_is_read_again_until_the_next_one_closes_it(memory: ObjectStore) -> None:
    fill(memory, CHAIN, 2)
    [batch] = batches_of(memory, Checkpoint())
    opened = open_repair(memory, CHAIN, 0, 1, [])
    for _ in range(2):
        *_, last = batches_of(memory, batch.checkpoint)
        assert last.checkpoint.repairs == 0
    close_repair(memory, opened)
    *_, last = batches_of(memory, batch.checkpoint)
    assert last.checkpoint.repairs == 2
    assert batches_of(memory, last.checkpoint) == []


@pytest.mark.parametrize("segments", [2, 3, 5], ids=["shorter", "as long", "longer"])
def test_a_ledger_that_was_emptied_and_filled_again_is_not_taken_for_the_old_one(
    memory: ObjectStore, segments: int
) -> None:
    fill(memory, CHAIN, 3)
    *_, last = batches_of(memory, Checkpoint())
    for info in list(memory.list_objects()):
        memory.delete(info.key)
    with pytest.raises(LostCheckpointError, match="is gone"):
        batches_of(memory, last.checkpoint)
    fill(memory, CHAIN, segments)
    with pytest.raises(LostCheckpointError, match="is another one"):
        batches_of(memory, last.checkpoint)


class NotingStore(ObjectStore):
    """A store in memory that notes which keys are read."""

    def __init__(self) -> None:
        memory = open_memory_store()
        super().__init__(memory.clients, memory.url)
        self.read: list[str] = []

    def fetch(self, key: str, *, max_bytes: int | None = None) -> Fetched:
        self.read.append(key)
        return super().fetch(key, max_bytes=max_bytes)


def test_headers_tell_the_days_without_the_segments() -> None:
    store = NotingStore()
    made = writer(store)
    for number in range(31):
        assert append(made, sparse(made.end.offset, 1_000, DAYS[number % 4]))
    bundle_all(store)
    store.read.clear()
    followed = [s for batch in follow(store, Checkpoint(), headers_only=True) for s in batch.segments]
    assert [(s.start, s.end, s.days, s.segment) for s in followed] == [
        (n * 1_000, (n + 1) * 1_000, (DAYS[n % 4],), None) for n in range(31)
    ]
    assert store.read == [segment_key(CHAIN, 30_000)]


@pytest.mark.servers
def test_requests_are_proportional_to_what_is_new(s3: S3Server, bucket: S3Bucket) -> None:
    with CountingRelay(s3.port) as relay:
        store = open_store(s3_settings(bucket, s3_endpoint=relay.endpoint))
        costs = []
        for before in (50, 500):
            chain = ChainId("frames", f"id-{before}", 0)
            fill(store, chain, before)
            *_, last = batches_of(store, Checkpoint())
            new = []
            for segments in (0, 10, 40):
                fill(store, chain, segments)
                relay.requests.clear()
                for batch in follow(store, last.checkpoint):
                    last = batch
                new.append(sum(relay.requests.values()))
            costs.append(new)
        [[idle, ten, forty], [later_idle, later_ten, later_forty]] = costs
        chains = 2  # the second time there is one chain more: finding its end costs two requests
        assert ten - idle <= 10 + 4
        assert forty - ten <= 30 + 4
        assert later_idle <= idle + 3 * (chains - 1)
        assert (later_ten - later_idle, later_forty - later_idle) == (ten - idle, forty - idle)
