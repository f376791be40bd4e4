"""A follower sees every outcome after its checkpoint, whatever is written, repaired or bundled, wherever it dies."""

from collections.abc import Iterator
from itertools import islice

import pytest

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import DayIndex, days_of_chain
from imgpipeline.ledger.follow import Batch, LostCheckpointError, OffsetRange, follow
from imgpipeline.ledger.reading import find_end, list_chains
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import Made, Mender, Piece, Restoring, pieces_of
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, open_repair, still_open
from imgpipeline.objectstore import ObjectStore, open_store
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
from imgpipeline_tests.objectstore.noting import NotingStore
from imgpipeline_tests.objectstore.stores import s3_settings

LOGS = [CHAIN, ChainId("frames", "dGVzdA_topic-id", 1), ChainId("import.yard", "detections", 0)]


class Follower:
    """Records which segment gave each offset its outcome, and saves this together with the checkpoint."""

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
            if behind > offsets.behind:
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


def repair_chain(store: ObjectStore, chain: ChainId, *, restores: bool = False) -> None:
    """Mend a chain as `ledger repair` does, with made-up outcomes; from bundles where possible if it `restores`."""
    for _ in range(10):
        opened = [entry for entry in still_open(list_repairs(store)) if entry.chain == chain]
        damage = find_damage(store, chain)
        if not damage.stretches:
            for entry in opened:
                close_repair(store, entry)
        if damage.is_none:
            return
        if restores:
            damage = Restoring(store, chain, lambda _: None, dry_run=False).restore(damage)
        mender = Mender(store, chain, PROVENANCE, lambda: NOON, DayIndex(store), None)
        for found in damage.covered:
            mender.remove_covered(found)
        for stretch in damage.stretches:
            last = stretch.objects[-1] if stretch.objects else None
            pieces = pieces_of(stretch, last.start + 1 if last else 0)
            days = days_of_chain(store, chain, stretch.start, pieces[-1].end)
            list(mender.mend(stretch, pieces, make, lambda _: None, days=days))
    raise AssertionError("it never ends")


def make(piece: Piece) -> Iterator[Made]:
    rest = [gap(piece.start + 1, piece.end)] if piece.end - piece.start > 1 else []
    return iter([(outcome, None) for outcome in (frame(piece.start, DAYS[0]), *rest)])


def fill(store: ObjectStore, chain: ChainId, segments: int, length: int = 1) -> None:
    made = writer(store, chain)
    for _ in range(segments):
        assert append(made, frames(made.end.offset, made.end.offset + length))


def batches_of(store: ObjectStore, checkpoint: Checkpoint, **options: int) -> list[Batch]:
    return list(follow(store, checkpoint, **options))


def test_an_empty_ledger_has_nothing_to_follow(store):
    assert batches_of(store, Checkpoint()) == []


def test_every_outcome_comes_once_and_in_order_of_its_chain(store):
    for chain in LOGS:
        fill(store, chain, 5, length=2)
    batches = batches_of(store, Checkpoint(), batch_segments=4)
    assert [len(batch.segments) for batch in batches] == [4, 4, 4, 3]
    for chain in LOGS:
        offsets = [o.offset for batch in batches for at, o in batch.outcomes() if at == chain]
        assert offsets == list(range(10))
    assert batches_of(store, batches[-1].checkpoint) == []


def test_a_follower_that_dies_before_it_saves_gets_that_batch_again_and_no_other(memory):
    for chain in LOGS:
        fill(memory, chain, 7)
    first, second, *_ = batches_of(memory, Checkpoint(), batch_segments=4)
    again = batches_of(memory, first.checkpoint, batch_segments=4)
    assert again[0].segments == second.segments
    seen = [(s.chain, s.start) for batch in (first, *again) for s in batch.segments]
    assert sorted(seen) == [(chain, start) for chain in LOGS for start in range(7)]


def test_no_chain_starves_another(memory):
    """A chain with a long backlog gets one turn, then the other chains, before the backlog is finished."""
    made = writer(memory, LOGS[0])
    for start in range(0, 60_000, 1_000):
        assert append(made, sparse(start, 1_000))
    fill(memory, LOGS[1], 1)
    order = [s.chain for batch in batches_of(memory, Checkpoint()) for s in batch.segments]
    assert order.index(LOGS[1]) == 10


def test_a_segment_that_cannot_be_read_stops_its_own_chain_only(memory):
    for chain in LOGS:
        fill(memory, chain, 4)
    memory.put(segment_key(LOGS[0], 2), b"damaged")
    follower = Follower()
    with pytest.raises(LedgerError, match="00000000000000000002"):
        follower.follow(memory)
    seen = [(chain, start) for chain, known in follower.known.items() for start in known]
    assert sorted(seen) == [(LOGS[0], 0), (LOGS[0], 1), *((chain, n) for chain in LOGS[1:] for n in range(4))]


def test_a_chain_with_a_hole_is_not_followed_beyond_it(memory):
    fill(memory, CHAIN, 4)
    memory.delete(segment_key(CHAIN, 2))
    with pytest.raises(LedgerError, match="has a hole: no segment starts at 2"):
        batches_of(memory, Checkpoint())


def test_what_a_repair_has_changed_is_forgotten_and_read_again(memory):
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


def test_a_repaired_segment_may_reach_over_the_checkpoint(memory):
    fill(memory, CHAIN, 4)
    follower = Follower()
    follower.follow(memory, batches=2, batch_segments=1)
    for start in (1, 2):
        memory.delete(segment_key(CHAIN, start))
    repair_chain(memory, CHAIN)
    assert [s.header.start for s in stored_segments(memory)] == [0, 1, 3]
    follower.follow(memory)
    assert follower.known == in_ledger(memory)


def test_a_repaired_chain_may_end_before_the_checkpoint(memory):
    """The end of a damaged last segment is unknown, so without Kafka only its first offset becomes a gap."""
    fill(memory, CHAIN, 2, length=3)
    follower = Follower()
    follower.follow(memory)
    memory.put(segment_key(CHAIN, 3), b"damaged")
    repair_chain(memory, CHAIN)
    assert find_end(memory, CHAIN).offset == 4
    fill(memory, CHAIN, 2)
    follower.follow(memory)
    assert follower.known == in_ledger(memory)


def test_a_repair_that_died_is_read_again_until_the_next_one_closes_it(memory):
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
def test_a_checkpoint_of_a_ledger_that_was_emptied_and_refilled_is_lost(memory, segments):
    fill(memory, CHAIN, 3)
    *_, last = batches_of(memory, Checkpoint())
    for info in list(memory.list_objects()):
        memory.delete(info.key)
    with pytest.raises(LostCheckpointError, match="is gone"):
        batches_of(memory, last.checkpoint)
    fill(memory, CHAIN, segments)
    with pytest.raises(LostCheckpointError, match="was replaced"):
        batches_of(memory, last.checkpoint)


def test_headers_give_the_days_without_the_segments():
    store = NotingStore()
    made = writer(store)
    for number in range(31):
        assert append(made, sparse(made.end.offset, 1_000, DAYS[number % 4]))
    bundle_all(store)
    store.fetched.clear()
    followed = [s for batch in follow(store, Checkpoint(), headers_only=True) for s in batch.segments]
    assert [(s.start, s.end, s.days, s.segment) for s in followed] == [
        (n * 1_000, (n + 1) * 1_000, (DAYS[n % 4],), None) for n in range(31)
    ]
    assert store.fetched == [segment_key(CHAIN, 30_000)]


@pytest.mark.servers
def test_requests_are_proportional_to_what_is_new(s3, bucket):
    with CountingRelay(s3.port) as relay:
        store = open_store(s3_settings(bucket, s3_endpoint=relay.endpoint))
        costs = []
        for before in (20, 200):
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
