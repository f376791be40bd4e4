"""Each sink is an asset of its own, with a check, and runs of its own that Dagster requests when tables change."""

from collections.abc import Callable

import dagster as dg
import pytest

from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.sinks import JOB_NAME, sink_definitions
from imgpipeline.sinks.configuration import open_sink
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, wanted_rows
from imgpipeline_tests.sinks.targets import PostgresTarget

MONDAY, TUESDAY = day_number(0), day_number(1)
AWAY = f"away=postgresql://test@{LOOPBACK}:{free_port()}/site"


@pytest.fixture
def target(postgres, toxiproxy, monkeypatch) -> PostgresTarget:
    """A database that the setting names, besides one that is away."""
    made = PostgresTarget(postgres, toxiproxy)
    monkeypatch.setenv("IMGPIPELINE_SINKS", f"target={made.config.url} {AWAY}")
    return made


@pytest.fixture
def run(store, target, instance) -> Callable[[str], dg.ExecuteInProcessResult]:
    """Run the export of one sink, as the sensor requests it."""
    put_day(store, MONDAY, frames_of(MONDAY, 10))
    defs = dg.Definitions.merge(sink_definitions(), dg.Definitions(resources={"pipeline": Pipeline()}))

    def export(name: str) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(JOB_NAME).execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(f"sink_{name}")],
            tags={"imgpipeline/sink": name},
            raise_on_error=False,
        )

    return export


@pytest.fixture
def ask(run, instance) -> Callable[[], list[str]]:
    """Evaluate the sensor, and return the sinks for which it requests a run."""
    (sensor,) = sink_definitions().sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)

    def evaluate() -> list[str]:
        with dg.build_sensor_context(instance) as context:
            requests = sensor.evaluate_tick(context).run_requests or []
        return [request.tags["imgpipeline/sink"] for request in requests]

    return evaluate


def test_a_run_copies_what_differs_and_checks_the_rows(store, target, run):
    result = run("target")
    (event,) = result.asset_materializations_for_node("sink_target")
    wanted = sum(len(wanted_rows(store, table, MONDAY)) for table in tables(target) if target.rows(table, MONDAY))
    assert event.metadata["rows"].value == wanted > 0
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]


def tables(target):
    return [
        table for table in open_sink(target.config)[1] if table.name in ("frame_paths", "detections", "label_counts")
    ]


def test_the_check_fails_when_others_removed_rows(target, run):
    run("target")
    target.lose_rows(tables(target)[0], MONDAY)
    (check,) = run("target").get_asset_check_evaluations()
    assert not check.passed
    assert "imgpipeline sinks remove" in (check.description or "")


def test_a_sink_that_is_away_fails_its_own_run_only(run):
    assert not run("away").success
    assert run("target").success


def test_an_export_is_requested_when_a_day_changes(store, run, ask):
    assert ask() == ["target", "away"]
    run("target")
    assert "target" not in ask()
    put_day(store, TUESDAY, frames_of(TUESDAY, 3))
    assert "target" in ask()


def test_after_a_failure_the_next_export_waits(run, ask):
    run("away")
    assert "away" not in ask()


def test_without_sinks_or_with_an_invalid_setting_there_is_nothing(monkeypatch):
    assert not sink_definitions().assets
    monkeypatch.setenv("IMGPIPELINE_SINKS", "Warehouse=mysql://host/secret-canary")
    assert not sink_definitions().assets
