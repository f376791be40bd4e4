"""What the UI shows of asset checks, and what automation does after a day whose rows were rejected."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.test_utils import freeze_time

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.definitions import defs
from imgpipeline.defs.automation import keep_tables_current, newest_events
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.stored_days import add_frames, build, chain_of, newest
from imgpipeline_tests.ledger.samples import dead_letter, write_chain

DAY = date(2026, 3, 1)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
IMPOSSIBLE = 1.5
"""No confidence."""
SURE = dg.AssetCheckKey(dg.AssetKey("detections"), "confidence_in_range")
AGREES = dg.AssetCheckKey(dg.AssetKey("frames"), "agrees_with_ledger")
FEW_LETTERS = dg.AssetCheckKey(dg.AssetKey("dead_letters"), "few_dead_letters")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_store(load_settings())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def stored(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[AssetCheckEvaluation]:
    """Return the evaluations of a run as Dagster has stored them."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    logged = instance.all_logs(result.run_id, of_type=kind)
    return [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]


def evaluations(
    instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult
) -> dict[tuple[str, str, str | None], bool]:
    """Return asset, check and partition of a run's evaluations, and whether they passed."""
    found = stored(instance, result)
    return {(e.asset_key.to_user_string(), e.check_name, e.partition): e.passed for e in found}


def description(
    instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, check: dg.AssetCheckKey, partition: str | None
) -> str:
    found = {(e.asset_check_key, e.partition): e.description for e in stored(instance, result)}
    return str(found[check, partition])


def announce(instance: dg.DagsterInstance, *days: date) -> None:
    for day in days:
        event = dg.AssetMaterialization("frame_metadata", partition=day.isoformat())
        instance.report_runless_asset_event(event)


def automate(instance: dg.DagsterInstance, *, after_s: float = 0) -> dg.ExecuteInProcessResult:
    """Evaluate the automation sensor, and execute the run that it requests with its assets and checks."""
    with freeze_time(datetime.now(UTC) + timedelta(seconds=after_s)):
        tick = keep_tables_current.evaluate_tick(dg.build_sensor_context(instance, definitions=defs))
    (request,) = tick.run_requests or []
    checks = request.asset_check_keys
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(request.asset_selection or []),
        asset_check_selection=None if checks is None else set(checks),
    )
    return job.execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)


def remove_frames(store: ObjectStore, day: date, *, number: int = 0) -> None:
    """Remove the segment that `add_frames` wrote."""
    store.delete(
        next(info.key for info in store.list_objects("metadata") if chain_of(day, number).topic_id in info.key)
    )


def every_check() -> set[tuple[str, str]]:
    """Return the checks of all tables; no build evaluates the checks of external assets."""
    graph = defs.resolve_asset_graph()
    keys = [key for key in graph.asset_check_keys if graph.get(key.asset_key).is_materializable]
    return {(key.asset_key.to_user_string(), key.name) for key in keys}


def passes(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> bool:
    """Return what the UI shows of a check: its newest evaluation."""
    record = instance.get_latest_asset_check_evaluation_record(check)
    assert record is not None, "Not evaluated"
    assert record.event is not None
    evaluation = record.event.get_dagster_event().asset_check_evaluation_data
    return evaluation.passed


@pytest.mark.medium
def test_a_run_of_one_day_evaluates_every_check_for_its_partition(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    add_frames(store, DAY, 0.6, 0.9)
    result = build(instance, DAY)
    assert result.success
    assert evaluations(instance, result) == {(*check, str(DAY)): True for check in every_check()}
    assert "2 frames and 2 detections, in the ledger as in the tables" in description(
        instance, result, AGREES, str(DAY)
    )


@pytest.mark.medium
def test_a_day_with_an_impossible_row_fails_its_check_and_keeps_its_old_table(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    add_frames(store, DAY, 0.6)
    rebuild_day(store, DAY, now=datetime.now(UTC))
    key = day_table_key("detections", DAY)
    before = store.get(key)
    add_frames(store, DAY, 0.7, IMPOSSIBLE, number=1, camera=1)
    result = build(instance, DAY)
    assert not result.success
    assert evaluations(instance, result) == {("detections", "confidence_in_range", str(DAY)): False}
    said = description(instance, result, SURE, str(DAY))
    assert f"announced at offset 1 of frames/{chain_of(DAY, 1).topic_id}/0" in said
    assert store.get(key) == before
    assert newest(instance, "detections", DAY) is None
    (failure,) = [event for event in result.all_events if event.is_step_failure and event.step_key == "day_tables"]
    assert failure.step_failure_data.user_failure_data is not None
    assert "announced at offset 1" in str(failure.step_failure_data.user_failure_data.description)


@pytest.mark.medium
def test_a_range_stores_the_good_days_and_names_the_bad_one(store: ObjectStore, instance: dg.DagsterInstance) -> None:
    for day in DAYS:
        add_frames(store, day, IMPOSSIBLE if day == DAYS[1] else 0.6)
    result = build(instance, *DAYS)
    assert not result.success
    assert evaluations(instance, result) == {("detections", "confidence_in_range", str(DAYS[1])): False}
    assert [newest(instance, "detections", day) is not None for day in DAYS] == [True, False, True]


@pytest.mark.medium
def test_a_warning_of_a_range_is_one_evaluation_that_names_the_days_and_one_for_each(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    for day in DAYS:
        add_frames(store, day, 0.6)
    write_chain(store, [dead_letter(n, DAYS[1]) for n in range(3)], chain=chain_of(DAYS[1], 7))
    result = build(instance, *DAYS)
    assert result.success, "a warning stops nothing"
    found = {place[2]: ok for place, ok in evaluations(instance, result).items() if place[1] == FEW_LETTERS.name}
    assert found == {None: False, str(DAYS[1]): False}
    said = description(instance, result, FEW_LETTERS, None)
    assert said.startswith("1 of 3 days fail. 2026-03-02: 3 of 4 records became dead letters")
    report = newest(instance, "daily_report", DAYS[1])
    assert report is not None
    assert report.metadata["dead_letters"].value == 3, "also those whose records were written on another day"
    assert ("frames", "schema", None) in evaluations(instance, result)


@pytest.mark.medium
def test_automation_stops_after_a_rejected_day_but_not_after_others(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    """A row is rejected while the summaries of the day are still outdated."""
    for day in DAYS[:2]:
        add_frames(store, day, 0.6)
    announce(instance, *DAYS[:2])
    for day in DAYS[:2]:
        assert build(instance, day, select=["day_tables"]).success
    add_frames(store, DAY, IMPOSSIBLE, number=1, camera=1)
    announce(instance, DAY)
    assert not build(instance, DAY, select=["day_tables"]).success
    counts = dg.AssetKey("label_counts")

    def requested() -> set[str]:
        now = datetime.now(UTC).replace(minute=1, second=0)  # not the minute in which a failed build is tried again
        result = dg.evaluate_automation_conditions(defs, instance, evaluation_time=now)
        assert not result.get_requested_partitions(dg.AssetKey("frames"))
        return set(result.get_requested_partitions(counts))

    assert newest_events(instance, dg.AssetKey("detections")).keys() == {str(day) for day in DAYS[:2]}
    assert requested() == {str(DAYS[1])}
    remove_frames(store, DAY, number=1)
    announce(instance, DAY)
    assert build(instance, DAY, select=["day_tables"]).success
    assert requested() == {str(day) for day in DAYS[:2]}


@pytest.mark.medium
def test_a_run_that_automation_launches_records_every_check(store: ObjectStore, instance: dg.DagsterInstance) -> None:
    """Dagster names the checks of assets that cannot be built alone, and then runs no others."""
    add_frames(store, DAY, 0.6, 0.9)
    announce(instance, DAY)
    result = automate(instance)
    assert result.success
    assert evaluations(instance, result) == {(*check, str(DAY)): True for check in every_check()}


@pytest.mark.medium
def test_a_failed_blocking_check_passes_once_automation_has_built_the_repaired_day(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    add_frames(store, DAY, IMPOSSIBLE)
    announce(instance, DAY)
    assert not automate(instance).success
    assert not passes(instance, SURE)
    remove_frames(store, DAY)
    add_frames(store, DAY, 0.6, number=1)
    write_chain(store, [dead_letter(n, DAY) for n in range(3)], chain=chain_of(DAY, 7))
    announce(instance, DAY)
    assert automate(instance, after_s=300).success
    assert passes(instance, SURE)
    assert not passes(instance, FEW_LETTERS), "a warning shows as well"
