"""What the UI shows of asset checks, also after a day whose rows were rejected."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.definitions import defs
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.day_warnings import judge_label_counts
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.keeping import Keeping
from imgpipeline_tests.defs.stored_days import add_frames, build, chain_of, newest
from imgpipeline_tests.ledger.samples import dead_letter, write_chain

DAY = date(2026, 3, 1)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
IMPOSSIBLE = 1.5
"""No confidence."""
SURE = dg.AssetCheckKey(dg.AssetKey("detections"), "confidence_in_range")
AGREES = dg.AssetCheckKey(dg.AssetKey("frames"), "agrees_with_ledger")
FEW_LETTERS = dg.AssetCheckKey(dg.AssetKey("dead_letters"), "few_dead_letters")

pytestmark = pytest.mark.medium


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
    evaluation = record.event.get_dagster_event().asset_check_evaluation_data
    return evaluation.passed


def test_a_run_of_one_day_evaluates_every_check_for_its_partition(store, instance):
    add_frames(store, DAY, 0.6, 0.9)
    result = build(instance, DAY)
    assert result.success
    assert evaluations(instance, result) == {(*check, str(DAY)): True for check in every_check()}
    assert "2 frames and 2 detections, in the ledger as in the tables" in description(
        instance, result, AGREES, str(DAY)
    )


def test_a_day_with_an_impossible_row_fails_its_check_and_keeps_its_old_table(store, instance):
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
    (failure,) = [event for event in result.all_events if event.is_step_failure and event.step_key == STEP]
    assert "announced at offset 1" in str(failure.step_failure_data.user_failure_data.description)


@pytest.mark.slow
def test_a_range_stores_the_good_days_and_names_the_bad_one(store, instance):
    for day in DAYS:
        add_frames(store, day, IMPOSSIBLE if day == DAYS[1] else 0.6)
    result = build(instance, *DAYS)
    assert not result.success
    found = evaluations(instance, result)
    assert {check: ok for check, ok in found.items() if "confidence_in_range" in check} == {
        ("detections", "confidence_in_range", str(day)): day != DAYS[1] for day in DAYS
    }
    assert {day for (_, check, day), ok in found.items() if check == "frame_id_unique" and ok} == {
        str(DAYS[0]), str(DAYS[2])
    }, "the other rules hold on the other days"  # fmt: skip
    assert [newest(instance, "detections", day) is not None for day in DAYS] == [True, False, True]


@pytest.mark.slow
def test_a_range_has_an_evaluation_of_each_check_for_each_day(store, instance):
    for day in DAYS:
        add_frames(store, day, 0.6)
    write_chain(store, [dead_letter(n, DAYS[1]) for n in range(3)], chain=chain_of(DAYS[1], 7))
    result = build(instance, *DAYS)
    assert result.success, "a warning stops nothing"
    found = evaluations(instance, result)
    assert found.keys() == {(*check, str(day)) for check in every_check() for day in DAYS}
    letters = {day: ok for (_, check, day), ok in found.items() if check == FEW_LETTERS.name}
    assert letters == {str(day): day != DAYS[1] for day in DAYS}
    said = description(instance, result, FEW_LETTERS, str(DAYS[1]))
    assert said.startswith("3 of 4 records became dead letters")
    report = newest(instance, "daily_report", DAYS[1])
    assert report.metadata["dead_letters"].value == 3, "also those whose records were written on another day"


def test_a_check_that_does_not_apply_to_a_build_passes_and_says_why(store, instance):
    add_frames(store, DAY, 0.6)
    assert build(instance, DAY).success
    add_frames(store, DAY, 0.7, number=1, camera=1)
    result = build(instance, DAY)
    assert evaluations(instance, result)["frames", "agrees_with_ledger", str(DAY)]
    assert "Newer segments were added" in description(instance, result, AGREES, str(DAY))
    assert passes(instance, AGREES)


def test_counts_that_do_not_add_up_to_the_detections_are_a_warning(store, instance):
    add_frames(store, DAYS[0], 0.6)
    add_frames(store, DAYS[1], 0.6, 0.7)
    assert build(instance, DAYS[0], DAYS[1]).success
    store.put(summary_key("label_counts", DAYS[0]), store.get(summary_key("label_counts", DAYS[1])))
    verdict = judge_label_counts(store, DAYS[0], load_settings())
    assert (verdict.ok, verdict.said) == (False, "The counts add up to 2; the day has 1 detection.")


def test_a_failed_blocking_check_passes_once_the_repaired_day_is_built(store, instance):
    keeping = Keeping(store, instance)
    add_frames(store, DAY, IMPOSSIBLE)
    (rejected,) = keeping.run(keeping.requests())
    assert not rejected.success
    assert not passes(instance, SURE)
    remove_frames(store, DAY)
    add_frames(store, DAY, 0.6, number=1)
    write_chain(store, [dead_letter(n, DAY) for n in range(3)], chain=chain_of(DAY, 7))
    (repaired,) = keeping.run(keeping.requests(after_s=300))
    assert repaired.success
    assert evaluations(instance, repaired).keys() == {(*check, str(DAY)) for check in every_check()}
    assert passes(instance, SURE)
    assert not passes(instance, FEW_LETTERS), "a warning shows as well"
