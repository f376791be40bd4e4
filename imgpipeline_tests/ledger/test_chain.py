"""Of several writers at one end exactly one wins, and each writer knows whether it has won.

A chain whose log is gone is closed once, even if others write meanwhile; its log continues in the next chain.
"""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest

from imgpipeline.contracts.keys import ChainId, next_chain, parse_segment_key, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import ConfigurationError, LedgerError, PermanentError, TransientError
from imgpipeline.ledger.audit import audit_chain, fix_end
from imgpipeline.ledger.chain import ChainWriter, close_chain, current_chain, find_current_end
from imgpipeline.ledger.days import DayIndex, read_day
from imgpipeline.ledger.reading import ChainEnd, find_end, fix_ends
from imgpipeline.objectstore import ForbiddenError, ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    check_ledger,
    frames,
    gap,
    stored_segments,
    write_chain,
    writer,
)
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings

SEGMENT = segment_key(CHAIN, 0).rpartition("/")[2]
SECOND = next_chain(CHAIN)


def test_a_writer_follows_its_own_segments(store):
    made = writer(store)
    assert made.end == ChainEnd(CHAIN, 0, None)
    assert append(made, frames(0, 3))
    assert append(made, [gap(3, 10)])
    assert made.end == find_end(store, CHAIN)
    assert check_ledger(store) == 10


def test_a_segment_of_gaps_keeps_the_fingerprint_of_the_last_record(memory):
    made = write_chain(memory, frames(0, 3))
    before = made.end.header
    assert before is not None
    assert made.append(
        [gap(3, 9)],
        provenance=before.provenance,
        writer_id="w",
        fingerprint=None,
        created_at=before.created_at,
    )
    assert made.end.header is not None
    assert made.end.header.fingerprint == before.fingerprint


@pytest.mark.parametrize("start", [0, 2, 4])
def test_a_segment_that_does_not_start_at_the_end_is_not_put(memory, start):
    made = write_chain(memory, frames(0, 3))
    with pytest.raises(LedgerError, match=f"ends at 3; a segment cannot start at {start}"):
        append(made, frames(start, 5))
    assert len(stored_segments(memory)) == 1


@pytest.mark.fault(6)
def test_a_late_zombie_loses_and_changes_nothing(store):
    zombie, living = writer(store), writer(store)
    assert append(living, frames(0, 2))
    assert append(living, frames(2, 4))
    before = stored_segments(store)
    assert not append(zombie, frames(0, 3))
    assert not append(zombie, frames(0, 3)), "and again"
    assert stored_segments(store) == before
    assert check_ledger(store) == 4


def test_a_reused_writer_id_with_other_outcomes_loses(store):
    """A writer whose put failed half-way must not mistake its earlier segment for the new one."""
    assert append(writer(store), frames(0, 3), "same")
    late = ChainWriter(store, ChainEnd(CHAIN, 0, None), DayIndex(store))
    assert not append(late, frames(0, 5), "same")
    assert late.end.offset == 0


def test_the_day_index_is_there_before_the_segment(memory):
    class FailingStore(ObjectStore):
        def create(self, key: str, data: bytes) -> bool:
            raise PermanentError(f"{key} ({len(data)} bytes): the disk is full")

    failing = FailingStore(memory.clients, memory.url)
    with pytest.raises(PermanentError, match="disk is full"):
        append(writer(failing), frames(0, 1))
    assert [info.key for info in memory.list_objects()] == [
        "metadata_days/2026-01-09/frames/dGVzdA_topic-id/00000/000000000000000"
    ]


def test_an_index_entry_that_failed_is_put_again_before_the_segment(memory):
    class OnceFailingStore(ObjectStore):
        failures = 1

        def put(self, key: str, data: bytes) -> None:
            if OnceFailingStore.failures:
                OnceFailingStore.failures -= 1
                raise TransientError(f"{key}: no answer")
            super().put(key, data)

    made = writer(OnceFailingStore(memory.clients, memory.url))
    with pytest.raises(TransientError):
        append(made, frames(0, 1))
    assert append(made, frames(0, 1))
    assert check_ledger(memory) == 1


def test_threads_that_race_write_one_chain(store):
    barrier = threading.Barrier(6)

    def follow(number: int) -> list[int]:
        won = []
        barrier.wait()
        while (end := find_end(store, CHAIN).offset) < 40:
            made = writer(store)
            if made.end.offset < 40 and append(made, frames(made.end.offset, made.end.offset + 1 + number % 3)):
                won.append(end)
        return won

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(follow, range(6)))
    assert check_ledger(store) >= 40
    assert len(stored_segments(store)) == sum(len(w) for w in won)


def _follow_in_process(settings: Settings, number: int, report: Connection) -> None:
    store, won = open_store(settings), []
    report.send("ready")
    report.recv()
    while True:
        made = writer(store)
        if made.end.offset >= 30:
            break
        writer_id = f"{number}-{made.end.offset}"
        if append(made, frames(made.end.offset, made.end.offset + 1 + number % 2), writer_id):
            won.append(writer_id)
    report.send(won)


@pytest.mark.medium
def test_processes_that_race_write_one_chain(settings):
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(3)]
    workers = [
        context.Process(target=_follow_in_process, args=(settings, number, theirs))
        for number, (_, theirs) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for ours, _ in pipes:
        assert ours.poll(60)
        assert ours.recv() == "ready"
    for ours, _ in pipes:
        ours.send("go")
    won = [writer_id for ours, _ in pipes if ours.poll(60) for writer_id in ours.recv()]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    store = open_store(settings)
    assert check_ledger(store) >= 30
    assert sorted(won) == sorted(segment.header.writer_id for segment in stored_segments(store))


def segment_puts(*fates: Fate):
    """The fates of the first puts of the first segment, in order; everything else passes."""

    def decide(method: str, path: str, number: int) -> Fate:
        return fates[number] if method == "PUT" and path.endswith(SEGMENT) and number < len(fates) else Fate.FORWARD

    return decide


class TestLostAnswers:
    """Fault 35, with the real S3 server and a proxy that loses exactly the answers it is told to lose."""

    @pytest.mark.fault(35)
    @pytest.mark.parametrize(
        "fates",
        [
            (Fate.LOSE_ANSWER,),
            (Fate.LOSE_ANSWER,) * 50,
            (Fate.ANSWER_503_AFTER,),
            (Fate.ANSWER_503_AFTER, Fate.ANSWER_503_BEFORE),
            (Fate.LOSE_REQUEST, Fate.LOSE_ANSWER, Fate.ANSWER_503_AFTER),
        ],
        ids=["once", "every time", "as a 503", "as a 503, then not taken", "after a lost request"],
    )
    def test_the_writer_recognises_its_own_segment(self, s3, bucket, fates):
        with AnswerLosingProxy(s3.port, segment_puts(*fates)) as proxy:
            made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint, store_patience_s=3)))
            assert append(made, frames(0, 3))
            assert fates[0] in proxy.fates("PUT", SEGMENT)
            assert append(made, frames(3, 5))
        direct = open_store(s3_settings(bucket))
        assert check_ledger(direct) == 5
        assert len(stored_segments(direct)) == 2

    @pytest.mark.slow
    @pytest.mark.fault(14)
    @pytest.mark.parametrize(
        "fate", [Fate.LOSE_REQUEST, Fate.ANSWER_503_BEFORE, Fate.ANSWER_409], ids=["lost", "503", "409"]
    )
    @pytest.mark.parametrize("times", [1, 8])
    def test_a_put_that_never_arrived_is_put_again(self, s3, bucket, fate, times):
        times = min(times, 3) if fate is Fate.ANSWER_409 else times
        with AnswerLosingProxy(s3.port, segment_puts(*(fate,) * times)) as proxy:
            made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint)))
            assert append(made, frames(0, 3))
            assert proxy.fates("PUT", SEGMENT) == [fate] * times + [Fate.FORWARD]
        assert check_ledger(open_store(s3_settings(bucket))) == 3

    @pytest.mark.fault(35)
    def test_a_segment_that_another_put_while_the_answer_was_lost_is_a_loss(self, s3, bucket):
        other = writer(open_store(s3_settings(bucket)))

        def decide(method: str, path: str, number: int) -> Fate:
            if method == "PUT" and path.endswith(SEGMENT) and number == 0:
                assert append(other, frames(0, 2), "other")
                return Fate.LOSE_REQUEST
            return Fate.FORWARD

        with AnswerLosingProxy(s3.port, decide) as proxy:
            made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint)))
            assert not append(made, frames(0, 3))
        direct = open_store(s3_settings(bucket))
        assert check_ledger(direct) == 2
        assert [segment.header.writer_id for segment in stored_segments(direct)] == ["other"]

    @pytest.mark.fault(35)
    def test_a_lost_answer_of_the_day_index_is_harmless(self, s3, bucket):
        def decide(method: str, path: str, number: int) -> Fate:
            return Fate.LOSE_ANSWER if method == "PUT" and "metadata_days" in path and number == 0 else Fate.FORWARD

        with AnswerLosingProxy(s3.port, decide) as proxy:
            assert append(writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint))), frames(0, 3))
        assert check_ledger(open_store(s3_settings(bucket))) == 3

    @pytest.mark.fault(35)
    def test_a_day_index_that_conflicts_is_put_again(self, s3, bucket):
        def decide(method: str, path: str, number: int) -> Fate:
            return Fate.ANSWER_409 if method == "PUT" and "metadata_days" in path and number == 0 else Fate.FORWARD

        with AnswerLosingProxy(s3.port, decide) as proxy:
            made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint)))
            assert append(made, frames(0, 3))
            assert proxy.fates("PUT", "metadata_days")[:2] == [Fate.ANSWER_409, Fate.FORWARD]
        assert check_ledger(open_store(s3_settings(bucket))) == 3

    @pytest.mark.fault(16)
    def test_a_refused_put_fails_at_once_and_advances_nothing(self, s3, bucket):
        with AnswerLosingProxy(s3.port, segment_puts(*(Fate.ANSWER_403,) * 9)) as proxy:
            made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint)))
            with pytest.raises(ForbiddenError, match="AWS_ACCESS_KEY_ID"):
                append(made, frames(0, 3))
            assert len(proxy.fates("PUT", SEGMENT)) == 1
        assert made.end.offset == 0
        assert find_end(open_store(s3_settings(bucket)), CHAIN).offset == 0


def close(store: ObjectStore) -> bool:
    return close_chain(store, find_current_end(store, CHAIN), run_id="closing", created_at=NOON)


def test_the_next_chain_is_numbered_and_has_separate_keys():
    assert (SECOND.topic_id, next_chain(SECOND).topic_id) == (f"{CHAIN.topic_id}~2", f"{CHAIN.topic_id}~3")
    assert next_chain(ChainId("t", "i~9", 4)) == ChainId("t", "i~10", 4)
    assert parse_segment_key(segment_key(SECOND, 7)) == (SECOND, 7)
    for wrong in ("i~1", "i~", "i~02", "~2", "i~2~2", "i~x"):
        with pytest.raises(ConfigurationError):
            ChainId("t", wrong, 0)


def test_a_closed_chain_keeps_its_outcomes_and_its_log_starts_the_next_one_at_0(store):
    write_chain(store, frames(0, 3), frames(3, 5))
    before = {info.key: info.e_tag for info in store.list_objects()}

    assert close(store)

    end = find_current_end(store, CHAIN)
    assert (end.chain, end.offset, end.header) == (SECOND, 0, None)
    assert before.items() <= {info.key: info.e_tag for info in store.list_objects()}.items()
    assert stored_segments(store)[-1].outcomes() == [Gap(5, 6, GapReason.CLOSED)]
    assert append(writer(store, SECOND), frames(0, 4))
    assert (check_ledger(store), check_ledger(store, SECOND)) == (6, 4)
    assert find_current_end(store, CHAIN, hint=0).offset == 4
    assert {chain: end.offset for chain, end in fix_ends(store).items()} == {CHAIN: 6, SECOND: 4}
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    assert sum(segment.header.frames for segment in read_day(store, DAY, ends)) == 9
    found = audit_chain(store, fix_end(store, CHAIN))
    assert (found.ok, found.frames, found.gaps) == (True, 5, {"closed": 1})


def test_a_run_that_has_not_seen_the_closing_drops_its_work(store):
    stale = write_chain(store, frames(0, 5))
    assert close(store)
    assert not append(stale, frames(5, 9))
    assert not append(stale, frames(5, 9))
    assert check_ledger(store) == 6


def test_a_chain_that_has_grown_is_not_closed_at_its_old_end(store):
    run = write_chain(store, frames(0, 5))
    seen = find_end(store, CHAIN)
    assert append(run, frames(5, 7))
    assert not close_chain(store, seen, run_id="closing", created_at=NOON)
    assert (find_current_end(store, CHAIN).chain, check_ledger(store)) == (CHAIN, 7)


def test_nothing_is_written_after_the_end_of_a_closed_chain(store):
    write_chain(store, frames(0, 5))
    assert close(store)
    with pytest.raises(LedgerError, match="is closed at 6"):
        append(writer(store), frames(6, 7))
    with pytest.raises(LedgerError, match="is closed at 6"):
        close_chain(store, find_end(store, CHAIN), run_id="closing", created_at=NOON)


def test_a_chain_without_outcomes_is_not_closed(store):
    with pytest.raises(LedgerError, match="no segment"):
        close(store)
    write_chain(store, frames(0, 5))
    assert close(store)
    with pytest.raises(LedgerError, match="no segment"):
        close(store)


@pytest.mark.medium
def test_of_closings_and_runs_at_one_end_exactly_one_wins(store):
    for _ in range(20):
        current = find_current_end(store, CHAIN)
        if current.header is None:
            write_chain(store, frames(0, 2), chain=current.chain)
        seen = find_current_end(store, CHAIN)
        won = list(_race(store, seen.chain, 3))
        assert sum(won) == 1
        closed = find_end(store, seen.chain)
        assert (closed.is_closed, closed.offset - seen.offset) in {(True, 1), (False, 4)}
        check_ledger(store, seen.chain)


def _race(store: ObjectStore, chain: ChainId, of_each: int) -> Iterator[bool]:
    """Yields whether each of several runs and closings has won that start from one end."""
    end = find_end(store, chain)
    start = threading.Barrier(2 * of_each)
    won: list[bool] = []

    def run() -> None:
        own = writer(store, chain)
        start.wait()
        won.append(append(own, frames(end.offset, end.offset + 4)))

    def closing() -> None:
        start.wait()
        won.append(close_chain(store, end, run_id="closing", created_at=NOON))

    threads = [threading.Thread(target=work) for work in (run, closing) for _ in range(of_each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    yield from won


def test_the_current_chain_is_the_first_that_is_not_closed():
    assert current_chain(CHAIN, ()) == CHAIN
    assert current_chain(CHAIN, {CHAIN}) == SECOND
    assert current_chain(CHAIN, {SECOND}) == CHAIN
    assert current_chain(CHAIN, {CHAIN, SECOND}) == next_chain(SECOND)
