"""The check of silent sources changes with its answer."""

from datetime import datetime

import dagster as dg
import pytest
from dagster import AssetCheckEvaluation

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.defs.assets.sources import CHECK, STORED_IMAGES, no_source_is_silent, source_silence
from imgpipeline.defs.resources import Pipeline
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.ledger.sessions import account, minute_of, said

pytestmark = pytest.mark.medium


def build(store: ObjectStore, at: datetime) -> None:
    rebuild_day(store, DAY, now=at)
    build_summary(store, "source_activity", DAY, settings=Settings(), now=at)


def tick(cursor: str | None, at: datetime, monkeypatch: pytest.MonkeyPatch) -> dg.SensorResult | dg.SkipReason:
    monkeypatch.setattr("imgpipeline.defs.assets.sources.utc_now", lambda: at)
    with dg.build_sensor_context(cursor=cursor) as context:
        return source_silence(context)


def evaluation_of(answer: dg.SensorResult | dg.SkipReason) -> AssetCheckEvaluation:
    (evaluation,) = answer.asset_events
    return evaluation


def test_the_check_is_evaluated_when_a_source_falls_silent_and_when_it_is_back(store, instance, monkeypatch):
    made = write_chain(store, [said(0, NoticeKind.STARTED), account(1, 0)])
    build(store, minute_of(1))
    first = tick(None, minute_of(2), monkeypatch)
    assert evaluation_of(first).passed
    silent = tick(first.cursor, minute_of(30), monkeypatch)
    assert (evaluation_of(silent).passed, evaluation_of(silent).severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "cam-1 has been silent since" in (evaluation_of(silent).description or "")
    assert isinstance(tick(silent.cursor, minute_of(35), monkeypatch), dg.SkipReason)
    append(made, [account(2, 0, minute=35)])
    build(store, minute_of(36))
    back = tick(silent.cursor, minute_of(36), monkeypatch)
    assert evaluation_of(back).passed
    for answer in (silent, back):
        instance.report_runless_asset_event(evaluation_of(answer))
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(STORED_IMAGES, CHECK), limit=5
    )
    assert [record.status.value for record in records] == ["SUCCEEDED", "FAILED"]


def test_a_store_without_sources_reports_nothing(store, monkeypatch):
    assert store.url
    assert isinstance(tick(None, NOON, monkeypatch), dg.SkipReason)


def test_the_check_can_be_run_by_hand(store, monkeypatch):
    write_chain(store, [said(0, NoticeKind.STARTED), account(1, 0)])
    build(store, minute_of(1))
    monkeypatch.setattr("imgpipeline.defs.assets.sources.utc_now", lambda: minute_of(30))
    defs = dg.Definitions(
        assets=[dg.AssetSpec(STORED_IMAGES)], asset_checks=[no_source_is_silent], resources={"pipeline": Pipeline()}
    )
    job = dg.define_asset_job("ask", selection=dg.AssetSelection.checks(no_source_is_silent))
    asked = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("ask").execute_in_process()
    (evaluation,) = asked.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.metadata["silent"].value) == (False, 1)
