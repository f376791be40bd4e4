"""The sensor's memory is a hint that may be lost, old or corrupt."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import LogRange
from imgpipeline.stream.sensor_memory import MOST_ASKED, OTHERS_ASKED, FoundEnd, SensorMemory

NOW = datetime(2026, 1, 9, 12, 0, tzinfo=UTC)


def log(partition: int = 0, end: int = 100) -> LogRange:
    return LogRange("frames", "id", partition, 0, end)


def ends_at(*offsets: int) -> dict[ChainId, FoundEnd]:
    return {log(n).chain: FoundEnd(offset, max(0, offset - 5)) for n, offset in enumerate(offsets)}


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=20))
def test_the_memory_survives_its_cursor(partitions: list[tuple[int, int]]) -> None:
    logs = [log(n, log_end) for n, (log_end, _) in enumerate(partitions)]
    _, watch = SensorMemory().look(logs, ends_at(*(end for _, end in partitions)), now=NOW)
    assert SensorMemory.from_cursor(watch.to_cursor(), now=NOW) == watch


@pytest.mark.parametrize(
    "cursor",
    [None, "", "garbage", "{}", "[]", "null", '{"version":2}', '{"version":1,"turn":-1,"chains":[]}', "[" * 10_000]
    + [
        json.dumps({"version": 1, "turn": 0, "chains": [row]})
        for row in (
            [],
            None,
            ["t", "id", 0, -1, None, 0, None],
            ["t", "id", 0, 10**30, 0, 0, 0],
            [1, 2, 3, 4, 5, 6, 7],
            ["t", "id", 0, 1, 0, 10**18, None],
            ["t", "id", 0, 1, "x", 0, None],
        )
    ],
)
def test_an_invalid_cursor_is_an_empty_memory(cursor: str | None) -> None:
    assert SensorMemory.from_cursor(cursor, now=NOW) == SensorMemory()


@given(st.text())
def test_any_cursor_is_accepted(cursor: str) -> None:
    watch = SensorMemory.from_cursor(cursor, now=NOW)
    assert SensorMemory.from_cursor(watch.to_cursor(), now=NOW) == watch


def test_a_cursor_from_the_future_cannot_postpone_a_takeover() -> None:
    _, watch = SensorMemory().look([log()], ends_at(10), now=after(1e6))
    (seen,) = SensorMemory.from_cursor(watch.to_cursor(), now=NOW).seen.values()
    assert (seen.moved_at, seen.behind_since) == (NOW, NOW)


def test_unknown_partitions_and_those_with_apparent_lag_are_chosen() -> None:
    _, watch = SensorMemory().look([log(0), log(1)], ends_at(100, 90), now=NOW)
    chosen = watch.choose([log(n) for n in range(3)])
    assert [c.partition for c in chosen[:2]] == [1, 2]


def test_a_cursor_that_claims_too_much_is_found_out() -> None:
    _, watch = SensorMemory().look([log()], ends_at(10**12), now=NOW)
    assert watch.choose([log()]) == [log()]


def test_partitions_without_apparent_lag_take_turns() -> None:
    logs = [log(n) for n in range(30)]
    _, watch = SensorMemory().look(logs, ends_at(*[100] * 30), now=NOW)
    asked = set()
    for _ in range(-(-30 // OTHERS_ASKED)):
        chosen = watch.choose(logs)
        assert len(chosen) == OTHERS_ASKED
        asked |= {c.partition for c in chosen}
        _, watch = watch.look(logs, {}, now=NOW)
    assert asked == set(range(30))


def test_very_many_lagging_partitions_take_turns() -> None:
    logs = [log(n) for n in range(200)]
    watch, asked = SensorMemory(), set()
    for _ in range(4):
        chosen = watch.choose(logs)
        assert len(chosen) == MOST_ASKED
        asked |= {c.partition for c in chosen}
        watch = SensorMemory(watch.seen, watch.turn + 1)
    assert asked == set(range(200))


def test_the_time_of_a_move_is_the_first_tick_that_sees_it() -> None:
    views, watch = SensorMemory().look([log()], ends_at(10), now=NOW)
    assert (views[0].moved_at, views[0].behind_since) == (NOW, NOW)
    views, watch = watch.look([log()], ends_at(10), now=after(5))
    assert (views[0].moved_at, views[0].behind_since) == (NOW, NOW)
    views, watch = watch.look([log()], ends_at(20), now=after(10))
    assert (views[0].moved_at, views[0].behind_since) == (after(10), NOW)
    views, watch = watch.look([log()], ends_at(100), now=after(15))
    assert views[0].behind_since is None
    views, watch = watch.look([log(end=101)], ends_at(100), now=after(500))
    assert (views[0].moved_at, views[0].behind_since) == (after(15), after(500))


def test_a_partition_that_is_not_chosen_keeps_its_end() -> None:
    _, watch = SensorMemory().look([log()], ends_at(100), now=NOW)
    views, _ = watch.look([log(end=130)], {}, now=after(5))
    assert (views[0].ledger_end, views[0].lag) == (100, 30)


def test_a_ledger_that_moved_after_the_log_was_read_is_not_a_contradiction() -> None:
    _, watch = SensorMemory().look([log()], ends_at(90), now=NOW)
    views, watch = watch.look([log()], ends_at(110), now=after(5))
    assert views[0].lag == 0
    views, _ = watch.look([log(end=110)], ends_at(110), now=after(10))
    assert views[0].lag == 0


def test_a_ledger_that_stays_beyond_the_log_is_a_contradiction() -> None:
    _, watch = SensorMemory().look([log()], ends_at(110), now=NOW)
    views, _ = watch.look([log()], ends_at(110), now=after(5))
    assert views[0].lag == -10


def test_partitions_of_several_topics_are_remembered_apart() -> None:
    topics = ("car-frames", "person-frames")
    logs = [LogRange(topic, f"id-{topic}", 0, 0, 100) for topic in topics]
    ends = {logs[0].chain: FoundEnd(100, 90), logs[1].chain: FoundEnd(40, 30)}
    views, watch = SensorMemory().look(logs, ends, now=NOW, topics=topics)
    assert [(view.place, view.lag) for view in views] == [((0, 0), 0), ((1, 0), 60)]
    assert SensorMemory.from_cursor(watch.to_cursor(), now=NOW) == watch


def test_a_recreated_topic_is_not_known() -> None:
    _, watch = SensorMemory().look([log()], ends_at(100), now=NOW)
    recreated = LogRange("frames", "other", 0, 0, 3)
    assert watch.choose([recreated]) == [recreated]
    _, later = watch.look([recreated], {}, now=NOW)
    assert later.seen == {}
