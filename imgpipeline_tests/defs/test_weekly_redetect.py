"""The schedule that re-processes the images of a week."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.defs.day_schedules import weekly_redetect
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.defs.keeping import days_of
from imgpipeline_tests.defs.ticking import tick
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, write_chain

MONDAY = datetime(2026, 1, 12, 3, tzinfo=UTC)
"""Three days after DAY."""


@pytest.fixture
def store(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("IMGPIPELINE_MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", "demo,demo@0.8")
    return store


def test_each_model_gets_one_run_per_stretch_of_days(store):
    write_chain(store, *[[seen(n, day=DAY - timedelta(days=days))] for n, days in enumerate((8, 3, 1, 0))])
    requests = tick(weekly_redetect, MONDAY)
    lone, first, last = DAY - timedelta(days=3), DAY - timedelta(days=1), DAY
    assert [days_of(request) for request in requests] == [
        (f"{begin}|{model}", f"{end}|{model}")
        for model in ("demo", "demo@0.8")
        for begin, end in ((lone, lone), (first, last))
    ]
    assert len({request.run_key for request in requests}) == len(requests)


def test_a_week_without_frames_requests_nothing(store):
    write_chain(store, [seen(0)])
    assert "No frame was announced for the 7 days before 2026-02-02" in str(
        tick(weekly_redetect, MONDAY + timedelta(weeks=3))
    )


def test_days_outside_of_the_deployment_are_left_out(store):
    """An import may have added them; a range that starts before the first day would fail as a whole."""
    first = date(2000, 1, 1)
    write_chain(store, *[[seen(n, day=first + timedelta(days=days))] for n, days in enumerate((-1, 0))])
    requests = tick(weekly_redetect, datetime(2000, 1, 3, 3, tzinfo=UTC))
    assert {days_of(request) for request in requests} == {
        (f"{first}|{model}", f"{first}|{model}") for model in ("demo", "demo@0.8")
    }


def test_models_without_a_local_file_are_left_out_and_named(store, monkeypatch):
    write_chain(store, [seen(0)])
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", "yolox-nano,demo")
    requests = tick(weekly_redetect, MONDAY)
    assert [days_of(request) for request in requests] == [(f"{DAY}|demo", f"{DAY}|demo")]
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", "yolox-nano")
    assert "imgpipeline models pull yolox-nano" in str(tick(weekly_redetect, MONDAY))


def test_without_a_chosen_model_nothing_is_requested(store, monkeypatch):
    write_chain(store, [seen(0)])
    monkeypatch.delenv("IMGPIPELINE_REDETECT_MODELS")
    assert "add models to IMGPIPELINE_REDETECT_MODELS" in str(tick(weekly_redetect, MONDAY))


def test_an_unknown_model_is_named(store, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", "nobody")
    assert "'nobody'" in str(tick(weekly_redetect, MONDAY))
