"""The sensor's decision: which lanes get a run or wait, and which runs are overtaken."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.records import Partition
from imgpipeline.errors import ConfigurationError
from imgpipeline.stream.lanes import (
    LONGEST_BACK_OFF_S,
    Decision,
    Ending,
    FailedRun,
    Lane,
    LiveRun,
    PartitionView,
    Place,
    decide,
    partitions_of,
)

NOW = datetime(2026, 1, 9, 12, 0, tzinfo=UTC)
TAKEOVER_S = 180.0
PAUSE_S = 10.0
EVERYTHING = Lane(0, 1)


def seconds_ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def partition(
    number: int = 0, *, lag: int = 10, end: int = 100, moved_s: float = 1e6, behind_s: float = 5
) -> PartitionView:
    behind_since = seconds_ago(behind_s) if lag else None
    return PartitionView(number, end + lag, end, seconds_ago(moved_s), behind_since)


def failed(count: int, *, last_s: float, end: int = 100, lane: Lane = EVERYTHING) -> list[FailedRun]:
    return [
        FailedRun(f"failed-{n}", lane, seconds_ago(last_s + n * 5), {Place(0, lane.number): end}) for n in range(count)
    ]


def decision(
    partitions: list[PartitionView],
    runs: tuple[LiveRun, ...] = (),
    failures: list[FailedRun] | None = None,
    *,
    lanes: int = 1,
) -> Decision:
    return decide(partitions, runs, failures or [], lanes=lanes, takeover_s=TAKEOVER_S, retry_pause_s=PAUSE_S, now=NOW)


def started(made: Decision) -> list[Lane]:
    return [start.lane for start in made.starts]


def test_a_lane_with_lag_gets_a_run_that_knows_where_it_begins():
    made = decision([partition(0, lag=10, end=100), partition(1, lag=0), partition(2, lag=5, end=7)])
    (start,) = made.starts
    assert (start.lane, start.lag, dict(start.ends)) == (EVERYTHING, 15, {Place(0, 0): 100, Place(0, 2): 7})


def test_a_followed_lane_gets_no_second_run_and_the_reason_names_the_first():
    made = decision([partition()], (LiveRun("0123456789", EVERYTHING, seconds_ago(30)),))
    assert made.starts == ()
    assert "run 01234567 follows it" in made.waiting[0]


def test_a_run_over_all_partitions_follows_every_lane():
    run = LiveRun("by-hand", EVERYTHING, seconds_ago(30))
    assert decision([partition(0), partition(1)], (run,), lanes=2).starts == ()


def test_a_run_of_another_share_leaves_the_rest_to_a_new_run():
    run = LiveRun("old", Lane(0, 2), seconds_ago(30))
    assert started(decision([partition(0), partition(1)], (run,))) == [EVERYTHING]


def test_a_run_without_progress_is_overtaken_and_a_new_one_started():
    run = LiveRun("stuck", EVERYTHING, seconds_ago(1000))
    made = decision([partition(behind_s=TAKEOVER_S + 1)], (run,))
    assert started(made) == [EVERYTHING]
    assert "made no progress for 181 s" in made.overtaken["stuck"]


@pytest.mark.parametrize(
    ("views", "run"),
    [
        ([partition(behind_s=TAKEOVER_S - 1)], LiveRun("r", EVERYTHING, seconds_ago(1000))),
        (
            [partition(0, behind_s=1000), partition(1, lag=0, moved_s=TAKEOVER_S - 1)],
            LiveRun("r", EVERYTHING, seconds_ago(1000)),
        ),
        ([partition(behind_s=1000)], LiveRun("r", EVERYTHING, seconds_ago(TAKEOVER_S - 1))),
        ([partition(behind_s=1000)], LiveRun("r", EVERYTHING, seconds_ago(1000), is_queued=True)),
    ],
    ids=["lag is new", "one partition moved", "the run is new (it loads its model)", "the run waits for a slot"],
)
def test_a_run_is_not_overtaken_while(views, run):
    made = decision(views, (run,))
    assert (made.starts, made.overtaken) == ((), {})


@pytest.mark.parametrize("wrong_s", [-120, 120])
def test_a_run_whose_machine_has_a_wrong_clock_is_neither_overtaken_at_its_start_nor_kept_for_long(wrong_s):
    """The start is the only time in the decision that comes from the run's machine."""
    views = [partition(behind_s=1000, moved_s=1000)]
    new = LiveRun("new", EVERYTHING, seconds_ago(20 - wrong_s))
    stuck = LiveRun("stuck", EVERYTHING, seconds_ago(TAKEOVER_S + 121 - wrong_s))
    assert decision(views, (new,)).overtaken == {}
    assert "stuck" in decision(views, (stuck,)).overtaken


def test_new_lag_elsewhere_does_not_make_a_dead_run_look_alive():
    views = [partition(0, behind_s=1000), partition(1, behind_s=1)]
    assert "dead" in decision(views, (LiveRun("dead", EVERYTHING, seconds_ago(2000)),)).overtaken


def test_a_run_whose_process_is_gone_is_marked_at_once_even_without_lag():
    run = LiveRun("gone", EVERYTHING, seconds_ago(1), is_gone=True)
    assert decision([partition(lag=0)], (run,)).overtaken == {"gone": "its process is gone"}
    assert started(decision([partition()], (run,))) == [EVERYTHING]


def test_failures_at_one_ledger_end_make_the_lane_wait_longer_and_longer():
    """So a fault of an hour makes about ten runs."""
    waits = [
        next(s for s in range(10_000) if decision([partition()], failures=failed(count, last_s=s)).starts)
        for count in range(1, 10)
    ]
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_the_reason_names_the_failed_run_and_the_time_of_the_next():
    made = decision([partition()], failures=failed(3, last_s=15))
    assert "3 runs failed at this ledger end, the last was failed-0; next try at 12:00:25 UTC" in made.waiting[0]


def test_failures_at_another_ledger_end_do_not_count():
    assert started(decision([partition(end=101)], failures=failed(8, last_s=1))) == [EVERYTHING]


def test_one_stuck_partition_holds_its_lane_back_although_others_move():
    """Otherwise every new frame elsewhere would start a run that fails at the stuck partition again."""
    views = [partition(0, end=100), partition(1, end=500, moved_s=1)]
    assert decision(views, failures=failed(5, last_s=10)).starts == ()


def test_after_failures_a_slow_run_is_given_more_time():
    run = LiveRun("slow", EVERYTHING, seconds_ago(TAKEOVER_S * 3))
    view = partition(behind_s=1e5)
    assert decision([view], (run,), failed(1, last_s=1000)).overtaken
    assert not decision([view], (run,), failed(2, last_s=1000)).overtaken


def died(count: int, *, end: int = 100, ending: Ending = Ending.DIED) -> list[FailedRun]:
    return [replace(run, ending=ending) for run in failed(count, last_s=1000, end=end)]


@pytest.mark.fault(38)
def test_fault_38_after_three_runs_that_died_at_one_ledger_end_the_next_one_is_careful():
    careful = [decision([partition()], failures=died(count)).starts[0].is_careful for count in range(5)]
    assert careful == [False, False, False, True, True]
    (start,) = decision([partition()], failures=died(3)).starts
    assert "3 runs died or hung at this ledger end" in start.reason


@pytest.mark.fault(38)
def test_fault_38_runs_that_failed_with_an_error_do_not_make_the_next_one_careful():
    made = decision([partition()], failures=[*failed(6, last_s=1000), *died(2)])
    assert not made.starts[0].is_careful


@pytest.mark.fault(38)
def test_fault_38_a_run_that_is_found_dead_or_hung_just_now_counts_at_once():
    gone = LiveRun("gone", EVERYTHING, seconds_ago(60), is_gone=True, ends={Place(0, 0): 100})
    assert "3 runs failed at this ledger end" in decision([partition()], (gone,), died(2)).waiting[0]
    stuck = LiveRun("stuck", EVERYTHING, seconds_ago(1e5), ends={Place(0, 0): 100})
    assert decision([partition(behind_s=1e5)], (stuck,), died(2)).starts[0].is_careful
    assert not decision([partition(behind_s=1e5)], (stuck,), died(1)).starts[0].is_careful


@pytest.mark.fault(38)
def test_fault_38_runs_that_died_elsewhere_do_not_count():
    views = [partition(0, end=100), partition(1, end=50)]
    other = [replace(run, ends={Place(0, 1): 49}) for run in died(3)]
    assert not decision(views, failures=[*died(2), *other]).starts[0].is_careful
    assert not decision([partition(end=101)], failures=died(5)).starts[0].is_careful


@pytest.mark.fault(38)
def test_fault_38_a_run_that_hung_is_all_that_is_seen_of_one_that_died_in_another_container():
    failures = [*died(1), *died(2, ending=Ending.HUNG)]
    assert decision([partition()], failures=failures).starts[0].is_careful


def test_the_partition_that_was_idle_longest_comes_first():
    views = [replace(partition(n), moved_at=seconds_ago(n)) for n in range(5)]
    assert [place.partition for place in decision(views).starts[0].ends] == [4, 3, 2, 1, 0]


def test_a_ledger_beyond_the_log_gets_a_run_that_says_so():
    assert started(decision([partition(lag=-5)])) == [EVERYTHING]


def test_a_lane_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="no lane 2 of 2"):
        Lane(2, 2)


TOPICS = ("car-frames", "person-frames", "third")


@given(st.integers(1, 40), st.sets(st.builds(Partition, st.sampled_from(TOPICS), st.integers(0, 200))))
def test_lanes_share_all_partitions_without_overlap(lanes, partitions):
    shares = [partitions_of(Lane(number, lanes), partitions, TOPICS) for number in range(lanes)]
    assert sorted(p for share in shares for p in share) == sorted(partitions)


def shares(lanes: int, *counts: int) -> list[int]:
    """Return the number of partitions in each lane, given the number of partitions in each topic."""
    topics = TOPICS[: len(counts)]
    all_of_them = [Partition(topic, n) for topic, count in zip(topics, counts, strict=True) for n in range(count)]
    return [len(partitions_of(Lane(number, lanes), all_of_them, topics)) for number in range(lanes)]


def test_topics_of_few_partitions_share_all_lanes():
    assert shares(2, 1, 1) == [1, 1]
    assert shares(3, 1, 1, 1) == [1, 1, 1]
    assert shares(6, 3, 3) == [1] * 6
    assert sorted(shares(3, 4, 4)) == [2, 3, 3]
    assert shares(2, 6, 1) == [3, 4]


def test_the_lanes_of_a_topic_do_not_depend_on_the_partitions_of_the_others():
    people = [Partition("person-frames", number) for number in range(4)]
    cars = [Partition("car-frames", number) for number in range(7)]
    for number in range(3):
        with_cars = partitions_of(Lane(number, 3), [*cars, *people], TOPICS[:2])
        assert [p for p in with_cars if p.topic == "person-frames"] == partitions_of(
            Lane(number, 3), people, TOPICS[:2]
        )


# Properties over whatever the sensor may see.

_age_s = st.floats(0, 5000)
_views = st.lists(
    st.builds(
        lambda n, lag, end, moved_s, behind_s: partition(n, lag=lag, end=end, moved_s=moved_s, behind_s=behind_s),
        st.integers(0, 9),
        st.integers(0, 3),
        st.integers(0, 3),
        _age_s,
        _age_s,
    ),
    unique_by=lambda view: view.partition,
    max_size=8,
)
_lanes = st.integers(1, 4).flatmap(lambda lanes: st.builds(Lane, st.integers(0, lanes - 1), st.just(lanes)))
_runs = st.lists(
    st.builds(
        LiveRun, st.uuids().map(str), _lanes, _age_s.map(seconds_ago), is_queued=st.booleans(), is_gone=st.booleans()
    ),
    max_size=5,
)
_failures = st.lists(
    st.builds(
        FailedRun,
        st.uuids().map(str),
        _lanes,
        _age_s.map(seconds_ago),
        st.dictionaries(st.integers(0, 9).map(lambda number: Place(0, number)), st.integers(0, 3)),
    ),
    max_size=6,
)


@given(_views, _runs, _failures, st.integers(1, 4))
def test_every_lane_with_lag_gets_exactly_one_of_a_run_and_a_reason(views, runs, failures, lanes):
    made = decide(views, runs, failures, lanes=lanes, takeover_s=TAKEOVER_S, retry_pause_s=PAUSE_S, now=NOW)
    behind = {Lane(view.partition % lanes, lanes) for view in views if view.lag}
    assert len(made.starts) + len(made.waiting) == len(behind)
    assert {start.lane for start in made.starts} <= behind
    assert len({start.lane for start in made.starts}) == len(made.starts)


@given(_views, _runs, _failures, st.integers(1, 4))
def test_an_overtaken_run_is_gone_or_was_idle_long_enough(views, runs, failures, lanes):
    made = decide(views, runs, failures, lanes=lanes, takeover_s=TAKEOVER_S, retry_pause_s=PAUSE_S, now=NOW)
    by_id = {run.run_id: run for run in runs}
    for run_id in made.overtaken:
        run = by_id[run_id]
        idle = all((NOW - view.moved_at).total_seconds() > TAKEOVER_S for view in views if view.is_in(run.lane))
        assert run.is_gone or (not run.is_queued and idle and (NOW - run.began_at).total_seconds() > TAKEOVER_S)


@given(_views, _runs, _failures, st.integers(1, 4))
def test_no_lane_with_lag_waits_for_ever(views, runs, failures, lanes):
    """If nothing moves, every lane with lag eventually gets a run, unless a run waits for a slot."""
    later = NOW + timedelta(seconds=LONGEST_BACK_OFF_S + 20_000)
    started_runs = [run for run in runs if not run.is_queued]
    made = decide(views, started_runs, failures, lanes=lanes, takeover_s=TAKEOVER_S, retry_pause_s=PAUSE_S, now=later)
    assert made.waiting == ()
