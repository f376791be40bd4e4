"""The sensor's memory is a hint that may be lost or old."""

from datetime import UTC, datetime, timedelta

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import LogRange
from imgpipeline.detect.sensor_memory import MOST_ASKED, OTHERS_ASKED, SensorMemory
from imgpipeline.ledger.reading import ChainEnd

NOW = datetime(2026, 1, 9, 12, 0, tzinfo=UTC)


def log(partition: int = 0, end: int = 100) -> LogRange:
    return LogRange("frames", "id", partition, 0, end)


def ends_at(*offsets: int) -> dict[ChainId, ChainEnd]:
    return {log(n).chain: ChainEnd(log(n).chain, offset, None) for n, offset in enumerate(offsets)}


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_unknown_partitions_and_those_with_apparent_lag_are_chosen():
    _, watch = SensorMemory().look([log(0), log(1)], ends_at(100, 90), now=NOW)
    chosen = watch.choose([log(n) for n in range(3)])
    assert [c.partition for c in chosen[:2]] == [1, 2]


def test_a_ledger_that_seems_to_be_ahead_is_asked_again():
    _, watch = SensorMemory().look([log()], ends_at(10**12), now=NOW)
    assert watch.choose([log()]) == [log()]


def test_partitions_without_apparent_lag_take_turns():
    logs = [log(n) for n in range(30)]
    _, watch = SensorMemory().look(logs, ends_at(*[100] * 30), now=NOW)
    asked = set()
    for _ in range(-(-30 // OTHERS_ASKED)):
        chosen = watch.choose(logs)
        assert len(chosen) == OTHERS_ASKED
        asked |= {c.partition for c in chosen}
        _, watch = watch.look(logs, {}, now=NOW)
    assert asked == set(range(30))


def test_very_many_lagging_partitions_take_turns():
    logs = [log(n) for n in range(200)]
    watch, asked = SensorMemory(), set()
    for _ in range(4):
        chosen = watch.choose(logs)
        assert len(chosen) == MOST_ASKED
        asked |= {c.partition for c in chosen}
        watch = SensorMemory(watch.seen, watch.turn + 1)
    assert asked == set(range(200))


def test_the_time_of_a_move_is_the_first_tick_that_sees_it():
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


def test_a_partition_that_is_not_chosen_keeps_its_end():
    _, watch = SensorMemory().look([log()], ends_at(100), now=NOW)
    views, _ = watch.look([log(end=130)], {}, now=after(5))
    assert (views[0].ledger_end, views[0].lag) == (100, 30)


def test_a_ledger_that_moved_after_the_log_was_read_is_not_a_contradiction():
    _, watch = SensorMemory().look([log()], ends_at(90), now=NOW)
    views, watch = watch.look([log()], ends_at(110), now=after(5))
    assert views[0].lag == 0
    views, _ = watch.look([log(end=110)], ends_at(110), now=after(10))
    assert views[0].lag == 0


def test_a_ledger_that_stays_beyond_the_log_is_a_contradiction():
    _, watch = SensorMemory().look([log()], ends_at(110), now=NOW)
    views, _ = watch.look([log()], ends_at(110), now=after(5))
    assert views[0].lag == -10


def test_partitions_of_several_topics_are_remembered_apart():
    topics = ("car-frames", "person-frames")
    logs = [LogRange(topic, f"id-{topic}", 0, 0, 100) for topic in topics]
    ends = {at.chain: ChainEnd(at.chain, offset, None) for at, offset in zip(logs, (100, 40), strict=True)}
    views, _ = SensorMemory().look(logs, ends, now=NOW, topics=topics)
    assert [(view.place, view.lag) for view in views] == [((0, 0), 0), ((1, 0), 60)]


def test_a_recreated_topic_is_not_known():
    _, watch = SensorMemory().look([log()], ends_at(100), now=NOW)
    recreated = LogRange("frames", "other", 0, 0, 3)
    assert watch.choose([recreated]) == [recreated]
    _, later = watch.look([recreated], {}, now=NOW)
    assert later.seen == {}
