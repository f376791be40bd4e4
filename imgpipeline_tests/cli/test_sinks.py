"""`imgpipeline sinks`: list, check, run, status and remove."""

from collections.abc import Callable

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
from imgpipeline_tests.sinks.targets import PostgresTarget

MONDAY, TUESDAY = day_number(0), day_number(1)
CANARY = "secret-canary"


@pytest.fixture
def target(postgres, toxiproxy) -> PostgresTarget:
    return PostgresTarget(postgres, toxiproxy)


@pytest.fixture
def sinks(tmp_path, target) -> Callable[..., Ended]:
    """Run a command with a database and a sink that is away, over a store of two days."""
    url = (tmp_path / "store").as_uri()
    store = open_store(load_settings(store_url=url))
    for day in (MONDAY, TUESDAY):
        put_day(store, day, frames_of(day, 4))
    away = f"away=postgresql://test:{CANARY}@{LOOPBACK}:{free_port()}/site"
    env = {"IMGPIPELINE_STORE_URL": url, "IMGPIPELINE_SINKS": f"db={target.config.url}?tables=detections {away}"}
    return lambda *arguments: run("sinks", *arguments, env=env, cwd=tmp_path)


def test_list_shows_sinks_and_tables_without_passwords(sinks):
    ended = sinks("list", "--json")
    assert [(each["name"], each["kind"], each["tables"][0]) for each in ended.json()] == [
        ("db", "postgresql", "detections"),
        ("away", "postgresql", "frame_paths"),
    ]
    assert CANARY not in ended.stdout + ended.stderr


def test_check_tells_which_sink_fails(sinks):
    ended = sinks("check", "--json")
    assert ended.status == 1
    assert [(each["name"], each["ok"]) for each in ended.json()] == [("db", True), ("away", False)]
    assert CANARY not in ended.stdout + ended.stderr
    assert sinks("check", "db").status == 0


def test_status_says_that_nothing_was_exported_yet(sinks):
    assert [each["problem"] for each in sinks("status", "--json").json()] == ["never exported to"] * 2


def test_run_exports_to_the_sinks_that_answer_and_fails_for_the_others(sinks, target):
    ended = sinks("run")
    assert ended.status == 1
    assert "db: 16 rows of 2 days copied" in ended.stderr
    assert "away: FAILED" in ended.stderr
    assert CANARY not in ended.stdout + ended.stderr
    states = {each["name"]: each for each in sinks("status", "--json").json()}
    assert (states["db"]["days_behind"], states["db"]["problem"]) == (0, None)
    assert "behind since" in states["away"]["problem"]


def problem_of(sinks, name):
    return {each["name"]: each["problem"] for each in sinks("status", "--json").json()}[name]


def test_run_takes_days(sinks):
    assert "8 rows of 1 day copied" in sinks("run", "db", "--day", MONDAY.isoformat()).stderr
    assert "1 day behind" in problem_of(sinks, "db")


def test_remove_removes_the_rows_of_the_named_days(sinks, target):
    sinks("run", "db")
    assert sinks("remove", "db", "--day", MONDAY.isoformat(), "--yes").status == 0
    with target.cursor() as cursor:
        cursor.execute("SELECT DISTINCT day FROM detections")
        assert [row["day"] for row in cursor.fetchall()] == [TUESDAY]
    assert "1 day behind" in problem_of(sinks, "db")


def test_an_unknown_name_is_an_error_that_lists_the_sinks(sinks):
    ended = sinks("run", "warehouse")
    assert ended.status == 2
    assert "Configured: db, away" in ended.stderr


def test_a_database_is_not_searched(sinks):
    ended = sinks("count", "db")
    assert ended.status == 2
    assert "no search engine" in ended.stderr
