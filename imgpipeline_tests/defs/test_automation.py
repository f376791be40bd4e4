"""When automation builds a day again, by Dagster's own evaluator and storage, on a graph like the real one."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from imgpipeline.defs.automation import (
    BUILD_SECONDS,
    SHORTEST_PAUSE_S,
    UPSTREAM_EVENT,
    Build,
    NotLookedAt,
    Outdated,
    build_when,
    follow,
    newest_events,
)
from imgpipeline.defs.partitions import DAYS

LEDGER, TABLE, SUMMARY = dg.AssetKey("ledger"), dg.AssetKey("table"), dg.AssetKey("summary")
HALF_A_DAY_S = 12 * 3600.0
TODAY, OLD_DAY = "2026-01-09", "2019-05-03"


@dg.asset(
    key=TABLE,
    deps=[dg.AssetSpec(LEDGER, partitions_def=DAYS)],
    partitions_def=DAYS,
    automation_condition=build_when(Outdated(LEDGER, 60.0) | NotLookedAt(HALF_A_DAY_S)),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def table() -> None: ...


@dg.asset(
    key=SUMMARY,
    deps=[TABLE],
    partitions_def=DAYS,
    automation_condition=follow([TABLE]),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def summary() -> None: ...


@dg.asset(key=TABLE, deps=[dg.AssetSpec(LEDGER, partitions_def=DAYS)], partitions_def=DAYS)
def broken_table() -> None:
    raise dg.Failure("broken")


class Graph:
    """The graph with its storage, a clock, and the evaluator's memory."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.now = datetime.now(UTC)
        self.cursor: Any = None
        self._definitions = dg.Definitions(assets=[dg.AssetSpec(LEDGER, partitions_def=DAYS), table, summary])

    def announce(self, *days: str) -> None:
        """A detection run reports days."""
        for day in days:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(LEDGER, partition=day))

    def seen(self, upstream: dg.AssetKey, day: str) -> int:
        return newest_events(self.instance, upstream, days=[day]).get(day, 0)

    def finish_build(self, day: str, *, seen: int, build_s: float = 1.0) -> None:
        """A build of the table and of the summary that began when `seen` was the newest event."""
        said = {UPSTREAM_EVENT: {"ledger": seen}, BUILD_SECONDS: build_s}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(TABLE, partition=day, metadata=said))
        said = {UPSTREAM_EVENT: {"table": self.seen(TABLE, day)}, BUILD_SECONDS: build_s}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(SUMMARY, partition=day, metadata=said))

    def build(self, day: str, *, build_s: float = 1.0) -> None:
        self.finish_build(day, seen=self.seen(LEDGER, day), build_s=build_s)

    def run_build(self, day: str, *, seconds: float) -> None:
        """A run that builds the table at once, and the summary in some seconds."""
        said = {UPSTREAM_EVENT: {"ledger": self.seen(LEDGER, day)}, BUILD_SECONDS: 0.5}
        clock = ExitStack()

        @dg.asset(key=TABLE, partitions_def=DAYS)
        def quick_table() -> dg.MaterializeResult[None]:
            return dg.MaterializeResult(metadata=said)

        @dg.asset(key=SUMMARY, deps=[TABLE], partitions_def=DAYS)
        def slow_summary() -> None:
            clock.enter_context(freeze_time(self.now + timedelta(seconds=seconds)))

        with clock:
            clock.enter_context(freeze_time(self.now))
            dg.materialize([quick_table, slow_summary], partition_key=day, instance=self.instance)

    def fail_build(self, day: str) -> None:
        """A build of the table that fails."""
        with freeze_time(self.now):
            dg.materialize([broken_table], partition_key=day, instance=self.instance, raise_on_error=False)

    def start_build(self, day: str) -> str:
        """A build of the table that is in progress; returns its run."""
        job = self._definitions.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": day}, asset_selection={TABLE}
        )
        return run.run_id

    def kill_build(self, run_id: str) -> None:
        """The process of a build is killed, and the run is marked."""
        with freeze_time(self.now):
            self.instance.report_run_failed(self.instance.get_run_by_id(run_id))

    def tick(self, *, after_s: float = 10.0) -> dict[dg.AssetKey, set[str]]:
        self.now += timedelta(seconds=after_s)
        result = dg.evaluate_automation_conditions(
            self._definitions, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        return {key: set(result.get_requested_partitions(key)) for key in (TABLE, SUMMARY)}


@pytest.fixture
def graph() -> Graph:
    return Graph(dg.DagsterInstance.ephemeral())


def both(*days: str) -> dict[dg.AssetKey, set[str]]:
    return {TABLE: set(days), SUMMARY: set(days)}


def test_a_reported_day_is_built_and_its_summary_in_the_same_run(graph: Graph) -> None:
    assert graph.tick() == both()
    graph.announce(TODAY)
    assert graph.tick() == both(TODAY)


@pytest.mark.fault(29)
def test_a_late_frame_of_an_old_day_builds_that_day_only(graph: Graph) -> None:
    graph.announce(TODAY, OLD_DAY)
    graph.build(TODAY)
    graph.build(OLD_DAY)
    assert graph.tick() == both()
    graph.announce(OLD_DAY)
    assert graph.tick(after_s=100) == both(OLD_DAY)


def test_a_day_is_built_again_after_a_minute_and_not_before(graph: Graph) -> None:
    graph.announce(TODAY)
    graph.build(TODAY)
    graph.announce(TODAY)
    assert [graph.tick()[TABLE] for _ in range(8)] == [set()] * 6 + [{TODAY}] * 2


def test_a_slow_build_makes_the_pause_longer(graph: Graph) -> None:
    graph.announce(TODAY)
    graph.build(TODAY, build_s=6)
    graph.announce(TODAY)
    assert graph.tick(after_s=110) == both()
    assert graph.tick(after_s=20) == both(TODAY)


def test_the_pause_counts_the_whole_run_and_not_only_its_first_table(graph: Graph) -> None:
    """Process start, summaries, tracks and report take longer than the table itself."""
    graph.announce(TODAY)
    graph.run_build(TODAY, seconds=8)
    graph.announce(TODAY)
    assert graph.tick(after_s=8 + 150)[TABLE] == set()
    assert graph.tick(after_s=20)[TABLE] == {TODAY}


def test_frames_that_arrive_during_a_build_are_not_missed(graph: Graph) -> None:
    """The build ended after the last event but started before it: Dagster's own conditions would miss that event."""
    graph.announce(TODAY)
    assert graph.tick() == both(TODAY)
    seen = graph.seen(LEDGER, TODAY)
    graph.announce(TODAY)
    graph.finish_build(TODAY, seen=seen)
    assert graph.tick() == both()
    assert graph.tick(after_s=60) == both(TODAY)
    graph.build(TODAY)
    assert graph.tick(after_s=600) == both()


def test_no_day_is_missed_after_a_loss_of_the_cursor(graph: Graph) -> None:
    graph.announce(TODAY, OLD_DAY)
    graph.build(TODAY)
    graph.announce(TODAY)
    assert graph.tick()[TABLE] == {OLD_DAY}
    graph.cursor = None
    assert graph.tick(after_s=60)[TABLE] == {TODAY, OLD_DAY}


def test_a_summary_follows_a_table_that_was_built_by_hand(graph: Graph) -> None:
    graph.announce(TODAY)
    graph.build(TODAY)
    graph.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            TABLE, partition=TODAY, metadata={UPSTREAM_EVENT: {"ledger": graph.seen(LEDGER, TODAY)}}
        )
    )
    assert graph.tick() == {TABLE: set(), SUMMARY: {TODAY}}


def retries(graph: Graph, *, ticks: int, every_s: float) -> list[float]:
    """Fail every build that is requested; return the pause before each, in seconds."""
    pauses, waited_s = [], 0.0
    for _ in range(ticks):
        waited_s += every_s
        if graph.tick(after_s=every_s)[TABLE]:
            graph.fail_build(TODAY)
            pauses.append(waited_s)
            waited_s = 0.0
    return pauses


@pytest.mark.slow
def test_a_failed_build_is_retried_within_five_minutes_and_rarely_if_it_keeps_failing(graph: Graph) -> None:
    graph.announce(TODAY)
    assert graph.tick()[TABLE] == {TODAY}
    graph.fail_build(TODAY)
    assert retries(graph, ticks=60, every_s=20) == [60, 120, 240, 240, 240, 240]
    assert retries(graph, ticks=60, every_s=300)[-3:] == [3600] * 3
    graph.announce(TODAY)
    assert graph.tick()[TABLE] == set(), "news does not make a broken day be tried more often"


@pytest.mark.medium
def test_a_successful_build_resets_the_pauses(graph: Graph) -> None:
    graph.announce(TODAY)
    for _ in range(3):
        graph.fail_build(TODAY)
    assert graph.tick(after_s=200) == both()
    graph.build(TODAY)
    graph.announce(TODAY)
    assert graph.tick(after_s=70) == both(TODAY)
    graph.fail_build(TODAY)
    assert graph.tick(after_s=70)[TABLE] == {TODAY}


def test_a_broken_day_does_not_delay_others(graph: Graph) -> None:
    graph.announce(TODAY, OLD_DAY)
    graph.fail_build(OLD_DAY)
    assert graph.tick()[TABLE] == {TODAY}


@pytest.mark.medium
@pytest.mark.fault(44)
def test_fault_44_a_build_that_is_killed_after_minutes_is_requested_again_a_minute_later(graph: Graph) -> None:
    """The moment of a cron condition would pass while the build is still shown as running."""
    graph.now = datetime(graph.now.year + 1, 1, 1, tzinfo=UTC)
    graph.announce(TODAY)
    run_id = graph.start_build(TODAY)
    assert [graph.tick(after_s=100) for _ in range(10)] == [both()] * 10
    graph.kill_build(run_id)
    assert graph.tick(after_s=10) == both()
    assert graph.tick(after_s=60)[TABLE] == {TODAY}


class OutdatedUntilNow(dg.AutomationCondition[dg.AssetKey]):
    """True for today, whose build ends just after this was found."""

    @property
    def name(self) -> str:
        return "outdated_until_now"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        built = dg.AssetMaterialization(context.key, partition=TODAY)
        context.asset_graph_view.instance.report_runless_asset_event(built)
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys({TODAY}))


def test_a_build_that_ends_during_a_tick_is_not_requested_again() -> None:
    """A tick takes seconds on a busy machine; a superfluous build would also rebuild everything downstream."""

    @dg.asset(partitions_def=DAYS, automation_condition=build_when(OutdatedUntilNow()))
    def slow() -> None: ...

    definitions = dg.Definitions(assets=[slow])
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": TODAY})
        result = dg.evaluate_automation_conditions(definitions, instance)
        assert not result.get_requested_partitions(slow.key)


@pytest.mark.medium
def test_four_hundred_days_are_requested_at_once(graph: Graph) -> None:
    days = [(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n)).date().isoformat() for n in range(400)]
    graph.announce(*days)
    assert graph.tick() == both(*days)
    for day in days:
        graph.build(day)
    assert graph.tick() == both()


@pytest.mark.parametrize("forgets", [False, True], ids=["memory", "memory lost"])
def test_a_frame_ahead_of_the_clock_is_built_as_soon_as_its_day_starts(graph: Graph, forgets: bool) -> None:
    midnight = graph.now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    tomorrow = midnight.date().isoformat()
    graph.now = midnight - timedelta(seconds=30)
    graph.announce(tomorrow)
    assert graph.tick() == both(), "its partition does not exist yet"
    if forgets:
        graph.cursor = None
    assert graph.tick(after_s=30) == both(tomorrow)


def test_a_day_outside_the_partitions_is_ignored(graph: Graph) -> None:
    graph.announce("1999-12-31", TODAY)
    assert graph.tick() == both(TODAY)


def test_a_build_that_recorded_nothing_counts_as_outdated(graph: Graph) -> None:
    graph.announce(TODAY)
    graph.instance.report_runless_asset_event(dg.AssetMaterialization(TABLE, partition=TODAY))
    assert graph.tick(after_s=61)[TABLE] == {TODAY}


def test_without_frames_the_last_built_day_is_checked_twice_a_day(graph: Graph) -> None:
    """Otherwise the freshness policy would fail when the cameras are off."""
    graph.announce(OLD_DAY, TODAY)
    graph.build(OLD_DAY)
    graph.build(TODAY)
    assert graph.tick(after_s=HALF_A_DAY_S - 60) == both()
    assert graph.tick(after_s=120) == both(TODAY)
    assert not graph.tick(after_s=10 * HALF_A_DAY_S)[TABLE] - {TODAY}


def test_without_any_build_no_day_is_checked(graph: Graph) -> None:
    assert graph.tick(after_s=10 * HALF_A_DAY_S) == both()


ENDED_AT_S = 1_000_000.0


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    ("build_s", "pause_s"),
    [(1, 60), (6, 120), (60, 180), (600, 1800)],
    ids=["short", "longer", "overloaded", "huge day"],
)
def test_fault_45_the_pause_grows_with_the_last_build_and_does_not_keep_a_day_stale(
    build_s: float, pause_s: float
) -> None:
    build = Build({}, ENDED_AT_S, build_s)
    assert build.due_at_s(SHORTEST_PAUSE_S) == ENDED_AT_S + pause_s
